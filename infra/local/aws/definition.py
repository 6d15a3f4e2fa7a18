"""What CloudFormation makes of the simulation's template, read from it: cluster, log group, task definition.

There is no second definition for one machine. Of CloudFormation's functions those are done that these resources use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.aws import templates
from infra.aws.templates import Template
from infra.local.settings import StackError

STACK = "simulation"
REFERENCE = re.compile(r"\$\{([\w.:]+)\}")
# The property by which a resource is named, for those that are named here by themselves or by an attribute.
NAMED_BY = {
    "AWS::ECS::Cluster": "ClusterName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::IAM::Role": "RoleName",
    "AWS::ECR::Repository": "RepositoryName",
}
NUMBERS = ("Cpu", "Memory", "StopTimeout")  # of a container; CloudFormation takes texts for them too


@dataclass(frozen=True)
class Definition:
    """What a stack of the template has for its tasks.

    Attributes:
        cluster: its name.
        log_group: the name of what tasks write their log to.
        task: the properties of the task definition, as the API names them (in camel case).
    """

    cluster: str
    log_group: str
    task: Mapping[str, Any]


def load(parameters: Mapping[str, str], account: str, region: str) -> Definition:
    """Read the template with these values of its parameters; those that are not given have its defaults."""
    (template,) = templates.load(order=(STACK,))
    reading = _Reading(template, parameters, account, region)
    task = reading.properties("TaskDefinition")
    for container in task["ContainerDefinitions"]:
        container.update({name: int(container[name]) for name in NUMBERS if name in container})
    return Definition(reading.name("Cluster"), reading.name("LogGroup"), _camel(task))


class _Reading:
    """One template with the values of its parameters."""

    def __init__(self, template: Template, parameters: Mapping[str, str], account: str, region: str) -> None:
        self._template = template
        defaults = {name: each["Default"] for name, each in template.parameters.items() if "Default" in each}
        self._values: dict[str, Any] = {
            **defaults,
            **parameters,
            "AWS::AccountId": account,
            "AWS::Region": region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
        }
        for name, declaration in template.parameters.items():
            if name not in self._values:
                raise StackError(f"The parameter {name} of the template {template.name} has no value.")
            if declaration["Type"] == "CommaDelimitedList":
                self._values[name] = [word.strip() for word in str(self._values[name]).split(",")]
        self._conditions: Mapping[str, Any] = templates.long_form(template.body).get("Conditions", {})

    def properties(self, resource: str) -> dict[str, Any]:
        """Return the properties of a resource, with every function done."""
        found: dict[str, Any] = self._done(self._template.resources[resource]["Properties"])
        return found

    def name(self, resource: str) -> str:
        """Return the name of a resource: what a Ref to it gives."""
        declaration = self._template.resources[resource]
        return str(self._done(declaration["Properties"][NAMED_BY[declaration["Type"]]]))

    def _done(self, value: Any) -> Any:  # noqa: ANN401 - whatever YAML holds
        if isinstance(value, list):
            return [done for each in value if (done := self._done(each)) is not None]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((function, argument),) = value.items()
            if function == "Ref":
                return self._referred(argument)
            if function.startswith("Fn::"):
                return self._function(function.removeprefix("Fn::"), argument)
        return {key: done for key, each in value.items() if (done := self._done(each)) is not None}

    def _function(self, name: str, argument: Any) -> Any:  # noqa: ANN401 - as above
        if name == "Sub" and isinstance(argument, str):
            return REFERENCE.sub(lambda found: str(self._referred(found[1])), argument)
        if name == "GetAtt":
            return self._attribute(*argument)
        if name == "If":
            condition, yes, no = argument
            return self._done(yes if self._holds(self._conditions[condition]) else no)
        raise StackError(f"The template {self._template.name} uses {name} where one machine can't follow it.")

    def _holds(self, condition: Mapping[str, Any]) -> bool:
        ((function, argument),) = condition.items()
        if function == "Fn::Equals":
            one, other = (self._done(each) for each in argument)
            return bool(one == other)
        if function == "Fn::Not":
            return not self._holds(argument[0])
        raise StackError(f"The template {self._template.name} has a condition of {function}, unknown on one machine.")

    def _referred(self, name: str) -> Any:  # noqa: ANN401 - of a parameter, whatever it is
        if name == "AWS::NoValue":
            return None
        if name in self._values:
            return self._values[name]
        resource, dot, attribute = name.partition(".")
        return self._attribute(resource, attribute) if dot else self.name(resource)

    def _attribute(self, resource: str, attribute: str) -> str:
        account, region, name = self._values["AWS::AccountId"], self._values["AWS::Region"], self.name(resource)
        match self._template.resources[resource]["Type"], attribute:
            case "AWS::IAM::Role", "Arn":
                return f"arn:aws:iam::{account}:role/{name}"
            case "AWS::ECR::Repository", "RepositoryUri":
                return f"{account}.dkr.ecr.{region}.amazonaws.com/{name}"
        raise StackError(f"The template {self._template.name} asks for {resource}.{attribute}, unknown on one machine.")


def _camel(value: Any) -> Any:  # noqa: ANN401 - whatever the properties hold
    """Name properties as the API does: CloudFormation's names begin with a capital."""
    if isinstance(value, dict):
        return {f"{key[:1].lower()}{key[1:]}": _camel(each) for key, each in value.items()}
    return [_camel(each) for each in value] if isinstance(value, list) else value
