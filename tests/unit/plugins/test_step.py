"""One task, one step: submitted once, followed to its end, cancelled with its task, explained when it fails."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout
from feature_store_airflow.failures import FAILURE, StepFailed
from feature_store_airflow.step import StepOperator

pytestmark = pytest.mark.unit

RUN_ID = "manual__2014-02-28T04:00:00+00:00"
NAME = f"daily.featurize.{RUN_ID}.try1"
SUMMARY = f"runs/daily/{RUN_ID}/featurize.json"
DONE = {"job": "featurize", "rows_written": 7}


def step(**more: Any) -> StepOperator:
    with DAG("daily", default_args={"retries": 1}):
        return StepOperator(task_id="featurize", job="featurize", arguments=["--features", "s3://lake/f.json"], **more)


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

    def test_leaves_the_steps_of_other_tasks_and_runs_alone(self, emr, perform, summary) -> None:
        emr.cluster()
        emr.step("s-1", NAME.replace("featurize", "ingest"), "COMPLETED")
        emr.step("s-2", f"{NAME}1", "RUNNING")
        summary(DONE)
        perform(step())
        assert len(emr.asked("AddJobFlowSteps")) == 1

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
        assert "line 85 " in str(caught.value)
        assert "line 84 " not in str(caught.value)
        assert len(str(caught.value)) < 10_000

    def test_a_cluster_that_went_away_under_the_step(self, emr, perform) -> None:
        emr.cluster("j-1", "TERMINATED_WITH_ERRORS", reason={"Code": "INSTANCE_FAILURE", "Message": "lost"})
        fail(emr, "RUNNING", "INTERRUPTED")
        with pytest.raises(StepFailed) as caught:
            perform(step())
        assert "Cluster j-1: TERMINATED_WITH_ERRORS (INSTANCE_FAILURE: lost)" in str(caught.value)
        assert "makes a new cluster" in str(caught.value)

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
        emr.cluster()

        def time_out(*_: object) -> None:
            raise AirflowTaskTimeout

        monkeypatch.setattr("feature_store_airflow.step.time.sleep", time_out)
        with pytest.raises(StepFailed, match="did not end within 2:00:00 and was cancelled") as caught:
            perform(step(execution_timeout=timedelta(hours=2)))
        assert "feature_store_backfill" in str(caught.value)
        assert emr.clusters["j-1"].steps[0].state == "CANCELLED"
