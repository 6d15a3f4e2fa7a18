"""The backfill on the whole stack: first what would be done, then it is done in chunks, then there is nothing to do."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Live, generated, outside_look

pytestmark = pytest.mark.e2e

BACKFILL = "feature_store_backfill"


@pytest.fixture
def two_days_a_chunk(live: Live) -> Iterator[None]:
    """Let a chunk have room for two days and a half of the generated households, of both views."""
    households = live.api.result("feature_store_daily", first_run(live), "featurize")["views"]["energy_data_features"]
    room = {"chunk_rows": households["entities"] * 2 * 5 // 2}
    with live.settings(lambda settings: settings.update(backfill=room)):
        yield


def first_run(live: Live) -> str:
    runs = live.api.get("/dags/feature_store_daily/dagRuns", order_by="start_date", limit="1")["dag_runs"]
    return str(runs[0]["dag_run_id"])


def steps(live: Live, run_id: str) -> Counter[str]:
    """How many steps of each task a run has submitted."""
    emr = live.client("emr")
    found = [step for cluster in live.clusters(run_id) for step in emr.list_steps(ClusterId=cluster["Id"])["Steps"]]
    assert len(found) == len({step["Name"] for step in found})
    return Counter(step["Name"].split(".")[1] for step in found)


def test_a_range_is_looked_at_done_in_chunks_and_then_left_alone(live: Live, two_days_a_chunk: None) -> None:
    first = live.day - dt.timedelta(days=40)
    days = [first + dt.timedelta(days=number) for number in range(4)]
    span = {"start": days[0].isoformat(), "end": days[-1].isoformat()}

    run_id, state = live.run(BACKFILL, **span)
    assert state == "success"
    assert live.clusters(run_id) == []
    states = live.task_states(BACKFILL, run_id)
    assert (states["plan"], states["preview"], states["create_cluster"]) == ("success", "success", "skipped")
    log = live.task_log(BACKFILL, run_id, "preview")
    assert "energy_data_features: 4 day(s) with readings: 0 done, 4 missing" in log
    assert "in 2 chunk(s)" in log

    run_id, state = live.run(BACKFILL, **span, dry_run=False)
    assert state == "success", live.task_states(BACKFILL, run_id)
    assert len(live.clusters(run_id)) == 1
    assert steps(live, run_id) == {"schema": 1, "ingest": 1, "featurize": 2, "validate": 2, "sync": 2}
    said = live.api.result(BACKFILL, run_id, "verdict")
    assert said.startswith(f"{days[0]} to {days[-1]} (4 of 4 day(s), in 2 chunk(s))")
    for day in days:
        assert "rows agree" in outside_look(live, day.isoformat(), *generated(live))

    run_id, state = live.run(BACKFILL, **span, dry_run=False)
    assert state == "success", live.task_states(BACKFILL, run_id)
    assert steps(live, run_id) == {"schema": 1, "ingest": 1}
    said = live.api.result(BACKFILL, run_id, "verdict")
    assert said.startswith("Nothing was to be done")
    assert "energy_data_features: 4 day(s) with readings: 4 done, 0 missing" in said
