"""What goes wrong ends well: the run failed, the cause named, no later stage run, no cluster left."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import DAILY, Live, until

pytestmark = [pytest.mark.e2e, pytest.mark.drill]

STEPS = ("ingest", "featurize", "validate", "sync")
LIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING")


def of_day(live: Live) -> dict[str, str]:
    """The parameters of a run of the day that the main job was for."""
    return {"start": live.day.isoformat(), "end": live.day.isoformat()}


def ended_clusters(live: Live, run_id: str) -> list[str]:
    """The states of a run's clusters, none of which may still be alive."""
    states = [cluster["Status"]["State"] for cluster in live.clusters(run_id)]
    assert not set(states) & set(LIVE), states
    return states


def test_a_step_that_fails(live: Live) -> None:
    """A day without readings: featurize has nothing to compute and says so."""
    run_id, state = live.run(DAILY, start="2001-01-01", end="2001-01-01")
    states = live.task_states(DAILY, run_id)
    assert state == "failed"
    assert (states["ingest"], states["featurize"]) == ("success", "failed")
    assert not {states[later] for later in ("validate", "sync")} & {"success", "failed", "running"}, states
    assert ended_clusters(live, run_id) == ["TERMINATED"]
    log = live.task_log(DAILY, run_id, "featurize")
    assert "have no row of 2001-01-01" in log


def test_a_bootstrap_that_fails(live: Live) -> None:
    """The release that the DAG settings name is not in the bucket."""
    file = live.stack.home / "airflow" / "variables.json"
    good = file.read_text()
    settings = json.loads(json.loads(good)["feature_store"])
    settings["keyspaces"]["credentials"] = "no/such/secret"
    file.write_text(json.dumps({"feature_store": json.dumps(settings)}))
    try:
        run_id, state = live.run(DAILY, **of_day(live))
    finally:
        file.write_text(good)
    states = live.task_states(DAILY, run_id)
    assert state == "failed"
    assert states["wait_for_cluster"] == "failed"
    assert not {states[step] for step in STEPS} & {"success", "failed", "running"}, states
    # The retry has asked for another one, which fared no better.
    assert ended_clusters(live, run_id) == ["TERMINATED_WITH_ERRORS"] * 2
    log = live.task_log(DAILY, run_id, "wait_for_cluster")
    assert "bootstrap action 1" in log
    assert "no/such/secret" in log


def test_a_missing_input_file(live: Live) -> None:
    """With nothing under Dataset/ a manual run fails before there is a cluster."""
    s3 = live.client("s3")
    bucket = live.exports()["FEATURE_STORE_BUCKET"]
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix="Dataset/")["Contents"]]
    for key in keys:
        s3.copy_object(Bucket=bucket, Key=f"aside/{key}", CopySource={"Bucket": bucket, "Key": key})
        s3.delete_object(Bucket=bucket, Key=key)
    try:
        run_id, state = live.run(DAILY, **of_day(live))
    finally:
        for key in keys:
            s3.copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": f"aside/{key}"})
            s3.delete_object(Bucket=bucket, Key=f"aside/{key}")
    assert state == "failed"
    assert ended_clusters(live, run_id) == []
    assert f"s3://{bucket}/Dataset/" in live.task_log(DAILY, run_id, "plan")


def test_a_run_marked_failed_while_a_step_runs(live: Live) -> None:
    run_id = live.trigger(DAILY, **of_day(live))
    until(lambda: live.task_states(DAILY, run_id).get("ingest") == "running" or None, 120, "ingest to run")
    emr = live.client("emr")
    (cluster,) = live.clusters(run_id)
    running = until(
        lambda: emr.list_steps(ClusterId=cluster["Id"], StepStates=["RUNNING"])["Steps"] or None, 60, "the step"
    )
    live.api.call("PATCH", f"/dags/{DAILY}/dagRuns/{run_id}", state="failed")
    until(
        lambda: not [c for c in live.clusters(run_id) if c["Status"]["State"] in LIVE] or None, 60, "the cluster's end"
    )
    assert ended_clusters(live, run_id) == ["TERMINATED"]
    step = emr.describe_step(ClusterId=cluster["Id"], StepId=running[0]["Id"])["Step"]
    # Which of the two ends it is a race that nobody needs to win: the killed task cancels it, the cluster's end too.
    assert step["Status"]["State"] in {"CANCELLED", "INTERRUPTED"}
    assert live.wait(DAILY, run_id) == "failed"
    assert not {live.task_states(DAILY, run_id)[later] for later in STEPS[1:]} & {"success", "running"}
