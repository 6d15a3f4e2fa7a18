"""The operator of a simulation's tasks against the local ECS: it waits, shows the log, and says how a task failed."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from airflow.providers.amazon.aws.operators.ecs import EcsRunTaskOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from botocore.exceptions import WaiterError
from feature_store_airflow import simulation_task
from feature_store_airflow.failures import SimulationFailed
from feature_store_airflow.simulation_task import SimulationTaskOperator
from feature_store_airflow.triggers import TaskTrigger

from infra.local.aws.ecs import LocalBackend
from infra.local.settings import SECRET_NAME
from tests.unit.conftest import SETTINGS
from tests.unit.infra.aws.cloud import Cloud, cloud, wait_until
from tests.unit.infra.aws.conftest import services_of_moto
from tests.unit.plugins.conftest import time_over

__all__ = ["cloud", "services_of_moto"]
pytestmark = pytest.mark.unit

CLUSTER = "feature-store-simulation"
PARAMS = {"rates": "50,100", "seconds": 60}


@pytest.fixture
def about(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The part of a context that says where ECS is; the hooks of the provider find it by the environment."""
    for name, value in cloud.stack.aws_environment().items():
        monkeypatch.setenv(name, value)
    subnets = [each["SubnetId"] for each in cloud.client("ec2").describe_subnets()["Subnets"]]
    group = cloud.client("ec2").describe_security_groups()["SecurityGroups"][0]["GroupId"]
    simulation = {**SETTINGS["simulation"], "subnet_ids": subnets, "security_group": group}  # type: ignore[dict-item] # a mapping of mixed values
    return {"params": PARAMS, "var": {"json": {"feature_store": {**SETTINGS, "simulation": simulation}}}}


def operator(script: str, **more: Any) -> Any:
    with DAG("feature_store_simulation"):
        return SimulationTaskOperator(task_id="report", command=["sh", "", "-c", script], **more)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_command_that_succeeds(cloud, about, perform, deferrable) -> None:
    task = operator("echo working; echo '{\"calls\": 7}'", deferrable=deferrable)
    result, context = perform(task, about=about)
    assert result == '{"calls": 7}'
    assert len(context["deferred"]) == deferrable
    assert ":task/feature-store-simulation/" in context["ti"].xcoms["report", "ecs_task_arn"]


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_command_that_fails_is_told_with_its_last_words(cloud, about, perform, deferrable) -> None:
    with pytest.raises(SimulationFailed) as failed:
        perform(operator("echo the table is empty >&2; exit 1", deferrable=deferrable), about=about)
    said = str(failed.value)
    assert "ended with exit code 1 (Essential container in task exited)." in said
    assert "the table is empty" in said
    assert "Next: " in said
    assert failed.value.context["ti"].xcoms["report", "failure"] == said  # type: ignore[attr-defined] # of perform


def test_a_task_that_does_not_start_is_told_with_ecs_reason(cloud, about, perform) -> None:
    cloud.client("ecs").list_clusters()
    cloud.client("secretsmanager").put_secret_value(SecretId=SECRET_NAME, SecretString="{}")
    with pytest.raises(SimulationFailed, match="did not start: ResourceInitializationError: unable to pull secrets"):
        perform(operator("true"), about=about)


@pytest.mark.parametrize("deferrable", [False, True])
def test_without_a_log_it_is_told_all_the_same(cloud, about, perform, deferrable) -> None:
    """As a task that was stopped before it started: on AWS nothing makes its log stream."""
    about["var"]["json"]["feature_store"]["simulation"]["log_group"] = "/none"
    with pytest.raises(SimulationFailed, match=r"ended with exit code 3 \(Essential"):
        perform(operator("exit 3", deferrable=deferrable), about=about)


def test_a_task_that_did_not_start_has_no_log_and_is_told_in_the_triggerers_way_too(cloud, about, perform) -> None:
    cloud.client("ecs").list_clusters()
    cloud.client("secretsmanager").put_secret_value(SecretId=SECRET_NAME, SecretString="{}")
    with pytest.raises(SimulationFailed, match="did not start: ResourceInitializationError"):
        perform(operator("true", deferrable=True), about=about)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_task_that_ecs_does_not_know_yet_is_waited_for(cloud, about, perform, monkeypatch, deferrable) -> None:
    """ECS is consistent in the end only: right after RunTask there may be none such."""
    look, unknown = LocalBackend.find_task, [None, None]
    monkeypatch.setattr(LocalBackend, "find_task", lambda *asked: unknown.pop() if unknown else look(*asked))
    assert perform(operator("echo done", deferrable=deferrable), about=about)[0] == "done"
    assert unknown == []


def test_a_task_that_ecs_has_forgotten_is_a_failure(cloud, about, perform, monkeypatch) -> None:
    monkeypatch.setattr(LocalBackend, "find_task", lambda *_: None)
    with pytest.raises(SimulationFailed, match="it is not there any more"):
        perform(operator("true", deferrable=True), about=about)


def test_a_wait_that_aws_refuses_is_not_called_late(cloud, about, perform, monkeypatch) -> None:
    def refuse(self: Any) -> None:
        raise WaiterError("TasksStopped", "An error occurred (AccessDeniedException): no", {})

    monkeypatch.setattr(EcsRunTaskOperator, "_wait_for_task_ended", refuse)
    with pytest.raises(SimulationFailed, match=r"can't be watched \(.*AccessDenied.*\), and was stopped"):
        perform(operator("exec sleep 60"), about=about)


def test_a_task_that_ended_while_there_was_no_triggerer_is_no_late_one(cloud, about, perform) -> None:
    def wait(deferred: TaskDeferred) -> Any:
        wait_until(lambda: state(cloud, deferred.kwargs["arn"]) == "STOPPED", "the task's end")
        return time_over(deferred)

    assert perform(operator("echo done", deferrable=True), about=about, waiting=wait)[0] == "done"


@pytest.mark.parametrize(
    "seen",
    [("resume", {"event": {"error": "no right"}}), ("__fail__", {"error": "Trigger failure"})],
    ids=["says", "fails"],
)
def test_a_task_that_the_triggerer_cant_watch_is_stopped(cloud, about, perform, seen) -> None:
    arns = []

    def wait(deferred: TaskDeferred) -> Any:
        method, more = seen
        arns.append(deferred.kwargs["arn"])
        return method, {**deferred.kwargs, **more} if method == "resume" else more

    with pytest.raises(SimulationFailed, match=r"(?s)can't be watched \(.*\), and was stopped"):
        perform(operator("exec sleep 60", deferrable=True), about=about, waiting=wait)
    wait_until(lambda: state(cloud, arns[0]) == "STOPPED", "the task's end")


def test_a_long_log_is_shown_to_its_end(cloud, about, perform) -> None:
    """CloudWatch gives ten thousand lines at a time."""
    assert perform(operator("seq 12000", deferrable=True), about=about)[0] == "12000"


def test_the_wait_may_be_of_less_than_seconds(about, perform, monkeypatch) -> None:
    monkeypatch.setattr(SimulationTaskOperator, "defer", lambda *_, **__: None)
    about["var"]["json"]["feature_store"]["poll_seconds"] = 0.5
    perform(operator("true", deferrable=True), about=about)


def test_a_task_that_someone_stops_is_a_failure(cloud, about, perform) -> None:
    def stop(deferred: TaskDeferred) -> Any:
        arn = deferred.kwargs["arn"]
        cloud.client("ecs").stop_task(cluster=CLUSTER, task=arn, reason="enough")
        wait_until(lambda: state(cloud, arn) == "STOPPED", "the task's end")
        return "resume", {"arn": arn, "event": {"seen": "STOPPED"}}

    with pytest.raises(SimulationFailed, match=r"\(enough\)"):
        perform(operator("exec sleep 60", deferrable=True), about=about, waiting=stop)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_task_that_takes_too_long_is_stopped(cloud, about, perform, monkeypatch, deferrable) -> None:
    monkeypatch.setattr(simulation_task, "BESIDE", dt.timedelta(seconds=2))
    with pytest.raises(SimulationFailed, match=r"did not end .*, and was stopped") as failed:
        perform(operator("exec sleep 60", deferrable=deferrable), about=about, waiting=time_over)
    arn = failed.value.context["ti"].xcoms["report", "ecs_task_arn"]  # type: ignore[attr-defined] # of perform
    wait_until(lambda: state(cloud, arn) == "STOPPED", "the task's end")


def test_the_wait_is_as_long_as_the_plan(about, perform, monkeypatch) -> None:
    deferred: list[Any] = []

    def keep(self: Any, **asked: Any) -> None:
        deferred.append(asked)

    monkeypatch.setattr(SimulationTaskOperator, "defer", keep)
    perform(operator("true", deferrable=True, of_plan=True), about=about)
    assert deferred[0]["timeout"] == dt.timedelta(minutes=4 + 5 + 10)


def test_a_killed_task_stops_that_of_ecs(cloud, about, context_of) -> None:
    task = operator("exec sleep 60", deferrable=True)
    context = {**context_of(task), **about}
    task.render_template_fields(context)
    with pytest.raises(TaskDeferred):
        task.execute(context)
    task.on_kill()
    wait_until(lambda: state(cloud, task.arn) == "STOPPED", "the task's end")


def test_one_that_is_killed_while_it_starts_stops_that_of_ecs(cloud, about, context_of, monkeypatch) -> None:
    task = operator("exec sleep 60", deferrable=True)
    context = {**context_of(task), **about}
    task.render_template_fields(context)
    start = EcsRunTaskOperator._start_task

    def killed(self: Any) -> None:
        self.on_kill()  # there is nothing to stop yet
        start(self)

    monkeypatch.setattr(EcsRunTaskOperator, "_start_task", killed)
    with pytest.raises(TaskDeferred):
        task.execute(context)
    wait_until(lambda: state(cloud, task.arn) == "STOPPED", "the task's end")


def test_the_trigger_stops_it_when_the_task_is_killed_while_it_waits(cloud, about, context_of, monkeypatch) -> None:
    import asyncio

    task = operator("exec sleep 60", deferrable=True)
    context = {**context_of(task), **about}
    task.render_template_fields(context)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    trigger: Any = deferred.value.trigger
    assert isinstance(trigger, TaskTrigger)
    monkeypatch.setattr(trigger, "_is_deferred", lambda: True)
    asyncio.run(trigger.on_kill())
    assert state(cloud, task.arn) != "STOPPED"
    monkeypatch.setattr(trigger, "_is_deferred", lambda: False)
    asyncio.run(trigger.on_kill())
    wait_until(lambda: trigger.look() == "STOPPED", "the task's end")


def test_without_a_name_there_is_nothing_to_do(about, context_of) -> None:
    task = operator("true")
    context = {**context_of(task), **about}
    del context["ti"].xcoms["choose_name", "name"]
    with pytest.raises(AirflowSkipException, match="choose_name has chosen no name"):
        task.execute(context)


def state(cloud: Cloud, arn: str) -> str:
    return str(cloud.client("ecs").describe_tasks(cluster=CLUSTER, tasks=[arn])["tasks"][0]["lastStatus"])
