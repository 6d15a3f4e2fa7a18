"""Feature views: what follows from a declaration, and which declarations are refused."""

import subprocess
import sys
from dataclasses import replace

import pytest

from feature_store.energy import ENERGY
from feature_store.view import Aggregation, Function, Measure, Type, ViewError, Window

pytestmark = pytest.mark.unit

# The original kit's table, in its order.
ORIGINAL = """id text, day_date date, energy_median double, energy_mean double, energy_max double, energy_count int,
energy_std double, energy_sum double, energy_min double, energy_sum_3months double, energy_sum_6months double,
energy_sum_1yr double, energy_count_3months bigint, energy_count_6months bigint, energy_count_1yr bigint,
energy_max_3months double, energy_max_6months double, energy_max_1yr double, energy_mean_3months double,
energy_mean_6months double, energy_mean_1yr double, energy_stddev_3months double, energy_stddev_6months double,
energy_stddev_1yr double"""


def test_the_energy_view_is_the_original_table() -> None:
    expected = [tuple(column.split()) for column in ORIGINAL.replace("\n", " ").split(",")]
    assert [(column.name, column.type.cql) for column in ENERGY.columns] == expected
    assert len(ENERGY.columns) == 24


def test_types_of_aggregates_follow_from_the_measure() -> None:
    assert Function.SUM.result_type(Type.INT) is Type.BIGINT
    assert Function.SUM.result_type(Type.DOUBLE) is Type.DOUBLE
    assert Function.MAX.result_type(Type.INT) is Type.INT
    assert Function.MEAN.result_type(Type.INT) is Type.DOUBLE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "no; drop"}, "can't be a name"),
        ({"windows": ()}, "windows"),
        ({"windows": (Window("long", 6), Window("short", 3))}, "from the shortest"),
        ({"windows": (Window("now", 0),)}, "windows"),
        ({"measures": (*ENERGY.measures, Measure("energy_sum"))}, "energy_sum twice"),
        ({"measures": (*ENERGY.measures, Measure("tariff", Type.TEXT))}, "tariff of view energy_data_features is not"),
        ({"aggregations": (Aggregation("water_sum", Function.SUM, "water"),)}, "aggregates water"),
        ({"source_entities": ()}, "no entity column"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ViewError, match=message):
        replace(ENERGY, **change)


def test_the_core_needs_nothing_but_python() -> None:
    modules = "feature_store.calendar, feature_store.view, feature_store.energy, feature_store.cql"
    code = f"import sys; import {modules}; print({{'cassandra', 'pyspark', 'airflow'}} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
