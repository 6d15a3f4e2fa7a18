"""The settings file: what is wrong in it is said, each fault in a line, before there is a call to AWS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from infra.aws import settings as settings_of
from infra.aws import templates
from infra.aws.__main__ import main
from infra.aws.errors import DeploymentError, SettingsError
from infra.aws.settings import EXAMPLE, Settings, fault
from infra.aws.upload import MADE

pytestmark = pytest.mark.unit

TEMPLATES = templates.load()
GOOD = 'account: "111122223333"\nregion: eu-west-2\ncost_centre: data\n'


def load(folder: Path, text: str) -> Settings:
    file = folder / "settings.yaml"
    file.write_text(text)
    return settings_of.load(file, TEMPLATES, MADE)


def test_the_least_is_enough(tmp_path) -> None:
    loaded = load(tmp_path, GOOD)
    assert loaded.tags() == {"Project": "feature-store", "CostCentre": "data"}
    assert loaded.given(TEMPLATES[0]) == {"Prefix": "feature-store"}


def test_the_example_is_fit(tmp_path) -> None:
    loaded = load(tmp_path, EXAMPLE.read_text())
    assert [loaded.given(template) for template in TEMPLATES] == [{"Prefix": "feature-store"}] * len(TEMPLATES)


def test_the_example_shows_every_parameter_that_can_be_given_with_its_default(tmp_path) -> None:
    uncommented = re.sub(r"^    # (?=[A-Z]\w+: )", "    ", EXAMPLE.read_text(), flags=re.M)
    loaded = load(tmp_path, uncommented)
    there: set[str] = set()
    for template in TEMPLATES:
        defaults = {
            name: str(declaration["Default"])
            for name, declaration in template.parameters.items()
            if name not in {"Prefix", *there, *MADE.get(template.name, ())}
        }
        assert loaded.given(template) == {"Prefix": "feature-store", **defaults}
        there |= template.outputs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is None: input should be"),
        ("[", "is no YAML"),
        (GOOD + "acount: 1\n", "acount is no setting: there are account, region"),
        (GOOD + "region: eu-west-1\n", "region is there twice"),
        (GOOD.replace('"', ""), "account is 111122223333: input should be a valid string"),
        (GOOD.replace("1111", "111"), "account is '11122223333'"),
        (GOOD.replace("eu-west-2", "London"), "region is 'London'"),
        (GOOD.partition("cost")[0], "cost_centre is missing"),
        (GOOD + "cluster: {core_market: cheap}\n", "cluster.core_market is 'cheap': input should be 'on_demand'"),
        (GOOD + "cluster: {size: 3}\n", "cluster.size is no setting: there are instances, core_market, architecture"),
        (GOOD + "prefix: Feature_Store\n", "prefix is 'Feature_Store': 3 to 24 lower-case letters"),
        (GOOD + "stacks: {netwrk: {}}\n", "'netwrk' is no stack: there are network, storage"),
        (GOOD + "stacks: {network: {VpcCdr: x}}\n", "network.VpcCdr is no parameter: network has AirflowPageCidr"),
        (GOOD + "stacks: {network: {Prefix: x}}\n", "stacks.network.Prefix is not given here: it is 'prefix', above"),
        (GOOD + "stacks: {emr: {VpcId: vpc-1}}\n", "emr.VpcId is not given here: it is an output of the stack"),
        (GOOD + "stacks: {airflow: {PluginsVersion: x}}\n", "is not given here: it follows from the code"),
        (GOOD + "stacks: {network: {FlowLogDays: often}}\n", "network.FlowLogDays has to be a whole number, not"),
        (GOOD + "stacks: {monitoring: {MonthlyBudget: .nan}}\n", "MonthlyBudget has to be a whole number, not nan"),
        (GOOD + "stacks: {network: {FlowLogDays: 2}}\n", "stacks.network.FlowLogDays is 2: it may be 1, 3, 5"),
        (GOOD + "stacks: {network: {VpcCidr: 10}}\n", "stacks.network.VpcCidr has to be a text"),
        (GOOD + "stacks: {network: {VpcCidr: 10.0.0.0/8}}\n", "is '10.0.0.0/8': An IPv4 range of /16 to /26"),
        (GOOD + "stacks: {network: {VpcCidr: 10.0.256.0/16}}\n", "is '10.0.256.0/16': An IPv4 range"),
        (GOOD + "stacks: {network: {AirflowPageCidr: 0.0.0.0/0}}\n", "'0.0.0.0/0': A range of private IPv4 addresses"),
        (GOOD + "stacks: {network: {SubnetIds: [subnet-1, subnet-1]}}\n", "SubnetIds has to be two different subnets"),
        (GOOD + "stacks: {storage: {LandingExpireDays: 90}}\n", "it is 0, or more than LandingArchiveDays, 90"),
        (GOOD + "stacks: {network: {SubnetIds: subnet-1}}\n", "stacks.network.SubnetIds has to be a list of texts"),
        (GOOD + "stacks: {network: {Simulation: 'yes'}}\n", "network.Simulation is 'yes': it may be true, false"),
        (GOOD + "stacks: {storage: {RunDays: 3651}}\n", "stacks.storage.RunDays is 3651: it is from 30 to 3650"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, text, said) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"settings\.yaml can't be read: 'utf-8' codec"):
        settings_of.load(file, [], {})


def test_every_fault_is_a_line(tmp_path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, GOOD + "stacks: {network: {FlowLogDays: 2, Other: 1}, nothing: {}}\n")
    assert len(str(caught.value).splitlines()) == 3


def test_a_parameter_that_nobody_gives_is_missed(tmp_path) -> None:
    body = "Parameters: {Owner: {Type: String, Description: Who.}}\nResources: {}\n"
    (tmp_path / "s.yaml").write_text(GOOD)
    with pytest.raises(SettingsError, match=r"stacks.one.Owner is missing: Who\."):
        settings_of.load(tmp_path / "s.yaml", [templates.parse("one", body)], {})


@pytest.mark.parametrize(
    ("declaration", "value", "fits"),
    [
        ({"Type": "String", "MinLength": 2}, "a", False),
        ({"Type": "String", "MaxLength": "2"}, "abc", False),
        ({"Type": "String", "AllowedPattern": "a+"}, "aab", False),
        ({"Type": "String", "AllowedPattern": "a+"}, "aa", True),
        ({"Type": "String", "AllowedValues": ["true", "false"]}, True, True),
        ({"Type": "String"}, True, False),
        ({"Type": "Number", "MinValue": 1}, 0, False),
        ({"Type": "Number"}, True, False),
        ({"Type": "Number"}, 1.5, False),
        ({"Type": "List<Number>"}, [1, 2], True),
        ({"Type": "List<Number>"}, ["1"], False),
        ({"Type": "List<AWS::EC2::Subnet::Id>"}, ["subnet-1"], True),
        ({"Type": "CommaDelimitedList", "AllowedValues": ["a"]}, ["a", "b"], False),
    ],
)
def test_values_are_checked_by_their_declaration(declaration, value, fits) -> None:
    assert (fault(declaration, value) is None) == fits


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (3, "3"), (0.5, "0.5"), (["a", "b"], "a,b"), ([], "")])
def test_values_are_written_as_cloudformation_takes_them(value: Any, text: str) -> None:
    assert settings_of.text(value) == text


def test_a_template_that_is_none_is_refused(tmp_path) -> None:
    for body, said in (
        ("a: [", "is no YAML"),
        ("a: 1", "has no Resources"),
        ("Resources: {A: {}, A: {}}", "A is there twice"),
    ):
        with pytest.raises(DeploymentError, match=said):
            templates.parse("one", body)
    with pytest.raises(DeploymentError, match=r"one\.yaml is missing"):
        templates.load(tmp_path, ["one"])
    (tmp_path / "one.yaml").write_text("Resources: {}\n#" + "x" * templates.MOST_BYTES)
    with pytest.raises(DeploymentError, match="more than the 51,200 bytes"):
        templates.load(tmp_path, ["one"])


def test_the_command_says_what_is_wrong_and_ends_with_2(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("infra.aws.__main__.boto3", None)  # nobody may ask AWS before the file is fit
    file = tmp_path / "settings.yaml"
    assert main(["deploy", "--settings", str(file)]) == 2
    assert f"There is no {file}: copy" in capsys.readouterr().err
    file.write_text(GOOD + "stacks: {network: {FlowLogDays: 2}}\n")
    assert main(["destroy", "--yes", "--settings", str(file)]) == 2
    assert "FlowLogDays is 2" in capsys.readouterr().err
