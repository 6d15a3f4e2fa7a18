"""Feature views: what follows from a declaration, and which declarations are refused."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from feature_store.energy import ENERGY
from feature_store.folds import WindowValues
from feature_store.view import Aggregation, Column, FeatureView, Function, Measure, Type, ViewError, Window

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
    assert Function.STDDEV.result_type(Type.BIGINT) is Type.DOUBLE
    assert Function.MIN.result_type(Type.DOUBLE) is Type.DOUBLE
    assert Function.LAST.result_type(Type.BIGINT) is Type.BIGINT
    assert Function.COUNT.result_type(Type.DOUBLE) is Type.BIGINT
    assert Function.DAYS_SEEN.result_type() is Type.BIGINT
    for function in Function:
        if function.takes_measure and function is not Function.COUNT:
            with pytest.raises(ValueError, match="of numbers"):
                function.result_type(Type.TEXT)


@pytest.mark.parametrize("function", Function)
def test_every_function_has_its_fold(function: Function) -> None:
    arrays = (np.array([4.0, 2.0]), np.array([0, 0]), np.array([1, 2]))
    assert len(getattr(WindowValues(*arrays, deviate=True), function.fold)) == 2


def test_functions_have_their_sql() -> None:
    assert Function.MEAN.sql("kwh", "day") == "avg(kwh)"
    assert Function.STDDEV.sql("kwh", "day", "OVER w") == "stddev_samp(kwh) OVER w"
    assert Function.DAYS_SEEN.sql(None, "day", "FILTER (WHERE day > x)") == "count(day) FILTER (WHERE day > x)"
    assert Function.LAST.sql("v", "d", "OVER w") == "max_by(v, CASE WHEN v IS NOT NULL THEN d END) OVER w"


def test_a_view_of_all_functions_and_units() -> None:
    view = replace(
        ENERGY,
        windows=(Window("7days", days=7), Window("4weeks", weeks=4), Window("1month", 1), Window("1yr", years=1)),
        aggregations=(
            *(Aggregation(f"kwh_{f.name.lower()}", f, "energy_sum") for f in Function if f.takes_measure),
            Aggregation("days_seen", Function.DAYS_SEEN),
        ),
    )
    assert [column.name for column in view.features][:5] == [
        "kwh_sum_7days",
        "kwh_sum_4weeks",
        "kwh_sum_1month",
        "kwh_sum_1yr",
        "kwh_count_7days",
    ]
    assert view.features[-1] == Column("days_seen_1yr", Type.BIGINT)
    assert view.columns == view.readings + view.features
    assert view.longest.name == "1yr"


KWH = Aggregation("kwh", Function.SUM, "energy_sum")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "no; drop"}, "can't be a name"),
        ({"name": "Energy"}, "^name of view Energy can't be a name: 'Energy'"),
        ({"name": "a" * 49}, "^name of view a+ can't be a name: a+ has 49 characters, and Keyspaces holds 48$"),
        ({"name": "table"}, "^name of view table can't be a name: table is a reserved word of CQL$"),
        ({"name": "readings"}, "^name of view readings is a table of source readings already$"),
        ({"name": "readings_quarantine"}, "^name of view .* is a table of source readings already$"),
        ({"description": " "}, "^description of view energy_data_features is empty"),
        ({"windows": ()}, "^windows of view energy_data_features has none"),
        (
            {"windows": Window("now", days=1)},
            "^windows of view .* takes a tuple of Window, with a comma after a single",
        ),
        ({"windows": (Window("now", 0),)}, "^windows.now of view energy_data_features is of 0 months"),
        ({"windows": (Window("now", days=0),)}, "^windows.now of view energy_data_features is of 0 days"),
        ({"windows": (Window("now"),)}, "^windows.now of view energy_data_features takes one of months, days"),
        ({"windows": (Window("long", 6), Window("short", 3))}, "from the shortest"),
        ({"windows": (Window("a", days=30), Window("b", months=1))}, "^windows.a of view .* is not within b"),
        ({"windows": (Window("a", months=12), Window("b", years=1))}, "^windows.a of view .* is not within b"),
        ({"windows": (Window("big Window", days=3),)}, "^aggregations.energy_sum of view .* 'energy_sum_big Window'"),
        ({"windows": (Window("w" * 40, days=3),)}, "^aggregations.energy_sum of view .* has 51 characters"),
        ({"windows": (Window("a", days=3), Window("a", days=4))}, "aggregations.* has column energy_stddev_a twice"),
        (
            {"aggregations": (Aggregation("water_sum", Function.SUM, "water"),)},
            "^aggregations.water_sum of view energy_data_features aggregates water, which is none of its measures",
        ),
        ({"aggregations": KWH}, "^aggregations of view .* takes a tuple of Aggregation"),
        ({"aggregations": (KWH, KWH)}, "^aggregations.kwh of view .* has column kwh_1yr twice"),
        ({"aggregations": (Aggregation("kwh", Function.SUM),)}, "^aggregations.kwh of view .* needs a measure"),
        (
            {"aggregations": (Aggregation("days", Function.DAYS_SEEN, "energy_sum"),)},
            "^aggregations.days of view .* is DAYS_SEEN, which takes no measure, so not energy_sum",
        ),
        ({"takes": ("water",)}, "^takes of view .* has water, which is none of the measures of source readings$"),
        ({"takes": "energy_sum"}, "^takes of view .* takes a tuple of str"),
        (
            {"takes": ("energy_sum", "energy_sum"), "aggregations": (KWH,)},
            "^takes of view .* has column energy_sum twice",
        ),
        ({"takes": ("energy_max",), "aggregations": (KWH,)}, "^aggregations.kwh of view .* aggregates energy_sum"),
        (
            {"retention": 0},
            "^retention of view energy_data_features is 0: it takes a whole number of days from 1 to 36500",
        ),
        ({"retention": 36501}, "^retention of view energy_data_features is 36501"),
        ({"retention": True}, "^retention of view energy_data_features is True"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ViewError, match=message):
        replace(ENERGY, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Readings"}, "^name of source Readings can't be a name"),
        (
            {"measures": (*ENERGY.measures, Measure("energy_sum"))},
            "^measures.energy_sum of .* has column energy_sum twice",
        ),
        ({"measures": (Measure("tariff", Type.TEXT),)}, "^measures.tariff of source readings is not a number"),
        ({"measures": (Measure("order"),)}, "^measures.order of source readings .* is a reserved word of CQL"),
        ({"measures": Measure("kwh")}, "^measures of source readings takes a tuple of Measure"),
        ({"day": "id"}, "^day of source readings has column id twice"),
        ({"landed_entities": ()}, "^landed_entities of source readings names no entity column"),
        ({"landed_day": "energy_sum"}, "^landed_day of source readings has column energy_sum twice"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ViewError, match=message):
        replace(ENERGY.source, **change)


def test_a_feature_can_not_have_the_name_of_a_measure() -> None:
    source = replace(ENERGY.source, measures=(*ENERGY.measures, Measure("energy_max_1yr")))
    with pytest.raises(ViewError, match=r"^aggregations.energy_max of view .* has column energy_max_1yr twice"):
        replace(ENERGY, source=source)


def wide(features: int) -> FeatureView:
    """A view of so many columns beside the key: one reading and the features."""
    aggregations = tuple(Aggregation(f"f{n}", Function.SUM, "energy_sum") for n in range(features))
    windows = (Window("1d", days=1),)
    return replace(ENERGY, takes=("energy_sum",), windows=windows, aggregations=aggregations)


def test_a_table_has_as_many_columns_as_keyspaces_writes() -> None:
    assert len(wide(224).columns) == 227
    with pytest.raises(ViewError, match=r"^aggregations of view .* makes 226 columns .* writes 225"):
        wide(225)


def test_a_view_takes_only_the_measures_that_it_names() -> None:
    view = replace(ENERGY, takes=("energy_sum", "energy_count"), aggregations=(KWH,))
    assert [column.name for column in view.readings] == ["id", "day_date", "energy_count", "energy_sum"]
    assert view.source == ENERGY.source


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        (
            "calendar, window, function, view, registry, energy, cql, describe, table_schema, live_table",
            {"cassandra", "pyspark", "airflow", "numpy", "deltalake", "argparse"},
        ),
        ("kernel", {"cassandra", "pyspark", "airflow", "pandas"}),
    ],
)
def test_the_core_needs_nothing_but_python(modules: str, unwanted: set[str]) -> None:
    code = f"import sys; from feature_store import {modules}; print({unwanted} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
