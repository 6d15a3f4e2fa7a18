"""What the guide to computing in one process shows runs as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import write_deltalake

from feature_store import compute
from feature_store.energy import ENERGY
from infra.local.settings import ROOT
from tests.unit.feature_store.in_process import household, write_csv

pytestmark = pytest.mark.unit

GUIDE = (ROOT / "docs/guide/in-process.md").read_text()


def run(command: list[str], folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.check_output(command, text=True, cwd=folder, env=environment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    readings = household("MAC000002", 829)
    write_csv(tmp_path / "path/to/daily_dataset/block_0.csv.gz", readings)
    write_deltalake(tmp_path / "readings", readings)
    write_deltalake(tmp_path / "features", compute.features(ENERGY, readings))
    return tmp_path


def test_the_example_runs(folder: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    said = run([sys.executable, "-c", example], folder)
    assert "days_seen_28days" in said
    assert "2014-02-28" in said
    assert "no leak: " in said


def test_the_commands_run(folder: Path) -> None:
    (commands,) = re.findall(r"```sh\n(.*?)```", GUIDE, re.S)
    for command in commands.splitlines():
        known = command.replace("$READINGS_URI", "readings").replace("$FEATURES_URI", "features")
        python, *arguments = shlex.split(known)
        assert python == "python"
        assert run([sys.executable, *arguments], folder).startswith("no leak: ")
