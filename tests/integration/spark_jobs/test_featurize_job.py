"""featurize: exactly its own days, the same table in whatever order, nothing written where nothing changes."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from spark_jobs import featurize
from spark_jobs.errors import JobError
from tests.integration.spark_jobs.conftest import Run, reading, save_readings, table

pytestmark = pytest.mark.integration

START = dt.date(2012, 12, 1)
RANGES = ["2013-01-01..2013-01-12", "2013-01-08..2013-01-20"]


@pytest.fixture(scope="module")
def readings(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("featurize") / "readings"
    rows = [
        reading(f"H{house}", START + dt.timedelta(days=n), (n * house % 13) / 7)
        for house in range(1, 6)
        for n in range(0, 60, 1 + house % 2)
    ]
    save_readings(spark, path, rows)
    return path


def test_the_order_of_ranges_does_not_matter(spark: SparkSession, readings: Path, run: Run, tmp_path: Path) -> None:
    tables = []
    for number, order in enumerate((RANGES, RANGES[::-1])):
        features = tmp_path / str(number)
        for days in order:
            run(featurize, days, readings=readings, features=features)
        tables.append(table(spark, features))
    assert tables[0] == tables[1]
    assert {row[1] for row in tables[0]} == {dt.date(2013, 1, day) for day in range(1, 21)}


def test_a_rerun_adds_no_version(spark: SparkSession, readings: Path, run: Run, tmp_path: Path) -> None:
    features = tmp_path / "features"
    first = run(featurize, "2013-01-01..2013-01-05", readings=readings, features=features)
    before = table(spark, features)
    again = run(featurize, "2013-01-02", readings=readings, features=features)
    assert (first["features_version"], again["features_version"]) == (0, 0)
    assert (first["rows_written"], again["rows_written"], again["rows"]) == (len(before), 0, 5)
    assert (again["days"], again["entities"]) == (1, 5)
    assert table(spark, features) == before


def test_only_its_own_days_change(spark: SparkSession, readings: Path, run: Run, tmp_path: Path) -> None:
    features = tmp_path / "features"
    run(featurize, "2013-01-01..2013-01-03", readings=readings, features=features)
    spark.sql(f"UPDATE delta.`{features}` SET energy_max = -1")
    done = run(featurize, "2013-01-02", readings=readings, features=features)
    assert done["rows_written"] == 5
    mended = {row[1].day for row in table(spark, features, ["energy_max", "day_date"]) if row[0] != -1}
    assert mended == {2}


def test_a_range_without_readings_is_an_error_and_changes_nothing(readings: Path, run: Run, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"no row of 2014-05-05: they go from 2012-12-01 to 2013-01-29"):
        run(featurize, "2014-05-05", readings=readings, features=tmp_path / "features")
    assert not (tmp_path / "features").exists()


def test_missing_readings_are_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="nowhere is not a Delta table"):
        run(featurize, "2014-05-05", readings=tmp_path / "nowhere", features=tmp_path / "features")


def test_a_day_lies_in_few_files(spark: SparkSession, run: Run, tmp_path: Path) -> None:
    rows = [reading("A", dt.date(2012, 1, 1) + dt.timedelta(days=n)) for n in range(300)]
    save_readings(spark, tmp_path / "readings", rows)
    run(featurize, "2012-01-01..2012-12-31", readings=tmp_path / "readings", features=tmp_path / "features")
    stored = spark.read.format("delta").load(str(tmp_path / "features"))
    assert len(stored.inputFiles()) >= 9
    assert len(stored.where("day_date = DATE'2012-06-15'").select("_metadata.file_path").distinct().collect()) == 1
