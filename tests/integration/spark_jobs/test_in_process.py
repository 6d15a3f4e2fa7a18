"""featurize without Spark: when it is right, when it is not, and what happens if others write meanwhile."""

from __future__ import annotations

import datetime as dt
import json
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from pyspark.sql import SparkSession

from feature_store import arrow_readings, compute, registry
from feature_store.calendar import DayRange, parse_day
from feature_store.energy import ENERGY
from infra.local import generate
from infra.local.settings import ROOT
from spark_jobs import delta_rs, featurize, in_process
from spark_jobs.errors import JobError
from tests.integration.conftest import RunningS3
from tests.integration.spark_jobs.conftest import Run, table

pytestmark = pytest.mark.integration

DAY = "2014-02-27"


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    landed = generate.generate(parse_day(DAY), households=20, days=400)
    named = landed.rename({"household_id": "id", "day": "day_date"})
    return named.to_arrow().cast(arrow_readings.schema(ENERGY.readings))


@pytest.fixture
def readings(rows: pa.Table, tmp_path: Path) -> Path:
    write_deltalake(tmp_path / "readings", rows)
    return tmp_path / "readings"


@pytest.fixture
def features(run: Run, readings: Path, tmp_path: Path) -> Path:
    """Features of the day before."""
    run(featurize, "2014-02-26", readings=readings, features=tmp_path / "features")
    return tmp_path / "features"


def of_day(readings: Path, day: str) -> tuple[pa.Table, DayRange]:
    days = DayRange(parse_day(day), parse_day(day))
    return compute.features(ENERGY, readings, days), days


def write(rows: pa.Table, opened: DeltaTable, there: pa.Table, features: Path, days: DayRange) -> None:
    delta_rs.replace_days(rows, there, opened, str(features), ENERGY, days)


def held(features: Path, days: DayRange) -> pa.Table:
    return delta_rs.held(DeltaTable(features), str(features), ENERGY, days)


@pytest.mark.parametrize("days", [("2014-02-20", "2014-02-23"), ("2014-02-26", DAY)], ids=["of one file", "one new"])
def test_different_days_are_written_at_once(
    run: Run, readings: Path, tmp_path: Path, features: Path, days: tuple[str, str]
) -> None:
    """Each opens the table as it was before the other has written to it."""
    run(featurize, "2014-02-18..2014-02-25", readings=readings, features=features)
    one, other = DeltaTable(features), DeltaTable(features)
    lower = pa.scalar(-1.0)
    for opened, day in zip((one, other), days, strict=True):
        made, of = of_day(readings, day)
        place = made.schema.get_field_index("energy_mean")
        marked = made.set_column(place, "energy_mean", pa.array([lower.as_py()] * made.num_rows))
        write(marked, opened, held(features, of), features, of)
    assert DeltaTable(features).version() == 3
    there = DeltaTable(features).to_pyarrow_table(columns=["day_date", "energy_mean"]).to_pylist()
    assert {str(row["day_date"]) for row in there if row["energy_mean"] == -1} == set(days)
    before = {f"2014-02-{day}" for day in (*range(18, 26), 26)}
    assert {str(row["day_date"]) for row in there} == before | set(days)


def test_a_replacement_that_maintenance_overtakes_goes_through(readings: Path, features: Path) -> None:
    made, days = of_day(readings, "2014-02-26")
    opened, there = DeltaTable(features), held(features, days)
    for _ in range(3):  # small files, for it to gather
        write_deltalake(features, made.slice(0, 0), mode="append")
    more, of = of_day(readings, "2014-02-25")
    write(more, DeltaTable(features), held(features, of), features, of)
    DeltaTable(features).optimize.compact()
    write(made.slice(0, 3), opened, there, features, days)
    assert held(features, days).num_rows == 3
    assert held(features, of).equals(more)


@pytest.mark.parametrize("day", ["2014-02-26", DAY])
def test_of_two_that_write_the_same_day_one_wins(readings: Path, features: Path, day: str) -> None:
    one, other = DeltaTable(features), DeltaTable(features)
    made, days = of_day(readings, day)
    there = held(features, days)
    write(made.slice(0, 2), one, there, features, days)
    with pytest.raises(JobError, match=r"Other runs wrote rows of the same days.* Next: run it again"):
        write(made, other, there, features, days)
    assert held(features, days).num_rows == 2


def test_of_two_that_make_the_table_at_once_one_does(readings: Path, tmp_path: Path) -> None:
    """For real: all begin together, and not one row is there twice."""
    made, days = of_day(readings, DAY)
    for number in range(10):
        place = str(tmp_path / f"new{number}")
        together = threading.Barrier(3)

        def make(place: str = place, together: threading.Barrier = together) -> str | None:
            together.wait()
            try:
                delta_rs.make(made, place, ENERGY, days)
            except JobError as error:
                return str(error)
            return None

        with ThreadPoolExecutor(3) as threads:
            said = [future.result() for future in [threads.submit(make) for _ in range(3)]]
        assert said.count(None) == 1
        assert all("Another run has made" in each for each in said if each)
        assert DeltaTable(place).version() == 0
        assert held(Path(place), days).equals(made)


@pytest.mark.parametrize("name", ["sp ace", "per%20cent", "ha#sh", "que?stion"])
def test_a_path_may_hold_any_sign(run: Run, readings: Path, tmp_path: Path, name: str) -> None:
    features = tmp_path / name / "features"
    for version in (0, 0):
        done = run(featurize, DAY, readings=readings, features=features)
        assert done["features_version"] == version
        assert done["engine"] == (in_process.SPARK if "%" in name else in_process.PROCESS)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["readings", name])


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("many", "readings that 2014-02-27 sees, and its features, do not fit"),
        ("unreadable", "delta-rs can't open .*readings"),
        ("no statistics", "does not say how many rows there are of which days"),
        ("protocol", r"needs what delta-rs can't write \(clustering, domainMetadata\)"),
        ("late", "late readings are followed by Delta's change feed"),
    ],
)
def test_what_does_not_fit_is_for_spark(
    why: str,
    said: str,
    spark: SparkSession,
    run: Run,
    readings: Path,
    features: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if why == "many":
        monkeypatch.setattr(in_process, "MOST_VALUES", 10_000)
    elif why == "unreadable":

        def refuse(*_: object, **__: object) -> None:
            raise DeltaError("Kernel error: Unsupported")

        monkeypatch.setattr(deltalake, "DeltaTable", refuse)
    elif why == "no statistics":
        frame = spark.read.format("delta").load(str(readings))
        write = frame.write.format("delta").mode("overwrite").option("delta.dataSkippingNumIndexedCols", "0")
        write.save(f"{readings}_plain")
        readings = Path(f"{readings}_plain")
    elif why == "protocol":
        spark.sql(f"ALTER TABLE delta.`{features}` CLUSTER BY (day_date)")
    given = {"readings": readings, "features": features, "changed": why == "late"}
    before = table(spark, features)
    with pytest.raises(
        JobError, match=f"can't be computed in this process: .*{said}.* Next: run it with --engine spark"
    ):
        run(featurize, DAY, **given, engine=in_process.PROCESS)
    assert table(spark, features) == before
    with caplog.at_level(logging.INFO):
        done = run(featurize, DAY, **given)
    assert done["engine"] == in_process.SPARK
    assert "Spark computes the features: " in caplog.text
    assert done["rows_written"] > 0


@pytest.mark.parametrize("engine", [in_process.AUTO, in_process.SPARK])
def test_a_table_of_another_view_is_refused(spark: SparkSession, run: Run, readings: Path, features: Path) -> None:
    spark.sql(f"ALTER TABLE delta.`{features}` ADD COLUMNS (more double)")
    with pytest.raises(JobError, match="has other columns than view energy_data_features declares"):
        run(featurize, DAY, readings=readings, features=features)
    assert {row[0] for row in table(spark, features, ["day_date"])} == {dt.date(2014, 2, 26)}


def test_on_s3_without_any_java(s3: RunningS3, rows: pa.Table) -> None:
    """The job as a process, where there is no JVM to start: what it leaves is what it leaves on this machine."""
    base = f"s3://{s3.bucket}/alone"
    options = {"AWS_ENDPOINT_URL": s3.url, **s3.env}
    write_deltalake(f"{base}/readings", rows, storage_options=options)
    arguments = ["--readings", f"{base}/readings", "--features", f"s3a://{s3.bucket}/alone/features"]
    days = ["--start", "2014-02-26", "--end", DAY, "--summary", f"{base}/run:1+2/featurize.json"]
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "spark_jobs.featurize", *arguments, *days],
            env={**s3.env, "PATH": "/nowhere", "JAVA_HOME": "/nowhere"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.append(json.loads(done.stdout.splitlines()[-1]))
    first, again = said
    assert first["engine"] == again["engine"] == in_process.PROCESS
    assert (first["features_version"], again["features_version"], again["rows_written"]) == (0, 0, 0)
    opened = DeltaTable(f"{base}/features", storage_options=options)
    asked = DayRange(dt.date(2014, 2, 26), dt.date(2014, 2, 27))
    there = opened.to_pyarrow_table().sort_by([("id", "ascending"), ("day_date", "ascending")])
    assert there.cast(arrow_readings.schema(ENERGY.columns)).equals(compute.features(ENERGY, rows, asked))


def test_a_view_that_fails_does_not_keep_the_others_from_being_computed(readings: Path, tmp_path: Path) -> None:
    made = [view.name for view in registry.views()]
    write_deltalake(tmp_path / made[0], pa.table({"id": ["A"], "day_date": [parse_day(DAY)]}))
    views = [part for name in made for part in ("--view", name)]
    where = ["--readings", str(readings), "--features", f"{tmp_path}/{{view}}", "--start", DAY, "--end", DAY]
    done = subprocess.run(
        [sys.executable, "-m", "spark_jobs.featurize", *where, *views],
        env={"PATH": "/nowhere", "JAVA_HOME": "/nowhere"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert f"featurize: {made[0]}: {tmp_path}/{made[0]} has other columns than view {made[0]} declares" in done.stderr
    assert list(said["views"]) == made
    assert (list(said["views"][made[0]]), "error" in said["views"][made[1]]) == (["error"], False)
    assert DeltaTable(tmp_path / made[1]).to_pyarrow_dataset().count_rows() == said["views"][made[1]]["rows"] > 0
