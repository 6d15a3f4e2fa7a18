"""One Spark for all tests of the jobs, and short ways to make readings and to run a job in it."""

from __future__ import annotations

import datetime as dt
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from feature_store.calendar import DayRange, parse_day
from feature_store.energy import ENERGY
from infra.local.spark_defaults import BY_HAND, properties_text, spark_defaults
from spark_jobs import featurize, in_process, ingest, validate

MEASURES = [measure.name for measure in ENERGY.measures]
HEADER = ["household_id", "day", *MEASURES]
SCHEMA = ", ".join(f"{column.name} {column.type.spark}" for column in ENERGY.readings)

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def spark_conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SPARK_CONF_DIR as the set-up makes it for jobs that are started by hand."""
    folder = tmp_path_factory.mktemp("spark-conf")
    # The tests are many small queries: compiling them well takes longer than running them.
    quick = {
        # With one compiler Java keeps 48 MB of compiled code, which a few dozen tests fill: then it is thrown away and
        # made again without end.
        "spark.driver.extraJavaOptions": ("-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=240m"),
        # One session for hundreds of jobs: what Spark keeps of each, for a UI that is off, would fill the heap.
        "spark.driver.memory": "4g",
        # What was broadcast is let go only after a collection of the heap, which a large one puts off.
        "spark.cleaner.periodicGC.interval": "2min",
        **{f"spark.ui.retained{what}": "10" for what in ("Jobs", "Stages", "Tasks", "DeadExecutors")},
        "spark.sql.ui.retainedExecutions": "10",
    }
    (folder / "spark-defaults.conf").write_text(properties_text({**spark_defaults(BY_HAND), **quick}))
    return folder


@pytest.fixture(scope="session")
def spark(spark_conf: Path) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_CONF_DIR", str(spark_conf))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        session = SparkSession.builder.appName("tests").getOrCreate()
    yield session
    session.stop()


@pytest.fixture(autouse=True, scope="module")
def forgotten(spark: SparkSession) -> Iterator[None]:
    """After each file of tests, what Spark and Delta hold of its tables is let go: a job's own process ends instead."""
    yield
    spark.catalog.clearCache()
    jvm: Any = spark._jvm
    jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


@pytest.fixture
def engine() -> str:
    """Who computes features: a module of tests can have it otherwise."""
    return in_process.AUTO


@pytest.fixture
def run(spark: SparkSession, engine: str) -> Run:
    """Run a job's work in the tests' session: run(featurize, days="2013-01-01..2013-01-31", readings=..., ...)."""

    def start(job: ModuleType, days: str | None = None, **arguments: object) -> dict[str, Any]:
        first, _, last = (days or "").partition("..")
        chosen = DayRange(parse_day(first), parse_day(last or first)) if days else None
        defaults = {
            **{"readings_version": None, "features_version": None, "view": ENERGY, "metrics": None},
            **{"changed": False, "known_on": None, "engine": engine, "released_by": "", "release_reason": ""},
        }
        arguments = defaults | arguments
        texts = {
            name: str(value) if isinstance(value, Path) and name != "driver_config" else value
            for name, value in arguments.items()
        }
        given = Namespace(days=chosen, **texts)
        if job is validate:
            return dict(validate.run(given))
        if job is ingest:
            told, done = ingest.alone(given), ingest.run(spark, given)
            # Either nothing is to be done, and told so without Spark, or something is.
            assert told in (done, None)
            assert (told is None) == bool(done["files"] or chosen)
            return dict(done)
        done = in_process.featurize(given) if job is featurize else None
        return dict(done or job.run(spark, given))

    return start


@contextmanager
def killed_at(module: ModuleType, function: str) -> Iterator[None]:
    """What runs within is killed when it comes to that function."""

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, function, kill)
        with pytest.raises(KeyboardInterrupt):
            yield


def reading(entity: str, day: str | dt.date, total: float | None = 1.0, **others: object) -> dict[str, object]:
    """A reading whose measures follow from its sum; any of them can be given."""
    value = dict.fromkeys(MEASURES, total) | {"energy_count": 48 if total is not None else 0}
    return {"id": entity, "day_date": parse_day(day) if isinstance(day, str) else day, **value, **others}


def frame(spark: SparkSession, readings: list[dict[str, object]]) -> DataFrame:
    rows = [tuple(each[column.name] for column in ENERGY.readings) for each in readings]
    return spark.createDataFrame(rows, SCHEMA)


def save_readings(spark: SparkSession, path: Path, readings: list[dict[str, object]]) -> None:
    frame(spark, readings).coalesce(1).write.format("delta").mode("overwrite").save(str(path))


def csv_line(each: dict[str, object]) -> str:
    values = ["" if each[column.name] is None else str(each[column.name]) for column in ENERGY.readings]
    return ",".join(values)


def csv_text(readings: list[dict[str, object]], header: str = ",".join(HEADER)) -> str:
    return "\n".join([header, *(csv_line(each) for each in readings)]) + "\n"


def land(path: Path, text: str, age: int = 0) -> Path:
    """Write a file that was modified so many seconds before a fixed moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp() - age
    os.utime(path, (moment, moment))
    return path


def table(spark: SparkSession, path: Path | str, columns: list[str] | None = None) -> list[tuple[object, ...]]:
    """All rows of a Delta table, sorted."""
    rows = spark.read.format("delta").load(str(path))
    found = rows.select(*(columns or rows.columns)).collect()
    return sorted((tuple(row) for row in found), key=repr)
