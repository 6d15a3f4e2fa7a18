"""What waits for deferred tasks: in Airflow's own trigger runner, through errors of AWS, restarts and kills."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from feature_store_airflow.triggers import LONGEST_PAUSE, ClusterTrigger, LandingTrigger, StepTrigger

from tests.unit.plugins.conftest import first_event, inflated

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
HOOK = {"aws_conn_id": "aws_default", "region_name": "eu-west-2", "verify": None, "config": None}
COMMON = {"poll_seconds": 0.0, "hook": HOOK}


def step_trigger(**more: Any) -> StepTrigger:
    return StepTrigger(cluster_id="j-1", step_id="s-1", **{**COMMON, **more})


def cluster_trigger(*cluster_ids: str, states: tuple[str, ...] = ("WAITING", "TERMINATED")) -> ClusterTrigger:
    return ClusterTrigger(cluster_ids=list(cluster_ids), states=list(states), **COMMON)


def landing_trigger(day: date) -> LandingTrigger:
    return LandingTrigger(bucket="lake", day=day.isoformat(), **COMMON)


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The pauses between looks, none of which is slept."""
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real(0)

    monkeypatch.setattr("feature_store_airflow.triggers.asyncio.sleep", sleep)
    return slept


@pytest.mark.parametrize(
    "trigger",
    [step_trigger(), cluster_trigger("j-1", "j-2"), landing_trigger(date(2014, 2, 27))],
    ids=lambda trigger: type(trigger).__name__,
)
def test_comes_back_from_the_database_as_it_was(trigger) -> None:
    assert inflated(trigger).serialize() == trigger.serialize()
    assert inflated(trigger).hook._region_name == "eu-west-2"


def test_the_triggerer_imports_no_more_than_it_needs() -> None:
    """It has the plugins folder on its path, and loads no DAG."""
    looking = (
        "import sys; from airflow._shared.module_loading import import_string; "
        "import_string('feature_store_airflow.triggers.StepTrigger'); "
        "print(sorted({'feature_store_airflow.pipeline', 'airflow.models.dag', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", looking],
        env={"PATH": "", "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


class TestStep:
    @pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED"])
    def test_waits_for_its_end_whatever_that_is(self, emr, end) -> None:
        emr.cluster()
        emr.step("s-1", "n", "PENDING", "CANCEL_PENDING", "RUNNING", "RUNNING", end)
        assert first_event(step_trigger()) == {"seen": end}
        assert len(emr.asked("DescribeStep")) == 5

    def test_looks_as_often_as_the_setting_says(self, emr, pauses) -> None:
        emr.cluster()
        emr.step("s-1", "n", "RUNNING", "RUNNING", "COMPLETED")
        first_event(step_trigger(poll_seconds=30.0))
        assert pauses == [30, 30]


class TestCluster:
    def test_waits_for_any_of_the_states(self, emr) -> None:
        emr.cluster("j-1", "STARTING", "BOOTSTRAPPING", "WAITING")
        assert first_event(cluster_trigger("j-1")) == {"seen": "WAITING"}

    def test_waits_for_all_of_the_clusters(self, emr) -> None:
        emr.cluster("j-1", "TERMINATED")
        emr.cluster("j-2", "TERMINATING", "TERMINATING", "TERMINATED")
        assert first_event(cluster_trigger("j-1", "j-2", states=("TERMINATED",))) == {"seen": "TERMINATED, TERMINATED"}

    def test_does_not_wait_for_one_that_emr_has_forgotten(self, emr) -> None:
        assert first_event(cluster_trigger("j-9")) == {"seen": "unknown"}


class TestLanding:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)

    def test_waits_for_a_csv_of_the_day(self, s3, pauses, monkeypatch) -> None:
        trigger = landing_trigger(self.yesterday)
        look = trigger.look

        def look_then_put() -> str | None:
            seen = look()
            s3.put_object(Bucket="lake", Key="Dataset/a.csv", Body=b"id")
            return seen

        monkeypatch.setattr(trigger, "look", look_then_put)
        assert first_event(trigger) == {"seen": "Dataset/a.csv"}
        assert len(pauses) == 1

    def test_wakes_the_task_for_one_that_it_has_to_refuse(self, s3) -> None:
        s3.put_object(Bucket="lake", Key="Dataset/a.csv", Body=b"id", Metadata={"last-day": "27.02.2014"})
        assert "which is not a day" in first_event(landing_trigger(self.yesterday))["seen"]


class TestErrors:
    @pytest.fixture
    def running(self, emr) -> Any:
        emr.cluster()
        emr.step("s-1", "n", "RUNNING", "COMPLETED")
        return emr

    @pytest.mark.parametrize("code", ["ThrottlingException", "InternalServerException"])
    def test_that_may_pass_end_no_wait(self, running, pauses, code) -> None:
        running.fail_next["DescribeStep"] = (code, "Rate exceeded")
        assert first_event(step_trigger(poll_seconds=30.0)) == {"seen": "COMPLETED"}
        assert pauses == [60, 30], "longer after the error, and as usual after an answer"

    def test_of_the_network_end_no_wait(self, running, pauses) -> None:
        running.lose_answer["DescribeStep"] = EndpointConnectionError(endpoint_url="https://emr")
        assert first_event(step_trigger()) == {"seen": "COMPLETED"}

    def test_in_turn_are_asked_about_ever_more_seldom(self, running, pauses, monkeypatch) -> None:
        looks = iter(range(100))
        trigger = step_trigger(poll_seconds=30.0)

        def fail() -> str | None:
            if next(looks) < 99:
                raise EndpointConnectionError(endpoint_url="https://emr")
            return "COMPLETED"

        monkeypatch.setattr(trigger, "look", fail)
        first_event(trigger)
        assert pauses[:5] == [60, 120, 240, LONGEST_PAUSE, LONGEST_PAUSE]
        assert len(pauses) == 99
        assert max(pauses) == LONGEST_PAUSE

    def test_that_do_not_pass_wake_the_task(self, running, pauses) -> None:
        running.fail_next["DescribeStep"] = ("AccessDeniedException", "not allowed")
        assert "not allowed" in first_event(step_trigger())["error"]
        running.lose_answer["DescribeStep"] = NoCredentialsError()
        assert "credentials" in first_event(step_trigger())["error"]

    def test_of_our_own_are_not_hidden(self, monkeypatch) -> None:
        trigger = step_trigger()
        monkeypatch.setattr(trigger, "look", lambda: {}["a bug"])
        with pytest.raises(KeyError):
            first_event(trigger)


@pytest.mark.skipif(
    not hasattr(BaseTrigger, "on_kill"), reason="Airflow before 3.3 does not tell a trigger that its task was killed"
)
class TestKill:
    """In Airflow's own trigger runner, which tells a kill from its own end."""

    @pytest.fixture
    def state(self, monkeypatch) -> Callable[[str | None], None]:
        """Set the state that Airflow's database has of the task."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        def of_task(state: str | None) -> None:
            def states(dag_id: str, task_ids: list[str], run_ids: list[str], map_index: int) -> dict[str, Any]:
                assert (dag_id, task_ids, run_ids, map_index) == ("daily", ["ingest"], ["r1"], -1)
                return {"r1": {"ingest": state}}

            monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(states))

        return of_task

    @pytest.fixture
    def run(self, emr) -> Any:
        """Run a trigger until it has looked, then cancel it: with which message, after which point in time."""
        from airflow.jobs.triggerer_job_runner import TriggerRunner

        emr.cluster()
        emr.step("s-1", "n", "RUNNING")

        def cancelled(*message: str, until: datetime | None = None) -> None:
            async def end() -> None:
                runner = TriggerRunner()
                trigger = inflated(step_trigger(poll_seconds=60.0))
                trigger.task_instance = SimpleNamespace(
                    id="t",
                    dag_id="daily",
                    task_id="ingest",
                    run_id="r1",
                    try_number=1,
                    map_index=-1,
                    context_carrier=None,
                )
                runner.triggers[1] = {"name": "t", "events": 0}  # type: ignore[typeddict-item] # what run_trigger reads
                running = asyncio.create_task(runner.run_trigger(1, trigger, until))
                while not emr.asked("DescribeStep"):
                    assert not running.done(), running
                    await asyncio.sleep(0.01)
                running.cancel(*message)
                with pytest.raises(asyncio.CancelledError):
                    await running

            asyncio.run(asyncio.wait_for(end(), 20))

        return cancelled

    @pytest.fixture
    def by_a_user(self) -> str:
        from airflow.jobs.triggerer_job_runner import _USER_ACTION_CANCEL_MSG

        return _USER_ACTION_CANCEL_MSG

    @pytest.mark.parametrize("after", ["failed", "success", "skipped", None, "scheduled", "running"])
    def test_cancels_the_step(self, emr, state, run, by_a_user, after) -> None:
        """Marked failed or a success, its run marked failed, or cleared and perhaps at work again."""
        state(after)
        run(by_a_user)
        assert emr.asked("CancelSteps") == [
            {"ClusterId": "j-1", "StepIds": ["s-1"], "StepCancellationOption": "TERMINATE_PROCESS"}
        ]

    def test_a_triggerer_that_stops_cancels_nothing(self, emr, state, run) -> None:
        state("deferred")
        run()
        assert emr.asked("CancelSteps") == []

    def test_nor_does_one_whose_triggers_another_has_taken_over(self, emr, state, run, by_a_user) -> None:
        """Airflow takes that for a kill."""
        state("deferred")
        run(by_a_user)
        assert emr.asked("CancelSteps") == []

    def test_nor_does_it_when_its_time_is_over(self, emr, state, run, by_a_user) -> None:
        """The task does, which says so."""
        state("scheduled")
        run(by_a_user, until=datetime.now(UTC) - timedelta(seconds=1))
        assert emr.asked("CancelSteps") == []

    def test_of_a_wait_for_a_cluster_ends_none(self, emr) -> None:
        """The teardown of the run does."""
        emr.cluster()
        asyncio.run(cluster_trigger("j-1").on_kill())
        assert emr.calls == []
