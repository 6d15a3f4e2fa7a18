"""featurize --changed: late, corrected and withdrawn readings give the table that computing it anew would give."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from delta import DeltaTable
from pyspark.sql import SparkSession

from feature_store.calendar import DayRange, add_months, merged
from feature_store.energy import ENERGY
from spark_jobs import delta_rs, featurize, late, tables, watermark
from spark_jobs.errors import JobError
from spark_jobs.watermark import Watermark
from tests.integration.spark_jobs.conftest import Run, frame, killed_at, reading, table

pytestmark = pytest.mark.integration

FIRST, LAST = dt.date(2012, 1, 1), dt.date(2013, 6, 30)
HOUSES = ("A", "B", "C", "D")
WRITE = "2012-12-01..2013-03-10"  # the days whose features are kept

Change = tuple[str, str, float | None]  # entity, day, its new sum or None: withdrawn
CHANGES: list[list[Change]] = [
    [("A", "2012-12-31", 9.5), ("B", "2013-01-31", 0.25)],  # corrected
    [("C", "2013-02-13", 7.0), ("E", "2013-03-01", 2.0)],  # late: C has no such day yet, E is new
    [("A", "2013-01-15", None), ("B", "2012-02-29", None)],  # withdrawn
    [("B", "2011-12-02", 4.0), ("C", "2013-03-10", 1.5)],  # so old that it is in few windows; the newest day
]


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Readings with a change feed, and features of WRITE that are right for them."""
    folder = tmp_path_factory.mktemp("late")
    days = list(DayRange(FIRST, LAST))
    rows = [
        reading(house, day, (day.toordinal() * 7 % 23) / 3) for house in HOUSES for day in days[:: 1 + (house > "B")]
    ]
    frame(spark, rows).coalesce(1).write.format("delta").option(tables.CHANGE_FEED, "true").save(
        str(folder / "readings")
    )
    return folder


@pytest.fixture
def place(base: Path, run: Run, tmp_path: Path) -> Path:
    """A copy of the readings to change, and features of WRITE."""
    shutil.copytree(base / "readings", tmp_path / "readings")
    if not (base / "features").exists():
        run(featurize, WRITE, readings=base / "readings", features=base / "features")
    shutil.copytree(base / "features", tmp_path / "features")
    shutil.copy(base / "features_watermark.json", tmp_path)
    return tmp_path


def change(spark: SparkSession, place: Path, changes: Sequence[Change]) -> None:
    """Change the readings as ingest does: by one MERGE."""
    rows = [reading(entity, day, value) for entity, day, value in changes]
    incoming = frame(spark, rows)
    held = DeltaTable.forPath(spark, str(place / "readings")).alias("held")
    merge = held.merge(incoming.alias("new"), "held.id = new.id AND held.day_date = new.day_date")
    withdrawn = "new.energy_sum IS NULL"
    merge.whenMatchedDelete(withdrawn).whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()


def recompute(run: Run, place: Path, days: str | None = None) -> dict[str, Any]:
    done = run(featurize, days, readings=place / "readings", features=place / "features", changed=True)
    return dict(done["changed"])


def anew(spark: SparkSession, run: Run, place: Path, days: str = WRITE) -> list[tuple[object, ...]]:
    features = place / f"anew{len(list(place.iterdir()))}"
    run(featurize, days, readings=place / "readings", features=features)
    return table(spark, features)


def differing(before: Sequence[tuple[object, ...]], after: Sequence[tuple[object, ...]]) -> set[tuple[object, ...]]:
    """The keys of rows that are in only one of two tables."""
    return {row[:2] for row in set(before) ^ set(after)}


def test_changes_in_any_order_and_any_chunks_give_the_same_table(
    spark: SparkSession, run: Run, place: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(place, other, ignore=shutil.ignore_patterns("other"))
    for number, changes in enumerate(CHANGES):
        change(spark, place, changes)
        if number % 2:
            recompute(run, place)
    for changes in reversed(CHANGES):
        change(spark, other, changes)
    done = recompute(run, other)
    assert (done["since_version"], done["rows_deleted"], done["entities"]) == (0, 1, 4)
    assert table(spark, place / "features") == table(spark, other / "features") == anew(spark, run, place)


def test_exactly_the_rows_whose_windows_hold_a_change_are_written(spark: SparkSession, run: Run, place: Path) -> None:
    before = table(spark, place / "features")
    changed = {
        "A": dt.date(2012, 1, 31),
        "B": dt.date(2012, 2, 29),
        "C": dt.date(2013, 1, 2),
        "D": dt.date(2011, 12, 2),
    }
    change(spark, place, [(entity, str(day), 99.0) for entity, day in changed.items()])
    done = recompute(run, place)
    held = {(str(entity), day) for entity, day, *_ in before if isinstance(day, dt.date)}
    held.add(("C", changed["C"]))  # a day of C that was not there before
    of_window = {(each, day) for each, day in held if add_months(day, -12) <= changed[each] <= day}
    assert differing(before, table(spark, place / "features")) == of_window
    assert (done["rows_written"], done["rows_deleted"], done["entities"]) == (len(of_window), 0, 4)
    # The last day whose year has 29 February 2012 in it, as 1 March 2013 less a year is 1 March 2012.
    assert max(day for entity, day in of_window if entity == "B") == dt.date(2013, 2, 28)
    assert (done["first_day"], done["last_day"]) == ("2012-12-01", "2013-03-10")


def test_a_commit_that_changes_no_value_changes_no_row(spark: SparkSession, run: Run, place: Path) -> None:
    readings = place / "readings"
    spark.sql(f"UPDATE delta.`{readings}` SET energy_sum = energy_sum WHERE day_date > '2013-01-01'")
    month = spark.read.format("delta").load(str(readings)).where("day_date >= '2013-01-01'")
    kept = frame(spark, [row.asDict() for row in month.collect()])
    where = "day_date >= '2013-01-01'"
    kept.write.format("delta").mode("overwrite").option("replaceWhere", where).save(str(readings))
    assert late.changes(spark, str(readings), 0, 2, ENERGY).count() == 0
    assert recompute(run, place)["rows_written"] == 0


def test_a_crash_before_the_watermark_and_a_run_for_nothing(spark: SparkSession, run: Run, place: Path) -> None:
    change(spark, place, CHANGES[0])
    with killed_at(watermark, "write"):
        recompute(run, place)
    made = table(spark, place / "features")
    version = tables.version(str(place / "features"))
    for since in (0, 1):
        again = recompute(run, place)
        assert (again["since_version"], again["rows_written"]) == (since, 0)
    assert tables.version(str(place / "features")) == version
    assert table(spark, place / "features") == made == anew(spark, run, place)


@pytest.mark.parametrize("why", ["none", "other readings", "feed vacuumed", "no feed"])
def test_where_the_changes_cant_be_told_every_day_is_looked_at(
    spark: SparkSession, run: Run, place: Path, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    readings, features = str(place / "readings"), str(place / "features")
    if why == "no feed":
        spark.sql(f"ALTER TABLE delta.`{readings}` SET TBLPROPERTIES ('{tables.CHANGE_FEED}' = 'false')")
    change(spark, place, CHANGES[2])
    if why == "none":
        watermark.remove(features)
    elif why == "other readings":
        watermark.write(features, Watermark("another", 0, ()))
    elif why == "feed vacuumed":
        shutil.rmtree(place / "readings" / "_change_data")
    done = recompute(run, place)
    assert (done["since_version"], done["rows_deleted"]) == (None, 1)
    assert ("can't be read from version 1 on" in caplog.text) == ("feed" in why)
    known = watermark.read(features)
    assert known is not None
    assert (known.readings_id, known.version) == (tables.identity(spark, readings), tables.version(readings))
    assert ("B", dt.date(2012, 12, 1)) in {row[:2] for row in table(spark, features)}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', '{"readings_id": "a", "version": 1e999, "computed": []}']
)
def test_a_watermark_that_is_none_is_said_to_be_none(
    spark: SparkSession, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    features = str(tmp_path / "features")
    (tmp_path / "features_watermark.json").write_text(text)
    assert watermark.read(features) is None
    assert "features_watermark.json is no watermark" in caplog.text


def test_a_whole_day_that_comes_late_goes_and_comes_again(spark: SparkSession, run: Run, place: Path) -> None:
    """The day was computed when it had no reading; its rows are there as soon as it has some, and whenever it has."""
    features = str(place / "anew")
    day = "2012-12-02"
    spark.sql(f"DELETE FROM delta.`{place / 'readings'}` WHERE day_date = '{day}'")
    run(featurize, "2012-12-01..2012-12-03", readings=place / "readings", features=features)
    found = []
    for value in (3.0, None, 4.0):
        change(spark, place, [("A", day, value)])
        run(featurize, readings=place / "readings", features=features, changed=True)
        found.append([row[:2] for row in table(spark, features) if str(row[1]) == day])
    assert found == [[("A", dt.date(2012, 12, 2))], [], [("A", dt.date(2012, 12, 2))]]
    assert table(spark, features) == anew(spark, run, place, "2012-12-01..2012-12-03")


def test_days_and_what_changed_in_one_run(spark: SparkSession, run: Run, place: Path) -> None:
    """The days of the run and those that the table holds; days that it does not hold are left to a run of their own."""
    change(spark, place, [("A", "2013-03-11", 5.0), ("B", "2013-02-20", 5.0), ("B", "2013-04-01", 5.0)])
    done = recompute(run, place, "2013-03-11")
    assert (done["first_day"], done["last_day"]) == ("2013-02-20", "2013-03-10")
    assert table(spark, place / "features") == anew(spark, run, place, "2012-12-01..2013-03-11")


@pytest.mark.parametrize(
    ("engine", "killed"), [("spark", (tables, "replace_days")), ("process", (delta_rs, "replace_days"))]
)
def test_a_run_that_is_overtaken_lowers_the_watermark_before_it_writes(
    run: Run, place: Path, killed: tuple[ModuleType, str]
) -> None:
    """Whatever happens to it: its rows are of older readings than those up to which another run has brought all."""
    readings, features = str(place / "readings"), str(place / "features")
    known = watermark.read(features)
    assert known is not None
    watermark.write(features, replace(known, version=7))
    with killed_at(*killed):
        run(featurize, "2013-03-11", readings=readings, features=features)
    assert watermark.read(features) == known


def test_a_run_of_days_says_nothing_about_the_others_of_other_readings(
    spark: SparkSession, run: Run, place: Path
) -> None:
    watermark.write(str(place / "features"), Watermark("readings of before", 7, ()))
    run(featurize, "2013-03-11", readings=place / "readings", features=place / "features")
    known = watermark.read(str(place / "features"))
    assert known == Watermark("readings of before", 7, (DayRange(dt.date(2013, 3, 11), dt.date(2013, 3, 11)),))


def test_another_writer_meanwhile_is_noticed(
    spark: SparkSession, run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(spark, place, CHANGES[0])
    write = late._write

    def overtaken(*arguments: Any) -> Any:
        spark.sql(f"DELETE FROM delta.`{place / 'features'}` WHERE id = 'A'")
        return write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(late, "_write", overtaken)
        with pytest.raises(JobError, match=r"Another run wrote to .* Next: run it again"):
            recompute(run, place)
    known = watermark.read(str(place / "features"))
    assert known is not None
    assert known.version == 0


def test_late_readings_are_followed_where_those_of_the_day_are_missing(
    spark: SparkSession, run: Run, place: Path
) -> None:
    change(spark, place, [("A", "2013-03-10", 77.0)])
    with pytest.raises(JobError, match="no row of 2014-01-01"):
        recompute(run, place, "2014-01-01")
    assert 77.0 in {row[0] for row in table(spark, place / "features", ["energy_max"])}


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([(1, 2), (3, 4)], [(1, 4)]),
        ([(5, 6), (1, 3)], [(1, 3), (5, 6)]),
        ([(1, 9), (2, 3), (9, 10)], [(1, 10)]),
        ([], []),
    ],
)
def test_computed_days_are_held_as_few_ranges(days: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    made = merged(DayRange(dt.date(2013, 1, start), dt.date(2013, 1, end)) for start, end in days)
    assert [(each.start.day, each.end.day) for each in made] == expected


def test_without_features_there_is_nothing_to_recompute(run: Run, place: Path) -> None:
    with pytest.raises(JobError, match="no features yet: compute some days first"):
        run(featurize, readings=place / "readings", features=place / "none", changed=True)
