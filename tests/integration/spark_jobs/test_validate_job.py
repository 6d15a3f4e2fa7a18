"""validate: passes what is right, and finds each planted fault with check, day and keys."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from feature_store import registry
from feature_store.energy import ENERGY
from spark_jobs import checks, featurize, validate
from spark_jobs.errors import JobError, VerdictError
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
        run(featurize, DAYS, readings=lake / "readings", features=right)
    shutil.copytree(right, tmp_path / "features")
    return {"readings": lake / "readings", "features": tmp_path / "features", "report": tmp_path / "report.json"}


def test_right_features_pass(tables: dict[str, Path], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(validate, DAYS, **tables)
    assert (done["verdict"], done["failed"], done["report"]) == ("passed", [], str(tables["report"]))
    report = json.loads(tables["report"].read_text())
    assert (report["verdict"], report["rows"], len(report["names"])) == ("passed", done["rows"], done["checks"])
    assert report["rows_recomputed"] == done["rows"] > 4
    monkeypatch.setattr(checks, "SAMPLE", 4)
    run(validate, DAYS, **tables)
    assert json.loads(tables["report"].read_text())["rows_recomputed"] == 4


ON = "WHERE id = '{}' AND day_date = '2013-01-02'"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (
            [
                f"DELETE FROM features {ON.format('H1')}",
                f"INSERT INTO features SELECT 'H9', columns FROM features {ON.format('H3')}",
                f"INSERT INTO features SELECT id, columns FROM features {ON.format('H3')} LIMIT 1",
            ],
            {
                "rows_missing": ["H1 2013-01-02"],
                "rows_unexpected": ["H9 2013-01-02"],
                "key_unique": ["H3 2013-01-02"],
            },
        ),
        (
            [
                f"UPDATE features SET energy_mean_6months = energy_mean_6months * (1 + 1e-8) {ON.format('H1')}",
                "UPDATE features SET energy_std = NULL, energy_max_1yr = 0, energy_stddev_3months = -1"
                f" {ON.format('H3')}",
            ],
            {
                "values_recomputed": [
                    "H1 2013-01-02 (energy_mean_6months)",
                    "H3 2013-01-02 (energy_std, energy_max_1yr, energy_stddev_3months)",
                ],
                "energy_max_grows": ["H3 2013-01-02"],
                "energy_stddev_not_negative": ["H3 2013-01-02"],
            },
        ),
        (
            [f"UPDATE features SET energy_mean_3months = double('NaN') {ON.format('H1')}"],
            {"values_finite": ["H1 2013-01-02"], "values_recomputed": None},
        ),
        (
            [f"UPDATE features SET day_date = NULL {ON.format('H1')}"],
            {"key_not_null": ["H1 None"], "rows_missing": ["H1 2013-01-02"], "rows_unexpected": None},
        ),
        (["DELETE FROM features"], {"rows_present": [], "rows_missing": None}),
    ],
    ids=["rows", "values", "nan", "null key", "empty"],
)
def test_a_planted_fault_is_found(
    statements: list[str], expected: dict, spark: SparkSession, tables: dict[str, Path], run: Run
) -> None:
    others = ", ".join(column.name for column in ENERGY.columns[1:])
    for statement in statements:
        spark.sql(statement.replace("columns", others).replace(" features", f" delta.`{tables['features']}`"))
    with pytest.raises(VerdictError, match="Validation failed") as caught:
        run(validate, DAYS, **tables)
    summary = caught.value.summary
    assert summary["verdict"] == "failed"
    failed = {each["check"]: each for each in summary["failed"]}
    certain = {check: examples for check, examples in expected.items() if examples is not None}
    assert certain.keys() <= failed.keys() <= expected.keys()
    for check, examples in certain.items():
        assert failed[check]["examples"] == examples
        assert failed[check]["count"] == max(len(examples), 1)
        assert failed[check]["severity"] == "error"
        assert check in str(caught.value)
    assert json.loads(tables["report"].read_text())["failed"] == summary["failed"]


def test_a_reading_that_is_there_twice_is_found(
    spark: SparkSession, tables: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    """Even one of a day before the range. (featurize refuses it: it came after the features were computed.)"""
    shutil.copytree(tables["readings"], tmp_path / "readings")
    twice = f"delta.`{tmp_path / 'readings'}`"
    spark.sql(f"INSERT INTO {twice} SELECT * FROM {twice} WHERE id = 'H1' AND day_date = '2012-12-01'")
    tables["readings"] = tmp_path / "readings"
    with pytest.raises(
        VerdictError, match=r"readings_unique: keys that have more than one reading .*rebuilds such days"
    ) as caught:
        run(validate, DAYS, **tables)
    failed = {each["check"]: each for each in caught.value.summary["failed"]}
    assert failed.keys() == {"readings_unique", "values_recomputed"}
    assert failed["readings_unique"]["examples"] == ["H1 2012-12-01"]


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
    with pytest.raises(JobError, match="features has no version 9: its newest is 1"):
        run(validate, DAYS, **tables, features_version=9)


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
        name = f"delta.`{tables['features']}`"
        spark.sql(f"UPDATE {name} SET {view.features[-1].name} = {view.features[-1].name} + 1 WHERE id = 'H1'")
        with pytest.raises(VerdictError, match=rf"values_recomputed: .*\({view.features[-1].name}\)"):
            run(validate, DAYS, **tables, view=view)


def test_another_type_of_a_column_is_found(spark: SparkSession, tables: dict[str, Path], run: Run) -> None:
    features = str(tables["features"])
    rows = spark.read.format("delta").load(features)
    other = rows.withColumn("energy_count_1yr", rows.energy_count_1yr.cast("int")).drop("energy_min")
    other.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(features)
    with pytest.raises(VerdictError) as caught:
        run(validate, DAYS, **tables)
    (failed,) = caught.value.summary["failed"]
    assert failed["check"] == "columns"
    assert failed["examples"] == ["energy_min is missing", "energy_count_1yr is int instead of bigint"]
