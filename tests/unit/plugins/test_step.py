"""One task, one step: submitted once, followed to its end, cancelled with its task, explained when it fails."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout, TaskDeferralError
from feature_store_airflow.failures import FAILURE, AwsRefused, StepFailed, WatchFailed
from feature_store_airflow.links import STEP
from feature_store_airflow.step import StepOperator

from tests.unit.plugins.conftest import time_over, triggerer

pytestmark = pytest.mark.unit

RUN_ID = "manual__2014-02-28T04:00:00+00:00"
NAME = f"daily.featurize.{RUN_ID}.try1"
SUMMARY = f"runs/daily/{RUN_ID}/featurize.json"
DONE = {"job": "featurize", "rows_written": 7}


MODE = {"deferrable": False}


@pytest.fixture(params=[False, True], ids=["polling", "deferred"], autouse=True)
def deferrable(request, monkeypatch) -> bool:
    """Every test here holds in both modes."""
    monkeypatch.setitem(MODE, "deferrable", request.param)
    return bool(request.param)


def step(**more: Any) -> StepOperator:
    with DAG("daily", default_args={"retries": 1}):
        return StepOperator(
            task_id="featurize", job="featurize", arguments=["--features", "s3://lake/f.json"], **{**MODE, **more}
        )


@pytest.fixture
def summary(s3, emr) -> Any:
    """Let the next step leave a summary."""

    def leave(content: object) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        emr.on_new_step = lambda: s3.put_object(Bucket="lake", Key=SUMMARY, Body=body)

    return leave


def fail(emr: Any, *states: str, **failure: str) -> None:
    emr.new_states = list(states or ["RUNNING", "FAILED"])
    add = emr.AddJobFlowSteps

    def add_and_fail(params: Any, cluster: Any) -> Any:
        answer = add(params, cluster)
        cluster.steps[0].failure = failure
        return answer

    emr.AddJobFlowSteps = add_and_fail


def test_returns_the_jobs_summary(emr, perform, summary) -> None:
    emr.cluster()
    summary(DONE)
    result, context = perform(step())
    assert result == DONE
    (asked,) = emr.asked("AddJobFlowSteps")
    assert asked["JobFlowId"] == "j-1"
    (sent,) = asked["Steps"]
    assert (sent["Name"], sent["ActionOnFailure"]) == (NAME, "CONTINUE")
    assert sent["HadoopJarStep"]["Args"][:5] == ["spark-submit", "--deploy-mode", "client", "--name", NAME]
    assert sent["HadoopJarStep"]["Args"][-2:] == ["--summary", f"s3://lake/{SUMMARY}"]
    assert ("featurize", FAILURE) not in context["ti"].xcoms


def test_waits_where_it_is_told_to(emr, perform, summary, deferrable) -> None:
    emr.cluster()
    summary(DONE)
    assert len(perform(step())[1]["deferred"]) == int(deferrable)


def test_leaves_where_its_step_and_the_logs_are(emr, perform, summary) -> None:
    emr.cluster()
    summary(DONE)
    _, context = perform(step())
    logs = "s3n://lake/elasticmapreduce/j-1/steps/s-1/"
    assert context["ti"].xcoms["featurize", STEP] == {"cluster_id": "j-1", "step_id": "s-1", "logs": logs}


class TestRetry:
    @pytest.mark.parametrize("states", [["PENDING", "COMPLETED"], ["RUNNING", "COMPLETED"], ["COMPLETED"]])
    def test_takes_the_step_of_the_try_that_was_lost(self, s3, emr, perform, states) -> None:
        emr.cluster()
        emr.step("s-1", NAME, *states)
        s3.put_object(Bucket="lake", Key=SUMMARY, Body=json.dumps(DONE))
        assert perform(step(), try_number=2)[0] == DONE
        assert emr.asked("AddJobFlowSteps") == []

    @pytest.mark.parametrize("state", ["RUNNING", "COMPLETED"])
    def test_does_anew_what_was_cleared(self, s3, emr, perform, summary, state) -> None:
        """Airflow's clear after the first try: that try and `retries` more may follow (test_in_airflow.py)."""
        emr.cluster()
        emr.step("s-1", NAME, state)
        s3.put_object(Bucket="lake", Key=SUMMARY, Body=json.dumps({**DONE, "rows_written": 6}))
        summary(DONE)
        assert perform(step(), try_number=2, max_tries=2)[0] == DONE
        ((sent,),) = (asked["Steps"] for asked in emr.asked("AddJobFlowSteps"))
        assert sent["Name"] == NAME.replace("try1", "try2")

    def test_takes_the_step_of_the_lost_try_after_a_clear_too(self, s3, emr, perform) -> None:
        emr.cluster()
        emr.step("s-1", NAME, "COMPLETED")
        emr.step("s-2", NAME.replace("try1", "try2"), "RUNNING", "COMPLETED")
        s3.put_object(Bucket="lake", Key=SUMMARY, Body=json.dumps(DONE))
        _, context = perform(step(), try_number=3, max_tries=2)
        assert emr.asked("AddJobFlowSteps") == []
        assert context["task"]._step_id == "s-2"

    @pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "CANCEL_PENDING", "INTERRUPTED"])
    def test_submits_again_what_is_lost(self, emr, perform, summary, state) -> None:
        emr.cluster()
        emr.step("s-1", NAME, state)
        summary(DONE)
        assert perform(step())[0] == DONE
        assert len(emr.asked("AddJobFlowSteps")) == 1

    def test_does_anew_what_the_try_that_was_killed_is_cancelling(self, emr, perform, summary) -> None:
        """EMR calls it RUNNING until it is stopped."""
        emr.cluster()
        emr.step("s-1", NAME, "RUNNING", "RUNNING", "CANCELLED")
        summary(DONE)
        result, context = perform(step(), try_number=2)
        assert result == DONE
        assert len(emr.asked("AddJobFlowSteps")) == 1
        assert context["task"]._step_id == "s-2"

    @pytest.mark.parametrize("end", ["FAILED", "INTERRUPTED"])
    def test_does_not_do_anew_what_ends_otherwise(self, emr, perform, end) -> None:
        emr.cluster()
        emr.step("s-1", NAME, "RUNNING", end)
        with pytest.raises(StepFailed, match=rf"step s-1 did not complete\.\nEMR says: {end}"):
            perform(step(), try_number=2)
        assert emr.asked("AddJobFlowSteps") == []

    def test_does_not_do_anew_what_is_cancelled_in_its_own_time(self, emr, perform) -> None:
        emr.cluster()
        fail(emr, "RUNNING", "CANCELLED")
        with pytest.raises(StepFailed, match="EMR says: CANCELLED"):
            perform(step())
        assert len(emr.asked("AddJobFlowSteps")) == 1

    @pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
    def test_cancels_what_is_still_at_work_from_before_a_clear(self, emr, perform, summary, state) -> None:
        """Its task had no chance to: a lost worker, or deferred while there was no triggerer."""
        emr.cluster()
        emr.step("s-1", NAME, state)
        summary(DONE)
        assert perform(step(), try_number=2, max_tries=2)[0] == DONE
        assert [asked["StepIds"] for asked in emr.asked("CancelSteps")] == [["s-1"]]

    def test_leaves_the_steps_of_other_tasks_and_runs_alone(self, emr, perform, summary) -> None:
        emr.cluster()
        emr.step("s-1", NAME.replace("featurize", "ingest"), "COMPLETED")
        emr.step("s-2", f"daily.featurize.{RUN_ID}0.try1", "RUNNING")
        emr.step("s-3", NAME.replace("daily", "weekly"), "RUNNING")
        summary(DONE)
        perform(step())
        assert len(emr.asked("AddJobFlowSteps")) == 1
        assert emr.asked("CancelSteps") == []

    def test_does_not_believe_the_summary_of_an_earlier_try(self, s3, emr, perform) -> None:
        emr.cluster()
        s3.put_object(Bucket="lake", Key=SUMMARY, Body=json.dumps({"job": "featurize", "error": "of yesterday"}))
        fail(emr)
        with pytest.raises(StepFailed) as caught:
            perform(step())
        assert "of yesterday" not in str(caught.value)


class TestFailure:
    def test_names_all_that_is_known(self, s3, emr, perform, summary) -> None:
        emr.cluster()
        summary({"job": "featurize", "error": "no readings of 2014-02-26"})
        fail(emr, Reason="Unknown Error.", Message="Exit code 1")
        lines = (
            "14/02/28 04:00:00 INFO Utils: noise\nTraceback\nRuntimeError: no readings\n14/02/28 04:00:01 INFO Shutdown"
        )
        s3.put_object(Bucket="lake", Key="elasticmapreduce/j-1/steps/s-1/stderr.gz", Body=gzip.compress(lines.encode()))
        with pytest.raises(StepFailed) as caught:
            perform(step())
        assert str(caught.value).splitlines() == [
            "featurize of 2014-02-26 to 2014-02-27: step s-1 did not complete.",
            "The job says: no readings of 2014-02-26",
            "EMR says: FAILED, Unknown Error., Exit code 1",
            "Last lines of its stderr:",
            "Traceback",
            "RuntimeError: no readings",
            "Its logs: s3n://lake/elasticmapreduce/j-1/steps/s-1/ (EMR uploads them within minutes).",
            "Next: correct what the job names, then clear the run: it does all of its days again.",
        ]

    def test_is_final_and_left_for_the_verdict(self, emr, perform) -> None:
        emr.cluster()
        fail(emr)
        with pytest.raises(AirflowFailException) as caught:
            perform(step())
        assert caught.value.context["ti"].xcoms["featurize", FAILURE] == str(caught.value)

    def test_finds_the_traceback_that_spark_submit_puts_into_stdout(self, s3, emr, perform) -> None:
        emr.cluster()
        fail(emr)
        folder = "elasticmapreduce/j-1/steps/s-1"
        chatter = b"14/02/28 04:00:00 WARN NativeCodeLoader: noise\n14/02/28 04:00:01 INFO ShutdownHookManager: noise\n"
        s3.put_object(Bucket="lake", Key=f"{folder}/stderr.gz", Body=gzip.compress(chatter))
        s3.put_object(Bucket="lake", Key=f"{folder}/stdout.gz", Body=gzip.compress(b"Traceback\nKeyError: 'day'\n"))
        with pytest.raises(StepFailed, match="Last lines of its stdout:\nTraceback\nKeyError: 'day'") as caught:
            perform(step())
        assert "noise" not in str(caught.value)
        assert "stderr" not in str(caught.value)

    def test_reads_a_log_that_is_not_compressed(self, s3, emr, perform) -> None:
        emr.cluster()
        fail(emr)
        s3.put_object(Bucket="lake", Key="elasticmapreduce/j-1/steps/s-1/stderr", Body=b"plain words")
        with pytest.raises(StepFailed, match="plain words"):
            perform(step())

    def test_shows_only_the_last_lines_of_a_long_log(self, s3, emr, perform) -> None:
        emr.cluster()
        fail(emr)
        log = "\n".join(f"line {number} {'x' * 1000}" for number in range(100))
        s3.put_object(Bucket="lake", Key="elasticmapreduce/j-1/steps/s-1/stderr.gz", Body=gzip.compress(log.encode()))
        with pytest.raises(StepFailed) as caught:
            perform(step())
        assert "line 70 " in str(caught.value)
        assert "line 69 " not in str(caught.value)
        assert len(str(caught.value)) < 20_000

    def test_a_cluster_that_went_away_under_the_step(self, emr, perform) -> None:
        emr.cluster("j-1", "TERMINATED_WITH_ERRORS", reason={"Code": "INSTANCE_FAILURE", "Message": "lost"})
        fail(emr, "RUNNING", "INTERRUPTED")
        with pytest.raises(StepFailed) as caught:
            perform(step())
        assert "Cluster j-1: TERMINATED_WITH_ERRORS (INSTANCE_FAILURE: lost)" in str(caught.value)
        assert "no fault of the data or the code; clear the run, which makes a new cluster" in str(caught.value)

    def test_a_cluster_that_someone_ended_under_the_step(self, emr, perform) -> None:
        emr.cluster("j-1", "TERMINATED", reason={"Code": "USER_REQUEST", "Message": "Terminated by user request"})
        fail(emr, "RUNNING", "INTERRUPTED")
        with pytest.raises(StepFailed, match="clear the run when it is wanted again: it makes a new cluster") as caught:
            perform(step())
        assert "no fault" not in str(caught.value)

    def test_a_cluster_that_was_gone_before_the_step(self, emr, perform) -> None:
        emr.cluster("j-1", "TERMINATED", reason={"Code": "ALL_STEPS_COMPLETED", "Message": "Auto-terminated"})
        emr.fail_next["AddJobFlowSteps"] = (
            "ValidationException",
            "A job flow that is shutting down may not be modified.",
        )
        with pytest.raises(
            StepFailed, match=r"2014-02-26 to 2014-02-27 could not be started.*Auto-terminated.*Next: clear"
        ):
            perform(step())

    def test_an_error_of_aws_is_one_that_a_retry_may_cure(self, emr, perform) -> None:
        emr.cluster()
        emr.fail_next["AddJobFlowSteps"] = ("ThrottlingException", "Rate exceeded")
        with pytest.raises(emr.client.exceptions.ClientError, match="Rate exceeded"):
            perform(step())

    def test_what_aws_refuses_is_refused_again(self, emr, perform) -> None:
        emr.cluster()
        emr.fail_next["ListSteps"] = ("AccessDeniedException", "not allowed")
        with pytest.raises(AwsRefused, match="not allowed\nNext: correct what AWS refuses") as caught:
            perform(step())
        assert isinstance(caught.value, AirflowFailException)
        assert caught.value.context["ti"].xcoms["featurize", FAILURE] == str(caught.value)

    @pytest.mark.parametrize("left", [None, b"{", b"[]"])
    def test_a_job_that_says_nothing(self, emr, perform, summary, left) -> None:
        emr.cluster()
        if left is not None:
            summary(left)
        with pytest.raises(
            StepFailed, match=f"completed, but left no summary at s3://lake/{SUMMARY.replace('+', '.')}"
        ):
            perform(step())


class TestKill:
    def test_cancels_the_step(self, emr, perform, summary) -> None:
        emr.cluster()
        summary(DONE)
        _, context = perform(step())
        context["task"].on_kill()
        assert emr.asked("CancelSteps") == [
            {"ClusterId": "j-1", "StepIds": ["s-1"], "StepCancellationOption": "TERMINATE_PROCESS"}
        ]

    def test_before_there_is_a_step(self, emr) -> None:
        step().on_kill()
        assert emr.calls == []

    def test_while_the_step_is_being_submitted(self, emr, perform) -> None:
        """Airflow's signal handler runs on_kill and lets the task go on."""
        emr.cluster()
        task = step()
        ready = task.prepare_for_execution()
        task.prepare_for_execution = lambda: ready
        emr.on_new_step = ready.on_kill
        with pytest.raises(StepFailed, match="EMR says: CANCELLED"):
            perform(task)
        assert emr.clusters["j-1"].steps[0].state == "CANCELLED"

    def test_while_it_follows_the_step_of_an_earlier_try(self, emr, perform) -> None:
        emr.cluster()
        emr.step("s-1", NAME, "RUNNING")
        task = step()
        ready = task.prepare_for_execution()
        task.prepare_for_execution = lambda: ready
        emr.during["DescribeStep"] = ready.on_kill
        with pytest.raises(StepFailed, match=r"step s-1 did not complete\.\nEMR says: CANCELLED"):
            perform(task, try_number=2)
        assert emr.asked("AddJobFlowSteps") == []

    def test_at_the_tasks_own_timeout(self, emr, perform, monkeypatch) -> None:
        """A step that hangs: the same end and the same words, whoever was waiting."""
        emr.cluster()
        emr.new_states = ["PENDING", "RUNNING"]

        def time_out(*_: object) -> None:
            raise AirflowTaskTimeout

        monkeypatch.setattr("feature_store_airflow.step.time.sleep", time_out)
        with pytest.raises(StepFailed) as caught:
            perform(step(execution_timeout=timedelta(hours=2)), waiting=time_over)
        assert emr.clusters["j-1"].steps[0].state == "CANCELLED"
        assert len(emr.asked("CancelSteps")) == 1
        assert str(caught.value).splitlines() == [
            "featurize of 2014-02-26 to 2014-02-27: step s-1 did not end within 2:00:00 and was cancelled.",
            "Its logs: s3n://lake/elasticmapreduce/j-1/steps/s-1/ (EMR uploads them within minutes).",
            "Next: raise the task's execution_timeout, or run fewer days at once by feature_store_backfill.",
        ]
        assert caught.value.context["ti"].xcoms["featurize", FAILURE] == str(caught.value)


@pytest.mark.parametrize("deferrable", [True], indirect=True, ids=["deferred"])
class TestDeferral:
    def test_hands_the_step_to_the_triggerer(self, emr, perform, summary) -> None:
        emr.cluster()
        summary(DONE)
        _, context = perform(step(execution_timeout=timedelta(hours=2), poll_seconds="0.5", region_name="eu-west-2"))
        (deferred,) = context["deferred"]
        path, arguments = deferred.trigger.serialize()
        assert path == "feature_store_airflow.triggers.StepTrigger"
        assert arguments == {
            "cluster_id": "j-1",
            "step_id": "s-1",
            "poll_seconds": 0.5,
            "hook": {"aws_conn_id": "aws_default", "region_name": "eu-west-2", "verify": None, "config": None},
        }
        assert timedelta(hours=1, minutes=59) < deferred.timeout <= timedelta(hours=2)

    def test_without_a_timeout_it_waits_for_ever(self, emr, perform, summary) -> None:
        emr.cluster()
        summary(DONE)
        assert perform(step())[1]["deferred"][0].timeout is None

    def test_a_step_that_has_ended_is_not_handed_over(self, s3, emr, perform) -> None:
        emr.cluster()
        emr.step("s-1", NAME, "COMPLETED")
        s3.put_object(Bucket="lake", Key=SUMMARY, Body=json.dumps(DONE))
        assert perform(step(), try_number=2)[1]["deferred"] == []

    def test_the_time_of_a_try_is_that_of_all_its_steps(self, emr, perform, summary) -> None:
        emr.cluster()
        emr.step("s-1", NAME, "RUNNING", "RUNNING", "CANCELLED")
        summary(DONE)
        _, context = perform(step(execution_timeout=timedelta(hours=2)), try_number=2)
        first, second = context["deferred"]
        assert (first.trigger.step_id, second.trigger.step_id) == ("s-1", "s-2")
        assert second.timeout < first.timeout
        assert second.kwargs["until"] == first.kwargs["until"]

    def test_an_event_that_came_too_early_does_no_harm(self, emr, perform, summary) -> None:
        emr.cluster()
        summary(DONE)
        emr.new_states = ["PENDING", "RUNNING", "RUNNING", "COMPLETED"]

        def at_once(deferred: Any) -> tuple[str, dict[str, Any]]:
            return deferred.method_name, {**deferred.kwargs, "event": {"seen": "FAILED"}}

        result, context = perform(step(), waiting=at_once)
        assert result == DONE
        assert len(context["deferred"]) == 3
        assert len(emr.asked("AddJobFlowSteps")) == 1

    def test_a_step_that_ended_while_its_time_did_is_as_good_as_any(self, emr, perform, summary) -> None:
        emr.cluster()
        summary(DONE)
        emr.new_states = ["RUNNING", "COMPLETED"]
        assert perform(step(execution_timeout=timedelta(hours=2)), waiting=time_over)[0] == DONE
        assert emr.asked("CancelSteps") == []

    def test_what_aws_refuses_to_the_triggerer_is_said(self, emr, perform, summary) -> None:
        emr.cluster()
        summary(DONE)

        def refused(deferred: Any) -> Any:
            emr.fail_next["DescribeStep"] = ("AccessDeniedException", "not allowed")
            return triggerer(deferred)

        with pytest.raises(WatchFailed, match=r"The triggerer could not look on: .*not allowed\nNext: ") as caught:
            perform(step(), waiting=refused)
        assert not isinstance(caught.value, AirflowFailException), "a retry finds the step"
        assert caught.value.context["ti"].xcoms["featurize", FAILURE] == str(caught.value)

    def test_a_trigger_that_broke_is_airflows_own_failure(self, emr, perform, summary) -> None:
        emr.cluster()
        summary(DONE)
        with pytest.raises(TaskDeferralError):
            perform(step(), waiting=lambda _: ("__fail__", {"error": "Trigger failure"}))
        assert emr.asked("CancelSteps") == [], "a retry finds the step"
