"""Training sets on Spark: the rows, digests and records of the other engine, and pure Python's; and no leak."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from feature_store import training
from feature_store.calendar import DayRange
from feature_store.training import Asked, Options, Record
from feature_store.training.record import FILE
from feature_store.validation import records
from feature_store.validation.verdict import Verdict
from spark_jobs import tables, training_sets
from spark_jobs.errors import JobError
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

pytestmark = pytest.mark.integration

SPRING = dt.date(2014, 3, 28)  # two days before London's clocks go forward
HOURS = dt.timedelta(hours=1)
WHOSE = [*"ABc", "Ä", "it's"]


def given(path: Path, table: pa.Table) -> str:
    """Events as a Parquet file."""
    # Not in nanoseconds, which Spark does not read.
    pq.write_table(table, path / "events.parquet", coerce_timestamps="us")
    return str(path / "events.parquet")


def read(out: Path | str) -> pa.Table:
    """A set's rows, in the events' order, by their column `n`."""
    return ds.dataset(str(out)).to_table().sort_by("n")


def numbered(of: list[tuple[str, Any]], **columns: Any) -> pa.Table:
    return events(*of, n=list(range(len(of))), **columns)


def some(kind: str, count: int, seed: int = 5) -> list[tuple[str, Any]]:
    """Events at random: dates, or moments with and without a zone, each tenth of them at midnight."""
    chance = random.Random(f"{kind}{seed}")
    made: list[tuple[str, Any]] = []
    for number in range(count):
        when: Any = dt.datetime.combine(SPRING, dt.time()) + dt.timedelta(
            days=chance.randrange(-3, 16), minutes=0 if number % 10 == 0 else chance.randrange(24 * 60)
        )
        when = {"date": when.date(), "naive": when, "zoned": when.replace(tzinfo=dt.UTC)}[kind]
        made.append((chance.choice([*WHOSE, "nobody"]), when))
    return made


def values(seed: int, share: float = 0.4) -> dict[tuple[str, dt.date], float | None]:
    chance = random.Random(seed)
    keys = [(entity, SPRING + dt.timedelta(days=number)) for entity in WHOSE for number in range(12)]
    return {key: chance.choice([None, 1.0, -2.0, chance.random()]) for key in keys if chance.random() < share}


@pytest.mark.parametrize("kind", ["date", "naive", "zoned"])
@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(max_age=2, zone="Europe/London", lag=6 * HOURS),
        Options(max_age=0, zone="Pacific/Apia", full_names=True),
    ],
    ids=["plain", "london", "apia"],
)
def test_a_set_is_what_the_other_engine_and_pure_python_make(
    spark: SparkSession, tmp_path: Path, kind: str, options: Options
) -> None:
    held = values(7)
    of = some(kind, 200)
    asked = [
        Asked(USE, write(tmp_path / "usage", held)),
        Asked(OTHER, write(tmp_path / "other", values(8), OTHER), ("sum_7days",)),
    ]
    table = numbered(of, label=[None if number % 7 == 0 else number / 2 for number in range(200)], flag=[True] * 200)
    here = training.training_set(table, asked, options)
    record = training_sets.training_set(spark, given(tmp_path, table), asked, str(tmp_path / "set"), options)
    made = read(tmp_path / "set")
    if not options.full_names:
        how = {"zone": options.zone, "lag": options.lag}
        assert found_in(made) == looked_up(held, of, options.max_age, **how)
    assert made.to_pylist() == here.table.to_pylist()
    assert list(zip(made.schema.names, made.schema.types, strict=True)) == list(
        zip(here.table.schema.names, here.table.schema.types, strict=True)
    )
    assert record == dataclasses.replace(here.record, order="")
    assert Record.read(str(tmp_path / "set")) == record


def test_a_set_by_days_is_the_other_engines(spark: SparkSession, tmp_path: Path) -> None:
    asked = [
        Asked(USE, write(tmp_path / "usage", values(7, 0.2))),
        Asked(OTHER, write(tmp_path / "other", values(8, 0.1), OTHER)),
    ]
    days = DayRange(SPRING - dt.timedelta(days=2), SPRING + dt.timedelta(days=14))
    for options in (Options(max_age=3), Options(entity="who", time="on", lag=30 * HOURS)):
        here = training.training_set_by_day(days, asked, options, every=3)
        record = training_sets.training_set_by_day(spark, days, asked, str(tmp_path / "set"), options, every=3)
        keys = [(name, "ascending") for name in here.table.column_names[:2]]
        made = ds.dataset(str(tmp_path / "set")).to_table().sort_by(keys)
        assert made.to_pylist() == here.table.to_pylist()
        assert record == here.record
        again = training_sets.rebuild(spark, here.record, str(tmp_path / "again"))
        assert again == record
        assert training.rebuild(record).table.equals(here.table)
    with pytest.raises(training.OptionsError, match="every 0 days"):
        training_sets.training_set_by_day(spark, days, asked, str(tmp_path / "set"), every=0)


def test_either_engine_rebuilds_what_the_other_has_made(spark: SparkSession, tmp_path: Path) -> None:
    asked = [Asked(USE, write(tmp_path / "usage", values(7)))]
    table = numbered(some("zoned", 50), more=["é"] * 50)
    uri, out = given(tmp_path, table), str(tmp_path / "set")
    here = training.training_set(table, asked)
    record = training_sets.training_set(spark, uri, asked, out)
    write(tmp_path / "usage", values(9))
    assert training.rebuild(record, table).table.equals(here.table)
    assert training_sets.rebuild(spark, here.record, str(tmp_path / "again"), uri) == record
    frame = spark.read.parquet(uri).repartition(3)
    assert training_sets.rebuild(spark, here.record, str(tmp_path / "again"), frame) == record
    other = given(tmp_path, table.set_column(2, "n", pa.array(list(range(1, 51)))))
    with pytest.raises(training.NotTheSameError, match="the events are not those of the record"):
        training_sets.rebuild(spark, record, out, other)
    with pytest.raises(training.RecordError, match="none was made there, or not to its end"):
        Record.read(out)
    with pytest.raises(training.EventsError, match="takes the same again"):
        training_sets.rebuild(spark, record, out)


@pytest.mark.parametrize("kind", ["date", "naive"])
def test_no_event_knows_a_row_of_after_it(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Each event has a history of its own, of which everything is another that it may not know; a leak is noticed."""
    held, of = apart(values(7), some(kind, 60))
    options = Options(zone="Europe/London", lag=HOURS)
    uris = [write(tmp_path / name, each) for name, each in (("is", held), ("later", spoiled(held, of, options)))]

    def sets() -> list[str]:
        table = given(tmp_path, numbered(of))
        return [
            training_sets.training_set(spark, table, [Asked(USE, uri)], str(tmp_path / "set"), options).digest
            for uri in uris
        ]

    before, after = sets()
    assert before == after
    monkeypatch.setattr(training_sets, "checked", leaking)
    before, after = sets()
    assert before != after, "planted: an event knows its own day, which is not over"


def test_days_that_are_held_back_and_versions(spark: SparkSession, tmp_path: Path) -> None:
    uri = write(tmp_path / "usage", {("A", day(number)): float(number) for number in range(6)})
    write(tmp_path / "usage", {("A", day(number)): float(-number) for number in range(6)})
    judged = [records.Judged(day(4), Verdict.QUARANTINED, 1, "f", failed=("x",))]
    source = records.Source(0, "id", 0, dt.datetime(2014, 3, 1, tzinfo=dt.UTC), "report")
    records.record(uri, USE, DayRange(day(4), day(4)), {}, judged, source)
    of = given(tmp_path, numbered([("A", day(4)), ("A", day(5)), ("A", day(3))]))
    for asked, options, found in (
        (Asked(USE, uri), Options(), [-3.0, -5.0, -3.0]),
        (Asked(USE, uri), Options(held_back=True), [-4.0, -5.0, -3.0]),
        (Asked(USE, uri, version=0), Options(), [3.0, 5.0, 3.0]),
    ):
        training_sets.training_set(spark, of, [asked], str(tmp_path / "set"), options)
        assert read(tmp_path / "set")["used"].to_pylist() == found


def test_a_key_that_is_there_twice(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "usage"
    uri = write(path, {("A", day(1)): 1.0, ("A", day(4)): 2.0})
    write_deltalake(path, rows({("A", day(4)): 3.0}), mode="append")
    out, asked = str(tmp_path / "set"), [Asked(USE, uri)]
    training_sets.training_set(spark, given(tmp_path, numbered([("A", day(3))])), asked, out)
    assert read(out)["used"].to_pylist() == [1.0], "who does not know the day is not concerned"
    with pytest.raises(
        training.RepeatedKeyError, match=r"^/.* has several rows of id 'A', day_date 2014-02-05 at version 1$"
    ):
        training_sets.training_set(spark, given(tmp_path, numbered([("A", day(3)), ("A", day(5))])), asked, out)
    assert not (tmp_path / "set" / FILE).exists()
    events, options = numbered([("A", day(7))]), Options(max_age=2)
    for make in (  # a row that is too old for the event, all the same: the table is broken
        lambda: training.training_set(events, asked, options),
        lambda: training_sets.training_set(spark, given(tmp_path, events), asked, out, options),
    ):
        with pytest.raises(training.RepeatedKeyError, match="several rows of id 'A', day_date 2014-02-05"):
            make()


def test_a_version_that_is_gone(spark: SparkSession, tmp_path: Path) -> None:
    uri = write(tmp_path / "usage", {("A", day(1)): 1.0})
    for file in DeltaTable(uri).file_uris():
        Path(file).unlink()  # as VACUUM does
    with pytest.raises(training.VersionGoneError, match=r"usage has lost a file of version 0: .*\.parquet"):
        training_sets.training_set(
            spark, given(tmp_path, numbered([("A", day(3))])), [Asked(USE, uri)], str(tmp_path / "set")
        )


def test_what_is_unfit_is_one_sentence(spark: SparkSession, tmp_path: Path) -> None:
    asked = [Asked(USE, write(tmp_path / "usage", {("A", day(1)): 1.0}))]
    out = str(tmp_path / "set")
    good = given(tmp_path, numbered([("A", day(3))]))
    (tmp_path / "events.csv").write_text("id,event_time\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    frame = spark.read.parquet(good)
    nobody = frame.selectExpr("CAST(NULL AS STRING) AS id", "event_time")
    for of, options, kind, said in (
        (nobody, {}, training.EventsError, "events without id: 1"),
        (frame.selectExpr("id", "date_add(event_time, 9999999) AS event_time"), {}, training.EventsError, "after 9999"),
        (frame.drop("id"), {}, training.EventsError, "the events have no entity column id"),
        (frame.selectExpr("1 AS id", "event_time"), {}, training.EventsError, "column id is int32, and not text"),
        (frame.withColumnRenamed("n", "USED"), {}, training.OptionsError, "would be called USED, as Spark reads it"),
        (frame.withColumnRenamed("n", "id"), {}, training.OptionsError, "would be called id, as Spark reads it"),
        (frame.withColumnRenamed("n", "usage__day"), {}, training.OptionsError, "would be called usage__day"),
        (str(tmp_path / "events.csv"), {}, training.EventsError, "can't be read from .* as Parquet: "),
        (str(tmp_path / "nowhere"), {}, training.EventsError, "nowhere as Parquet: "),
        (numbered([("A", day(3))]), {}, training.EventsError, "Parquet at a URI, and no Table"),
        (good, {"as_known": True}, training.OptionsError, "as_known is for sets that are made in one process"),
    ):  # fmt: skip
        with pytest.raises(kind, match=said) as refused:
            training_sets.training_set(spark, of, asked, out, Options(**options))
        assert "\n" not in str(refused.value)
    for place in ("other", "usage"):
        with pytest.raises(JobError, match="which is of no training set: name another folder"):
            training_sets.training_set(spark, good, asked, str(tmp_path / place))
    assert (tmp_path / "other" / "mine.txt").exists()


def test_what_another_has_written_is_not_replaced(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark names all of its files alike: those of events, and of anything else."""
    asked = [Asked(USE, write(tmp_path / "usage", {("A", day(1)): 1.0}))]
    own, other = tmp_path / "the events", tmp_path / "other"
    spark.read.parquet(given(tmp_path, numbered([("A", day(3))]))).write.parquet(str(own))
    spark.range(3).write.parquet(str(other))
    before = {path: path.read_bytes() for folder in (own, other) for path in folder.iterdir()}
    for out in (own, other):
        with pytest.raises(JobError, match=r"has part-.* in it, which is of no training set: name another folder"):
            training_sets.training_set(spark, str(own), asked, str(out))
    made = str(tmp_path / "set")
    training_sets.training_set(spark, str(own), asked, made)
    monkeypatch.chdir(tmp_path)
    for out in (made, f"file:{made}/", "set"):
        with pytest.raises(training.EventsError, match="is of the events, and the set would take its place"):
            training_sets.training_set(spark, made, [Asked(OTHER, asked[0].uri, ("used",))], out)
    assert before == {path: path.read_bytes() for path in before}
    (tmp_path / "set" / FILE).unlink()  # as of a run that has come to no end
    assert training_sets.training_set(spark, str(own), asked, made) == Record.read(made)


def test_no_events_and_no_rows(spark: SparkSession, tmp_path: Path) -> None:
    nothing, one = write(tmp_path / "nothing", {}), write(tmp_path / "one", {("A", day(0)): 1.0})
    none = spark.createDataFrame([], "id string, event_time timestamp, n bigint")
    assert (
        training_sets.training_set(spark, none, [Asked(USE, one)], str(tmp_path / "set"), Options(max_age=1)).rows == 0
    )
    training_sets.training_set(
        spark, given(tmp_path, numbered([("A", moment(1))])), [Asked(USE, nothing)], str(tmp_path / "set")
    )
    assert found_in(read(tmp_path / "set")) == [(None,) * 4]


def test_a_session_gets_its_settings_back(spark: SparkSession) -> None:
    name, own = "spark.sql.parquet.outputTimestampType", "TIMESTAMP_MILLIS"
    default = spark.conf.get(name)
    try:
        spark.conf.set(name, own)
        with tables.set_for(spark, training_sets.MICROSECONDS):
            assert spark.conf.get(name) == "TIMESTAMP_MICROS"
        assert spark.conf.get(name) == own
    finally:
        spark.conf.unset(name)
    with tables.set_for(spark, training_sets.MICROSECONDS):
        pass
    assert spark.conf.get(name) == default
