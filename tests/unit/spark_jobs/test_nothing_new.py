"""Whether anything is to be ingested, told without Spark: only where it is certain that there is not."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from feature_store.arrow_readings import schema
from feature_store.energy import ENERGY
from spark_jobs import ingest, lake, nothing_new

pytestmark = pytest.mark.unit

DAY = dt.date(2014, 2, 27)
Ingested = Callable[..., None]


@pytest.fixture
def landed(tmp_path: Path) -> Path:
    file = tmp_path / "landed" / "deep" / "a b+%é.csv.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    (tmp_path / "landed" / "_hidden.csv").write_text("not looked at")
    return file


@pytest.fixture
def readings(tmp_path: Path) -> Path:
    rows = [{column.name: {"id": "A", "day_date": DAY}.get(column.name, 1) for column in ENERGY.readings}]
    write_deltalake(str(tmp_path / "readings"), pa.Table.from_pylist(rows, schema(ENERGY.readings)))
    return tmp_path / "readings"


@pytest.fixture
def ingested(readings: Path) -> Ingested:
    """Enter a file into the ledger, as it is or otherwise."""

    def enter(file: Path, *, size: int = 1, age: float = 0, of: str | None = None, minute: int = 0) -> None:
        row = {
            "path": f"file:{file}",
            "size": size,
            "modified": dt.datetime.fromtimestamp(file.stat().st_mtime_ns // 1_000_000 / 1000 - age, dt.UTC),
            "readings_id": of or str(DeltaTable(str(readings)).metadata().id),
            lake.INGESTED_AT: dt.datetime(2014, 3, 1, 4, minute, tzinfo=dt.UTC),
        }
        write_deltalake(lake.ledger_uri(str(readings)), pa.Table.from_pylist([row]), mode="append")

    return enter


def look(landed: Path, readings: Path) -> object:
    return nothing_new.look(str(landed.parents[1]), str(readings), ENERGY.day)


def test_what_is_in_the_ledger_as_it_is_is_not_new(landed: Path, readings: Path, ingested: Ingested) -> None:
    ingested(landed)
    version, extent = nothing_new.look(str(landed.parents[1]), str(readings), ENERGY.day) or (None, None)
    assert version == 0
    assert extent is not None
    assert (extent.rows, extent.first_day, extent.last_day) == (1, DAY, DAY)
    assert nothing_new.look(str(landed), str(readings), ENERGY.day) is not None, "a single file"


@pytest.mark.parametrize("other", [{"size": 2}, {"age": 1}, {"of": "the table before"}])
def test_whatever_is_otherwise_is_for_spark(
    landed: Path, readings: Path, ingested: Ingested, other: dict[str, float]
) -> None:
    ingested(landed, **other)
    assert look(landed, readings) is None


def test_a_file_that_is_put_back_as_it_was_counts_again(landed: Path, readings: Path, ingested: Ingested) -> None:
    ingested(landed)
    ingested(landed, size=2, minute=1)
    assert look(landed, readings) is None
    ingested(landed, minute=2)
    assert look(landed, readings) is not None


def test_one_more_file_is_new(landed: Path, readings: Path, ingested: Ingested) -> None:
    ingested(landed)
    (landed.parent / "b.csv").write_text("x")
    assert look(landed, readings) is None


def test_without_files_ledger_or_readings_spark_says_what_is_wrong(
    landed: Path, readings: Path, ingested: Ingested, tmp_path: Path
) -> None:
    assert look(landed, readings) is None, "no ledger"
    ingested(landed)
    assert look(landed, tmp_path / "other") is None
    assert nothing_new.look(str(tmp_path / "nothing"), str(readings), ENERGY.day) is None


def test_the_job_starts_no_spark_then(
    landed: Path,
    readings: Path,
    ingested: Ingested,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--source", str(landed.parents[1]), "--readings", str(readings)]
    ingested(landed)
    assert ingest.main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["files"], said["readings_rows"], said["last_day"], said["readings_version"]) == (0, 1, str(DAY), 0)
    os.utime(landed, (1, 1))
    assert ingest.main(arguments) == 1
    assert "ingest has asked for Spark" in capsys.readouterr().out, "something is new"
