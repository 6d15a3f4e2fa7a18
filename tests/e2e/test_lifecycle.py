"""What goes wrong ends well: the run's state is the truth, the cause is named, no cluster is left, no step runs twice.

Each case is a run of the real DAG, through the real scheduler, of a day that no other run has computed. `make drill`
runs all of them, and ends with a table of how they ended.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import psutil
import pytest

from tests.e2e.conftest import Live, until
from tests.e2e.drill import ENDED, ONCE, Case
from tests.support import Faults

pytestmark = [pytest.mark.e2e, pytest.mark.drill]
drill_only = pytest.mark.drill_only
IMPATIENT = "feature_store_impatient"
# Each case has a day of its own, which no other run computes, so many days before that of the first run.
DAYS_BEFORE = itertools.count(10)

NewCase: TypeAlias = Callable[..., Case]


@pytest.fixture
def new_case(live: Live, pytestconfig: pytest.Config) -> Iterator[NewCase]:
    """Make a case of the drill. One that breaks off leaves neither its fault nor its run to the next one."""
    ended = pytestconfig.stash.setdefault(ENDED, [])
    made: list[Case] = []

    def make(name: str, day: dt.date | None = None) -> Case:
        made.append(Case(live, name, day or live.day - dt.timedelta(days=next(DAYS_BEFORE)), ended))
        return made[-1]

    yield make
    Faults(live.stack).put()
    for case in made:
        case.give_up()


def tries(case: Case) -> dict[str, int]:
    return {task["task_id"]: task["try_number"] for task in case.live.api.tasks(case.dag_id, case.run_id)}


def clear(case: Case, *task_ids: str) -> None:
    """Clear tasks of a run, whatever their state, as a person does in the UI."""
    what = {"dag_run_id": case.run_id, "task_ids": list(task_ids), "dry_run": False, "only_failed": False}
    case.live.api.call("POST", f"/dags/{case.dag_id}/clearTaskInstances", **what)


def clear_run(case: Case, name: str) -> Case:
    """Clear the whole run of a case that has ended: the next case."""
    next_case = dataclasses.replace(case, name=name, fault_at=None, began=time.monotonic())
    path = f"/dags/{case.dag_id}/dagRuns/{case.run_id}/clear"
    case.live.api.call("POST", path, dry_run=False, only_failed=False)
    return next_case


def kill_9(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()


def workers_of(case: Case, task_id: str) -> list[psutil.Process]:
    """The processes of a task that runs: the executor's worker that watches over it, and its child with the code."""
    code = psutil.Process(case.task(task_id)["pid"])
    return [code.parent(), code]


def wait_for_second_try(case: Case, task_id: str) -> None:
    def is_running() -> bool | None:
        task = case.task(task_id)
        return (task["try_number"], task["state"]) == (2, "running") or None

    until(is_running, 240, f"the second try of {task_id}")


def resume(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.resume()


@drill_only
def test_a_moment_of_throttling_and_a_restart_of_the_triggerer_are_not_noticed(new_case: NewCase) -> None:
    """boto3 asks again four times; and a run whose tasks are not deferred has no need of the triggerer."""
    case = new_case("throttled for a moment, triggerer restarted")
    # Of what only the tasks ask EMR for: the drill itself looks at clusters and lists of steps.
    case.faults.put(RunJobFlow=2, AddJobFlowSteps=3, DescribeStep=3, TerminateJobFlows=2)
    case.trigger()
    step = case.hold_step("ingest")
    case.live.restart("airflow-triggerer", psutil.Process.terminate)
    resume(step)
    case.ends("success", ["TERMINATED"], ONCE)
    assert case.faults.left() == {}
    assert set(tries(case).values()) == {1}


@drill_only
def test_throttling_for_longer_than_boto3_asks_again(new_case: NewCase) -> None:
    """The task fails and is retried; it takes the cluster or the step that is there."""
    case = new_case("throttled for longer than boto3 asks again")
    case.faults.put(RunJobFlow=1000)
    case.trigger()
    case.wait_for_task("create_cluster", "up_for_retry")
    case.faults.put()
    case.wait_for_step("ingest")
    case.faults.put(DescribeStep=1000)
    case.wait_for_task("ingest", "up_for_retry")
    case.faults.put()
    case.ends("success", ["TERMINATED"], ONCE)
    again = {task_id for task_id, number in tries(case).items() if number == 2}
    assert again == {"create_cluster", "ingest"}


@drill_only
def test_tasks_that_are_cleared_are_done_anew(new_case: NewCase) -> None:
    """One that is done, and one that is at work: its step is cancelled before it is submitted again."""
    case = new_case("two tasks cleared while a step runs")
    case.trigger()
    case.hold_step("ingest")
    clear(case, "schema", "ingest")
    steps = case.ends("success", ["TERMINATED"], {**ONCE, "schema": 2, "ingest": 2})
    assert [step["Status"]["State"] for step in steps].count("CANCELLED") == 1


def test_a_run_marked_failed_while_a_step_runs(new_case: NewCase) -> None:
    case = new_case("run marked failed while a step runs")
    case.trigger()
    case.hold_step("ingest")
    case.strikes()
    case.live.api.call("PATCH", f"/dags/{case.dag_id}/dagRuns/{case.run_id}", state="failed")
    steps = case.ends("failed", ["TERMINATED"], {"schema": 1, "ingest": 1}, rows="none online")
    # Which of the two ends it is a race that nobody needs to win: the killed task cancels it, the cluster's end too.
    assert steps[-1]["Status"]["State"] in {"CANCELLED", "INTERRUPTED"}
    assert not {case.task(later)["state"] for later in ("featurize", "validate", "sync")} & {"success", "running"}


@drill_only
def test_a_task_marked_a_success_while_its_step_runs(new_case: NewCase) -> None:
    """Its step is cancelled, so nobody knows what was done: the run goes on, and fails."""
    case = new_case("task marked a success while its step runs")
    case.trigger()
    case.hold_step("ingest")
    path = f"/dags/{case.dag_id}/dagRuns/{case.run_id}/taskInstances/ingest"
    case.live.api.call("PATCH", path, new_state="success")
    steps = case.ends("failed", ["TERMINATED"], ONCE)
    assert [step["Status"]["State"] for step in steps] == ["COMPLETED", "CANCELLED", *["COMPLETED"] * 3]
    assert "ingest was marked a success by hand" in case.live.task_log(case.dag_id, case.run_id, "verdict")


def test_kill_9_of_a_worker_while_its_step_runs(new_case: NewCase) -> None:
    """The task is tried again when its heartbeat is missed, and follows the step that is still at work."""
    case = new_case("worker killed (-9) while a step runs")
    case.trigger()
    step = case.hold_step("ingest")
    kill_9(workers_of(case, "ingest"))
    wait_for_second_try(case, "ingest")
    resume(step)
    case.ends("success", ["TERMINATED"], ONCE)


@drill_only
def test_kill_9_of_the_scheduler_while_a_step_runs(new_case: NewCase) -> None:
    """The one that the supervisor starts finds the task an orphan, and tries it again; the step is still at work."""
    case = new_case("scheduler killed (-9) while a step runs")
    case.trigger()
    step = case.hold_step("ingest")
    case.live.restart("airflow-scheduler", psutil.Process.kill)
    wait_for_second_try(case, "ingest")
    resume(step)
    case.ends("success", ["TERMINATED"], ONCE)


def test_a_bootstrap_that_fails(new_case: NewCase) -> None:
    """The secret that the DAG settings name is not there: a retry asks for another cluster, which fares no better."""
    case = new_case("bootstrap action fails")

    def change(settings: dict[str, Any]) -> None:
        settings["keyspaces"]["credentials"] = "no/such/secret"

    with case.live.settings(change):
        case.trigger()
        case.ends("failed", ["TERMINATED_WITH_ERRORS"] * 2, {}, rows="none online")
    assert case.task("wait_for_cluster")["state"] == "failed"
    log = case.live.task_log(case.dag_id, case.run_id, "wait_for_cluster")
    assert "bootstrap action 1" in log
    assert "no/such/secret" in log


@drill_only
def test_no_capacity_for_a_moment(new_case: NewCase) -> None:
    """A retry asks for another cluster, and gets one."""
    case = new_case("no capacity for the first cluster")
    case.faults.put(capacity=1)
    case.trigger()
    case.ends("success", ["TERMINATED_WITH_ERRORS", "TERMINATED"], ONCE)


def test_no_capacity(new_case: NewCase) -> None:
    case = new_case("no capacity for any cluster")
    case.faults.put(capacity=2)
    case.trigger()
    case.ends("failed", ["TERMINATED_WITH_ERRORS"] * 2, {}, rows="none online")
    log = case.live.task_log(case.dag_id, case.run_id, "wait_for_cluster")
    assert "INTERNAL_ERROR: EC2 is out of capacity for m7g.xlarge" in log


@drill_only
def test_a_spot_loss_in_the_middle_of_a_step_then_the_run_is_cleared(new_case: NewCase) -> None:
    case = new_case("spot loss while a step runs")
    case.trigger()
    case.hold_step("ingest")
    (cluster,) = case.clusters()
    case.strikes()
    case.faults.lose_instances(cluster["Id"])
    case.ends("failed", ["TERMINATED_WITH_ERRORS"], {"schema": 1, "ingest": 1}, rows="none online")
    log = case.live.task_log(case.dag_id, case.run_id, "ingest")
    assert "INSTANCE_FAILURE: All slaves in the job flow were terminated due to Spot" in log
    assert "clear the run, which makes a new cluster" in log
    cleared = clear_run(case, "the whole run cleared after that")
    cleared.ends("success", ["TERMINATED_WITH_ERRORS", "TERMINATED"], {**ONCE, "schema": 2, "ingest": 2})


@drill_only
def test_a_step_that_hangs(new_case: NewCase) -> None:
    """Its task's execution_timeout cancels it; here 20 seconds, in a DAG of the same pipeline."""
    case = new_case("step hangs for longer than it may take")
    case.live.api.unpause(IMPATIENT)
    case.trigger(IMPATIENT)
    case.hold_step("schema")
    (step,) = case.ends("failed", ["TERMINATED"], {"schema": 1}, rows="none online")
    assert step["Status"]["State"] == "CANCELLED"
    assert "did not end within 0:00:20 and was cancelled" in case.live.task_log(IMPATIENT, case.run_id, "schema")


def test_a_step_that_fails(new_case: NewCase) -> None:
    """A day without readings: featurize has nothing to compute and says so."""
    case = new_case("step fails (a day without readings)", dt.date(2001, 1, 1))
    case.trigger()
    steps = {"schema": 1, "ingest": 1, "featurize": 1}
    case.ends("failed", ["TERMINATED"], steps, rows="none online")
    assert "have no row of 2001-01-01" in case.live.task_log(case.dag_id, case.run_id, "featurize")


def test_a_missing_input_file(new_case: NewCase) -> None:
    """With nothing under Dataset/ a manual run fails before there is a cluster."""
    case = new_case("no input")
    s3, bucket = case.live.client("s3"), case.live.exports()["FEATURE_STORE_BUCKET"]
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix="Dataset/")["Contents"]]
    for key in keys:
        s3.copy_object(Bucket=bucket, Key=f"aside/{key}", CopySource={"Bucket": bucket, "Key": key})
        s3.delete_object(Bucket=bucket, Key=key)
    try:
        case.trigger()
        case.ends("failed", [], {}, rows="none online")
    finally:
        for key in keys:
            s3.copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": f"aside/{key}"})
            s3.delete_object(Bucket=bucket, Key=f"aside/{key}")
    assert f"s3://{bucket}/Dataset/" in case.live.task_log(case.dag_id, case.run_id, "plan")
