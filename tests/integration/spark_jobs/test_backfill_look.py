"""What a backfill has to do, told from tables that the jobs have made: done, missing, changed, held back."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from feature_store import backfill, outlook
from feature_store.backfill import Reprocess, State, Store
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.sync import certificates
from feature_store.sync.certificates import Certificate
from feature_store.validation import records
from spark_jobs import featurize, tables, validate
from tests.integration.spark_jobs.conftest import Run, frame, reading
from tests.integration.spark_jobs.test_late_readings import change

pytestmark = pytest.mark.integration

FIRST, LAST = dt.date(2013, 1, 1), dt.date(2013, 3, 31)
HOUSES = [f"H{number}" for number in range(60)]
DONE = DayRange(dt.date(2013, 3, 1), dt.date(2013, 3, 10))
ONLINE = "k.energy_data_features"


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Readings of a quarter with a change feed."""
    folder = tmp_path_factory.mktemp("backfill")
    rows = [
        reading(house, day, 5.0 + number % 7) for day in DayRange(FIRST, LAST) for number, house in enumerate(HOUSES)
    ]
    frame(spark, rows).coalesce(1).write.format("delta").option(tables.CHANGE_FEED, "true").save(
        str(folder / "readings")
    )
    return folder


@pytest.fixture
def place(base: Path, run: Run, tmp_path: Path) -> Path:
    """Ten days that are featurized, validated and, as the online store would have it, certified."""
    shutil.copytree(base / "readings", tmp_path / "readings")
    work(run, tmp_path, DONE)
    return tmp_path


def work(run: Run, place: Path, days: DayRange, *, online: bool = True) -> None:
    of = {"readings": place / "readings", "features": place / "features"}
    run(featurize, f"{days.start}..{days.end}", **of)
    done = run(validate, f"{days.start}..{days.end}", **of, report=str(place / "report.json"))
    table = DeltaTable(str(place / "features"))
    if online:
        made = [
            Certificate(
                day, str(table.metadata().id), done["features_version"], rows=60, certified_at=dt.datetime.now(dt.UTC)
            )
            for day in days
        ]
        known = certificates.known(str(place / "features"), ONLINE)
        certificates.record(str(place / "features"), ONLINE, made, known)


def look(place: Path, days: DayRange = DONE) -> backfill.ViewDays:
    store = Store(str(place / "readings"), str(place / "features"), ONLINE)
    return backfill.look(store, ENERGY, days)


def states(place: Path, days: DayRange = DONE) -> dict[dt.date, State]:
    return dict(look(place, days).states)


def test_what_is_done_is_not_to_be_done_again(place: Path) -> None:
    found = look(place, DayRange(dt.date(2013, 2, 27), dt.date(2013, 3, 12)))
    done = [day for day, state in sorted(found.states.items()) if state is State.DONE]
    assert done == list(DONE)
    missing = [dt.date(2013, 2, 27), dt.date(2013, 2, 28), dt.date(2013, 3, 11), dt.date(2013, 3, 12)]
    assert found.to_do(Reprocess.MISSING) == found.to_do(Reprocess.CHANGED) == missing
    assert len(found.to_do(Reprocess.ALL)) == 14
    assert found.to_do(Reprocess.STALE) == []
    assert set(found.rows.values()) == {60}
    assert found.affected == []


def test_before_there_is_anything(base: Path, tmp_path: Path) -> None:
    assert look(tmp_path).states == {}
    shutil.copytree(base / "readings", tmp_path / "readings")
    assert set(states(tmp_path).values()) == {State.MISSING}
    assert states(tmp_path, DayRange(dt.date(2020, 1, 1), dt.date(2020, 1, 2))) == {}


def test_a_reading_that_changes_makes_the_days_after_it_changed(place: Path, spark: SparkSession) -> None:
    change(spark, place, [("H3", "2013-03-05", 99.0)])
    found = look(place)
    assert [day.day for day, state in sorted(found.states.items()) if state is State.CHANGED] == [5, 6, 7, 8, 9, 10]
    assert found.to_do(Reprocess.MISSING) == []
    assert len(found.to_do(Reprocess.CHANGED)) == 6
    assert len(found.to_do(Reprocess.STALE)) == 6
    before = look(place, DayRange(DONE.start, dt.date(2013, 3, 6)))
    assert [day.day for day in before.affected] == [7, 8, 9, 10]
    store = Store(str(place / "readings"), str(place / "features"), ONLINE)
    assert [day.day for day in backfill.stale_days(store, ENERGY, dt.date(2013, 3, 8))] == [8, 9, 10]


def test_a_reading_that_is_withdrawn_counts_too(place: Path, spark: SparkSession) -> None:
    change(spark, place, [("H3", "2013-02-05", None)])
    assert set(states(place).values()) == {State.CHANGED}


def test_a_merge_that_changes_no_value_changes_nothing(place: Path, spark: SparkSession) -> None:
    change(spark, place, [("H3", "2013-03-05", 5.0 + 3)])
    assert set(states(place).values()) == {State.DONE}


def test_what_was_recomputed_is_done_again(place: Path, spark: SparkSession, run: Run) -> None:
    change(spark, place, [("H3", "2013-03-05", 9.0)])
    work(run, place, DayRange(dt.date(2013, 3, 5), DONE.end))
    assert set(states(place).values()) == {State.DONE}


def test_features_that_nobody_has_judged_as_they_are_are_missing(place: Path, spark: SparkSession, run: Run) -> None:
    """A run that ended between featurize and validate."""
    change(spark, place, [("H3", "2013-03-09", 9.0)])
    run(featurize, "2013-03-09..2013-03-10", readings=place / "readings", features=place / "features")
    found = states(place)
    assert [day.day for day, state in sorted(found.items()) if state is State.MISSING] == [9, 10]
    assert found[dt.date(2013, 3, 8)] is State.DONE


def test_files_that_are_only_packed_otherwise_are_the_same(place: Path) -> None:
    DeltaTable(str(place / "features")).optimize.compact()
    assert set(states(place).values()) == {State.DONE}


def test_what_is_not_certified_is_missing(place: Path, run: Run) -> None:
    work(run, place, DayRange(dt.date(2013, 3, 11), dt.date(2013, 3, 12)), online=False)
    days = DayRange(dt.date(2013, 3, 10), dt.date(2013, 3, 12))
    assert list(states(place, days).values()).count(State.MISSING) == 2


def test_what_is_online_as_it_was_before_is_missing(place: Path, spark: SparkSession, run: Run) -> None:
    """A sync that was refused, lost or not wanted: nothing of the new version is online."""
    change(spark, place, [("H3", "2013-03-09", 9.0)])
    work(run, place, DayRange(dt.date(2013, 3, 9), DONE.end), online=False)
    found = states(place)
    assert [day.day for day, state in sorted(found.items()) if state is State.MISSING] == [9, 10]
    store = Store(str(place / "readings"), str(place / "features"), None)
    assert set(backfill.look(store, ENERGY, DONE).states.values()) == {State.DONE}, "where nothing is to be online"


def test_features_of_after_the_version_that_was_judged_are_missing(place: Path, spark: SparkSession, run: Run) -> None:
    """Another run's, committed while that version was being judged."""
    features = str(place / "features")
    _, about = records.sources(features, ENERGY, DONE)[DONE.end]
    change(spark, place, [("H3", "2013-03-10", 9.0)])
    run(featurize, "2013-03-10", readings=place / "readings", features=features)
    later = replace(about, judged_at=dt.datetime.now(dt.UTC))
    records.record(features, ENERGY, [DONE.end], {}, [records.Judged(DONE.end, records.Verdict.PASSED, 60, "f")], later)
    assert states(place)[DONE.end] is State.MISSING


def test_days_that_are_too_old_for_the_online_table_need_not_be_there(place: Path, run: Run) -> None:
    """As its newest day has it, wherever that is."""
    recent = replace(ENERGY, retention=10)
    store = Store(str(place / "readings"), str(place / "features"), ONLINE)
    work(run, place, DayRange(FIRST, FIRST), online=False)
    found = backfill.look(store, recent, DayRange(FIRST, FIRST))
    assert set(found.states.values()) == {State.DONE}
    assert found.newest == DONE.end


def test_a_day_that_is_held_back_is_left_until_all_is_done_again(place: Path) -> None:
    day = dt.date(2013, 3, 4)
    uri = str(place / "features")
    _, about = records.sources(uri, ENERGY, DONE)[day]
    held = records.Judged(day, records.Verdict.QUARANTINED, 60, "f", failed=("rows",))
    records.record(uri, ENERGY, [day], {}, [held], about)
    found = look(place)
    assert found.states[day] is State.HELD_BACK
    assert found.to_do(Reprocess.CHANGED) == []
    assert day in found.to_do(Reprocess.ALL)


def test_a_change_feed_that_is_gone_leaves_nothing_certain(place: Path, spark: SparkSession) -> None:
    change(spark, place, [("H3", "2012-03-05", 1.0)])
    change(spark, place, [("H3", "2012-03-05", 2.0)])
    shutil.rmtree(place / "readings" / "_change_data")
    assert set(states(place).values()) == {State.CHANGED}


def test_chunks() -> None:
    days = {dt.date(2013, 3, number): 100 for number in (1, 2, 3, 4, 7, 8)}
    assert [str(each) for each in outlook.chunks(days, 200)] == [
        "2013-03-01..2013-03-02",
        "2013-03-03..2013-03-04",
        "2013-03-07..2013-03-08",
    ]
    assert [str(each) for each in outlook.chunks(days, 50)] == [str(day) for day in days]
    assert outlook.chunks({}) == []
