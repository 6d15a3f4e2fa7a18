"""The settings of a deployment: one YAML file, checked whole before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.aws.errors import SettingsError
from infra.aws.templates import Declaration, Template, UniqueKeyLoader

SETTINGS = Path(__file__).with_name("settings.yaml")
EXAMPLE = Path(__file__).with_name("settings.example.yaml")
# Parameters that no one gives: they follow from the file's own entries.
OWN = ("Prefix",)
TRUTHS = ["true", "false"]  # CloudFormation has no parameters of truth: one of these texts

Value: TypeAlias = bool | int | float | str | list[str] | list[int]


class Cluster(BaseModel):
    """How the DAGs buy their clusters' machines, as EMR/README.md has it; what is not given is as the DAGs have it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    instances: Literal["groups", "fleets"] | None = None
    core_market: Literal["on_demand", "spot"] | None = None
    architecture: Literal["arm64", "x86_64"] | None = None


class Settings(BaseModel):
    """What the settings file says.

    Attributes:
        account: the AWS account; credentials of another one are refused.
        region: where the stacks are.
        prefix: the beginning of every name.
        cost_centre: the tag CostCentre of every resource.
        cluster: how the DAGs buy their clusters' machines.
        stacks: values of their parameters, by stack and name; what is not given has the template's default.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, regex_engine="python-re")

    account: Annotated[str, Field(pattern=r"^\d{12}\Z")]
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d\Z")]
    prefix: str = "feature-store"
    cost_centre: Annotated[str, Field(pattern=r"^[\w .:/=+@-]{1,256}\Z")]  # what a tag takes
    cluster: Cluster | None = None
    stacks: dict[str, dict[str, Value] | None] = {}

    def tags(self) -> dict[str, str]:
        """Every stack's tags, which CloudFormation gives to each resource that takes any."""
        return {"Project": self.prefix, "CostCentre": self.cost_centre}

    def stack_name(self, template: Template) -> str:
        """Name a template's stack."""
        return f"{self.prefix}-{template.name}"

    def given(self, template: Template) -> dict[str, str]:
        """The parameters of a stack that this file decides, as CloudFormation takes them."""
        own = {"Prefix": self.prefix} if "Prefix" in template.parameters else {}
        return {name: text(value) for name, value in self.values(template).items()} | own

    def values(self, template: Template) -> Mapping[str, Value]:
        """What the file says of a stack's parameters."""
        return self.stacks.get(template.name) or {}


def load(file: Path, templates: Sequence[Template], made: Mapping[str, Sequence[str]]) -> Settings:
    """Read a settings file and check it against the templates.

    Args:
        file: the settings.
        templates: of all stacks, in their order.
        made: names of parameters that are made on the way, by stack.

    Raises:
        SettingsError: something is wrong in it; each fault is a line.
    """
    if not file.is_file():
        raise SettingsError(f"There is no {file}: copy {EXAMPLE} there, and fill it in.")
    try:
        parsed = yaml.load(file.read_text(), Loader=UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} can't be read: {error}.") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{file} is no YAML: {' '.join(str(error).split())}.") from error
    try:
        settings = Settings.model_validate(parsed)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{file}: {_sentence(each)}" for each in error.errors())) from error
    if faults := [*_faults(settings, templates, made), *_together(settings, templates)]:
        raise SettingsError("\n".join(f"{file}: {fault}" for fault in faults))
    return settings


def text(value: Value) -> str:
    """Write a value as CloudFormation takes it."""
    if isinstance(value, bool):
        return TRUTHS[0] if value else TRUTHS[1]
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _faults(settings: Settings, templates: Sequence[Template], made: Mapping[str, Sequence[str]]) -> Iterator[str]:
    names = [template.name for template in templates]
    for name in settings.stacks:
        if name not in names:
            yield f"{name!r} is no stack: there are {', '.join(names)}."
    there: dict[str, str] = {}  # which stack an output is of
    for template in templates:
        values = settings.values(template)
        for name, value in values.items():
            where = f"stacks.{template.name}.{name}"
            declaration = template.parameters.get(name)
            if declaration is None:
                known = sorted(set(template.parameters) - set(OWN) - set(there) - set(made.get(template.name, ())))
                yield f"{where} is no parameter: {template.name} has {', '.join(known) or 'none'}."
            elif name in OWN:
                yield f"{where} is not given here: it is {name.lower()!r}, above."
            elif name in there:
                yield f"{where} is not given here: it is an output of the stack {there[name]}."
            elif name in made.get(template.name, ()):
                yield f"{where} is not given here: it follows from the code that is uploaded."
            elif found := fault(declaration, value):
                yield f"{where} {found}"
        if "Prefix" in template.parameters and (found := fault(template.parameters["Prefix"], settings.prefix)):
            yield f"prefix {found}"
        supplied = {*values, *there, *OWN, *made.get(template.name, ())}
        for name, declaration in template.parameters.items():
            if name not in supplied and "Default" not in declaration:
                yield f"stacks.{template.name}.{name} is missing: {declaration.get('Description', 'it has no default')}"
        there |= dict.fromkeys(template.outputs, template.name)


def _together(settings: Settings, templates: Sequence[Template]) -> Iterator[str]:
    """What no parameter's own declaration can say."""
    for template in templates:
        values = settings.values(template)
        subnets = values.get("SubnetIds")
        if isinstance(subnets, list) and subnets and (len(subnets), len(set(subnets))) != (2, 2):
            said = ", ".join(map(str, subnets))
            yield f"stacks.{template.name}.SubnetIds has to be two different subnets, not {said}."
        ends = ("LandingArchiveDays", "LandingExpireDays")
        days = [values.get(name, template.parameters.get(name, {}).get("Default")) for name in ends]
        match days:
            case [int(archive), int(expire)] if 0 < expire <= archive:
                yield f"stacks.{template.name}.{ends[1]} is {expire}: it is 0, or more than {ends[0]}, {archive}."


def fault(declaration: Declaration, value: Value) -> str | None:
    """Say what is wrong with a parameter's value by its declaration, as the end of a sentence; None if nothing is."""
    kind: str = declaration["Type"]
    if declaration.get("AllowedValues") == TRUTHS and isinstance(value, bool):
        return None
    if kind == "CommaDelimitedList" or kind.startswith("List<"):
        one, what = (int, "a list of numbers") if kind == "List<Number>" else (str, "a list of texts")
        fits = isinstance(value, list) and all(type(each) is one for each in value)
    elif kind == "Number":
        what = "a whole number"
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        what = "a text, in quotes if YAML would take it for something else"
        fits = isinstance(value, str)
    if not fits:
        return f"has to be {what}, not {value!r}."
    return next(
        (said for each in (value if isinstance(value, list) else [value]) if (said := _bounds(declaration, each))), None
    )


def _bounds(declaration: Declaration, value: str | float) -> str | None:
    said = declaration.get("ConstraintDescription")
    if "AllowedValues" in declaration and value not in declaration["AllowedValues"]:
        return f"is {value!r}: it may be {', '.join(map(str, declaration['AllowedValues']))}."
    if isinstance(value, str):
        least, most, size = int(declaration.get("MinLength", 0)), declaration.get("MaxLength"), len(value)
        if size < least or (most is not None and size > int(most)):
            return f"is {value!r}: {said or f'it has {least} to {most} characters.'}"
        pattern = declaration.get("AllowedPattern")
        if pattern and not re.fullmatch(pattern, value):
            return f"is {value!r}: {said or f'it has to be like {pattern}.'}"
        return None
    if value < float(declaration.get("MinValue", "-inf")) or value > float(declaration.get("MaxValue", "inf")):
        said = said or f"it is from {declaration.get('MinValue', 'any')} to {declaration.get('MaxValue', 'any')}."
        return f"is {value}: {said}"
    return None


def _sentence(error: Any) -> str:  # noqa: ANN401 - pydantic's description of one fault
    where = ".".join(str(part) for part in error["loc"]) or "it"
    match error["type"]:
        case "extra_forbidden":
            model = Cluster if error["loc"][0] == "cluster" and len(error["loc"]) > 1 else Settings
            return f"{where} is no setting: there are {', '.join(model.model_fields)}."
        case "missing":
            return f"{where} is missing."
        case _:
            message = str(error["msg"])
            return f"{where} is {error['input']!r}: {message[0].lower()}{message[1:]}."
