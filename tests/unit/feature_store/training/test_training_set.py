"""Training sets against pure Python that looks at every row for every event; and no event knows what came after it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, WriterProperties, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.arrow_readings import schema
from feature_store.calendar import DayRange
from feature_store.training import Asked, Options, OptionsError, build, digest, training_set, training_set_by_day
from feature_store.view import Aggregation, Function, Measure
from tests.unit.feature_store.training.tables import (
    OTHER,
    USE,
    apart,
    day,
    events,
    found_in,
    leaking,
    looked_up,
    moment,
    rows,
    spoiled,
    write,
)

pytestmark = pytest.mark.unit

LONDON = "Europe/London"
SPRING = dt.date(2014, 3, 28)  # two days before London's clocks go forward
entities = st.sampled_from(["A", "B", "c", "Ä"])
keys = st.tuples(entities, st.dates(SPRING, SPRING + dt.timedelta(days=12)))
tables = st.dictionaries(keys, st.one_of(st.none(), st.integers(-9, 9).map(float)), max_size=20)
naive = st.datetimes(dt.datetime(2014, 3, 26), dt.datetime(2014, 4, 12)).map(
    lambda when: when.replace(microsecond=0, second=0)
)
midnights = st.dates(SPRING, dt.date(2014, 4, 12)).map(lambda when: dt.datetime.combine(when, dt.time()))
times = st.one_of(
    st.lists(st.tuples(entities, st.dates(dt.date(2014, 3, 26), dt.date(2014, 4, 12))), max_size=8),
    st.lists(st.tuples(entities, st.one_of(naive, midnights)), max_size=8),
    st.lists(
        st.tuples(entities, st.one_of(naive, midnights).map(lambda when: when.replace(tzinfo=dt.UTC))), max_size=8
    ),
)
ages = st.one_of(st.none(), st.integers(0, 6))
zones = st.sampled_from(["UTC", LONDON, "Asia/Kathmandu", "Pacific/Apia"])
lags = st.sampled_from([0, 1, 6, 24, 30]).map(lambda hours: dt.timedelta(hours=hours))


def asked_for(of: list[tuple[str, Any]]) -> pa.Table:
    if not of:
        return pa.table({"id": pa.array([], pa.string()), "event_time": pa.array([], pa.date32())})
    return events(*of)


@settings(max_examples=60, deadline=None)
@given(values=tables, of=times, max_age=ages, zone=zones, lag=lags)
def test_each_event_gets_what_looking_at_every_row_finds(
    tmp_path_factory: pytest.TempPathFactory, values: Any, of: Any, max_age: int | None, zone: str, lag: dt.timedelta
) -> None:
    uri = write(tmp_path_factory.mktemp("table"), values)
    given_ = asked_for(of)
    made = training_set(given_, [Asked(USE, uri)], Options(max_age=max_age, zone=zone, lag=lag)).table
    assert found_in(made) == looked_up(values, of, max_age, zone=zone, lag=lag)
    assert made.select(["id", "event_time"]).equals(given_)


@settings(max_examples=30, deadline=None)
@given(values=tables, of=times.filter(len), max_age=ages, zone=zones, lag=lags)
def test_no_row_after_an_event_changes_what_it_gets(
    tmp_path_factory: pytest.TempPathFactory, values: Any, of: Any, max_age: int | None, zone: str, lag: dt.timedelta
) -> None:
    """Of each event, rows are changed, added and withdrawn that are later than it may know: of its own day on."""
    options = Options(max_age=max_age, zone=zone, lag=lag)
    assert not disturbed(tmp_path_factory.mktemp("tables"), values, of, options)


def disturbed(path: Path, values: Any, of: Any, options: Options) -> bool:
    """Whether a set differs once the rows that its events may not know are others."""
    held, own = apart(values, of)
    uris = write(path / "before", held), write(path / "after", spoiled(held, own, options))
    sets = [training_set(events(*own), [Asked(USE, uri)], options).record.digest for uri in uris]
    return sets[0] != sets[1]


@pytest.mark.parametrize("when", [moment(2, 23, 59), moment(2), day(2)])
def test_a_leak_of_one_day_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: Any) -> None:
    """Planted: an event knows its own day, which is not over."""
    values = {("A", day(1)): 1.0, ("A", day(2)): 2.0, ("A", day(3)): 3.0}
    assert not disturbed(tmp_path / "right", values, [("A", when)], Options())
    monkeypatch.setattr(build, "checked", leaking)
    assert disturbed(tmp_path / "leaking", values, [("A", when)], Options())
    made = training_set(events(("A", when)), [Asked(USE, write(tmp_path / "own", values))]).table
    assert found_in(made) != looked_up(values, [("A", when)])


@pytest.mark.parametrize(
    ("when", "options", "row"),
    [
        (day(2), {}, 2),  # a date is its end
        (moment(2, 0), {}, 1),  # midnight is the end of the day before, to the second
        (moment(1, 23, 59), {}, 0),
        (moment(2, 23, 59), {}, 1),
        (moment(3, 5), {"lag": dt.timedelta(hours=6)}, 1),
        (moment(3, 6), {"lag": dt.timedelta(hours=6)}, 2),
        (day(2), {"lag": dt.timedelta(seconds=1)}, 1),
        (day(2), {"lag": dt.timedelta(days=1)}, 1),
        # Tokyo is 9 hours ahead: there it is the third already.
        (moment(2, 15).replace(tzinfo=dt.UTC), {"zone": "Asia/Tokyo"}, 2),
        (moment(2, 14, 59).replace(tzinfo=dt.UTC), {"zone": "Asia/Tokyo"}, 1),
        (moment(2, 15).replace(tzinfo=dt.UTC), {}, 1),
        (moment(3, 4).replace(tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo")), {}, 1),
    ],
)
def test_what_at_or_before_means(tmp_path: Path, when: Any, options: Any, row: int) -> None:
    uri = write(tmp_path, {("A", day(number)): float(number) for number in range(4)})
    made = training_set(events(("A", when)), [Asked(USE, uri)], Options(**options)).table
    assert made["usage__day"].to_pylist() == [day(row)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_moment_is_the_same_in_every_unit(tmp_path: Path, unit: str) -> None:
    uri = write(tmp_path, {("A", dt.date(1960, 1, 1)): 1.0, ("A", dt.date(1960, 1, 2)): 2.0})
    when = pa.array([dt.datetime(1960, 1, 2, 23, 59, 59), dt.datetime(1960, 1, 3)], pa.timestamp(unit))
    made = training_set(pa.table({"id": ["A", "A"], "event_time": when}), [Asked(USE, uri)]).table
    assert made["used"].to_pylist() == [1.0, 2.0]


def test_the_edge_of_the_maximal_age(tmp_path: Path) -> None:
    uri = write(tmp_path, {("A", day(0)): 1.0})
    of = [("A", day(3)), ("A", day(4)), ("A", moment(3, 12)), ("A", moment(4, 12)), ("B", day(0))]
    for max_age, there in ((3, [1.0, None]), (0, [None, None]), (None, [1.0, 1.0])):
        for part in (of[:2], of[2:4]):
            made = training_set(events(*part), [Asked(USE, uri)], Options(max_age=max_age)).table
            assert made["used"].to_pylist() == there
            assert made["usage__day"].to_pylist() == [day(0)] * 2  # so that one sees why they are null
            assert made["usage__age"].to_pylist() == [3, 4]
    never = training_set(events(of[4]), [Asked(USE, uri)], Options(max_age=3)).table
    assert found_in(never) == [(None,) * 4]


def test_a_null_is_no_missing_row(tmp_path: Path) -> None:
    uri = write(tmp_path, {("A", day(0)): 1.0, ("A", day(1)): None})
    made = training_set(events(("A", day(1))), [Asked(USE, uri)]).table
    assert found_in(made) == [(day(1), 0, None, None)]


def test_events_stay_as_they_are(tmp_path: Path) -> None:
    """Unsorted, some of them twice, with columns of any type."""
    uri = write(tmp_path, {("A", day(0)): 1.0, ("B", day(1)): 2.0})
    of = [("B", day(5)), ("A", day(2)), ("B", day(5)), ("A", day(0)), ("C", day(9)), ("A", day(2))]
    given_ = events(*of, label=[1, 0, None, 1, 0, 1], tags=[["x"], [], None, ["y", "z"], [], []], weight=[0.5] * 6)
    made = training_set(given_, [Asked(USE, uri)]).table
    assert made.select(given_.column_names).equals(given_)
    assert made["used"].to_pylist() == [2.0, 1.0, 2.0, 1.0, None, 1.0]
    assert made.column_names[: len(given_.column_names)] == given_.column_names


def test_several_views_and_names_that_clash(tmp_path: Path) -> None:
    """Both have a column `used`; the events have one that is called as a feature of the second."""
    usage = write(tmp_path / "usage", {("A", day(0)): 1.0})
    other = write(tmp_path / "other", {("A", day(2)): 7.0}, OTHER)
    given_ = events(("A", day(3)), ("A", day(1)), sum_7days=["mine", "too"])
    both = [Asked(USE, usage), Asked(OTHER, other)]
    made = training_set(given_, both).table
    assert made.column_names == [
        *("id", "event_time", "sum_7days"),
        *("usage__day", "usage__age", "usage__used", "total_7days"),
        *("other__day", "other__age", "other__used", "other__sum_7days"),
    ]
    assert made["other__sum_7days"].to_pylist() == [70.0, None]
    assert made["usage__used"].to_pylist() == [1.0, 1.0]
    full = training_set(given_, both, Options(full_names=True)).table
    assert full.column_names[3:7] == ["usage__day", "usage__age", "usage__used", "usage__total_7days"]
    one = training_set(given_, [Asked(OTHER, other, features=("used",))]).table
    assert one.column_names[3:] == ["other__day", "other__age", "used"]


def test_features_may_be_called_as_anything_of_ours(tmp_path: Path) -> None:
    names = ("n", "day", "age", "entity", "event_day", "latest", "found", "taken", "e", "k")
    source = dataclasses.replace(USE.source, landed_day="on", measures=tuple(map(Measure, names)))
    view = dataclasses.replace(USE, source=source, aggregations=(Aggregation("total", Function.SUM, "n"),))
    rows = {"id": ["A"], "day_date": [day(0)], **{name: [float(place)] for place, name in enumerate(names)}}
    write_deltalake(tmp_path, pa.table(rows | {"total_7days": [9.0]}, schema(view.columns)))
    made = training_set(events(("A", day(2))), [Asked(view, str(tmp_path))]).table
    assert [made[name].to_pylist() for name in names] == [[float(place)] for place in range(len(names))]
    assert (made["usage__day"].to_pylist(), made["usage__age"].to_pylist()) == ([day(0)], [2])
    with pytest.raises(OptionsError, match="two columns of the set would be called usage__day"):
        training_set(events(("A", day(2))), [Asked(view, str(tmp_path))], Options(full_names=True))


@pytest.mark.parametrize("options", [Options(max_age=9), Options(zone=LONDON, as_known=True, lag=dt.timedelta(days=2))])
def test_the_ends_of_the_calendar(tmp_path: Path, options: Options) -> None:
    uri = write(tmp_path, {("A", dt.date.min): 1.0, ("A", dt.date.max): 2.0})
    of = events(*(("A", when) for when in (dt.date.min, day(0), dt.date.max)))
    made = training_set(of, [Asked(USE, uri)], options).table
    expected = [dt.date.min, dt.date.min, dt.date.max] if options.max_age else [None, None, dt.date.min]
    assert made["usage__day"].to_pylist() == expected


def test_features_come_in_the_order_asked_for(tmp_path: Path) -> None:
    uri = write(tmp_path, {("A", day(0)): 1.0})
    made = training_set(events(("A", day(0))), [Asked(USE, uri, features=("total_7days", "used"))]).table
    assert made.column_names[-2:] == ["total_7days", "used"]
    assert made.slice(0, 1).to_pylist()[0] | {"total_7days": 10.0, "used": 1.0} == made.to_pylist()[0]


def test_no_events_and_no_rows(tmp_path: Path) -> None:
    nothing = write(tmp_path / "nothing", {})
    one = write(tmp_path / "one", {("A", day(0)): 1.0})
    none = pa.table({"id": pa.array([], pa.string()), "event_time": pa.array([], pa.timestamp("us", "UTC"))})
    for options in (Options(), Options(as_known=True), Options(zone=LONDON)):
        assert training_set(none, [Asked(USE, one)], options).table.num_rows == 0
    assert found_in(training_set(events(("A", day(0))), [Asked(USE, nothing)]).table) == [(None,) * 4]


def test_rows_of_several_files_and_row_groups_and_rows_without_a_key(tmp_path: Path) -> None:
    values = {(entity, day(number)): float(number) for number in (5, 0, 9, 2, 7) for entity in "CAB"}
    there = rows(values)
    lost = [{**each, key: None} for key in ("id", "day_date") for each in there.slice(0, 2).to_pylist()]
    there = pa.concat_tables([there.slice(0, 4), pa.Table.from_pylist(lost, there.schema), there.slice(4)])
    for part in (there.slice(0, 11), there.slice(11)):
        write_deltalake(tmp_path, part, mode="append", writer_properties=WriterProperties(max_row_group_size=3))
    files = DeltaTable(tmp_path).to_pyarrow_dataset().get_fragments()
    assert sorted(file.num_row_groups for file in files) == [3, 4]
    of = [(entity, day(number)) for number in range(10, -2, -1) for entity in "BADC"]
    for max_age in (None, 1):
        made = training_set(events(*of), [Asked(USE, str(tmp_path))], Options(max_age=max_age)).table
        assert found_in(made) == looked_up(values, of, max_age)
    by_day = training_set_by_day(DayRange(day(9), day(9)), [Asked(USE, str(tmp_path))]).table
    assert by_day["id"].to_pylist() == ["A", "B", "C"]


def test_by_day_is_every_entity_that_is_there_yet(tmp_path: Path) -> None:
    uri = write(tmp_path / "usage", {("B", day(1)): 1.0, ("A", day(3)): 2.0, ("late", day(9)): 3.0})
    other = write(tmp_path / "other", {("C", day(6)): 7.0}, OTHER)
    asked = [Asked(USE, uri), Asked(OTHER, other)]
    made = training_set_by_day(DayRange(day(0), day(6)), asked, Options(max_age=4), every=2).table
    there = [("A", 4), ("A", 6), ("B", 2), ("B", 4), ("C", 6)]
    keys_ = list(zip(made["id"].to_pylist(), made["event_time"].to_pylist(), strict=True))
    assert keys_ == [(entity, day(number)) for entity, number in there]
    values = {("B", day(1)): 1.0, ("A", day(3)): 2.0}
    assert made["usage__used"].to_pylist() == [row[2] for row in looked_up(values, keys_, 4)]
    older = training_set_by_day(DayRange(day(8), day(8)), asked, Options(max_age=4)).table
    assert older["id"].to_pylist() == ["C"]
    everyone = training_set_by_day(DayRange(day(8), day(8)), asked, Options(entity="who", time="on")).table
    assert everyone.column_names[:2] == ["who", "on"]
    assert everyone["who"].to_pylist() == ["A", "B", "C"]
    nobody = training_set_by_day(DayRange(day(-9), day(-5)), asked).table
    assert nobody.num_rows == 0


def test_the_digest_is_of_values(tmp_path: Path) -> None:
    numbers = pa.table({"x": [1.0, None, -0.0], "who": ["a", "b", None], "flag": [True, None, False]})
    again = pa.concat_tables([numbers.slice(0, 1), numbers.slice(1)])
    assert digest.digest(again) == digest.digest(numbers)
    turned = numbers.take([2, 0, 1])
    assert digest.digest(turned) == digest.digest(numbers)
    assert digest.order(turned) != digest.order(numbers) == digest.order(again)
    as_others = numbers.set_column(1, "who", numbers["who"].cast(pa.large_string()).dictionary_encode())
    assert digest.digest(as_others) == digest.digest(numbers)
    hidden = pa.Array.from_buffers(
        pa.float64(), 3, [pa.py_buffer(bytes([0b101])), pa.py_buffer(np.array([1.0, 99.0, -0.0]).tobytes())]
    )
    assert digest.digest(numbers.set_column(0, "x", hidden)) == digest.digest(numbers)
    for column, other in (
        ("x", pa.array([1.0, None, 0.0])),
        ("x", pa.array([None, 1.0, -0.0])),
        ("x", pa.array([1.0, 0.0, -0.0])),
        ("x", pa.array([1.0, None, -0.0], pa.float32())),
        ("who", pa.array(["ab", "", None])),
        ("who", pa.array(["a", "b", ""])),
        ("flag", pa.array([True, False, False])),
    ):
        place = numbers.column_names.index(column)
        assert digest.digest(numbers.set_column(place, column, other)) != digest.digest(numbers), other
    assert digest.digest(numbers.rename_columns(["y", "who", "flag"])) != digest.digest(numbers)


def test_the_digest_of_moments_is_of_when_they_are() -> None:
    """Whatever unit a library has, and whatever zone they are shown in; a moment without a zone is another."""
    when = [dt.datetime(2014, 2, 1, 12, 30), None]
    naive = [pa.table({"t": pa.array(when, pa.timestamp(unit))}) for unit in ("s", "ms", "us", "ns")]
    zoned = [pa.table({"t": each["t"].cast(pa.timestamp("us", "UTC"))}) for each in naive]
    there = [pa.table({"t": each["t"].cast(pa.timestamp("ns", LONDON))}) for each in zoned]
    assert len({digest.digest(each) for each in naive}) == 1
    assert len({digest.digest(each) for each in [*zoned, *there]}) == 1
    assert digest.digest(naive[0]) != digest.digest(zoned[0])
    nanoseconds = [pa.table({"t": pa.array([number], pa.int64()).cast(pa.timestamp("ns"))}) for number in (1, 2)]
    assert digest.digest(nanoseconds[0]) != digest.digest(nanoseconds[1])


def test_the_digest_of_a_part_is_a_part_of_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Spark's tasks reckon it; and it is the same in whatever pieces this is done."""
    table = digest.canonical(pa.table({"x": range(50), "who": [str(each) for each in range(50)]}))
    parts = [digest.total(digest.row_numbers(table.slice(first, 20))) for first in (0, 20, 40)]
    assert digest.of_sum(table.schema, 50, sum(parts)) == digest.digest(table)
    before = digest.order(table)
    monkeypatch.setattr(digest, "ROWS", 7)
    assert digest.of_sum(table.schema, 50, sum(parts)) == digest.digest(table)
    assert digest.order(table) == before
