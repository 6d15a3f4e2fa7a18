"""The report of a run against a table whose capacity is known."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from feature_store import layout
from infra.local.settings import ROOT
from tests.integration.capacity import Capacity
from tests.integration.Simulation.conftest import Simulation

pytestmark = [pytest.mark.integration, pytest.mark.alone]

RCU = 90
SIZE, SHARE = 5, 0.2  # of get_many
UNITS = 1 - SHARE + SHARE * SIZE  # of a call, on average: each row is of less than 4 KB


def reported(simulation: Simulation) -> dict[str, Any]:
    command = [sys.executable, "-m", "Simulation.report", "--bucket", simulation.s3.bucket, "--name", simulation.name]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert b"<html" in simulation.store.read(layout.simulation_report(simulation.name, "html"))
    return dict(json.loads(simulation.store.read(layout.simulation_report(simulation.name, "json"))))


def test_it_names_the_rate_at_which_throttling_begins(simulation: Simulation, capacity: Capacity) -> None:
    """Of three rates the table bears two; the third asks for half as much again as it gives."""
    capacity.set(rcu=RCU)
    begins = RCU / UNITS
    rates = ",".join(f"{share * begins:.1f}" for share in (0.5, 0.75, 1.5))
    line = f"--rates {rates} --seconds 20 --many {SHARE} --many-size {SIZE}"
    workers = [simulation.start(line, workers=2, worker=worker) for worker in (0, 1)]
    for worker in workers:
        ended = worker.end(120)
        assert ended.status == 0, ended.log
    found = reported(simulation)["throttling"]
    assert found["state"] == "begins", found
    assert found["units"] == pytest.approx(RCU, rel=0.05)
    assert found["calls"] == pytest.approx(begins, rel=0.05)
    assert found["first"] >= 40
