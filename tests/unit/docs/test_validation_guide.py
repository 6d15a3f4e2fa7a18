"""What the guide to validation shows runs as it stands there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from feature_store_airflow import release

from feature_store.energy import ENERGY
from feature_store.validation.checks import checks
from feature_store.view import Expectations
from infra.local.settings import ROOT
from tests.unit.feature_store.validation import planted

pytestmark = pytest.mark.unit

GUIDE = (ROOT / "docs/guide/validation.md").read_text()


def test_the_limits_are_limits() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    made: dict[str, object] = {}
    exec(example, made)
    assert isinstance(made["expects"], Expectations)
    assert list(made["expects"].faults()) == []


def test_the_commands_run(tmp_path: Path) -> None:
    readings = planted.readings()
    planted.save(tmp_path, readings, planted.features(readings))
    commands = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.S) for line in block.splitlines()]
    asked, judged, trigger = commands
    known = {"$READINGS_URI": "readings", "$FEATURES_URI": "features", "2026-11-24": str(planted.DAY)}
    shown = []
    for command in (judged, asked):
        python, *arguments = shlex.split(re.sub("|".join(map(re.escape, known)), lambda name: known[name[0]], command))
        assert python == "python"
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        shown.append(subprocess.check_output([sys.executable, *arguments], text=True, cwd=tmp_path, env=environment))
    assert (tmp_path / "report.html").exists()
    assert re.search(rf"^{planted.DAY}  passed ", shown[-1], re.M)
    *airflow, conf = shlex.split(trigger)
    assert airflow == ["airflow", "dags", "trigger", "feature_store_daily", "--conf"]
    assert set(release.resolve_release(json.loads(conf))) == {"released_by", "release_reason"}


def test_the_checks_that_are_named_exist() -> None:
    table = GUIDE[GUIDE.index("## What is checked") : GUIDE.index("The days before are those in")]
    named = re.findall(r"`([a-z_]+)`", table)
    assert set(named) - set(checks(ENERGY)) == set()
    assert len(named) > 25
