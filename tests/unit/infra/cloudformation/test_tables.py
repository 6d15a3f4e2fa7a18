"""The online tables of CloudFormation are those of the CQL: the same declaration has made both."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from feature_store import cql, registry
from feature_store.energy import ENERGY
from infra.aws import keyspaces
from infra.local.settings import ROOT
from tests.unit.infra.cloudformation import templates

pytestmark = pytest.mark.unit

FILES = ROOT / "Keyspaces"
MODES = {"ON_DEMAND": "PAY_PER_REQUEST"}


def table_of_cql(text: str) -> dict[str, Any]:
    """What a CREATE TABLE of ours says, read by itself and not by what has written it."""
    name = re.search(r'CREATE TABLE IF NOT EXISTS "(\w+)"\."(\w+)" \(\n(.*)\n\)', text, re.DOTALL)
    assert name
    columns = dict(re.findall(r'^ +"(\w+)" (\w+),$', name[3], re.M))
    (key,) = re.findall(r"PRIMARY KEY \((.*)\)", name[3])
    entity, day = re.findall(r'"(\w+)"', key)
    (order,) = re.findall(r'CLUSTERING ORDER BY \("(\w+)" (\w+)\)', text)
    (mode,) = re.findall(r"'throughput_mode': '(\w+)'", text)
    return {
        "keyspace": name[1],
        "table": name[2],
        "columns": columns,
        "key": (entity, day),
        "order": order,
        "mode": mode,
    }


def table_of_template(of: dict[str, Any], keyspace: str, mode: str) -> dict[str, Any]:
    """The same of a resource."""
    assert of["KeyspaceName"] == {"Ref": "Keyspace"}
    (entity,) = of["PartitionKeyColumns"]
    (clustering,) = of["ClusteringKeyColumns"]
    columns = [entity, clustering["Column"], *of["RegularColumns"]]
    assert len({each["ColumnName"] for each in columns}) == len(columns)
    return {
        "keyspace": keyspace,
        "table": of["TableName"],
        "columns": {each["ColumnName"]: each["ColumnType"] for each in columns},
        "key": (entity["ColumnName"], clustering["Column"]["ColumnName"]),
        "order": (clustering["Column"]["ColumnName"], clustering["OrderBy"]),
        "mode": MODES[mode],
    }


def tables(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The tables of the template as it is without any parameter given, by name."""
    defaults = {name: of.get("Default") for name, of in template["Parameters"].items()}
    assert template["Resources"]["Keyspace"]["Properties"]["KeyspaceName"] == {
        "Fn::Join": ["_", {"Fn::Split": ["-", {"Ref": "Prefix"}]}]
    }
    keyspace = "_".join(defaults["Prefix"].split("-"))
    found = [
        table_of_template(of, keyspace, defaults["CapacityMode"])
        for _, of in templates.resources(template, "AWS::Cassandra::Table")
    ]
    return {each["table"]: each for each in found}


def from_files() -> dict[str, dict[str, Any]]:
    found = [table_of_cql(file.read_text()) for file in FILES.glob("*.cql") if file.name != "Keyspace.cql"]
    return {each["table"]: each for each in found}


def test_the_templates_tables_are_those_of_the_cql_files() -> None:
    assert tables(templates.load("keyspaces")) == from_files()


def test_the_keyspace_is_that_of_the_cql_file() -> None:
    text = (FILES / "Keyspace.cql").read_text()
    assert f'"{cql.KEYSPACE}"' in text
    assert "SingleRegionStrategy" in text
    of = templates.load("keyspaces")["Resources"]["Keyspace"]["Properties"]
    assert of["ReplicationSpecification"] == {"ReplicationStrategy": "SINGLE_REGION"}


@pytest.mark.parametrize(
    ("which", "value"),
    [
        ("RegularColumns", [{"ColumnName": "energy_sum", "ColumnType": "double"}]),
        ("PartitionKeyColumns", [{"ColumnName": "household", "ColumnType": "text"}]),
        ("ClusteringKeyColumns", [{"Column": {"ColumnName": "day_date", "ColumnType": "date"}, "OrderBy": "ASC"}]),
        ("TableName", "another"),
    ],
)
def test_a_difference_is_found(which: str, value: Any) -> None:
    template = templates.load("keyspaces")
    template["Resources"][keyspaces.logical_id(ENERGY)]["Properties"][which] = value
    assert tables(template) != from_files()


def test_the_template_is_rendered() -> None:
    text = keyspaces.TEMPLATE.read_text()
    assert keyspaces.render(text, registry.views()) == text, "run python -m infra.aws.keyspaces"


def test_a_changed_declaration_changes_the_template() -> None:
    text = keyspaces.TEMPLATE.read_text()
    others = [replace(view, name=f"{view.name}_v2") for view in registry.views()]
    changed = keyspaces.render(text, others)
    assert changed.count("Type: AWS::Cassandra::Table") == len(others)
    assert "TableName: energy_data_features_v2\n" in changed
    assert keyspaces.render(changed, registry.views()) == text


def test_what_can_not_be_rendered_is_refused() -> None:
    with pytest.raises(keyspaces.TemplateError, match="has no lines"):
        keyspaces.render("Resources:\n", registry.views())
    twins = [replace(ENERGY, name=name) for name in ("days_1_2", "days_12")]
    with pytest.raises(keyspaces.TemplateError, match="underscores only"):
        keyspaces.render(keyspaces.TEMPLATE.read_text(), twins)
