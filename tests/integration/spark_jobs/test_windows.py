"""The windows' semantics, at every edge."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from feature_store import compute
from feature_store.arrow_readings import schema
from feature_store.calendar import DayRange, parse_day
from feature_store.energy import ENERGY
from feature_store.view import Aggregation, FeatureView, Function, Measure, Window
from spark_jobs import windows
from tests.integration.spark_jobs.conftest import frame, reading

pytestmark = pytest.mark.integration

ALL_DAYS = DayRange(dt.date(1900, 1, 1), dt.date(2100, 1, 1))
# As of a day: each window's first day.
EDGES = [
    ("2013-05-31", "3months", "2013-02-28"),
    ("2012-05-31", "3months", "2012-02-29"),
    ("2012-05-30", "3months", "2012-02-29"),
    ("2012-02-29", "3months", "2011-11-29"),
    ("2012-02-29", "6months", "2011-08-29"),
    ("2012-02-29", "1yr", "2011-02-28"),
    ("2013-02-28", "1yr", "2012-02-28"),
    ("2013-08-31", "6months", "2013-02-28"),
    ("2013-01-15", "3months", "2012-10-15"),
    ("2013-01-01", "1yr", "2012-01-01"),
    ("2012-12-31", "3months", "2012-09-30"),
]


def feature_rows(spark: SparkSession, readings: list[dict]) -> dict[tuple[str, dt.date], dict]:
    rows_read = frame(spark, readings)
    rows = windows.features(rows_read, ENERGY, ALL_DAYS).collect()
    return {(row["id"], row["day_date"]): row.asDict() for row in rows}


def test_windows_begin_and_end_where_the_calendar_says(spark: SparkSession) -> None:
    readings = []
    for day, window, first in EDGES:
        entity, begin, end = f"{day} {window}", parse_day(first), parse_day(day)
        one = dt.timedelta(days=1)
        values = {begin - one: 1000.0, begin: 10.0, end: 1.0, end + one: 5000.0}
        readings += [reading(entity, at, value) for at, value in values.items()]
    found = feature_rows(spark, readings)
    for day, window, first in EDGES:
        row = found[f"{day} {window}", parse_day(day)]
        assert row[f"energy_sum_{window}"] == 11.0, (day, window, first)
        assert row[f"energy_max_{window}"] == 10.0, (day, window, first)
        assert row[f"energy_count_{window}"] == 96, (day, window, first)


def test_the_future_is_never_seen(spark: SparkSession) -> None:
    start = dt.date(2012, 1, 1)
    past = [reading("A", start + dt.timedelta(days=n), float(n % 7)) for n in range(200)]
    future = [reading("A", start + dt.timedelta(days=200 + n), 1e6) for n in range(50)]
    without, having = feature_rows(spark, past), feature_rows(spark, past + future)
    assert {key: having[key] for key in without} == without


def test_columns_are_exactly_the_views(spark: SparkSession) -> None:
    one = frame(spark, [reading("A", "2013-01-01")])
    rows = windows.features(one, ENERGY, ALL_DAYS)
    there = [(field.name, field.dataType.simpleString()) for field in rows.schema]
    assert there == [(column.name, column.type.spark) for column in ENERGY.columns]


def test_missing_days_and_nulls_are_no_zeros(spark: SparkSession) -> None:
    found = feature_rows(
        spark,
        [
            reading("A", "2013-01-01", 4.0),
            reading("A", "2013-01-05", None),
            reading("A", "2013-01-20", 2.0),
            reading("B", "2013-01-01", None),
            reading("B", "2013-01-02", None),
        ],
    )
    row = found["A", dt.date(2013, 1, 20)]
    assert (row["energy_sum_3months"], row["energy_mean_3months"], row["energy_max_3months"]) == (6.0, 3.0, 4.0)
    assert row["energy_stddev_3months"] == pytest.approx(math.sqrt(2), rel=1e-12)
    assert found["A", dt.date(2013, 1, 5)]["energy_sum_3months"] == 4.0
    assert found["A", dt.date(2013, 1, 5)]["energy_stddev_3months"] is None
    nothing = found["B", dt.date(2013, 1, 2)]
    for aggregate in ("sum", "mean", "max", "stddev"):
        assert nothing[f"energy_{aggregate}_1yr"] is None
    assert nothing["energy_count_1yr"] == 0


def test_deviations_do_not_cancel(spark: SparkSession) -> None:
    """Values that differ in the ninth digit only: a sum of squares would lose all of it."""
    start = dt.date(2013, 1, 1)
    values = [1e8 + (n * 37 % 11) / 10 for n in range(60)]
    readings = [reading("A", start + dt.timedelta(days=n), value) for n, value in enumerate(values)]
    found = feature_rows(spark, readings)["A", start + dt.timedelta(days=59)]
    mean = math.fsum(values) / len(values)
    exact = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    assert found["energy_stddev_3months"] == pytest.approx(exact, rel=1e-9)


def test_counts_are_64_bit(spark: SparkSession) -> None:
    days = [dt.date(2013, 1, 1) + dt.timedelta(days=n) for n in range(3)]
    found = feature_rows(spark, [reading("A", day, energy_count=2**31 - 1) for day in days])
    assert found["A", days[-1]]["energy_count_1yr"] == 3 * (2**31 - 1)


EVERY_FUNCTION = FeatureView(
    name="every_function",
    description="Every function over every unit.",
    source=replace(ENERGY.source, measures=tuple(Measure(measure.name, measure.type) for measure in ENERGY.measures)),
    windows=(Window("1d", days=1), Window("2w", weeks=2), Window("2m", months=2), Window("1y", years=1)),
    aggregations=tuple(
        Aggregation(f"{of or 'row'}_{function.name.lower()}", function, of)
        for function in Function
        for of in (("energy_sum", "energy_count") if function.takes_measure else (None,))
    ),
)


@pytest.mark.parametrize("view", [ENERGY, EVERY_FUNCTION], ids=lambda view: view.name)
def test_spark_computes_what_one_process_computes(spark: SparkSession, view: FeatureView) -> None:
    start = dt.date(2011, 12, 1)
    readings = [
        reading(entity, start + dt.timedelta(days=n), None if n % 31 == 3 else float(n * 7919 % 1000) / 8)
        for entity, step in (("A", 1), ("B", 3), ("C", 40))
        for n in range(0, 480, step)
    ]
    rows = frame(spark, readings).cache()
    found = windows.features(rows, view, ALL_DAYS)
    alone = compute.features(view, pa.Table.from_pylist(readings, schema(view.readings))).to_pylist()
    assert [row.asDict() for row in found.orderBy("id", "day_date").collect()] == alone


def test_a_whole_window_by_hand(spark: SparkSession) -> None:
    """Every aggregate of every window, against plain Python over the rows between two days."""
    start = dt.date(2012, 1, 30)
    readings = [reading("A", start + dt.timedelta(days=n), float(n * 31 % 97)) for n in range(430) if n % 5]
    last = readings[-1]["day_date"]
    found = feature_rows(spark, readings)["A", last]
    for window in ENERGY.windows:
        values = [r["energy_sum"] for r in readings if window.first_day(last) <= r["day_date"]]
        mean = math.fsum(values) / len(values)
        exact = {
            "sum": math.fsum(values),
            "count": 48 * len(values),
            "max": max(values),
            "mean": mean,
            "stddev": math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)),
        }
        for name, value in exact.items():
            assert found[f"energy_{name}_{window.name}"] == pytest.approx(value, rel=1e-9)


def test_an_entity_of_many_batches_and_a_task_of_many_entities(spark: SparkSession) -> None:
    """Rows of one entity in several Arrow batches come to what they come to in one."""
    start = dt.date(2000, 1, 1)
    readings = [reading("LONG", start + dt.timedelta(days=n), float(n * 7919 % 1000) / 8) for n in range(900)]
    readings += [reading(f"H{house:03}", start + dt.timedelta(days=n), n / 7) for house in range(60) for n in range(9)]
    whole = feature_rows(spark, readings)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "100")
    try:
        assert feature_rows(spark, readings[::-1]) == whole
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    assert len(whole) == len(readings)
