"""Training sets are rebuilt byte for byte from their records, or it is said why not; and what each event knew then."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store import layout
from feature_store.calendar import DayRange
from feature_store.training import (
    Asked,
    EventsError,
    NotTheSameError,
    Options,
    Record,
    RecordError,
    RepeatedKeyError,
    TableError,
    TrainingSet,
    VersionGoneError,
    build,
    rebuild,
    training_set,
    training_set_by_day,
)
from feature_store.training.record import declaration_digest
from feature_store.validation import records
from feature_store.validation.verdict import Verdict
from feature_store.view import Window
from tests.support import committed_on
from tests.unit.feature_store.training.tables import (
    OTHER,
    USE,
    day,
    events,
    found_in,
    known_until,
    looked_up,
    moment,
    rows,
    write,
)

pytestmark = pytest.mark.unit

OF = (("A", moment(2, 5)), ("B", moment(3, 9)), ("A", moment(9)))
GIVEN = events(*OF, label=[1, 0, 1])


@pytest.fixture
def asked(tmp_path: Path) -> list[Asked]:
    values = {("A", day(number)): float(number) for number in range(6)} | {("B", day(1)): None}
    usage = write(tmp_path / "usage", values)
    return [Asked(USE, usage), Asked(OTHER, write(tmp_path / "other", {("A", day(4)): 7.0}, OTHER), ("sum_7days",))]


def written(made: TrainingSet, path: Path) -> bytes:
    made.write(str(path))
    return path.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(max_age=3, zone="Europe/London", lag=dt.timedelta(hours=6), full_names=True, held_back=True),
        Options(as_known=True),
    ],
)
def test_a_set_is_rebuilt_byte_for_byte(asked: list[Asked], options: Options, tmp_path: Path) -> None:
    """After the tables have got other versions, and in whatever pieces the events come."""
    committed_on(tmp_path / "usage", 0, dt.datetime(2014, 2, 3, tzinfo=dt.UTC))
    made = written(training_set(GIVEN, asked, options), tmp_path / "set.parquet")
    write(tmp_path / "usage", {("A", day(1)): 99.0})
    assert written(training_set(GIVEN, asked, options), tmp_path / "now.parquet") != made or options.as_known
    pieces = pa.concat_tables([GIVEN.slice(0, 1), GIVEN.slice(1)])
    record = Record.read(str(tmp_path / "set.parquet"))
    assert Record.of_json(record.as_json()) == record
    assert written(rebuild(record, pieces), tmp_path / "again.parquet") == made


def test_a_set_by_days_is_rebuilt_without_events(asked: list[Asked], tmp_path: Path) -> None:
    made = training_set_by_day(DayRange(day(0), day(8)), asked, Options(max_age=4), every=3)
    before = written(made, tmp_path / "set.parquet")
    write(tmp_path / "usage", {("C", day(0)): 99.0})
    again = rebuild(Record.read(str(tmp_path / "set.parquet")))
    assert written(again, tmp_path / "again.parquet") == before
    with pytest.raises(EventsError, match="the record is of a range of days, and takes no events"):
        rebuild(made.record, GIVEN)


def test_the_record_says_what_the_set_is_made_of(asked: list[Asked]) -> None:
    said = json.loads(training_set(GIVEN, asked, Options(max_age=3)).record.as_json())
    usage, other = said["views"]
    assert (usage["name"], usage["versions"], usage["uri"]) == ("usage", [[0, None]], asked[0].uri)
    assert usage["id"] == str(DeltaTable(asked[0].uri).metadata().id)
    assert usage["declaration"] == declaration_digest(USE)
    assert other["features"] == [["sum_7days", "double"]]
    assert said["options"]["max_age"] == 3
    assert said["rows"] == 3
    assert len(said["events"]) == len(said["digest"]) == 64


def test_the_file_holds_the_set(asked: list[Asked], tmp_path: Path) -> None:
    made = training_set(GIVEN, asked)
    made.write(str(tmp_path / "deep" / "set.parquet"))
    assert pq.read_table(tmp_path / "deep" / "set.parquet").equals(made.table)


def test_a_table_that_has_moved_is_found_by_its_id(asked: list[Asked], tmp_path: Path) -> None:
    record = training_set(GIVEN, asked).record
    shutil.move(tmp_path / "usage", tmp_path / "moved")
    assert rebuild(record, GIVEN, uris={"usage": str(tmp_path / "moved")}).record == record
    another = write(tmp_path / "another", {("A", day(1)): 1.0})
    with pytest.raises(NotTheSameError, match="another is another table of features than the record's"):
        rebuild(record, GIVEN, uris={"usage": another})
    with pytest.raises(TableError, match="usage is not a Delta table"):
        rebuild(record, GIVEN)


@pytest.mark.parametrize(
    "other",
    [
        events(OF[1], OF[0], OF[2], label=[0, 1, 1]),
        events(*OF, label=[1, 0, 0]),
        events(*OF),
        events(*OF[:2], label=[1, 0]),
    ],
    ids=["order", "label", "columns", "rows"],
)
def test_other_events_are_refused(asked: list[Asked], other: pa.Table) -> None:
    record = training_set(GIVEN, asked).record
    with pytest.raises(NotTheSameError, match="the events are not those of the record"):
        rebuild(record, other)
    with pytest.raises(EventsError, match="takes the same again"):
        rebuild(record)


def test_another_outcome_is_refused(asked: list[Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a later release that rounds ages otherwise."""
    record = training_set(GIVEN, asked).record
    found = build.asof.found
    monkeypatch.setattr(build.asof, "found", lambda *of: found(*of[:-1], 0))
    with pytest.raises(NotTheSameError, match="the set is not that of the record"):
        rebuild(record, GIVEN)


def test_a_version_that_is_gone(asked: list[Asked], tmp_path: Path) -> None:
    record = training_set(GIVEN, asked).record
    by_day = training_set_by_day(DayRange(day(1), day(2)), asked).record
    write(tmp_path / "usage", {("A", day(1)): 99.0})
    for file in DeltaTable(asked[0].uri, version=0).file_uris():
        Path(file).unlink()  # as VACUUM does
    with pytest.raises(VersionGoneError, match=r"usage has lost a file of version 0: .*\.parquet"):
        rebuild(record, GIVEN)
    with pytest.raises(VersionGoneError, match="usage has lost a file of version 0"):
        rebuild(by_day)
    with pytest.raises(VersionGoneError, match="usage has no version 9, or no longer"):
        training_set(GIVEN, [dataclasses.replace(asked[0], version=9)])


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', '{"format": 2, "views": []}'])
def test_what_is_no_record(text: str) -> None:
    with pytest.raises(RecordError, match=r"is no record of a training set|the record is of format 2, not 1"):
        Record.of_json(text)


@pytest.mark.parametrize(
    ("written_", "altered"),
    [
        ('"lag":0.0', '"lag":1e300'),
        ('"lag":0.0', '"lag":Infinity'),
        ('"max_age":null', '"max_age":"7"'),
        ('"max_age":null', '"max_age":-1'),
        ('"zone":"UTC"', '"zone":5'),
        ('"zone":"UTC"', '"zone":"Moon"'),
    ],
)
def test_a_record_that_was_altered(asked: list[Asked], written_: str, altered: str) -> None:
    text = training_set(GIVEN, asked).record.as_json()
    assert written_ in text
    with pytest.raises(RecordError, match="it is no record of a training set"):
        Record.of_json(text.replace(written_, altered))


def test_files_without_a_record(tmp_path: Path) -> None:
    pq.write_table(GIVEN, tmp_path / "events.parquet")
    with pytest.raises(RecordError, match=r"events.parquet holds no record of a training set"):
        Record.read(str(tmp_path / "events.parquet"))
    (tmp_path / "text.parquet").write_text("hello")
    for name in ("text.parquet", "nothing.parquet"):
        with pytest.raises(RecordError, match=f"{name} can't be read: "):
            Record.read(str(tmp_path / name))


def test_a_declaration_is_known_by_what_its_values_follow_from() -> None:
    before = declaration_digest(USE)
    assert declaration_digest(dataclasses.replace(USE, description="Another.", retention=90)) == before
    other = dataclasses.replace(USE, windows=(Window("7days", days=8),))
    assert declaration_digest(other) != before
    assert declaration_digest(OTHER) != before


def test_days_that_are_held_back_are_passed_over(asked: list[Asked], tmp_path: Path) -> None:
    judged = [
        records.Judged(day(4), Verdict.QUARANTINED, 1, "f", failed=("x",)),
        records.Judged(day(5), Verdict.QUARANTINED, 1, "f", failed=("x",), release=records.Release("Ada", "known")),
        records.Judged(day(3), Verdict.PASSED, 1, "f"),
    ]
    judged[1] = dataclasses.replace(judged[1], verdict=Verdict.RELEASED)
    source = records.Source(0, "id", 0, dt.datetime(2014, 3, 1, tzinfo=dt.UTC), "report")
    records.record(asked[0].uri, USE, DayRange(day(3), day(5)), {}, judged, source)
    assert (tmp_path / layout.VERDICTS).exists()
    of = events(("A", day(4)), ("A", day(5)), ("A", day(3)))
    made = training_set(of, asked[:1])
    assert made.table["usage__day"].to_pylist() == [day(3), day(5), day(3)]
    taken = training_set(of, asked[:1], Options(held_back=True)).table
    assert taken["usage__day"].to_pylist() == [day(4), day(5), day(3)]
    shutil.rmtree(tmp_path / layout.VERDICTS)
    assert rebuild(made.record, of).table.equals(made.table), "the record has the days"
    (tmp_path / layout.VERDICTS / "_delta_log").mkdir(parents=True)
    (tmp_path / layout.VERDICTS / "_delta_log" / f"{0:020}.json").write_text("{")
    with pytest.raises(TableError, match="which days of usage are held back can't be read"):
        training_set(of, asked[:1])


def test_a_key_that_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "usage"
    uri = write(path, {("A", day(1)): 1.0, ("A", day(4)): 2.0})
    write_deltalake(path, rows({("A", day(4)): 3.0}), mode="append")
    asked = [Asked(USE, uri)]
    before = training_set(events(("A", day(3))), asked).table
    assert before["used"].to_pylist() == [1.0], "who does not know the day is not concerned"
    with pytest.raises(RepeatedKeyError, match="has several rows of id 'A', day_date 2014-02-05 at version 1"):
        training_set(events(("A", day(3)), ("A", day(5))), asked)
    with pytest.raises(RepeatedKeyError):
        training_set(events(("A", day(9))), asked, Options(max_age=1))


keys = st.tuples(st.sampled_from("AB"), st.integers(0, 5).map(day))
states = st.dictionaries(keys, st.integers(-9, 9).map(float), max_size=6)
minutes = st.integers(0, 8 * 24 * 60).map(lambda minute: moment(0) + dt.timedelta(minutes=minute))
whens = st.one_of(
    st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 8).map(day)), min_size=1, max_size=6),
    st.lists(st.tuples(st.sampled_from("AB"), minutes), min_size=1, max_size=6),
)


@settings(max_examples=25, deadline=None)
@given(history=st.lists(st.tuples(states, minutes), min_size=1, max_size=4), of=whens)
def test_as_known_is_the_table_of_just_before(tmp_path_factory: pytest.TempPathFactory, history: Any, of: Any) -> None:
    """Whatever order the clocks of the writers have."""
    path = tmp_path_factory.mktemp("table")
    for version, (values, committed) in enumerate(history):
        uri = write(path, values)
        committed_on(path, version, committed.replace(tzinfo=dt.UTC))
    made = training_set(events(*of), [Asked(USE, uri)], Options(as_known=True))
    expected = []
    for entity, when in of:
        end = when if isinstance(when, dt.datetime) else moment((when - day(0)).days + 1)
        # A version is there once it and all before it are.
        known = [values for place, (values, _) in enumerate(history) if all(at < end for _, at in history[: place + 1])]
        expected += looked_up(known[-1] if known else {}, [(entity, when)])
    assert found_in(made.table) == expected
    assert rebuild(made.record, events(*of)).table.equals(made.table)


def test_as_known_goes_back_as_far_as_the_log(tmp_path: Path) -> None:
    path = tmp_path / "usage"
    for version in range(3):
        uri = write(path, {("A", day(0)): float(version)})
        committed_on(path, version, moment(version + 1).replace(tzinfo=dt.UTC))
    of = events(("A", moment(1)), ("A", moment(1, 1)), ("A", moment(3)), ("A", moment(3)), ("A", moment(9)))
    made = training_set(of, [Asked(USE, uri)], Options(as_known=True))
    assert made.table["used"].to_pylist() == [None, 0.0, 1.0, 1.0, 2.0]
    assert [version.number for version in made.record.views[0].versions] == [0, 1, 2]
    early = training_set(of, [Asked(USE, uri)], Options(known_on=day(2)))
    assert early.table["used"].to_pylist() == [1.0] * 5
    assert [version.number for version in early.record.views[0].versions] == [1]
    DeltaTable(uri).create_checkpoint()
    (path / "_delta_log" / f"{0:020}.json").unlink()  # as the log's retention does
    with pytest.raises(VersionGoneError, match="begins with version 1: what was known before is there no more"):
        training_set(of, [Asked(USE, uri)], Options(as_known=True))
    with pytest.raises(TableError, match="has no version of 2014-02-01 or before"):
        training_set(of, [Asked(USE, uri)], Options(known_on=day(0)))
    later = training_set(of.slice(4), [Asked(USE, uri)], Options(as_known=True))
    assert later.table["used"].to_pylist() == [2.0]


def test_a_moment_of_a_zone_is_one_of_utc(tmp_path: Path) -> None:
    """As known at 9:00 in Tokyo, midnight in UTC; and a date ends in its zone."""
    path = tmp_path / "usage"
    for version, hour in enumerate((14, 23)):
        uri = write(path, {("A", day(0)): float(version)})
        committed_on(path, version, moment(1, hour, 30).replace(tzinfo=dt.UTC))
    tokyo = Options(as_known=True, zone="Asia/Tokyo")
    assert known_until(day(1), "Asia/Tokyo")[1] == day(1)
    for when, known in ((moment(2, 8), 0.0), (moment(2, 9), 1.0), (day(1), 0.0), (day(0), None), (day(2), 1.0)):
        made = training_set(events(("A", when)), [Asked(USE, uri)], tokyo).table
        assert made["used"].to_pylist() == [known], when


def test_as_known_by_a_clock_that_went_back(tmp_path: Path) -> None:
    """The third version says that it was made before the second, which it can't be: it is known when that is."""
    path = tmp_path / "usage"
    for version, number in enumerate((1, 5, 3)):
        uri = write(path, {("A", day(0)): float(version)})
        committed_on(path, version, moment(number).replace(tzinfo=dt.UTC))
    for number, known in ((0, None), (1, 0.0), (3, 0.0), (4, 0.0), (5, 2.0), (6, 2.0)):
        made = training_set(events(("A", moment(number, 12))), [Asked(USE, uri)], Options(as_known=True)).table
        assert made["used"].to_pylist() == [known], number


def test_as_known_of_commits_that_say_no_moment(tmp_path: Path) -> None:
    uri = write(tmp_path / "usage", {("A", day(0)): 1.0})
    log = tmp_path / "usage" / "_delta_log" / f"{0:020}.json"
    log.write_text("".join(line for line in log.read_text().splitlines(keepends=True) if "commitInfo" not in line))
    with pytest.raises(TableError, match=r"no version of .*usage says when it was committed"):
        training_set(events(("A", moment(3))), [Asked(USE, uri)], Options(as_known=True))
    assert training_set(events(("A", moment(3))), [Asked(USE, uri)]).table["used"].to_pylist() == [1.0]
