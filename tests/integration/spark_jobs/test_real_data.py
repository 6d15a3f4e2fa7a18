"""Two blocks of the real data set through ingest, featurize and validate, against DuckDB's own windows."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path

import duckdb
import pytest
from pyspark.sql import SparkSession

from feature_store.energy import ENERGY
from infra.local.settings import ROOT
from spark_jobs import featurize, ingest, validate
from spark_jobs.errors import VerdictError
from tests.integration.spark_jobs.conftest import Run, table

pytestmark = pytest.mark.integration

FOLDER = ROOT.parent / "shared" / "data" / "smart-meters-in-london" / "daily_dataset"
BLOCKS = [FOLDER / "block_0.csv.gz", FOLDER / "block_1.csv.gz"]
# The outage in June 2012 and a leap day are within these windows; the last day is 1/48 complete.
DAYS = ("2013-02-28", "2014-02-28")


@pytest.mark.skipif(not all(block.exists() for block in BLOCKS), reason=f"the real data is not at {FOLDER}")
def test_two_blocks_agree_with_duckdb(spark: SparkSession, run: Run, tmp_path: Path) -> None:
    landed, readings, features = tmp_path / "landed", tmp_path / "readings", tmp_path / "features"
    landed.mkdir()
    for block in BLOCKS:
        (landed / block.name).symlink_to(block)
    done = run(ingest, source=landed, readings=readings)
    source = duckdb.read_csv([str(block) for block in BLOCKS])
    rows = len(source.fetchall())
    assert (done["rows_in"], done["rows_valid"], done["readings_rows"]) == (rows, rows, rows)
    for day in DAYS:
        run(featurize, day, readings=readings, features=features)
    assert (
        run(validate, DAYS[0], readings=readings, features=features, report=tmp_path / "report.json")["verdict"]
        == "passed"
    )
    with pytest.raises(VerdictError, match=r"day_filled: .* \(0\.021 on 2014-02-28; expected: at least 0\.5"):
        run(validate, DAYS[1], readings=readings, features=features, report=tmp_path / "report.json")
    found = {(row[0], row[1]): row for row in table(spark, features)}
    expected = {(row[0], row[1]): row for row in _expected(source)}
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for column, one, other in zip(ENERGY.columns, found[key], row, strict=True):
            same = math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12) if isinstance(other, float) else one == other
            assert same, (key, column.name, one, other)


def _expected(source: duckdb.DuckDBPyRelation) -> list[tuple[str, dt.date]]:
    columns = [
        a.function.sql(a.measure, "day", f"OVER w{window.name}") + ("::BIGINT" if a.name == "energy_count" else "")
        for a in ENERGY.aggregations
        for window in ENERGY.windows
    ]
    frames = ", ".join(
        f"w{window.name} AS (PARTITION BY LCLid ORDER BY day {window.frame_sql()})" for window in ENERGY.windows
    )
    chosen = ", ".join(columns)
    measures = ", ".join(measure.name for measure in ENERGY.measures)
    days = ", ".join(f"DATE '{day}'" for day in DAYS)
    query = f"SELECT LCLid, day, {measures}, {chosen} FROM source WINDOW {frames} QUALIFY day IN ({days})"
    return duckdb.sql(query).fetchall()
