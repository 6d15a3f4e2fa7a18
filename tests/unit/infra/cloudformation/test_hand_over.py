"""The stacks fit together: what one asks for, an earlier one gives under the same name; and what cfn-lint finds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from infra.aws import reference
from tests.unit.infra.cloudformation import templates
from tests.unit.infra.cloudformation.faults import REMOVED, Change, put

pytestmark = pytest.mark.unit

ALL = {name: templates.load(name) for name in templates.NAMES}


def not_given(stacks: Mapping[str, Any]) -> list[str]:
    """The parameters that have no default and are no output of an earlier stack."""
    given: set[str] = set()
    missing = []
    for stack, template in stacks.items():
        asked = [name for name, of in template["Parameters"].items() if "Default" not in of]
        missing += [f"{stack}: {name}" for name in asked if name not in given]
        given |= template["Outputs"].keys()
    return missing


def given_twice(stacks: Mapping[str, Any]) -> list[str]:
    """The outputs that are two stacks' own; one that only hands its parameter on is none."""
    own = [name for template in stacks.values() for name in template["Outputs"].keys() - template["Parameters"].keys()]
    return sorted({name for name in own if own.count(name) > 1})


def findings(template: dict[str, Any]) -> list[str]:
    """What cfn-lint says, by its rules."""
    return [match.rule.id for match in lint(json.dumps(template), config=ManualArgs(regions=["eu-west-2"]))]


def test_each_stack_gets_what_it_asks_for() -> None:
    assert not_given(ALL) == []
    assert given_twice(ALL) == []


def test_what_nobody_gives_is_found() -> None:
    renamed = json.loads(json.dumps(ALL))
    renamed["storage"]["Outputs"]["Bucket"] = renamed["storage"]["Outputs"].pop("BucketName")
    assert not_given(renamed) == ["emr: BucketName", "simulation: BucketName", "airflow: BucketName"]
    assert not_given({"emr": ALL["emr"]})
    renamed["emr"]["Outputs"]["KeyspaceName"] = {}
    assert "KeyspaceName" not in given_twice(renamed)  # it hands on what it was given
    renamed["network"]["Outputs"]["DashboardName"] = {}
    assert given_twice(renamed) == ["DashboardName"]


def test_the_prefix_is_the_same_everywhere() -> None:
    assert len({json.dumps(template["Parameters"]["Prefix"]["AllowedPattern"]) for template in ALL.values()}) == 1
    assert {template["Parameters"]["Prefix"]["Default"] for template in ALL.values()} == {"feature-store"}


# All templates are linted by `make lint`.
@pytest.mark.parametrize(
    ("name", "plant", "rule"),
    [
        ("storage", put("Parameters/NoncurrentDays/Type", "Numbre"), "E2001"),
        ("storage", put("Parameters/NoncurrentDays/Default", 0), "E2015"),
        ("storage", put("Resources/Bucket/Properties/VersioningConfiguration/Status", "On"), "E3030"),
        ("keyspaces", put("Resources/EnergyDataFeaturesTable/Properties/PartitionKeyColumns", REMOVED), "E3003"),
        ("emr", put("Resources/NodeProfile/Properties/Roles/0", {"Ref": "Nobody"}), "E1020"),
    ],
)
def test_the_linter_finds_what_is_wrong(name: str, plant: Change, rule: str) -> None:
    template = templates.load(name)
    assert findings(template) == []
    plant(template)
    assert rule in findings(template)


def test_the_readme_has_the_tables_of_the_templates() -> None:
    assert reference.render(reference.README.read_text()) == reference.README.read_text(), (
        "run python -m infra.aws.reference"
    )


def test_a_readme_without_a_place_for_a_template_is_refused() -> None:
    with pytest.raises(reference.TablesError, match="has no lines"):
        reference.render("# Nothing\n")


def test_the_dashboard_is_json_and_shows_alarms_that_there_are() -> None:
    template = ALL["monitoring"]
    (text,) = [of["DashboardBody"]["Fn::Sub"] for _, of in templates.resources(template, "AWS::CloudWatch::Dashboard")]
    filled = re.sub(r"\$\{(?!Prefix)[\w:]+\}", "7", text)
    widgets = {each["type"]: each["properties"] for each in json.loads(filled)["widgets"]}
    shown = {arn.rpartition(":")[2] for arn in widgets["alarm"]["alarms"]}
    there = {of["AlarmName"]["Fn::Sub"] for _, of in templates.resources(template, "AWS::CloudWatch::Alarm")}
    assert shown == there - {"${Prefix}-scheduler-down"}  # which there is only with a managed Airflow
