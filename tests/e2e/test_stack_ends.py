"""What is left of the stack after a kill, and after `make stop`: the last of the end-to-end tests, as they end it."""

from __future__ import annotations

import os
import signal
import time
import warnings

import psutil
import pytest

from infra.local import stack as supervisor
from infra.local.settings import ROOT
from tests.e2e.conftest import Live, outside_look
from tests.e2e.drill import marked

pytestmark = [pytest.mark.e2e, pytest.mark.drill]

REAL = ROOT.parent / "shared" / "data" / "smart-meters-in-london" / "daily_dataset"


def test_kill_9_of_parts_then_real_data(live: Live) -> None:
    """Kill the supervisor and two servers as hard as can be; the next main job recovers, here on two real blocks."""
    words = ("supervisord", "CassandraDaemon", "org.gaul.s3proxy")
    victims = [process for process in marked(live) if any(word in " ".join(process.cmdline()) for word in words)]
    assert len(victims) == len(words)
    for process in victims:
        os.kill(process.pid, signal.SIGKILL)
    blocks = [REAL / "block_0.csv.gz", REAL / "block_1.csv.gz"]
    if not all(block.exists() for block in blocks):
        warnings.warn(f"the real data is not here ({REAL}): generated readings instead", stacklevel=1)
        again = live.make("run")
        assert again.returncode == 0, again.stdout + again.stderr
        return
    folder = live.stack.home / "real"
    folder.mkdir()
    for block in blocks:
        (folder / block.name).symlink_to(block)
    again = live.make("run", "--data", str(folder), "--day", "2014-02-27")
    assert again.returncode == 0, again.stdout + again.stderr
    # The other view's online table holds the newest 90 days, and has those of the generated readings.
    assert "rows agree" in outside_look(live, "2014-02-27", *blocks, ONLY_VIEWS="energy_data_features")
    assert "the day is older than the newest 90 days, which the table holds" in again.stdout


def test_stop_ends_all_of_it_within_20_seconds(live: Live) -> None:
    bystander = psutil.Popen(["sleep", "600"])
    try:
        began = time.monotonic()
        assert live.make("stop").returncode == 0
        assert time.monotonic() - began < 20
        assert marked(live) == []
        assert bystander.is_running()
        assert bystander.status() != psutil.STATUS_ZOMBIE
        assert live.make("env").returncode == 2
    finally:
        bystander.kill()
        bystander.wait()
    assert set(supervisor.status(live.stack).values()) == {"stopped"}
