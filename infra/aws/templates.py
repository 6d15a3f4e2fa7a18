"""The templates of the stacks, in their order, as far as the tool reads them: parameters, outputs, what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from infra.aws.errors import DeploymentError

if TYPE_CHECKING:
    from yaml import SafeLoader
else:
    # The templates are 2,000 lines: in Python alone it takes two seconds to read them.
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

TEMPLATES = Path(__file__).with_name("templates")
# A stack takes the outputs of those before it.
ORDER = ("network", "storage", "keyspaces", "emr", "simulation", "airflow", "monitoring")
# What CloudFormation takes in a request; more would have to be put into a bucket first, and the first stack has none.
MOST_BYTES = 51_200
KEPT = {"Retain", "RetainExceptOnCreate", "Snapshot"}

Declaration: TypeAlias = Mapping[str, Any]  # of a parameter or a resource, as the template has it


class UniqueKeyLoader(SafeLoader):
    """YAML as it is meant: a key that is there twice in a mapping is a mistake, not the second of them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Make a mapping.

        Raises:
            yaml.constructor.ConstructorError: it has a key twice.
        """
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _TemplateLoader(UniqueKeyLoader):
    """YAML with CloudFormation's functions, which stay what they are: the tool looks into none of them."""


def _function(loader: _TemplateLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)  # noqa: S101 - there are no others
        value = loader.construct_mapping(node, deep=True)
    if name == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_TemplateLoader.add_multi_constructor("!", _function)


@dataclass(frozen=True)
class Template:
    """One stack's template.

    Attributes:
        name: of the stack, without the prefix.
        body: the text that CloudFormation gets.
        parameters: their declarations by name.
        outputs: their names.
        resources: their declarations by logical id.
    """

    name: str
    body: str
    parameters: Mapping[str, Declaration]
    outputs: frozenset[str]
    resources: Mapping[str, Declaration]

    @property
    def kept(self) -> frozenset[str]:
        """The logical ids of those resources that outlive the stack."""
        return frozenset(name for name, each in self.resources.items() if each.get("DeletionPolicy") in KEPT)


def long_form(body: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Read a template's YAML, with each function as a mapping; yaml.YAMLError if it is none."""
    return yaml.load(body, Loader=_TemplateLoader)  # noqa: S506 - a SafeLoader


def parse(name: str, body: str) -> Template:
    """Read a template; DeploymentError if it is none."""
    try:
        parsed = long_form(body)
    except yaml.YAMLError as error:
        raise DeploymentError(f"The template of {name} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(parsed, dict) or not isinstance(parsed.get("Resources"), dict):
        raise DeploymentError(f"The template of {name} has no Resources.")
    return Template(
        name,
        body,
        parsed.get("Parameters", {}),
        frozenset(parsed.get("Outputs", {})),
        parsed["Resources"],
    )


def load(folder: Path = TEMPLATES, order: Sequence[str] = ORDER) -> list[Template]:
    """Read the templates of a folder in the order of their stacks; DeploymentError names one that is not fit."""
    found = []
    for name in order:
        file = folder / f"{name}.yaml"
        if not file.is_file():
            raise DeploymentError(f"{file} is missing.")
        body = file.read_text()
        if len(body.encode()) > MOST_BYTES:
            raise DeploymentError(f"{file} has more than the {MOST_BYTES:,} bytes that CloudFormation takes.")
        found.append(parse(name, body))
    return found
