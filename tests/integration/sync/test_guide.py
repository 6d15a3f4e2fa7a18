"""What the guide to the sync shows runs as it stands there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.settings import ROOT
from tests.integration.sync.conftest import Store, day, features

pytestmark = pytest.mark.integration

GUIDE = (ROOT / "docs/guide/sync.md").read_text()


def test_the_commands_run(store: Store, tmp_path: Path) -> None:
    store.lake.put(features(["A", "B"], [day(0)]))
    known = {
        "$FEATURES_URI": store.lake.uri,
        "2026-11-24": str(day(0)),
        "--keyspace feature_store": f"--keyspace {store.online.keyspace}",
    }
    (block,) = re.findall(r"```sh\n(.*?)```", GUIDE, re.S)
    summaries = []
    for command in block.splitlines():
        python, *arguments = shlex.split(re.sub("|".join(map(re.escape, known)), lambda name: known[name[0]], command))
        assert python == "python"
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        said = subprocess.check_output([sys.executable, *arguments], text=True, cwd=tmp_path, env=environment)
        summaries.append(json.loads(said.splitlines()[-1]))
    made, synced, changed, whole = summaries
    assert (made["job"], made["done"]) == ("schema", "nothing")
    assert (synced["rows_written"], changed["rows_written"]) == (2, 0)
    assert whole["whole"]["rows"] == 2
    assert json.loads((tmp_path / "certificate.json").read_text())["view"] == "energy_data_features"
    store.equal([day(0)])


def test_the_figures_of_the_summary_that_are_named_are_there(store: Store) -> None:
    store.lake.put(features(["A"], [day(0)]))
    assert {"requests_refused", "seconds_writing", "seconds_reading"} <= store.sync(str(day(0))).keys()
