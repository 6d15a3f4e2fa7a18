"""A Delta table's schema follows from the view, and every way to differ from it is found."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from deltalake import Schema

from feature_store import arrow_readings, registry, table_schema
from feature_store.energy import ENERGY
from feature_store.table_schema import Difference
from feature_store.view import Aggregation, FeatureView, Function, Window

pytestmark = pytest.mark.unit

VIEW = replace(
    ENERGY,
    takes=("energy_sum", "energy_count"),
    windows=(Window("7days", days=7),),
    aggregations=(Aggregation("kwh", Function.SUM, "energy_sum"), Aggregation("seen", Function.DAYS_SEEN)),
)


@pytest.mark.parametrize("view", registry.views(), ids=lambda view: view.name)
def test_the_json_is_the_schema_of_what_the_kernel_computes(view: FeatureView) -> None:
    assert Schema.from_json(table_schema.as_json(view)) == Schema.from_arrow(arrow_readings.schema(view.columns))


def test_the_ddl_names_the_columns_in_order() -> None:
    assert table_schema.ddl(VIEW) == (
        "CREATE TABLE energy_data_features (\n"
        "  id STRING,\n  day_date DATE,\n  energy_count INT,\n  energy_sum DOUBLE,\n"
        "  kwh_7days DOUBLE,\n  seen_7days BIGINT\n) USING DELTA\n"
    )


def against(live: FeatureView, **types: object) -> dict[str, tuple[str, ...]]:
    """How VIEW differs from the table of another view, of which some columns have other types."""
    schema = json.loads(table_schema.as_json(live))
    for field in schema["fields"]:
        field["type"] = types.get(field["name"], field["type"])
    return {each.kind: each.columns for each in table_schema.differences(VIEW, json.dumps(schema))}


def test_the_same_is_no_difference() -> None:
    assert against(VIEW) == {}


def test_a_column_that_the_table_lacks_is_added() -> None:
    assert against(replace(VIEW, aggregations=VIEW.aggregations[1:])) == {"added": ("kwh_7days double",)}


def test_a_column_that_is_declared_no_more_is_missing() -> None:
    more = replace(VIEW, aggregations=(*VIEW.aggregations, Aggregation("n", Function.COUNT, "energy_sum")))
    assert against(more) == {"missing": ("n_7days bigint",)}


def test_another_type_is_named_beside_the_declared_one() -> None:
    found = against(VIEW, energy_count="long", kwh_7days={"type": "array", "elementType": "double"})
    assert found == {"retyped": ("energy_count bigint, declared int", "kwh_7days array, declared double")}


def test_another_order_is_a_difference() -> None:
    found = against(replace(VIEW, aggregations=VIEW.aggregations[::-1]))
    assert found == {"moved": ("seen_7days, where kwh_7days is declared", "kwh_7days, where seen_7days is declared")}


def test_a_renamed_column_is_added_and_missing_and_moves_none() -> None:
    renamed = replace(VIEW, aggregations=(Aggregation("use", Function.SUM, "energy_sum"), VIEW.aggregations[1]))
    assert against(renamed) == {"added": ("kwh_7days double",), "missing": ("use_7days double",)}


def test_every_difference_says_what_it_takes() -> None:
    for kind, meaning in table_schema.MEANINGS.items():
        assert re.search(r"\. (Recompute|Refused): ", meaning), kind
        assert meaning.endswith(".")
    assert table_schema.differences(VIEW, '{"fields": []}')[0] == Difference(
        "added",
        tuple(f"{column.name} {column.type.spark}" for column in VIEW.columns),
        table_schema.MEANINGS["added"],
    )
