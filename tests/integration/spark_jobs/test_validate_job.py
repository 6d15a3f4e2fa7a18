"""validate over tables that Spark has written and changed, at the versions that it is given."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from feature_store import registry
from feature_store.energy import ENERGY
from spark_jobs import featurize, validate
from spark_jobs.errors import VerdictError
from tests.integration.spark_jobs.conftest import Run, reading, save_readings

pytestmark = pytest.mark.integration

START = dt.date(2012, 9, 1)
DAYS = "2013-01-01..2013-01-03"


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("validate")
    rows = [
        reading(f"H{house}", START + dt.timedelta(days=n), None if n % 50 == house else (n * house % 13) / 7)
        for house in range(1, 5)
        for n in range(0, 140, house)
    ]
    save_readings(spark, path / "readings", rows)
    return path


@pytest.fixture
def tables(lake: Path, run: Run, tmp_path: Path) -> dict[str, Path]:
    """The readings, a copy of right features that a test may spoil, and where the report goes."""
    right = lake / "features"
    if not right.exists():
        run(featurize, DAYS, readings=lake / "readings", features=right, engine="spark")
    shutil.copytree(right, tmp_path / "features")
    return {"readings": lake / "readings", "features": tmp_path / "features", "report": tmp_path / "report.json"}


def test_what_spark_has_written_passes(tables: dict[str, Path], run: Run) -> None:
    done = run(validate, DAYS, **tables)
    assert (done["verdict"], done["failed"], done["report"]) == ("passed", [], str(tables["report"]))
    report = json.loads(tables["report"].read_text())
    assert (report["verdict"], report["rows"], len(report["checks"])) == ("passed", done["rows"], done["checks"])
    assert report["rows_recomputed"] == done["rows"] > 4


ON = "WHERE id = '{}' AND day_date = '2013-01-02'"


def test_what_spark_has_changed_is_found(spark: SparkSession, tables: dict[str, Path], run: Run) -> None:
    others = ", ".join(column.name for column in ENERGY.columns[1:])
    for statement in (
        f"DELETE FROM features {ON.format('H1')}",
        f"INSERT INTO features SELECT 'H9', columns FROM features {ON.format('H3')}",
        "UPDATE features SET energy_mean_6months = energy_mean_6months * (1 + 1e-8) "
        "WHERE id = 'H3' AND day_date = '2013-01-02'",
    ):
        spark.sql(statement.replace("columns", others).replace(" features", f" delta.`{tables['features']}`"))
    done = run(validate, DAYS, **tables)
    assert done["days"]["quarantined"] == ["2013-01-02"]
    assert {each["check"]: each["examples"][0].split(" (")[0] for each in done["failed"]} == {
        "rows_missing": "H1 2013-01-02",
        "rows_unexpected": "H9 2013-01-02",
        "values_recomputed": "H3 2013-01-02",
    }
    assert json.loads(tables["report"].read_text())["failed"] == done["failed"]


def test_the_versions_that_were_asked_for_are_looked_at(
    spark: SparkSession, tables: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    shutil.copytree(tables["readings"], tmp_path / "readings")
    tables["readings"] = tmp_path / "readings"
    spark.sql(f"DELETE FROM delta.`{tables['features']}` WHERE id = 'H1'")
    spark.sql(f"DELETE FROM delta.`{tables['readings']}` WHERE id = 'H2'")
    assert run(validate, DAYS, **tables, readings_version=0, features_version=0)["verdict"] == "passed"
    report = json.loads(tables["report"].read_text())
    assert (report["readings_version"], report["features_version"]) == (0, 0)
    with pytest.raises(VerdictError, match=r"rows_missing.*H1.*rows_unexpected.*H2"):
        run(validate, DAYS, **tables)


def test_every_other_declared_view_is_computed_and_passes(
    spark: SparkSession, tables: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    for view in registry.views():
        if view is ENERGY:
            continue
        tables["features"] = tmp_path / view.name
        done = run(featurize, DAYS, readings=tables["readings"], features=tables["features"], view=view)
        assert spark.read.format("delta").load(str(tables["features"])).columns == [c.name for c in view.columns]
        passed = run(validate, DAYS, **tables, view=view)
        assert (passed["verdict"], passed["rows"]) == ("passed", done["rows"])
