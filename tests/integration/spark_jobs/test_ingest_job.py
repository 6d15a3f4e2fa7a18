"""ingest: what is good becomes a reading, what is not goes to quarantine with its place and reason."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from spark_jobs import ingest, lake
from spark_jobs.errors import JobError
from tests.integration.spark_jobs.conftest import HEADER, MEASURES, Run, csv_text, killed_at, land, reading, table

pytestmark = pytest.mark.integration

A1 = reading("A", "2013-01-01", 1.5)
A2 = reading("A", "2013-01-02", 2.5)
B1 = reading("B", "2013-01-01", None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "landed"


@pytest.fixture
def readings(tmp_path: Path) -> Path:
    return tmp_path / "lake" / "readings"


def sums(spark: SparkSession, readings: Path) -> dict[tuple[object, str], object]:
    return {(row[0], str(row[1])): row[2] for row in table(spark, readings, ["id", "day_date", "energy_sum"])}


def quarantined(spark: SparkSession, readings: Path) -> list[tuple[str, int, str]]:
    rows = table(spark, f"{readings}_quarantine", ["source_file", "line", "reason"])
    return sorted((Path(str(file)).name, line, reason) for file, line, reason in rows)  # type: ignore[misc]


def test_files_of_every_kind_in_one_folder(spark: SparkSession, run: Run, source: Path, readings: Path) -> None:
    land(source / "kit.csv", csv_text([A1]))
    turned = ["LCLid", *MEASURES, "day"]
    line = ",".join(["B", *("" if m != "energy_count" else "0" for m in MEASURES), "2013-01-01"])
    (source / "deep" / "er").mkdir(parents=True)
    with gzip.open(source / "deep" / "er" / "a +b%20[c]'é.csv.gz", "wt") as out:
        out.write("\ufeff" + ",".join(turned) + "\r\n" + line + "\r\n\r\n")
    land(source / "notes.txt", "not a CSV")
    land(source / "_hidden.csv", "not,looked,at")
    done = run(ingest, source=source, readings=readings)
    assert sums(spark, readings) == {("A", "2013-01-01"): 1.5, ("B", "2013-01-01"): None}
    assert (done["files"], done["rows_in"], done["rows_valid"], done["rows_quarantined"]) == (2, 2, 2, 0)
    assert (done["readings_rows"], done["first_day"], done["last_day"]) == (2, "2013-01-01", "2013-01-01")
    kinds = [kind for _, kind in spark.read.format("delta").load(str(readings)).dtypes]
    assert kinds[:9] == ["string", "date", "double", "double", "double", "int", "double", "double", "double"]
    files = {row[0] for row in table(spark, readings, ["source_file"])}
    assert f"file:{source}/deep/er/a +b%20[c]'é.csv.gz" in files


GOOD = "X,2013-01-01,1,1,1,48,1,1,1"
# Each line, and what is said of it (None: it is good).
LINES = [
    (GOOD, None),
    ('"Y, ""the second""",2013-01-01,1,1e-1,.5,48.0,,1,1', None),
    ("X,2013-02-30,1,1,1,48,1,1,1", "day_date '2013-02-30' is not a day as YYYY-MM-DD"),
    ("X,2013-1-2,1,1,1,48,1,1,1", "day_date '2013-1-2' is not a day as YYYY-MM-DD"),
    ("X,2013-01-02 00:00:00,1,1,1,48,1,1,1", "day_date '2013-01-02 00:00:00' is not a day as YYYY-MM-DD"),
    ("", None),
    ("X,2013-01-03,1,1,1,48,1,NaN,1", "energy_sum 'NaN' is not a number"),
    ("X,2013-01-03,1,1,Infinity,48,1,1,1", "energy_max 'Infinity' is not a number"),
    ("X,2013-01-03,1,1,1e999,48,1,1,1", "energy_max '1e999' is too large"),
    ("X,2013-01-03,1,1,1,-1,1,1,1", "energy_count '-1' is less than 0"),
    ("X,2013-01-03,1,1,1,47.5,1,1,1", "energy_count '47.5' is not a whole number"),
    ("X,2013-01-03,1,1,1,3000000000,1,1,1", "energy_count '3000000000' is too large"),
    ("X,2013-01-03,1,1,1,48,1,1d,1", "energy_sum '1d' is not a number"),
    (",2013-01-03,1,1,1,48,1,1,1", "id is empty"),
    ("X,,1,1,1,48,1,1,1", "day_date is empty"),
    ("X,2013-01-03,1,1,1,48,1,1", "8 fields instead of 9"),
    ("X,2013-01-03,1,1,1,48,1,1,1,", "10 fields instead of 9"),
    ('"X,2013-01-03,1,1,1,48,1,1,1', "quotes are unbalanced"),
    (",".join(HEADER), "day_date 'day' is not a day as YYYY-MM-DD"),
    ("X,2013-01-04,1,1,1,48,1,1,1", None),
    ("X,2013-01-04,1,1,1,48,1,1,1", None),
    ("X,2013-01-05,1,1,1,48,1,1,1", "the same key stands in this file with other values"),
    ("X,2013-01-05,1,1,1,48,1,2,1", "the same key stands in this file with other values"),
    ("X,2013-01-06,1,1,1,48,1,1,1", "the same key stands in this file with other values"),
    ("X,2013-01-06,1,1,1,48,,1,1", "the same key stands in this file with other values"),
]


def test_malformed_lines_are_quarantined_with_their_numbers(
    spark: SparkSession, run: Run, source: Path, readings: Path
) -> None:
    source.mkdir()
    # Enough good lines before them that a file is read in several parts if it may be split.
    many = [f"M{number},2013-01-01,1,1,1,48,1,1,1" for number in range(3000)]
    text = "\n".join([",".join(HEADER), *many, *(line for line, _ in LINES)]) + "\n"
    (source / "plain.csv").write_text(text)
    (source / "zipped.csv.gz").write_bytes(gzip.compress(text.encode()))
    (source / "second.csv").write_text(text)
    names = ["plain.csv", "second.csv", "zipped.csv.gz"]
    spark.conf.set("spark.sql.files.maxPartitionBytes", "20000")
    try:
        done = run(ingest, source=source, readings=readings)
    finally:
        spark.conf.unset("spark.sql.files.maxPartitionBytes")
    expected = [(3002 + place, reason) for place, (_, reason) in enumerate(LINES) if reason]
    assert quarantined(spark, readings) == sorted((name, line, reason) for name in names for line, reason in expected)
    data_lines = 3000 + len(LINES) - 1
    assert (done["rows_in"], done["rows_quarantined"]) == (3 * data_lines, 3 * len(expected))
    assert done["rows_valid"] == done["rows_in"] - done["rows_quarantined"]
    good = {key for key in sums(spark, readings) if not str(key[0]).startswith("M")}
    assert good == {("X", "2013-01-01"), ('Y, "the second"', "2013-01-01"), ("X", "2013-01-04")}
    raw = {row[0] for row in table(spark, f"{readings}_quarantine", ["raw"])}
    assert '"X,2013-01-03,1,1,1,48,1,1,1' in raw


def test_a_file_with_another_header_is_refused_as_a_whole(
    spark: SparkSession, run: Run, source: Path, readings: Path
) -> None:
    land(source / "good.csv", csv_text([A1]))
    land(source / "prices.csv", "day,price\n2013-01-01,12\n2013-01-02,13\n")
    land(source / "empty.csv", "")
    done = run(ingest, source=source, readings=readings)
    assert (done["files"], done["rows_in"], done["rows_valid"], done["rows_quarantined"]) == (3, 3, 1, 2)
    (empty, prices) = quarantined(spark, readings)
    assert (empty[0], empty[1]) == ("empty.csv", 1)
    assert (prices[0], prices[1]) == ("prices.csv", 1)
    assert prices[2].startswith("the whole file is refused: its header must have one column household_id or LCLid")


def test_the_newer_file_wins_in_whatever_order(spark: SparkSession, run: Run, tmp_path: Path) -> None:
    old, new = csv_text([A1, A2]), csv_text([A1 | {"energy_sum": 9.0}, B1])
    expected = {("A", "2013-01-01"): 9.0, ("A", "2013-01-02"): 2.5, ("B", "2013-01-01"): None}
    for first, then in ((None, None), ("new.csv", "old.csv")):
        source, readings = tmp_path / f"{first}" / "landed", tmp_path / f"{first}" / "readings"
        texts = {"old.csv": (old, 60), "new.csv": (new, 0)}
        for name in [first, then] if first else []:
            land(source / name, *texts[name])
            run(ingest, source=source, readings=readings)
        for name, (text, age) in texts.items():
            land(source / name, text, age)
        last = run(ingest, source=source, readings=readings)
        assert last["files"] == (0 if first else 2)
        assert sums(spark, readings) == expected, (first, then)


def test_a_rerun_takes_nothing_and_changes_nothing(spark: SparkSession, run: Run, source: Path, readings: Path) -> None:
    land(source / "a.csv", csv_text([A1, A2]) + "X,never,1,1,1,48,1,1,1\n")
    first = run(ingest, source=source, readings=readings)
    again = run(ingest, source=source, readings=readings)
    assert (again["files"], again["rows_in"]) == (0, 0)
    assert again["readings_version"] == first["readings_version"] == 0
    assert (first["days_changed"], first["first_day_changed"], first["last_day_changed"]) == (
        2,
        "2013-01-01",
        "2013-01-02",
    )
    assert (again["days_changed"], again["first_day_changed"]) == (0, None)
    land(source / "a.csv", csv_text([A1]), age=-60)
    changed = run(ingest, source=source, readings=readings)
    assert changed["files"] == 1
    assert quarantined(spark, readings) == [], "the newer version of the file has no malformed row"
    assert sums(spark, readings) == {("A", "2013-01-01"): 1.5}, "and not the reading of the second day"
    assert (changed["days_changed"], changed["first_day_changed"]) == (1, "2013-01-02")
    land(source / "a.csv", "not,readings\n1,2\n", age=-120)
    refused = run(ingest, source=source, readings=readings)
    assert (refused["rows_quarantined"], refused["days_changed"]) == (1, 0)
    assert sums(spark, readings) == {("A", "2013-01-01"): 1.5}, "a file that is no readings withdraws none"
    land(source / "a.csv", csv_text([B1]), age=-180)
    run(ingest, source=source, readings=readings)
    assert sums(spark, readings) == {("B", "2013-01-01"): None}


def test_a_withdrawn_reading_gives_way_to_that_of_an_older_file(
    spark: SparkSession, run: Run, source: Path, readings: Path
) -> None:
    land(source / "old.csv", csv_text([A1 | {"energy_sum": 1.0}, A2]), age=100)
    land(source / "new.csv", csv_text([A1 | {"energy_sum": 2.0}, A2 | {"energy_sum": 2.0}, B1]), age=50)
    run(ingest, source=source, readings=readings)
    land(source / "new.csv", csv_text([A2 | {"energy_sum": 3.0}]), age=40)
    done = run(ingest, source=source, readings=readings)
    assert sums(spark, readings) == {("A", "2013-01-01"): 1.0, ("A", "2013-01-02"): 3.0}
    assert (done["days_changed"], done["first_day_changed"], done["last_day_changed"]) == (
        2,
        "2013-01-01",
        "2013-01-02",
    )
    from_files = run(ingest, "2013-01-01..2013-01-02", source=source, readings=readings)
    assert (from_files["readings_version"], from_files["days_changed"]) == (done["readings_version"], 0)


def test_a_file_that_is_put_back_as_it_was_counts_again(
    spark: SparkSession, run: Run, source: Path, readings: Path
) -> None:
    """Its time goes back too, as where a bucket's newest version of it is deleted."""
    land(source / "a.csv", csv_text([A1, A2]), age=50)
    run(ingest, source=source, readings=readings)
    land(source / "a.csv", csv_text([A1 | {"energy_sum": 9.0}, B1]))
    run(ingest, source=source, readings=readings)
    assert sums(spark, readings) == {("A", "2013-01-01"): 9.0, ("B", "2013-01-01"): None}
    land(source / "a.csv", csv_text([A1, A2]), age=50)
    back = run(ingest, source=source, readings=readings)
    assert sums(spark, readings) == {("A", "2013-01-01"): 1.5, ("A", "2013-01-02"): 2.5}
    assert (back["files"], back["days_changed"]) == (1, 2)
    assert run(ingest, source=source, readings=readings)["files"] == 0


def test_a_table_that_was_deleted_is_made_anew_from_all_files(
    spark: SparkSession, run: Run, source: Path, readings: Path
) -> None:
    land(source / "a.csv", csv_text([A1, A2, B1]))
    run(ingest, source=source, readings=readings)
    shutil.rmtree(readings)
    run(ingest, "2013-01-02", source=source, readings=readings)
    assert sums(spark, readings) == {("A", "2013-01-02"): 2.5}
    assert run(ingest, source=source, readings=readings)["readings_rows"] == 3


def test_a_crash_between_table_and_ledger_withdraws_too(
    spark: SparkSession, run: Run, source: Path, readings: Path
) -> None:
    land(source / "first.csv", csv_text([B1]), age=100)
    run(ingest, source=source, readings=readings)
    land(source / "a.csv", csv_text([A1, A2]), age=50)
    with killed_at(lake, "record"):
        run(ingest, source=source, readings=readings)
    land(source / "b.csv", csv_text([B1]))
    run(ingest, source=source / "b.csv", readings=readings)
    land(source / "a.csv", csv_text([A1]))
    run(ingest, source=source, readings=readings)
    assert sums(spark, readings) == {("A", "2013-01-01"): 1.5, ("B", "2013-01-01"): None}


def test_what_a_newer_file_says_again_keeps_its_ingestion_time(
    spark: SparkSession, run: Run, source: Path, readings: Path
) -> None:
    land(source / "a.csv", csv_text([A1, A2, B1]), age=50)
    run(ingest, source=source, readings=readings)
    before = dict(table(spark, readings, ["day_date", "ingested_at"]))
    land(source / "b.csv", csv_text([A1, A2 | {"energy_sum": 9.0}, B1]))
    done = run(ingest, source=source, readings=readings)
    assert (done["days_changed"], done["first_day_changed"]) == (1, "2013-01-02")
    after = dict(table(spark, readings, ["day_date", "ingested_at"]))
    kept = {day for day in before if before[day] == after[day]}
    assert {str(day) for day in kept} == {"2013-01-01"}
    assert {Path(str(row[0])).name for row in table(spark, readings, ["source_file"])} == {"b.csv"}


def test_a_truncated_file_is_named_and_nothing_is_written(
    spark: SparkSession, run: Run, source: Path, readings: Path
) -> None:
    land(source / "good.csv", csv_text([A1]))
    many = csv_text([reading(f"H{number}", "2013-01-01", number / 7) for number in range(5000)])
    (source / "cut off.csv.gz").write_bytes(gzip.compress(many.encode())[:-2000])
    with pytest.raises(JobError, match=r"cut off\.csv\.gz can't be read \(.*\): land it again, whole"):
        run(ingest, source=source, readings=readings)
    assert not readings.exists()


def test_a_crash_before_the_ledger_is_made_good_by_the_next_run(
    spark: SparkSession, run: Run, source: Path, readings: Path
) -> None:
    land(source / "a.csv", csv_text([A1, A2]) + "X,never,1,1,1,48,1,1,1\n")
    with killed_at(lake, "record"):
        run(ingest, source=source, readings=readings)
    before = table(spark, readings)
    done = run(ingest, source=source, readings=readings)
    assert done["files"] == 1
    assert table(spark, readings) == before
    assert quarantined(spark, readings) == [("a.csv", 4, "day_date 'never' is not a day as YYYY-MM-DD")]


def test_days_are_rebuilt_from_all_landed_files(spark: SparkSession, run: Run, source: Path, readings: Path) -> None:
    land(source / "a.csv", csv_text([A1, A2]))
    run(ingest, source=source, readings=readings)
    spark.sql(f"DELETE FROM delta.`{readings}` WHERE id = 'A'")
    unchanged = run(ingest, source=source, readings=readings)
    assert unchanged["readings_rows"] == 0
    rebuilt = run(ingest, "2013-01-02", source=source, readings=readings)
    assert sums(spark, readings) == {("A", "2013-01-02"): 2.5}
    again = run(ingest, "2013-01-02", source=source, readings=readings)
    assert again["readings_version"] == rebuilt["readings_version"]
    spark.sql(f"INSERT INTO delta.`{readings}` SELECT * FROM delta.`{readings}`")
    cured = run(ingest, "2013-01-02", source=source, readings=readings)
    assert (cured["readings_rows"], cured["days_changed"]) == (1, 0)
    with pytest.raises(JobError, match="valid reading of 2020-01-01"):
        run(ingest, "2020-01-01", source=source, readings=readings)


def test_no_input_is_an_error(run: Run, source: Path, readings: Path) -> None:
    with pytest.raises(JobError, match="landed does not exist"):
        run(ingest, source=source, readings=readings)
    land(source / "notes.txt", "nothing")
    with pytest.raises(JobError, match=r"holds no \.csv"):
        run(ingest, source=source, readings=readings)
    land(source / "bad.csv", "what,ever\n1,2\n")
    with pytest.raises(JobError, match=r"single valid reading: see .*readings_quarantine"):
        run(ingest, source=source, readings=readings)
