"""The commands that the DAG gives to ECS, as its golden files have them, are those that the programs take."""

from __future__ import annotations

import json

import pytest
from feature_store_airflow.simulation import START_WITHIN

from infra.local.settings import ROOT
from Simulation import report, worker

pytestmark = pytest.mark.unit

GOLDEN = ROOT / "tests" / "unit" / "dags" / "golden_simulation"


def words(case: str) -> list[str]:
    """What stands after `python -m MODULE`."""
    sent = json.loads((GOLDEN / f"{case}.json").read_text())
    return list(sent["overrides"]["containerOverrides"][0]["command"][3:])


def test_a_worker_takes_its_command() -> None:
    args, plan = worker._parse(words("run_worker_all"))
    assert (args.bucket, args.worker, plan.name) == ("lake", 3, "load")
    assert args.start_within == START_WITHIN.total_seconds()


@pytest.mark.parametrize("case", ["report", "report_all"])
def test_the_report_takes_its_command(case: str) -> None:
    args = report._parse([word for word in words(case) if word])
    assert (args.bucket, args.name) == ("lake", "load")
    # A region without known prices is refused; that of the workers is taken as it is.
    assert args.region is None
