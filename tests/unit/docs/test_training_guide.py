"""What the guide to training sets shows runs as it stands there; Spark's part of it among the tests with Spark."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from feature_store.training import Options, Record
from infra.local.settings import ROOT
from tests.unit.docs.training_guide import EVENTS, GUIDE, lay_out

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("guide"))


def run(command: list[str], folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.check_output(command, text=True, cwd=folder, env=environment)


def test_the_examples_run_one_after_the_other(folder: Path) -> None:
    first, by_days, again = (code for code in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if "Spark" not in code)
    assert "2014-02-09" in run([sys.executable, "-c", first], folder)
    assert re.search(r"^\d+ rows, columns such as \w+", run([sys.executable, "-c", by_days], folder))
    (folder / "events.csv").write_text(EVENTS)
    said = run([sys.executable, "-c", again], folder)
    assert said.startswith("energy_data_features 0 7 ")
    assert (folder / "again.parquet").read_bytes() == (folder / "set.parquet").read_bytes()


def test_the_commands_run_one_after_the_other(folder: Path) -> None:
    (folder / "events.csv").write_text(EVENTS)
    (commands,) = (text for text in re.findall(r"```sh\n(.*?)```", GUIDE, re.S) if "spark_jobs" not in text)
    for command in commands.splitlines():
        python, *arguments = shlex.split(command)
        assert python == "python"
        assert "energy_data_features: version 0 of " in run([sys.executable, *arguments], folder)
    assert (folder / "again.parquet").read_bytes() == (folder / "set.parquet").read_bytes()
    assert Record.read(str(folder / "weekly.parquet")).events.every == 7  # type: ignore[union-attr]


def test_every_option_is_in_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(--[a-z-]+)", GUIDE, re.M)
    assert [name for name, _ in rows] == list(Options.__dataclass_fields__)
    assert all(option == f"--{name.replace('_', '-')}" for name, option in rows)
