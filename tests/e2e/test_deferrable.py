"""Deferred, as in production: Airflow's triggerer waits for clusters and steps, through its own restart and kills."""

from __future__ import annotations

import configparser
import datetime as dt
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from feature_store import registry
from infra.local import airflow
from infra.local.settings import MARK
from tests.e2e.conftest import DAILY, Live, until

pytestmark = pytest.mark.e2e

STEPS = ("schema", "ingest", "featurize", "validate", "sync")


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of OpenLineage's events."""
    return tmp_path_factory.mktemp("lineage") / "events.jsonl"


@pytest.fixture(scope="module")
def deferring(live: Live, lineage: Path) -> Iterator[None]:
    """Let waiting tasks be deferred, and tell their lineage: Airflow's own settings, as workers read them."""
    file = airflow.home(live.stack) / "airflow.cfg"
    before = file.read_text()
    settings = configparser.RawConfigParser()
    settings.read_string(before)
    settings["operators"] = {"default_deferrable": "True"}
    transport = {"type": "file", "log_file_path": str(lineage), "append": True}
    settings["openlineage"] = {"transport": json.dumps(transport)}
    with file.open("w") as out:
        settings.write(out)
    live.restart("airflow-scheduler", end_with_children)
    yield
    file.write_text(before)
    live.restart("airflow-scheduler", end_with_children)


def end_with_children(process: psutil.Process) -> None:
    """End a process as its supervisor would."""
    children = process.children(recursive=True)
    process.terminate()
    _, left = psutil.wait_procs([process, *children], timeout=15)
    for each in left:
        each.kill()


def of_step(live: Live, step_id: str) -> list[psutil.Process]:
    """The processes of a step."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get(MARK) == str(live.stack.home) and environment.get("EMR_STEP_ID") == step_id:
            found.append(process)
    return found


class Run:
    """A run whose steps are held in the middle of their work: long ones, as on AWS."""

    def __init__(self, live: Live, run_id: str) -> None:
        self.live, self.run_id = live, run_id
        self.emr = live.client("emr")

    def steps(self) -> list[dict[str, Any]]:
        """The steps of the run's one cluster, the first one first."""
        (cluster,) = self.live.clusters(self.run_id)
        return list(reversed(self.emr.list_steps(ClusterId=cluster["Id"])["Steps"]))

    def held(self, task_id: str) -> tuple[str, list[psutil.Process]]:
        """Stop the step of a task when it runs, and wait for the triggerer to look at it.

        Return the step, and its processes: who wants the step to go on resumes them.
        """

        def running() -> str | None:
            states = self.live.task_states(DAILY, self.run_id)
            if states.get(task_id) not in ("running", "deferred"):
                return None
            return next(
                (s["Id"] for s in self.steps() if task_id in s["Name"] and s["Status"]["State"] == "RUNNING"), None
            )

        step_id = until(running, 120, f"the step of {task_id}")

        def stopped() -> list[psutil.Process] | None:
            processes = of_step(self.live, step_id)
            for process in processes:
                process.suspend()
            # One may have started another meanwhile.
            return processes if processes and set(processes) == set(of_step(self.live, step_id)) else None

        processes = until(stopped, 30, f"the processes of {step_id}")
        # Before it does, nobody is told of a kill.
        until(lambda: "triggers.StepTrigger" in self.log(task_id) or None, 60, f"the triggerer to look at {step_id}")
        assert self.task(task_id)["state"] == "deferred"
        return step_id, processes

    def log(self, task_id: str) -> str:
        return self.live.task_log(DAILY, self.run_id, task_id)

    def task(self, task_id: str) -> dict[str, Any]:
        return next(task for task in self.live.api.tasks(DAILY, self.run_id) if task["task_id"] == task_id)

    def state_of(self, step_id: str) -> str:
        return next(str(step["Status"]["State"]) for step in self.steps() if step["Id"] == step_id)


def test_a_deferred_run_survives_a_triggerer_a_clear_and_ends_with_a_kill(
    live: Live, deferring: None, lineage: Path
) -> None:
    day = live.day - dt.timedelta(days=3)  # not one that another run has computed
    run = Run(live, live.trigger(DAILY, start=day.isoformat(), end=day.isoformat()))

    # A triggerer that ends cancels nothing, and the one that comes after it goes on.
    ingest, processes = run.held("ingest")
    live.restart("airflow-triggerer", end_with_children)
    assert (run.state_of(ingest), run.task("ingest")["state"]) == ("RUNNING", "deferred")
    pool = live.api.get("/pools/feature_store_lake")
    assert (pool["deferred_slots"], pool["open_slots"]) == (1, 0), "no other step may write meanwhile"
    for process in processes:
        process.resume()

    # A task that is cleared while it is deferred: its step is cancelled, and done anew.
    featurize, _ = run.held("featurize")
    assert run.task("ingest")["try_number"] == 1
    what = {"dag_run_id": run.run_id, "task_ids": ["featurize"], "dry_run": False, "only_failed": False}
    live.api.call("POST", f"/dags/{DAILY}/clearTaskInstances", **what)
    until(lambda: run.state_of(featurize) == "CANCELLED" or None, 60, "the step of featurize to be cancelled")

    # A task that is marked failed while it is deferred: the triggerer cancels its step, or finds that it was cut short.
    # Which of the two ends it is a race that nobody needs to win: the cluster's end comes close behind the kill.
    sync, _ = run.held("sync")
    live.api.call("PATCH", f"/dags/{DAILY}/dagRuns/{run.run_id}/taskInstances/sync", new_state="failed")
    assert live.wait(DAILY, run.run_id) == "failed"
    killed = f"The task was killed: cancelling step {sync} "
    cut_short = f"Step {sync}: INTERRUPTED"
    until(lambda: any(it in run.log("sync") for it in (killed, cut_short)) or None, 60, "the triggerer to know")
    ended = [(step["Name"].split(".")[1], step["Status"]["State"]) for step in run.steps()]
    done = [(task_id, "COMPLETED") for task_id in STEPS[:-1]]
    assert ended[:-1] == [*done[:2], ("featurize", "CANCELLED"), *done[2:]]
    assert ended[-1] in (("sync", "CANCELLED"), ("sync", "INTERRUPTED"))
    assert [cluster["Status"]["State"] for cluster in live.clusters(run.run_id)] == ["TERMINATED"]

    # All that waits was deferred; and the log of a step is one click from its task.
    for task_id in (*STEPS, "terminate_cluster"):
        assert "Pausing task as DEFERRED" in run.log(task_id), task_id
    waited = run.log("wait_for_cluster")
    assert "Pausing task as DEFERRED" in waited or ready_at_once(waited)
    links = live.api.get(f"/dags/{DAILY}/dagRuns/{run.run_id}/taskInstances/ingest/links")["extra_links"]
    said = httpx.get(links["Step log (stdout)"], timeout=30)
    assert said.status_code == 200
    assert '"job": "ingest"' in said.text

    # What each of its steps has read and written is told, in names that other programs know these places by.
    events = [json.loads(line) for line in lineage.read_text().splitlines()]
    bucket = f"s3://{live.exports()['FEATURE_STORE_BUCKET']}"
    featurized = flow(events, run.run_id, "featurize")
    assert featurized["inputs"] == {(bucket, "delta/readings")}
    assert featurized["outputs"] == {(bucket, f"delta/{view.name}") for view in registry.views()}
    assert flow(events, run.run_id, "ingest")["inputs"] == {(bucket, "Dataset")}
    online = {name for namespace, name in flow(events, run.run_id, "schema")["outputs"] if "cassandra://" in namespace}
    assert online == {f"feature_store.{view.name}" for view in registry.views()}


def ready_at_once(log: str) -> bool:
    """Whether the first look has found the cluster ready, as it does where a worker is slow."""
    first = re.search(r"Cluster j-\w+: (\w+)", log)
    return first is not None and first[1] in ("WAITING", "RUNNING")


def flow(events: list[dict[str, Any]], run_id: str, task_id: str) -> dict[str, set[tuple[str, str]]]:
    """What the last event of a task's success says that it has read and written."""
    of_task = [
        event
        for event in events
        if event["job"]["name"] == f"{DAILY}.{task_id}"
        and event["eventType"] == "COMPLETE"
        and run_id in json.dumps(event["run"])
    ]
    assert of_task, sorted({(event["job"]["name"], event["eventType"]) for event in events})
    return {side: {(it["namespace"], it["name"]) for it in of_task[-1][side]} for side in ("inputs", "outputs")}
