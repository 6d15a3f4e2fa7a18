"""A job as a process of its own: what it prints, writes and returns when it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.settings import ROOT

pytestmark = pytest.mark.integration


def test_a_failed_job_says_why_in_one_line(spark_conf: Path, tmp_path: Path) -> None:
    where = ["--readings", str(tmp_path / "readings"), "--features", str(tmp_path / "features")]
    days = ["--start", "2013-01-01", "--end", "2013-01-02", "--summary", str(tmp_path / "summary.json")]
    done = subprocess.run(
        [sys.executable, "-m", "spark_jobs.featurize", *where, *days],
        env={**os.environ, "SPARK_CONF_DIR": str(spark_conf)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    sentence = f"{tmp_path}/readings is not a Delta table: has the step before this one been run?"
    assert f"featurize: {sentence}\n" in done.stderr
    assert "Traceback" not in done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["job"], said["start"], said["end"], said["error"]) == (
        "featurize",
        "2013-01-01",
        "2013-01-02",
        sentence,
    )
    assert json.loads((tmp_path / "summary.json").read_text()) == said
