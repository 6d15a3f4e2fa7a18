"""featurize: exactly its own days, the same table in whatever order, nothing written where nothing changes."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from feature_store import arrow_readings
from feature_store.energy import ENERGY
from infra.local import generate
from spark_jobs import featurize, in_process, tables, watermark
from spark_jobs.errors import JobError
from tests.integration.spark_jobs.conftest import Run, reading, save_readings, table
from tests.support import committed_on

pytestmark = pytest.mark.integration

START = dt.date(2012, 12, 1)
RANGES = ["2013-01-01..2013-01-12", "2013-01-08..2013-01-20"]


@pytest.fixture(params=[in_process.AUTO, in_process.SPARK])
def engine(request: pytest.FixtureRequest) -> str:
    """Every test of this file is for both: what goes for the one goes for the other."""
    return str(request.param)


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
    made = []
    for number, order in enumerate((RANGES, RANGES[::-1])):
        features = tmp_path / str(number)
        for days in order:
            run(featurize, days, readings=readings, features=features)
        made.append(table(spark, features))
    assert made[0] == made[1]
    assert {row[1] for row in made[0]} == {dt.date(2013, 1, day) for day in range(1, 21)}


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


def test_days_whose_readings_are_gone_lose_their_features(
    spark: SparkSession, readings: Path, run: Run, tmp_path: Path
) -> None:
    changed, features = tmp_path / "readings", tmp_path / "features"
    shutil.copytree(readings, changed)
    run(featurize, "2013-01-01..2013-01-03", readings=changed, features=features)
    spark.sql(f"DELETE FROM delta.`{changed}` WHERE day_date = '2013-01-02'")
    done = run(featurize, "2013-01-02", readings=changed, features=features)
    assert (done["rows"], done["features_version"]) == (0, 1)
    assert {row[0].day for row in table(spark, features, ["day_date"])} == {1, 3}
    with pytest.raises(JobError, match="no row of 2013-01-02"):
        run(featurize, "2013-01-02", readings=changed, features=features)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ALTER TABLE t DROP COLUMN energy_max", "have no column energy_max, which view energy_data_features declares"),
        ("INSERT INTO t SELECT * FROM t WHERE id = 'H1'", "several readings .* have id 'H1', day_date 2012-12-01"),
        ("UPDATE t SET energy_sum = double('NaN') WHERE id = 'H2'", "energy_sum of id 'H2', .* is nan"),
        ("DELETE FROM t", "no row of 2013-01-02: they are empty"),
    ],
    ids=["column", "twice", "nan", "empty"],
)
def test_readings_that_are_not_fit_are_refused_and_the_features_stay(
    change: str, message: str, spark: SparkSession, readings: Path, run: Run, tmp_path: Path
) -> None:
    changed, features = tmp_path / "readings", tmp_path / "features"
    shutil.copytree(readings, changed)
    run(featurize, "2013-01-01", readings=changed, features=features)
    name = f"delta.`{changed}`"
    if "COLUMN" in change:
        mapping = "'delta.columnMapping.mode' = 'name', 'delta.minReaderVersion' = '2', 'delta.minWriterVersion' = '5'"
        spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ({mapping})")
    spark.sql(re.sub(r"\bt\b", name, change))
    before = table(spark, features)
    with pytest.raises(JobError, match=message) as caught:
        run(featurize, "2013-01-02", readings=changed, features=features)
    assert "\n" not in str(caught.value)
    assert table(spark, features) == before


def test_a_column_of_another_type_is_refused(spark: SparkSession, readings: Path, run: Run, tmp_path: Path) -> None:
    rows = spark.read.format("delta").load(str(readings))
    rows.withColumn("energy_sum", rows.energy_sum.cast("string")).write.format("delta").save(str(tmp_path / "readings"))
    with pytest.raises(
        JobError, match=r"Column energy_sum .* is string, and view energy_data_features declares double"
    ):
        run(featurize, "2013-01-02", readings=tmp_path / "readings", features=tmp_path / "features")
    assert not (tmp_path / "features").exists()


def test_missing_readings_are_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="nowhere is not a Delta table"):
        run(featurize, "2014-05-05", readings=tmp_path / "nowhere", features=tmp_path / "features")


def test_a_day_lies_in_few_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, landed_readings: Path, engine: str
) -> None:
    monkeypatch.setattr(tables, "LEAST_ROWS_PER_FILE", 1_000)
    days = "2013-03-01..2014-02-27"
    done = run(featurize, days, readings=landed_readings, features=tmp_path / "features")
    assert done["engine"] == (in_process.PROCESS if engine == in_process.AUTO else engine)
    files = pa.table(DeltaTable(tmp_path / "features").get_add_actions(flatten=True))
    spans = zip(files["min.day_date"].to_pylist(), files["max.day_date"].to_pylist(), strict=True)
    assert 8 <= files.num_rows <= 30
    assert sum(first <= dt.date(2013, 6, 15) <= last for first, last in spans) <= 2


def test_both_engines_write_the_same_table_and_go_on_with_each_others(
    spark: SparkSession, run: Run, tmp_path: Path, landed_readings: Path, engine: str
) -> None:
    """Not a row, a bit, a column or a type differs, nor does what is known of the table: neither has anything to do."""
    days, features = "2014-01-30..2014-02-27", tmp_path / "features"
    made = run(featurize, days, readings=landed_readings, features=features)
    known, held = watermark.read(str(features)), spark.read.format("delta").load(str(features)).schema
    other = in_process.PROCESS if engine == in_process.SPARK else in_process.SPARK
    again = run(featurize, days, readings=landed_readings, features=features, engine=other)
    assert (made["engine"] == other, again["engine"]) == (False, other)
    assert again == {**made, "engine": other, "rows_written": 0}
    assert watermark.read(str(features)) == known
    assert [(field.name, field.dataType.simpleString()) for field in held] == [
        (column.name, column.type.spark) for column in ENERGY.columns
    ]
    replaced = run(featurize, "2014-01-29..2014-02-10", readings=landed_readings, features=features, engine=other)
    assert replaced["features_version"] == made["features_version"] + 1
    assert len(table(spark, features)) > made["rows"]


def test_readings_as_they_were_known_on_a_day(
    spark: SparkSession, readings: Path, run: Run, tmp_path: Path, engine: str
) -> None:
    changed, days = tmp_path / "readings", "2013-01-01..2013-01-03"
    shutil.copytree(readings, changed)
    committed_on(changed, 0, dt.datetime(2013, 1, 10, 12, tzinfo=dt.UTC))
    spark.sql(f"UPDATE delta.`{changed}` SET energy_sum = 50 WHERE day_date = '2012-12-31'")
    committed_on(changed, 1, dt.datetime(2013, 1, 20, 12, tzinfo=dt.UTC))
    now, then = (tmp_path / name for name in ("now", "then"))
    run(featurize, days, readings=changed, features=now)
    done = run(featurize, days, readings=changed, features=then, known_on=dt.date(2013, 1, 19))
    assert (done["readings_version"], done["engine"] == in_process.SPARK) == (0, engine == in_process.SPARK)
    run(featurize, days, readings=readings, features=tmp_path / "before")
    assert table(spark, then) == table(spark, tmp_path / "before") != table(spark, now)
    with pytest.raises(JobError, match=r"has no version of 2013-01-09 or before.* 2013-01-10 12:00 UTC"):
        run(featurize, days, readings=changed, features=then, known_on=dt.date(2013, 1, 9))
    for file in DeltaTable(changed, version=0).file_uris():
        Path(file).unlink()
    with pytest.raises(JobError, match=r"are deleted by VACUUM.* Nothing was written"):
        run(featurize, days, readings=changed, features=then, known_on=dt.date(2013, 1, 19))


@pytest.fixture(scope="module")
def landed_readings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Readings of 60 households and two years, in one file."""
    path = tmp_path_factory.mktemp("landed") / "readings"
    landed = generate.generate(dt.date(2014, 2, 27), households=60, days=730)
    names = {"household_id": "id", "day": "day_date"}
    write_deltalake(path, landed.rename(names).to_arrow().cast(arrow_readings.schema(ENERGY.readings)))
    return path
