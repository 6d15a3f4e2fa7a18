"""The job that makes training sets on Spark, and what the guide shows of it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from feature_store.__main__ import main
from feature_store.training import Record
from spark_jobs import command, training
from tests.unit.docs.training_guide import EVENTS, GUIDE, lay_out

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = lay_out(tmp_path_factory.mktemp("guide"))
    (made / "events.csv").write_text(EVENTS)
    events = pyarrow.csv.read_csv(made / "events.csv")
    pq.write_table(events, made / "path/to/events.parquet", coerce_timestamps="us")
    return made


@pytest.fixture
def job(spark: SparkSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the job in the tests' session: its status, and the last line that it says."""
    monkeypatch.setattr(command, "_session", lambda _: spark)
    monkeypatch.setattr(SparkSession, "stop", lambda _: None)

    def run(*arguments: str):
        status = training.main(arguments)
        return status, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_the_guide_as_it_stands_there(folder: Path, job, spark: SparkSession, capsys) -> None:
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if "Spark" in code)
    exec(example.replace("path/to", f"{folder}/path/to"), {})
    rows, digest = capsys.readouterr().out.split()
    (line,) = (text for text in re.findall(r"```sh\n(.*?)```", GUIDE, re.S) if "spark_jobs" in text)
    arguments = shlex.split(line.replace("path/to", f"{folder}/path/to"))
    assert arguments[:3] == ["python", "-m", "spark_jobs.training"]
    status, said = job(*arguments[3:])
    assert (status, said["rows"], said["digest"]) == (0, int(rows), digest)
    assert said["features_versions"] == {"energy_data_features": 0}


def test_sets_go_to_and_fro(folder: Path, job) -> None:
    """By days, and a set of the other engine, rebuilt; and where it can't be."""
    where = ["--features", f"{folder}/path/to/delta/{{view}}", "--view", "energy_recent_features"]
    days = ["--start", "2014-02-01", "--end", "2014-02-09", "--every", "4"]
    status, said = job(*where, *days, "--out", f"{folder}/days")
    assert (status, said["rows"]) == (0, 6)
    assert main(["training", "--rebuild", f"{folder}/days", "--out", f"{folder}/days.parquet"]) == 0
    assert main(["training", *where, "--events", f"{folder}/events.csv", "--out", f"{folder}/set.parquet"]) == 0
    again = ["--rebuild", f"{folder}/set.parquet", "--out", f"{folder}/again"]
    status, said = job(*again, "--events", f"{folder}/path/to/events.parquet")
    assert (status, said["digest"]) == (0, Record.read(f"{folder}/set.parquet").digest)
    status, said = job(*again, "--events", f"{folder}/nowhere.parquet")
    assert status == 1
    assert said["error"].startswith("No training set was made: the events can't be read from ")
    status, said = job(*where, *days[:-1], "0", "--out", f"{folder}/days")
    assert (status, said["error"]) == (1, "No training set was made: every 0 days: it takes a whole number from 1.")
    status, said = job(*where, *days, "--out", f"{folder}/path/to/delta/energy_recent_features")
    assert status == 1
    assert "which is of no training set" in said["error"]
