"""maintain: small files become few, in order and with the same rows; and who wins when two write at once."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from feature_store.calendar import DayRange
from spark_jobs import maintain, tables
from spark_jobs.errors import JobError, java_causes
from tests.integration.spark_jobs.conftest import Run, table

pytestmark = pytest.mark.integration

FIRST = dt.date(2012, 1, 1)
DAYS = 70
SCHEMA = "id string, day_date date, value double"
Slow = Callable[[DataFrame], DataFrame]


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LEAST_ROWS_PER_FILE", 1)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with a change feed, of so many one-day files of 20 to 39 rows each: of different sizes."""
    path = tmp_path_factory.mktemp("maintain") / "written"
    for number in range(DAYS):
        rows = size(number)
        columns = {"id": [f"H{row}" for row in range(rows)], "day_date": [day(number)] * rows}
        values = pa.array([number + row / 7 for row in range(rows)])
        configuration = {"delta.enableChangeDataFeed": "true"}
        write_deltalake(path, pa.table({**columns, "value": values}), mode="append", configuration=configuration)
    return path


@pytest.fixture
def days(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "days"))


@pytest.fixture
def few(spark: SparkSession, tmp_path: Path) -> Path:
    """A table of three days: too few to gather."""
    append(spark, tmp_path / "few", range(3))
    return tmp_path / "few"


def day(number: int) -> dt.date:
    return FIRST + dt.timedelta(days=number)


def size(number: int) -> int:
    return 20 + number * 7 % 20


def append(spark: SparkSession, path: Path, numbers: range) -> None:
    """A file a day, in one version."""
    rows = [(f"H{row}", day(number), float(row)) for number in numbers for row in range(20)]
    ordered = spark.createDataFrame(rows, SCHEMA).coalesce(1).sortWithinPartitions("day_date")
    ordered.write.format("delta").mode("append").option("maxRecordsPerFile", 20).save(str(path))


def maintained(run: Run, path: Path, **arguments: object) -> dict[str, Any]:
    chosen = {"day": "day_date", "retention_hours": 168, "vacuum": False, **arguments}
    done: dict[str, Any] = run(maintain, table=[str(path)], **chosen)["tables"][str(path)]
    return done


def spans(path: Path) -> list[tuple[dt.date, dt.date]]:
    files = DeltaTable(path).get_add_actions(flatten=True)
    return sorted(zip(*(files.column(f"{end}.day_date").to_pylist() for end in ("min", "max")), strict=True))


def test_small_files_become_few_with_days_in_order_and_the_same_rows(spark: SparkSession, days: Path, run: Run) -> None:
    before = table(spark, days)
    done = maintained(run, days)
    found = spans(days)
    assert table(spark, days) == before
    assert (done["files_before"], done["files_rewritten"], done["files_after"]) == (DAYS, DAYS, len(found))
    assert 2 <= len(found) <= 4
    # No two files share a day: the one ends before the next begins.
    assert all(last < first for (_, last), (first, _) in pairwise(found))
    assert (done["files_a_day_before"], done["files_a_day_after"]) == (1, 1)
    # Whoever reads the table's changes sees none.
    feed = spark.read.format("delta").option("readChangeFeed", "true")
    assert feed.option("startingVersion", done["version_before"] + 1).load(str(days)).isEmpty()

    again = maintained(run, days)
    assert again["files_rewritten"] == 0
    assert again["version_before"] == again["version_after"] == done["version_after"]

    # The newest month stays as it lies, and so does one day before it; of two, all that is not in order is gathered.
    append(spark, days, range(DAYS, DAYS + tables.DAYS_PER_FILE + 1))
    assert maintained(run, days)["files_rewritten"] == 0
    append(spark, days, range(DAYS + tables.DAYS_PER_FILE + 1, DAYS + tables.DAYS_PER_FILE + 2))
    added = maintained(run, days)
    assert added["files_rewritten"] == tables.DAYS_PER_FILE + 2
    assert added["version_after"] == added["version_before"] + 1
    assert set(found) < set(spans(days))
    # Neither way of gathering asks more of a table's writers than before.
    assert DeltaTable(days).protocol().min_writer_version == 4


def test_files_that_hold_every_day_are_laid_out_anew(
    spark: SparkSession, written: Path, run: Run, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    spark.read.format("delta").load(str(written)).repartition(6, "id").write.format("delta").save(str(mixed))
    done = maintained(run, mixed)
    assert done["files_a_day_before"] > 5
    assert done["files_a_day_after"] == 1
    assert table(spark, mixed) == table(spark, written)


def test_only_files_past_the_retention_are_deleted(few: Path, spark: SparkSession, run: Run) -> None:
    held = [Path(file) for file in DeltaTable(few).file_uris()]
    spark.sql(f"DELETE FROM delta.`{few}` WHERE day_date = '{FIRST}'")
    old = time.time() - 8 * 24 * 3600
    left, writing = few / "left-by-a-crash.parquet", few / "being-written.parquet"
    for file in (left, writing):
        file.write_bytes(b"1234")
    for file in (left, *held):
        os.utime(file, (old, old))
    done = maintained(run, few, vacuum=True)
    assert (done["files_vacuumed"], done["bytes_vacuumed"]) == (1, 4)
    assert not left.exists()
    # What was removed only now serves older versions for another week, however old it is itself.
    assert all(file.exists() for file in (writing, *held))
    again = maintained(run, few, vacuum=True)
    assert again["files_vacuumed"] == 0
    assert again["version_after"] == done["version_after"] > done["version_before"]


def test_what_is_not_there_is_named_and_nothing_is_done(days: Path, run: Run) -> None:
    with pytest.raises(JobError, match="nowhere is not a Delta table"):
        run(maintain, table=[str(days), f"{days}/nowhere"], day="day_date", retention_hours=168, vacuum=True)
    with pytest.raises(JobError, match="has no column when: its columns are id, day_date, value"):
        maintained(run, days, day="when")
    assert DeltaTable(days).version() == DAYS - 1


def both(folder: Path, first: Callable[[Slow], object], second: Callable[[], object]) -> str:
    """Commit `second` between the beginning and the commit of `first`; what `first` failed with, if it did.

    `first` writes rows that it has passed through its argument, where they wait.
    """
    started, go = str(folder / "started"), str(folder / "go")

    def wait(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        Path(started).touch()
        until = time.monotonic() + 60
        while not Path(go).exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        yield from batches

    failed: list[str] = []

    def work() -> None:
        try:
            # One task: the other core is for the second.
            first(lambda rows: rows.coalesce(1).mapInArrow(wait, rows.schema))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            failed.append(" ".join(java_causes(error)) or repr(error))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while not Path(started).exists() and thread.is_alive():
            time.sleep(0.02)
        second()
    finally:
        Path(go).touch()
        thread.join()
    return "".join(failed)


def at_once(rows: DataFrame) -> DataFrame:
    return rows


def replace(spark: SparkSession, path: Path, number: int, value: float, slow: Slow = at_once) -> None:
    rows = spark.createDataFrame([(name, day(number), value) for name in ("H1", "H2")], SCHEMA)
    tables.replace_days(slow(rows), str(path), "day_date", DayRange(day(number), day(number)), 2)


def values(spark: SparkSession, path: Path, number: int) -> list[float]:
    there = spark.read.format("delta").load(str(path)).where(F.col("day_date") == F.lit(day(number)))
    return [row["value"] for row in there.collect()]


def test_of_two_that_write_the_same_day_one_wins(spark: SparkSession, few: Path, tmp_path: Path) -> None:
    failed = both(tmp_path, lambda slow: replace(spark, few, DAYS, 1.0, slow), lambda: replace(spark, few, DAYS, 2.0))
    assert "Other runs wrote rows of the same days" in failed
    assert values(spark, few, DAYS) == [2.0, 2.0]


def test_two_write_different_days_at_once(spark: SparkSession, few: Path, tmp_path: Path) -> None:
    failed = both(
        tmp_path, lambda slow: replace(spark, few, DAYS, 1.0, slow), lambda: replace(spark, few, DAYS + 1, 2.0)
    )
    assert failed == ""
    assert (values(spark, few, DAYS), values(spark, few, DAYS + 1)) == ([1.0, 1.0], [2.0, 2.0])


def test_rows_that_are_appended_meanwhile_stay_beside_gathered_ones(
    spark: SparkSession, days: Path, run: Run, tmp_path: Path
) -> None:
    """An append that began before the maintenance and commits after it."""
    before = table(spark, days)

    def appends(slow: Slow) -> None:
        rows = spark.createDataFrame([("H1", day(DAYS), 1.0)], SCHEMA)
        slow(rows).write.format("delta").mode("append").save(str(days))

    assert both(tmp_path, appends, lambda: maintained(run, days)) == ""
    assert len(spans(days)) <= 6
    assert sorted([*before, ("H1", day(DAYS), 1.0)], key=repr) == table(spark, days)


def test_a_replacement_that_the_maintenance_overtakes_writes_its_day(
    spark: SparkSession, days: Path, run: Run, tmp_path: Path
) -> None:
    assert both(tmp_path, lambda slow: replace(spark, days, DAYS, 1.0, slow), lambda: maintained(run, days)) == ""
    assert values(spark, days, DAYS) == [1.0, 1.0]
    assert len(spark.read.format("delta").load(str(days)).inputFiles()) <= 6
