"""The kernel against an oracle of plain Python, and against itself however its input is cut."""

from __future__ import annotations

import datetime as dt
import math
import statistics
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store import kernel, registry
from feature_store.arrow_readings import (
    ColumnRefusedError,
    KeyRefusedError,
    OrderError,
    ReadingsError,
    ValueRefusedError,
    schema,
)
from feature_store.calendar import DayRange, add_months, parse_day
from feature_store.energy import ENERGY
from feature_store.view import Aggregation, FeatureView, Function, Measure, Source, Type, Window

pytestmark = pytest.mark.unit

OF_MEASURES = [function for function in Function if function.takes_measure]
VIEW = FeatureView(
    name="everything",
    description="Every function over every type and unit.",
    source=Source(
        name="readings",
        entity="id",
        day="day",
        measures=(Measure("x"), Measure("n", Type.INT), Measure("big", Type.BIGINT), Measure("carried")),
        landed_entities=("id",),
        landed_day="day",
    ),
    windows=(
        Window("1day", days=1),
        Window("1week", weeks=1),
        Window("1month", months=1),
        Window("3months", months=3),
        Window("1yr", years=1),
    ),
    aggregations=(
        *(Aggregation(f"{m}_{f.name.lower()}", f, m) for m in ("x", "n", "big") for f in OF_MEASURES),
        Aggregation("days", Function.DAYS_SEEN),
    ),
)
# The same windows, by another account of their days.
FIRST_DAYS: dict[str, Callable[[dt.date], dt.date]] = {
    "1day": lambda day: day,
    "1week": lambda day: day - dt.timedelta(days=6),
    "1month": lambda day: add_months(day, -1),
    "3months": lambda day: add_months(day, -3),
    "1yr": lambda day: add_months(day, -12),
}
ONE = dt.timedelta(days=1)

Row = dict[str, Any]


def table(rows: list[Row], view: FeatureView = VIEW) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema(view.readings))


def row(entity: str, day: str | dt.date, x: float | None = 1.0, n: int | None = 1, big: int | None = 1) -> Row:
    return {"id": entity, "day": parse_day(day) if isinstance(day, str) else day, "x": x, "n": n, "big": big}


def by_key(features: pa.Table) -> dict[tuple[str, dt.date], Row]:
    return {(found["id"], found["day"]): found for found in features.to_pylist()}


def bits(features: pa.Table) -> dict[tuple[str, dt.date], tuple[Any, ...]]:
    """Rows by key, doubles as their bytes: equal is identical."""
    return {
        key: tuple(struct.pack("<d", value) if isinstance(value, float) else value for value in found.values())
        for key, found in by_key(features).items()
    }


def days_of(start: str, count: int, step: int = 1) -> Iterator[dt.date]:
    return (parse_day(start) + number * ONE for number in range(0, count * step, step))


# --- against the oracle


def expected(function: Function, values: list[Any]) -> float | int | None:
    """The function of the values that are there, oldest first; standard deviations by fractions, rounded once."""
    if function is Function.COUNT:
        return len(values)
    if len(values) < (2 if function is Function.STDDEV else 1):
        return None
    if function in (Function.SUM, Function.MEAN):
        total = math.fsum(values) if isinstance(values[0], float) else sum(values)
        return total if function is Function.SUM else total / len(values)
    if function is Function.STDDEV:
        return statistics.stdev([float(value) for value in values])
    return {Function.MIN: min(values), Function.MAX: max(values), Function.LAST: values[-1]}[function]


def oracle(rows: list[Row], of: Row, aggregation: Aggregation, window: Window) -> float | int | None:
    first = FIRST_DAYS[window.name](of["day"])
    seen = sorted(
        (other for other in rows if other["id"] == of["id"] and first <= other["day"] <= of["day"]),
        key=lambda other: other["day"],
    )
    if aggregation.measure is None:
        return len({other["day"] for other in seen})
    return expected(
        aggregation.function, [other[aggregation.measure] for other in seen if other[aggregation.measure] is not None]
    )


def assert_right(rows: list[Row], relative: float = 1e-12) -> None:
    found = by_key(kernel.features(table(rows), VIEW))
    assert found.keys() == {(of["id"], of["day"]) for of in rows}
    for of in rows:
        features = found[of["id"], of["day"]]
        assert {name: features[name] for name in of} == of
        for aggregation in VIEW.aggregations:
            for window in VIEW.windows:
                value, right = features[aggregation.column(window)], oracle(rows, of, aggregation, window)
                same = (
                    math.isclose(value, right, rel_tol=relative)
                    if isinstance(value, float) and isinstance(right, float)
                    else value == right
                )
                assert same, (aggregation.column(window), of["day"], value, right)


ORDINARY = st.integers(-10_000, 10_000).map(lambda number: number / 1000)
# Values that differ in their last digits only, before and after a jump; sums and squares at the ends of the doubles.
NEAR = st.builds(lambda base, off: base + off / 1000, st.sampled_from([1e6, -1e6, 1e12]), st.integers(-1, 1))
EXTREME = st.sampled_from([0.0, -0.0, 1e-300, 5e-324, -1e-200, 1e155, -1e155, 1e306, -1e306, 1e16, 1.0, 1 + 2**-52])
ANY = st.floats(-1e306, 1e306, allow_nan=False)
SERIES = st.sampled_from([ORDINARY, NEAR, EXTREME, ANY, st.one_of(ORDINARY, NEAR, EXTREME, ANY)])
# Around the ends of months and years, leap days, and 1970, where the days' numbers change their sign.
STARTS = st.sampled_from(
    ["2011-12-20", "2012-02-20", "2013-02-20", "2013-01-29", "1969-12-20", "2100-02-20", "2012-08-29"]
)


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    rows = []
    for entity in draw(st.lists(st.sampled_from(["A", "B", "é", "aa"]), min_size=1, max_size=3, unique=True)):
        start = parse_day(draw(STARTS))
        gap = draw(st.sampled_from([1, 1, 2, 15, 40]))
        offsets = draw(st.lists(st.integers(0, 16), min_size=1, max_size=16, unique=True))
        values = st.none() | draw(SERIES)
        for offset in offsets:
            n, big = draw(st.none() | st.integers(-(2**31), 2**31 - 1)), draw(st.none() | st.integers(-(2**57), 2**57))
            rows.append(row(entity, start + offset * gap * ONE, draw(values), n, big))
    return draw(st.permutations(rows))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_every_feature_is_what_plain_python_says(rows: list[Row]) -> None:
    for of in rows:
        of["carried"] = of["x"]
    assert_right(rows)


@settings(max_examples=60, deadline=None)
@given(histories(), st.data())
def test_how_the_input_is_cut_changes_no_bit(rows: list[Row], data: st.DataObject) -> None:
    whole = bits(kernel.features(table(rows), VIEW))
    assert bits(kernel.features(table(data.draw(st.permutations(rows))), VIEW)) == whole
    of = data.draw(st.sampled_from(rows))
    asked = DayRange(of["day"], of["day"] + data.draw(st.integers(0, 20)) * ONE)
    seen = VIEW.longest.seen(asked)
    needed = [other for other in rows if other["id"] == of["id"] and seen.start <= other["day"] <= seen.end]
    part = bits(kernel.features(table(needed), VIEW, asked))
    assert part == {key: whole[key] for key in whole if key[0] == of["id"] and asked.start <= key[1] <= asked.end}


@pytest.mark.parametrize(
    "values",
    [
        [1e6 + math.sin(number * 12.9898) / 1000 for number in range(400)],
        [(1e6 if number < 200 else -1e6) + math.sin(number * 12.9898) / 1000 for number in range(400)],
        [math.sin(number * 12.9898) * (1e15 if number < 20 else 1) for number in range(400)],
        [math.sin(number * 12.9898) * (1e200 if number < 20 else 1) for number in range(400)],
        [1e12 + (number * 37 % 11) * 2**-13 for number in range(400)],
        [0.1] * 399 + [0.1 + 2**-55],
        [1.5 + number % 2 for number in range(400)],
    ],
    ids=["1e6 +- 1e-3", "from 1e6 to -1e6", "1e15 slides out", "1e200 slides out", "last digits", "one digit", "plain"],
)
def test_nothing_cancels(values: list[float]) -> None:
    rows = [row("A", day, value) for day, value in zip(days_of("2012-01-01", 400), values, strict=True)]
    found = by_key(kernel.features(table(rows), VIEW, DayRange(rows[360]["day"], rows[-1]["day"])))
    for of in rows[360:]:
        for window in VIEW.windows[1:]:
            first = FIRST_DAYS[window.name](of["day"])
            seen = [other["x"] for other in rows if first <= other["day"] <= of["day"]]
            features = found["A", of["day"]]
            assert features[f"x_sum_{window.name}"] == pytest.approx(math.fsum(seen), rel=1e-15, abs=0)
            assert features[f"x_mean_{window.name}"] == pytest.approx(math.fsum(seen) / len(seen), rel=1e-15, abs=0)
            exact = statistics.stdev(seen)
            assert features[f"x_stddev_{window.name}"] == pytest.approx(exact, rel=1e-14, abs=0)


def test_ordinary_sums_are_correct_to_the_last_bit() -> None:
    random = np.random.default_rng(4)
    values = np.round(random.lognormal(2, 1, 500) * random.choice([-1, 1], 500), 3).tolist()
    rows = [row("A", day, value) for day, value in zip(days_of("2012-01-01", 500), values, strict=True)]
    for key, features in by_key(kernel.features(table(rows), VIEW)).items():
        seen = [of["x"] for of in rows if add_months(key[1], -12) <= of["day"] <= key[1]]
        assert features["x_sum_1yr"] == math.fsum(seen)


def test_sql_says_the_same() -> None:
    """DuckDB's own windows, by the SQL that views, functions and windows give."""
    random = np.random.default_rng(11)
    rows = [
        row(entity, day, *(None if random.random() < 0.1 else value for value in (x, n, 3 * n)))
        for entity, step in (("A", 1), ("B", 3), ("C", 29))
        for day, x, n in zip(
            days_of("2011-11-29", 800 // step, step),
            random.normal(5, 2, 800 // step).tolist(),
            random.integers(-9, 9, 800 // step).tolist(),
            strict=False,
        )
    ]
    readings = table(rows)
    columns = ", ".join(
        f"{aggregation.function.sql(aggregation.measure, 'day', f'OVER w{window.name}')}"
        for aggregation in VIEW.aggregations
        for window in VIEW.windows
    )
    frames = ", ".join(f"w{w.name} AS (PARTITION BY id ORDER BY day {w.frame_sql()})" for w in VIEW.windows)
    connection = duckdb.connect()
    connection.register("readings", readings)
    query = f"SELECT id, day, {columns} FROM readings WINDOW {frames} ORDER BY id, day"
    found = kernel.features(readings, VIEW).select(["id", "day", *(column.name for column in VIEW.features)])
    for one, other in zip(found.to_pylist(), connection.sql(query).fetchall(), strict=True):
        for (name, value), right in zip(one.items(), other, strict=True):
            # Sums of values around zero cancel in SQL, not here.
            same = (
                math.isclose(value, right, rel_tol=1e-9, abs_tol=1e-9) if isinstance(value, float) else value == right
            )
            assert same, (one["id"], one["day"], name, value, right)


# --- edges, spelled out: the days that have readings, and how many of them each window holds as of the last

EDGES = [
    # 7 days are d and the six before; the year ends in between.
    ("2012-12-26 2012-12-27 2013-01-01 2013-01-02", {"1day": 1, "1week": 3, "1month": 4, "1yr": 4}),
    # A year as of 1 January begins on 1 January.
    ("2011-12-31 2012-01-01 2012-12-31 2013-01-01", {"1week": 2, "1month": 2, "3months": 2, "1yr": 3}),
    # 29 February is a day of its own ...
    ("2012-02-28 2012-02-29 2012-03-01 2012-03-06", {"1week": 3, "1month": 4}),
    # ... a month before 29 March, and before 31 March ...
    ("2012-02-28 2012-02-29 2012-03-29", {"1week": 1, "1month": 2}),
    ("2012-02-28 2012-02-29 2012-03-31", {"1week": 1, "1month": 2}),
    # ... a year after 28 February, and a year before it.
    ("2011-02-27 2011-02-28 2012-02-29", {"3months": 1, "1yr": 2}),
    ("2012-02-27 2012-02-28 2012-02-29 2013-02-28", {"3months": 1, "1yr": 3}),
    # Three months before 31 May, and before the 30th, the 29th and the 28th, is the last of February.
    ("2013-02-27 2013-02-28 2013-05-31", {"1month": 1, "3months": 2}),
    ("2013-02-27 2013-02-28 2013-05-30", {"1month": 1, "3months": 2}),
    ("2013-02-27 2013-02-28 2013-05-29", {"1month": 1, "3months": 2}),
    ("2013-02-27 2013-02-28 2013-05-28", {"1month": 1, "3months": 2}),
    ("2012-02-28 2012-02-29 2012-05-31", {"1month": 1, "3months": 2}),
    # A month before the 31st is the 30th, or the 31st.
    ("2013-09-29 2013-09-30 2013-10-31", {"1month": 2}),
    ("2013-07-30 2013-07-31 2013-08-31", {"1month": 2}),
    # Not as in 1900, 2000 was a leap year.
    ("2000-02-28 2000-02-29 2000-03-31", {"1month": 2}),
    ("1900-02-27 1900-02-28 1900-03-31", {"1month": 2}),
]


@pytest.mark.parametrize(("days", "held"), EDGES)
def test_windows_hold_what_the_calendar_says(days: str, held: dict[str, int]) -> None:
    readings = table([row("A", day, float(10**place)) for place, day in enumerate(days.split())])
    last = kernel.features(readings, VIEW).to_pylist()[-1]
    values = [10.0**place for place in range(len(days.split()))]
    for window, count in held.items():
        assert last[f"days_{window}"] == last[f"x_count_{window}"] == count
        assert last[f"x_sum_{window}"] == sum(values[-count:])


def test_nulls_are_no_zeros_and_no_rows() -> None:
    days = ["2013-01-01", "2013-01-02", "2013-01-03"]
    rows = [row("A", days[0], None, 5), row("A", days[1], 2.0, None), row("A", days[2], None, None)]
    first, second, third = kernel.features(table(rows), VIEW).to_pylist()
    assert [first[f"x_{name}_1week"] for name in ("sum", "min", "max", "mean", "stddev", "last")] == [None] * 6
    assert [found["x_count_1week"] for found in (first, second, third)] == [0, 1, 1]
    assert [found["days_1week"] for found in (first, second, third)] == [1, 2, 3]
    assert [found["n_last_1week"] for found in (first, second, third)] == [5, 5, 5]
    assert [third["x_last_1day"], third["x_last_1week"], third["x_stddev_1week"]] == [None, 2.0, None]


def test_columns_are_exactly_the_views() -> None:
    for view in (VIEW, *registry.views()):
        names = {column.name: column.type for column in view.readings}
        values = {Type.TEXT: "A", Type.DATE: dt.date(2013, 1, 1), Type.DOUBLE: 1.0}
        one = pa.Table.from_pylist(
            [{"unknown": 1} | {name: values.get(kind, 1) for name, kind in names.items()}],
            schema=pa.schema([("unknown", pa.int8()), *schema(view.readings)]),
        )
        assert kernel.features(one, view).schema == schema(view.columns)


def test_a_view_takes_its_measures_of_all_the_readings() -> None:
    """Days 1 to 29 but the 5th, of 1 to 29 kWh: the 29th's four weeks have lost the 1st, and never had the 5th."""
    view = registry.view("energy_recent_features")
    days = [day for day in range(1, 30) if day != 5]
    whole = {column.name: [None] * len(days) for column in ENERGY.readings}
    keys = {"id": ["A"] * len(days), "day_date": [dt.date(2013, 1, day) for day in days]}
    sums = {"energy_sum": [float(day) for day in days]}
    readings = pa.table(whole | keys | sums, schema=schema(ENERGY.readings))
    last = kernel.features(readings, view).to_pylist()[-1]
    week, weeks = [23, 24, 25, 26, 27, 28, 29], [day for day in days if day > 1]
    assert list(last) == [column.name for column in view.columns]
    for name, values in (("7days", week), ("28days", weeks)):
        assert last[f"energy_sum_min_{name}"] == values[0]
        assert last[f"energy_sum_max_{name}"] == 29.0
        assert last[f"energy_sum_mean_{name}"] == pytest.approx(statistics.fmean(values), rel=1e-12)
        assert last[f"energy_sum_stddev_{name}"] == pytest.approx(statistics.stdev(values), rel=1e-12)
        assert last[f"days_seen_{name}"] == len(values)


def test_no_rows_make_no_rows() -> None:
    nothing = kernel.features(table([]), VIEW)
    assert (nothing.num_rows, nothing.schema) == (0, schema(VIEW.columns))
    unasked = kernel.features(table([row("A", "2013-01-01")]), VIEW, DayRange(dt.date(2014, 1, 1), dt.date(2014, 1, 2)))
    assert (unasked.num_rows, unasked.schema) == (0, schema(VIEW.columns))
    assert list(kernel.stream([], VIEW)) == []
    assert list(kernel.stream(table([]).to_batches(), VIEW)) == []


# --- one definition, whatever is asked and however it is cut


@pytest.fixture(scope="module")
def many() -> list[Row]:
    """Some entities, of which one has values that are folded one by one, and one has many times the others' rows."""
    random = np.random.default_rng(7)
    rows = []
    for entity, count, step in (("A", 200, 1), ("B", 40, 9), ("C", 900, 1), ("D", 150, 2), ("E", 1, 1), ("F", 60, 1)):
        # Days before 1970 have negative numbers.
        for place, day in enumerate(days_of("1969-12-10" if entity == "F" else "2011-12-30", count, step)):
            x: float | None = float(random.normal(0, 1)) * (1e200 if entity == "D" and place % 50 == 0 else 1)
            if entity == "D" and place % 7 == 0:
                x = 1e-200
            if random.random() < 0.05:
                x = None
            rows.append(row(entity, day, x, int(random.integers(0, 9)), int(random.integers(-(2**60), 2**60)) // 900))
    return rows


@pytest.fixture(scope="module")
def whole(many: list[Row]) -> dict[tuple[str, dt.date], tuple[Any, ...]]:
    return bits(kernel.features(table(many), VIEW))


Whole = dict[tuple[str, dt.date], tuple[Any, ...]]


@pytest.mark.parametrize("chunk", [1, 100, 250, 10**9])
def test_chunks_change_no_bit(many: list[Row], whole: Whole, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "CHUNK", chunk)
    assert bits(kernel.features(table(many), VIEW)) == whole


def test_order_changes_no_bit_and_the_result_is_in_order(many: list[Row], whole: Whole) -> None:
    shuffled = [many[place] for place in np.random.default_rng(3).permutation(len(many))]
    features = kernel.features(table(shuffled), VIEW)
    assert bits(features) == whole
    keys = [(found["id"], found["day"]) for found in features.to_pylist()]
    assert keys == sorted(keys)


def test_a_day_and_a_range_change_no_bit(many: list[Row], whole: Whole) -> None:
    for start, length in (("2012-02-29", 1), ("2012-03-31", 1), ("2012-12-31", 2), ("2012-06-01", 30)):
        asked = DayRange(parse_day(start), parse_day(start) + (length - 1) * ONE)
        seen = VIEW.longest.seen(asked)
        needed = [of for of in many if seen.start <= of["day"] <= seen.end]
        right = {key: value for key, value in whole.items() if asked.start <= key[1] <= asked.end}
        assert right
        assert bits(kernel.features(table(needed), VIEW, asked)) == right
        assert bits(kernel.features(table(many), VIEW, asked)) == right


def test_asked_rows_can_be_flagged_one_by_one(many: list[Row], whole: Whole) -> None:
    random = np.random.default_rng(5)
    shuffled = [many[place] for place in random.permutation(len(many))]
    flags = random.random(len(many)) < 0.1
    wanted = {(of["id"], of["day"]) for of, flag in zip(shuffled, flags, strict=True) if flag}
    found = bits(kernel.features(table(shuffled), VIEW, pa.array(flags)))
    assert found == {key: whole[key] for key in wanted}
    for wrong in (pa.array(flags[1:]), pa.array([None, *flags[1:]])):
        with pytest.raises(ValueError, match="a flag per reading"):
            kernel.features(table(shuffled), VIEW, wrong)


@pytest.mark.parametrize("size", [1, 7, 300, 10_000])
@pytest.mark.parametrize("rows", [1, 250, 10_000])
def test_a_stream_changes_no_bit(many: list[Row], whole: Whole, size: int, rows: int) -> None:
    some = [of for of in many if of["id"] != "C"] if size == 1 else many
    right = {key: value for key, value in whole.items() if size > 1 or key[0] != "C"}
    found = pa.Table.from_batches(kernel.stream(table(some).to_batches(size), VIEW, rows=rows))
    assert bits(found) == right
    asked = DayRange(dt.date(2012, 2, 1), dt.date(2012, 3, 1))
    part = pa.Table.from_batches(kernel.stream(table(some).to_batches(size), VIEW, asked, rows))
    assert bits(part) == {key: value for key, value in right.items() if asked.start <= key[1] <= asked.end}


def test_an_entity_s_rows_can_come_in_any_order_in_a_stream(many: list[Row], whole: Whole) -> None:
    backwards = [of for entity in "ABCDEF" for of in reversed([of for of in many if of["id"] == entity])]
    found = pa.Table.from_batches(kernel.stream(table(backwards).to_batches(64), VIEW, rows=100))
    assert bits(found) == whole


def test_the_future_is_never_seen(many: list[Row], whole: Whole) -> None:
    for cut in (dt.date(2012, 2, 29), dt.date(2012, 10, 5)):
        past = bits(kernel.features(table([of for of in many if of["day"] <= cut]), VIEW))
        assert past == {key: value for key, value in whole.items() if key[1] <= cut}
    future = [row(of["id"], of["day"] + 1000 * ONE, 1e300, 7, 7) for of in many]
    with_future = bits(kernel.features(table(many + future), VIEW))
    assert {key: with_future[key] for key in whole} == whole


def test_a_window_more_changes_no_other_column(many: list[Row]) -> None:
    less = replace(VIEW, windows=(VIEW.windows[2], VIEW.windows[4]))
    names = [column.name for column in less.columns]
    assert bits(kernel.features(table(many), VIEW).select(names)) == bits(kernel.features(table(many), less))


def test_minus_zero_is_zero() -> None:
    rows = [row("A", day, -0.0 if place % 3 else 0.0) for place, day in enumerate(days_of("2013-01-01", 40))]
    found = kernel.features(table(rows), VIEW)
    for name in ("x_min_1month", "x_max_1month", "x_sum_1month", "x_mean_1month", "x_last_1day"):
        assert {math.copysign(1, value) for value in found[name].to_pylist()} == {1.0}


# --- what is refused


def test_text_in_any_of_arrows_forms_is_text() -> None:
    readings = table([row("B", "2013-01-01"), row("A", "2013-01-01")])
    right = kernel.features(readings, VIEW)
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        other = readings.set_column(0, "id", readings["id"].combine_chunks().cast(kind))
        assert kernel.features(other, VIEW).equals(right)


def test_a_key_that_stands_twice_is_named() -> None:
    rows = [row("A", "2013-01-01"), row("B", "2013-01-02", 1.0), row("B", "2013-01-03"), row("B", "2013-01-02", 1.0)]
    for readings in (rows, [rows[0], rows[1], rows[3], rows[2]]):
        with pytest.raises(KeyRefusedError, match="have id 'B', day 2013-01-02; keys that do so: 1"):
            kernel.features(table(readings), VIEW)


def test_columns_that_are_missing_or_of_another_type_are_named() -> None:
    good = table([row("A", "2013-01-01")])
    with pytest.raises(ColumnRefusedError, match="column big is missing in the readings of view everything"):
        kernel.features(good.drop_columns(["big"]), VIEW)
    with pytest.raises(ColumnRefusedError, match="column x is there twice"):
        kernel.features(good.append_column("x", good["x"]), VIEW)
    wrong = {"id": pa.int64(), "day": pa.timestamp("us"), "x": pa.float32(), "n": pa.int64(), "big": pa.float64()}
    for name, kind in wrong.items():
        other = good.set_column(good.schema.get_field_index(name), name, pa.nulls(1, kind))
        with pytest.raises(ColumnRefusedError, match=f"column {name} in the readings .* is .*, and not"):
            kernel.features(other, VIEW)


@pytest.mark.parametrize("key", ["id", "day"])
def test_a_row_without_a_key_is_refused(key: str) -> None:
    with pytest.raises(KeyRefusedError, match=f"without {key}: 1"):
        kernel.features(table([row("A", "2013-01-01"), row("A", "2013-01-02") | {key: None}]), VIEW)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_refused_where_it_is_aggregated(value: float) -> None:
    rows = [row("A", "2013-01-01"), row("B", "2013-01-02", value)]
    with pytest.raises(ValueRefusedError, match=r"x of id 'B', day 2013-01-02 is .*, which is no finite number"):
        kernel.features(table(rows), VIEW)
    carried = [row("A", "2013-01-01") | {"carried": value}]
    assert kernel.features(table(carried), VIEW)["carried"].to_pylist() == [pytest.approx(value, nan_ok=True)]


def test_a_sum_that_outgrows_its_type_is_named_and_its_mean_is_not_lost() -> None:
    most = 2**63 - 1
    rows = [row("A", "2013-01-01", big=-most - 1), row("A", "2013-01-02", big=most), row("A", "2013-01-03", big=1)]
    kernel.features(table(rows), VIEW)
    rows.append(row("A", "2013-01-04", big=most))
    with pytest.raises(ValueRefusedError, match=r"big_sum_1week of id 'A', day 2013-02-0[1-9]") as caught:
        kernel.features(table([*rows, row("A", "2013-02-01", big=most), row("A", "2013-02-03", big=1)]), VIEW)
    assert "larger than its type can hold" in str(caught.value)
    means = replace(VIEW, aggregations=(Aggregation("big", Function.MEAN, "big"), Aggregation("x", Function.MEAN, "x")))
    huge = [row("A", day, 1.7e308, big=most) for day in ("2013-01-01", "2013-01-02", "2013-01-03")]
    last = kernel.features(table(huge), means).to_pylist()[-1]
    assert (last["big_1week"], last["x_1week"]) == (float(most), 1.7e308)
    for name, other in (("sum", 1.7e308), ("sum", -1.7e308), ("stddev", 1.7e308)):
        only = replace(VIEW, aggregations=tuple(a for a in VIEW.aggregations if a.name == f"x_{name}"))
        two = [row("A", "2013-01-01", -1.7e308 if name == "stddev" else other), row("A", "2013-01-02", other)]
        with pytest.raises(ValueRefusedError, match=f"x_{name}_1week of id 'A', day 2013-01-02 is larger"):
            kernel.features(table(two), only)


def test_sums_that_only_seem_to_outgrow_a_double_are_right() -> None:
    values = [1.7e308, 1.7e308, -1.7e308, -1.6e308]
    rows = [row("A", day, value) for day, value in zip(days_of("2013-01-01", 4), values, strict=True)]
    only = replace(VIEW, windows=(Window("4days", days=4),), aggregations=(Aggregation("x", Function.SUM, "x"),))
    asked = DayRange(rows[-1]["day"], rows[-1]["day"])
    assert kernel.features(table(rows), only, asked)["x_4days"].to_pylist() == [pytest.approx(1e307, rel=1e-15)]


def test_terms_that_are_further_apart_than_two_doubles_hold_are_summed_exactly() -> None:
    random = np.random.default_rng(2)
    terms = [scale * value for scale in (1e120, 1e90, 1e60) for value in random.normal(0, 1, 9).tolist()]
    values = [*terms, 1.0, *(-value for value in terms)]
    rows = [row("A", day, value) for day, value in zip(days_of("2013-01-01", len(values)), values, strict=True)]
    found = kernel.features(table(rows), VIEW).to_pylist()
    assert (found[-1]["x_sum_3months"], found[-1]["x_mean_3months"]) == (1.0, 1 / len(values))
    for place, features in enumerate(found):
        for window, days in (("1week", 7), ("3months", 93)):
            exact = math.fsum(values[max(place + 1 - days, 0) : place + 1])
            assert features[f"x_sum_{window}"] == pytest.approx(exact, rel=1e-14, abs=0), place


def test_one_value_over_and_over_does_not_deviate_however_large() -> None:
    only = replace(VIEW, aggregations=(Aggregation("x", Function.STDDEV, "x"),))
    rows = [row("A", day, 1.7e308) for day in days_of("2013-01-01", 9)]
    assert kernel.features(table(rows), only)["x_1week"].to_pylist() == [None, *[0.0] * 8]


def test_a_stream_out_of_order_is_refused() -> None:
    entities = ["A", "B", "A"]
    for order in (["B", "A"], entities):
        rows = [row(entity, day) for entity, day in zip(order, days_of("2013-01-01", 9), strict=False)]
        for rows_together in (1, 100):
            with pytest.raises(OrderError, match="not in the order of id"):
                list(kernel.stream(table(rows).to_batches(1), VIEW, rows=rows_together))
    assert issubclass(OrderError, ReadingsError)
