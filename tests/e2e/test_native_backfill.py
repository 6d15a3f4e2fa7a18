"""Airflow's own backfill over the daily DAG: a run for each day, one cluster for all, the same table as ever."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from infra.local.airflow_api import AirflowSilentError
from tests.e2e.conftest import DAILY, Live, generated, outside_look, until

pytestmark = pytest.mark.e2e

DAYS = 2


def test_all_its_days_share_one_cluster(live: Live) -> None:
    last = live.day - dt.timedelta(days=10)
    first = last - dt.timedelta(days=DAYS - 1)
    asked = {"dag_id": DAILY, "from_date": f"{first}T00:00:00Z", "to_date": f"{last}T00:00:00Z", "max_active_runs": 1}
    asked |= {"run_backwards": False, "reprocess_behavior": "none", "dag_run_conf": {}}

    def create() -> Any:
        try:
            return live.api.call("POST", "/backfills", **asked)
        except AirflowSilentError:  # SQLite was locked: Airflow says 503, and has made nothing
            return None

    backfill = until(create, 60, "Airflow to take the backfill")

    def runs() -> list[dict[str, Any]]:
        found = live.api.get(f"/dags/{DAILY}/dagRuns", run_type="backfill", limit="100")["dag_runs"]
        return [run for run in found if str(first) <= run["logical_date"][:10] <= str(last)]

    def ended() -> list[dict[str, Any]] | None:
        found = runs()
        over = [run for run in found if run["state"] in ("success", "failed")]
        return found if len(over) == DAYS else None

    found = until(ended, 600, f"the {DAYS} runs of backfill {backfill['id']}")
    assert {run["state"] for run in found} == {"success"}, found
    emr = live.client("emr")
    listed = [each for each in emr.list_clusters()["Clusters"] if f"feature-store {DAILY} backfill " in each["Name"]]
    assert len(listed) == 1, listed
    until(
        lambda: emr.describe_cluster(ClusterId=listed[0]["Id"])["Cluster"]["Status"]["State"] == "TERMINATED" or None,
        60,
        "its end",
    )
    steps = [step["Name"] for step in emr.list_steps(ClusterId=listed[0]["Id"])["Steps"]]
    assert len(steps) == len(set(steps)) == DAYS * 5
    for number in range(DAYS):
        day = first + dt.timedelta(days=number)
        assert "rows agree" in outside_look(live, day.isoformat(), *generated(live))
