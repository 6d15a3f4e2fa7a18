"""The tasks about the cluster: created once, waited for, gone in the end."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException, AirflowTaskTimeout
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from feature_store_airflow.create_cluster import CreateClusterOperator
from feature_store_airflow.failures import (
    FAILURE,
    ClusterFailed,
    ClusterLost,
    ClusterNotMade,
    ClusterRefused,
    ClusterStillAlive,
    WatchFailed,
)
from feature_store_airflow.terminate_cluster import TerminateClusterOperator
from feature_store_airflow.wait_for_cluster import WaitForClusterSensor

from tests.unit.plugins.conftest import time_over, triggerer

pytestmark = pytest.mark.unit

NAME = "feature-store daily r1"
TAGS = [{"Key": "Project", "Value": "feature-store"}, {"Key": "run_id", "Value": "r1"}]
REQUEST = {"Name": NAME, "Instances": {"KeepJobFlowAliveWhenNoSteps": True}, "Tags": TAGS}


LAST = {"try_number": 2, "max_tries": 1}
NO_ANSWER = ReadTimeoutError(endpoint_url="https://elasticmapreduce.eu-west-2.amazonaws.com")


MODE = {"deferrable": False}


@pytest.fixture(params=[False, True], ids=["polling", "deferred"])
def deferrable(request, monkeypatch) -> bool:
    """For tests that hold in both modes."""
    monkeypatch.setitem(MODE, "deferrable", request.param)
    return bool(request.param)


def create(**more: Any) -> CreateClusterOperator:
    with DAG("daily"):
        return CreateClusterOperator(**{"task_id": "create_cluster", "poll_seconds": "30", **more}, request=REQUEST)


def test_a_dry_run_makes_none(emr, perform) -> None:
    """Although someone has cleared the task, or marked the one before it a success."""
    with pytest.raises(AirflowSkipException, match="This is a dry run"):
        perform(create(), plan={"dry_run": True})
    assert emr.calls == []


def wait(**more: Any) -> WaitForClusterSensor:
    with DAG("daily"):
        return WaitForClusterSensor(task_id="wait_for_cluster", request=REQUEST, **{**MODE, **more})


def terminate(**more: Any) -> TerminateClusterOperator:
    with DAG("daily"):
        return TerminateClusterOperator(
            **{"task_id": "terminate_cluster", "deadline": timedelta(minutes=1), **MODE, **more},
            cluster_name=NAME,
            cluster_tags=TAGS,
        )


class TestCreate:
    def test_asks_for_the_cluster_and_does_not_wait(self, emr, perform) -> None:
        result, _ = perform(create())
        assert result == "j-1"
        assert emr.asked("RunJobFlow") == [{**REQUEST, "Tags": [*TAGS, {"Key": "try", "Value": "1"}]}]
        assert emr.clusters["j-1"].state == "STARTING"

    @pytest.mark.parametrize("state", ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"])
    def test_a_retry_takes_the_cluster_of_the_try_that_crashed(self, emr, perform, state) -> None:
        emr.cluster("j-9", state, name=NAME)
        result, _ = perform(create())
        assert result == "j-9"
        assert emr.asked("RunJobFlow") == []

    def test_of_two_it_takes_the_newer_one(self, emr, perform) -> None:
        emr.cluster("j-8", name=NAME)
        emr.cluster("j-9", name=NAME)
        assert perform(create())[0] == "j-9"

    @pytest.mark.parametrize("state", ["TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS"])
    def test_a_cleared_run_gets_a_new_cluster(self, emr, perform, state) -> None:
        emr.cluster("j-1", state, name=NAME)
        assert perform(create())[0] == "j-2"

    def test_the_cluster_of_another_airflow_is_left_alone(self, emr, perform) -> None:
        emr.cluster("j-1", name=NAME, tags=[TAGS[0], {"Key": "run_id", "Value": "r2"}])
        assert perform(create())[0] == "j-2"

    def test_an_error_of_aws_is_one_that_a_retry_may_cure(self, emr, perform) -> None:
        emr.fail_next["RunJobFlow"] = ("ThrottlingException", "Rate exceeded")
        with pytest.raises(emr.client.exceptions.ClientError, match="Rate exceeded") as caught:
            perform(create())
        assert not isinstance(caught.value, AirflowFailException)
        assert "Rate exceeded" in caught.value.context["ti"].xcoms["create_cluster", FAILURE]


class Clock:
    """A time that goes on only while something sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.on_sleep: Callable[[], Any] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("feature_store_airflow.create_cluster.time", made)
    return made


class TestCreateFails:
    """No teardown runs after it: on its last try it ends what it has made of a cluster, else a retry takes that."""

    @pytest.mark.parametrize("error", [NO_ANSWER, AirflowTaskTimeout("Timeout, PID: 7")], ids=type)
    def test_without_an_answer(self, emr, perform, clock, error) -> None:
        emr.lose_answer["RunJobFlow"] = error
        with pytest.raises(ClusterNotMade) as caught:
            perform(create(), **LAST)
        assert emr.clusters["j-1"].state == "TERMINATING"
        assert str(caught.value) == (
            f"{error}\nTerminated j-1, as no teardown runs after a failed setup. Next: clear the run."
        )
        assert caught.value.context["ti"].xcoms["create_cluster", FAILURE] == str(caught.value)

    def test_the_cluster_is_listed_a_little_later(self, emr, perform, clock) -> None:
        emr.lose_answer["RunJobFlow"] = NO_ANSWER
        emr.unlisted_looks = 4
        with pytest.raises(ClusterNotMade, match="Terminated j-1, as"):
            perform(create(), **LAST)
        assert clock.now == 120
        assert emr.asked("TerminateJobFlows") == [{"JobFlowIds": ["j-1"]}]

    def test_boto_has_asked_twice_and_the_second_one_is_listed_later(self, emr, perform, clock) -> None:
        emr.lose_answer["RunJobFlow"] = NO_ANSWER
        clock.on_sleep = lambda: None if "j-2" in emr.clusters else emr.cluster("j-2", "STARTING", name=NAME)
        with pytest.raises(ClusterNotMade, match="Terminated j-1, j-2, as"):
            perform(create(), **LAST)

    def test_no_cluster_is_ever_listed(self, emr, perform, clock) -> None:
        emr.fail_next["RunJobFlow"] = ("InternalServerException", "An internal error.", 500)
        with pytest.raises(ClusterNotMade, match=r"No live cluster of the run was listed within 0:02:00\. Next: clear"):
            perform(create(), **LAST)
        assert clock.now == 120
        assert emr.asked("TerminateJobFlows") == []

    def test_emr_has_refused(self, emr, perform, clock) -> None:
        emr.fail_next["RunJobFlow"] = ("ValidationException", "Invalid InstanceProfile.")
        with pytest.raises(ClusterRefused) as caught:
            perform(create())
        assert isinstance(caught.value, AirflowFailException), "another try would be refused as well"
        assert str(caught.value).endswith(
            "Invalid InstanceProfile.\nNo live cluster of the run was listed. Next: correct what AWS refuses "
            "(EMR/cluster.json, Airflow's rights), then clear the run."
        )
        assert clock.now == 0, "there is nothing to wait for"

    def test_before_it_could_look_for_the_cluster_of_the_try_before(self, emr, perform, clock) -> None:
        emr.cluster("j-9", "STARTING", name=NAME)
        emr.cluster("j-8", "STARTING", name="another run's")
        emr.fail_next["ListClusters"] = ("ThrottlingException", "Rate exceeded")
        with pytest.raises(ClusterNotMade, match="Rate exceeded"):
            perform(create(), **LAST)
        assert emr.asked("RunJobFlow") == []
        assert emr.asked("TerminateJobFlows") == [{"JobFlowIds": ["j-9"]}]

    @pytest.mark.parametrize("tries", [{}, LAST], ids=["first try", "last try"])
    @pytest.mark.parametrize("retries", [1, 4])
    def test_a_refusal_of_what_boto_has_asked_again_is_none_of_the_first_request(
        self, emr, perform, clock, retries, tries
    ) -> None:
        emr.fail_next["RunJobFlow"] = ("ValidationException", "Invalid InstanceProfile.", 400, retries)
        clock.on_sleep = lambda: None if "j-1" in emr.clusters else emr.cluster("j-1", "STARTING", name=NAME)
        with pytest.raises(ClusterRefused, match="Terminated j-1, as"):
            perform(create(), **tries)
        assert clock.now == 120

    @pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
    def test_a_cluster_that_a_step_is_at_work_on_is_left(self, emr, perform, clock, state) -> None:
        """The task was cleared alone, while the run went on."""
        emr.cluster("j-9", "RUNNING", name=NAME)
        emr.step("s-1", "daily.featurize.r1.try1", state)
        emr.fail_next["ListClusters"] = ("ThrottlingException", "Rate exceeded")
        with pytest.raises(ClusterNotMade) as caught:
            perform(create(), **LAST)
        assert emr.asked("TerminateJobFlows") == []
        assert emr.clusters["j-9"].state == "RUNNING"
        assert str(caught.value).splitlines()[1] == (
            f"Left j-9: its step daily.featurize.r1.try1 is {state}. Next: clear create_cluster alone, which takes the "
            "cluster that is left; else no teardown may come, and it costs money until its idle time is over."
        )

    def test_only_what_is_in_use_is_left(self, emr, perform, clock) -> None:
        emr.cluster("j-7", name=NAME)
        emr.step("s-1", "daily.ingest.r1.try1", "COMPLETED")
        emr.cluster("j-8", "RUNNING", name=NAME)
        emr.step("s-1", "daily.featurize.r1.try1", "RUNNING")
        emr.fail_next["ListClusters"] = ("ThrottlingException", "Rate exceeded")
        with pytest.raises(ClusterNotMade, match=r"Terminated j-7, as no .*setup\. Left j-8: its step"):
            perform(create(), **LAST)
        assert emr.asked("TerminateJobFlows") == [{"JobFlowIds": ["j-7"]}]

    def test_a_cluster_whose_steps_can_not_be_asked_for_is_looked_at_again(self, emr, perform, clock) -> None:
        emr.cluster("j-9", "RUNNING", name=NAME)
        emr.step("s-1", "daily.featurize.r1.try1", "RUNNING")
        throttled = ("ThrottlingException", "Rate exceeded")
        emr.fail_next.update(ListClusters=throttled, ListSteps=throttled)
        with pytest.raises(ClusterNotMade, match="Left j-9: its step"):
            perform(create(), **LAST)
        assert clock.now == 30

    def test_after_the_answer(self, emr, perform, clock) -> None:
        """The provider asks for the cluster's log once more, for a link."""
        emr.fail_next["DescribeCluster"] = ("ThrottlingException", "Rate exceeded")
        emr.during["RunJobFlow"] = lambda: emr.fail_next.update(ListClusters=("ThrottlingException", "Rate exceeded"))
        with pytest.raises(ClusterNotMade, match="Terminated j-1, as"):
            perform(create(), **LAST)
        assert emr.clusters["j-1"].state == "TERMINATING"

    def test_emr_can_not_be_reached(self, emr, perform, clock) -> None:
        lost = EndpointConnectionError(endpoint_url="https://emr")
        emr.during["RunJobFlow"] = lambda: emr.lose_answer.update(RunJobFlow=lost, ListClusters=lost)
        clock.on_sleep = lambda: emr.lose_answer.update(ListClusters=lost)
        with pytest.raises(ClusterNotMade) as caught:
            perform(create(), **LAST)
        for part in (
            "could not be asked",
            str(lost),
            "costs money",
            "`aws emr list-clusters --active`",
            f"{NAME!r} and has no step",
        ):
            assert part in str(caught.value)
        assert clock.now == 120

    @pytest.mark.parametrize("error", [NO_ANSWER, AirflowTaskTimeout("Timeout, PID: 7")], ids=type)
    def test_a_try_that_is_not_the_last_leaves_the_cluster_to_the_next_one(self, emr, perform, clock, error) -> None:
        emr.lose_answer["RunJobFlow"] = error
        with pytest.raises(type(error)) as caught:
            perform(create())
        caught.value.context["task"].on_kill()  # as Airflow does after a timeout
        assert emr.asked("TerminateJobFlows") == []
        assert clock.now == 0
        assert perform(create(), **LAST)[0] == "j-1"


class TestCreateIsKilled:
    """Airflow's signal handler runs on_kill and lets the task go on. Whether a retry follows is not known."""

    @pytest.fixture
    def killed(self, emr, perform, clock) -> Any:
        """Kill the task while it asks EMR for something; returns the message of its failure."""

        def run(during: str, **tries: int) -> str:
            task = create()
            ready = task.prepare_for_execution()
            task.prepare_for_execution = lambda: ready
            emr.during[during] = ready.on_kill
            with pytest.raises(ClusterNotMade) as caught:
                perform(task, **tries)
            assert not isinstance(caught.value, AirflowFailException), "a worker that shuts down is one to retry after"
            return str(caught.value)

        return run

    @pytest.mark.parametrize("tries", [{}, LAST], ids=["first try", "last try"])
    @pytest.mark.parametrize("unlisted_looks", [0, 1, 100])
    def test_while_the_cluster_is_being_made(self, emr, killed, unlisted_looks, tries) -> None:
        emr.unlisted_looks = unlisted_looks
        assert "The task was killed." in killed("RunJobFlow", **tries)
        assert emr.clusters["j-1"].state == "TERMINATING"

    def test_while_the_cluster_is_being_made_and_its_answer_is_lost(self, emr, killed) -> None:
        emr.lose_answer["RunJobFlow"] = NO_ANSWER
        emr.unlisted_looks = 2
        assert "Terminated j-1" in killed("RunJobFlow")

    def test_before_it_has_asked_for_one(self, emr, killed, clock) -> None:
        assert "The task was killed." in killed("ListClusters")
        assert emr.asked("RunJobFlow") == []
        assert clock.now == 0, "there is nothing to wait for"

    def test_while_it_takes_the_cluster_of_the_try_before(self, emr, killed) -> None:
        emr.cluster("j-9", name=NAME)
        killed("ListClusters")
        assert emr.clusters["j-9"].state == "TERMINATING"

    @pytest.mark.parametrize("during", ["RunJobFlow", "ListClusters"])
    def test_a_cluster_that_a_step_is_at_work_on_is_left(self, emr, killed, during) -> None:
        emr.unlisted_looks = int(during == "RunJobFlow")  # at first there seems to be none
        emr.cluster("j-9", "RUNNING", name=NAME)
        emr.step("s-1", "daily.featurize.r1.try1", "RUNNING")
        assert "Left j-9: its step daily.featurize.r1.try1 is RUNNING." in killed(during)
        ended = {cluster_id for call in emr.asked("TerminateJobFlows") for cluster_id in call["JobFlowIds"]}
        assert ended == ({"j-2"} if during == "RunJobFlow" else set())

    @pytest.mark.parametrize("state", ["STARTING", "WAITING", "RUNNING"])
    def test_a_zombie_leaves_the_cluster_of_the_try_after_it(self, emr, killed, state) -> None:
        """It has no step yet while it starts."""
        emr.unlisted_looks = 1
        emr.cluster("j-9", state, name=NAME, tags=[*TAGS, {"Key": "try", "Value": "2"}])
        said = killed("RunJobFlow")
        assert "Terminated j-2, as" in said
        assert "Left j-9: a later try of this task has asked for it." in said
        assert (emr.clusters["j-9"].state, emr.clusters["j-2"].state) == (state, "TERMINATING")

    def test_the_cluster_of_an_earlier_try_is_ended(self, emr, killed) -> None:
        emr.cluster("j-9", "STARTING", name=NAME, tags=[*TAGS, {"Key": "try", "Value": "1"}])
        killed("ListClusters", **LAST)
        assert emr.clusters["j-9"].state == "TERMINATING"

    def test_an_error_in_the_handler_does_not_break_off_what_is_under_way(self, emr, killed) -> None:
        emr.fail_next["TerminateJobFlows"] = ("ThrottlingException", "Rate exceeded")
        assert "Terminated j-1" in killed("RunJobFlow")

    def test_before_it_has_begun(self, emr) -> None:
        create().on_kill()
        assert emr.calls == []

    def test_when_it_has_done_its_work(self, emr, perform) -> None:
        _, context = perform(create())
        context["task"].on_kill()
        assert emr.asked("TerminateJobFlows") == [{"JobFlowIds": ["j-1"]}]


class TestWait:
    @pytest.fixture(autouse=True)
    def _in_both_modes(self, deferrable) -> None:
        pass

    def test_until_the_cluster_takes_steps(self, emr, perform, deferrable) -> None:
        emr.cluster("j-1", "STARTING", "BOOTSTRAPPING", "BOOTSTRAPPING", "WAITING")
        result, context = perform(wait())
        assert result == "j-1"
        assert emr.clusters["j-1"].states == ["WAITING"]
        assert len(context["deferred"]) == int(deferrable)

    def test_a_cluster_that_is_ready_is_not_waited_for(self, emr, perform) -> None:
        emr.cluster("j-1", "RUNNING")
        result, context = perform(wait())
        assert (result, context["deferred"]) == ("j-1", [])

    def test_a_failed_bootstrap_action_is_named_with_the_end_of_its_log(self, emr, s3, perform) -> None:
        reason = "On the master instance (i-0abc), bootstrap action 1 returned a non-zero return code"
        emr.cluster(
            "j-1",
            *("BOOTSTRAPPING", "TERMINATING", "TERMINATED_WITH_ERRORS"),
            reason={"Code": "BOOTSTRAP_FAILURE", "Message": reason},
        )
        folder = "elasticmapreduce/j-1/node"
        s3.put_object(
            Bucket="lake", Key=f"{folder}/i-0abc/bootstrap-actions/1/stderr.gz", Body=gzip.compress(b"a\nno secret\n")
        )
        s3.put_object(
            Bucket="lake", Key=f"{folder}/i-0aaa/bootstrap-actions/1/stderr.gz", Body=gzip.compress(b"innocent")
        )
        with pytest.raises(ClusterLost) as caught:
            perform(wait())
        for part in ("j-1", "BOOTSTRAP_FAILURE", reason, "a\nno secret", "Next: "):
            assert part in str(caught.value)
        assert "innocent" not in str(caught.value)
        assert caught.value.context["ti"].xcoms["wait_for_cluster", FAILURE] == str(caught.value)

    def test_a_cluster_that_ends_without_a_log(self, emr, perform) -> None:
        emr.cluster("j-1", "TERMINATED", reason={"Code": "USER_REQUEST", "Message": "Terminated by user request"})
        with pytest.raises(ClusterFailed, match=r"TERMINATED \(USER_REQUEST: Terminated by user request\)") as caught:
            perform(wait())
        assert "stderr" not in str(caught.value)

    def test_a_cluster_that_never_gets_ready(self, emr, perform, deferrable) -> None:
        """The same words, whoever was waiting."""
        emr.cluster("j-1", "STARTING", name=NAME)
        seconds = 2400 if deferrable else 0.01
        with pytest.raises(ClusterFailed) as caught:
            perform(wait(timeout=seconds), waiting=time_over)
        assert str(caught.value) == (
            f"Cluster j-1 is not ready after {seconds} s: STARTING. Next: see the cluster's events in EMR (no capacity "
            "for its instance types, or a bootstrap action that hangs), then clear the run."
        )
        assert isinstance(caught.value.__cause__, AirflowSensorTimeout)
        assert caught.value.context["ti"].xcoms["wait_for_cluster", FAILURE] == str(caught.value)

    def test_an_error_of_aws_is_one_that_a_retry_may_cure(self, emr, perform) -> None:
        emr.cluster()
        emr.fail_next["DescribeCluster"] = ("ThrottlingException", "Rate exceeded")
        with pytest.raises(emr.client.exceptions.ClientError, match="Rate exceeded"):
            perform(wait())


class TestAnotherCluster:
    """A retry asks for one in the place of one that ended for a cause that may pass; EMR's codes tell."""

    @pytest.fixture(autouse=True)
    def _in_both_modes(self, deferrable) -> None:
        pass

    @pytest.fixture
    def lost(self, emr) -> Any:
        """Lose the cluster that create_cluster has asked for."""

        def end(code: str) -> None:
            emr.cluster("j-1", "TERMINATED_WITH_ERRORS", name=NAME, reason={"Code": code, "Message": "why"})

        return end

    @pytest.fixture
    def emr_makes_it_ready(self, emr, monkeypatch) -> None:
        ask = emr.RunJobFlow

        def ask_and_start(params: Any, none: None) -> Any:
            answer = ask(params, none)
            emr.clusters[answer["JobFlowId"]].states = ["STARTING", "BOOTSTRAPPING", "WAITING"]
            return answer

        monkeypatch.setattr(emr, "RunJobFlow", ask_and_start)

    @pytest.mark.parametrize(
        "code", ["BOOTSTRAP_FAILURE", "INSTANCE_FAILURE", "INSTANCE_FLEET_TIMEOUT", "INTERNAL_ERROR"]
    )
    def test_is_asked_for_by_the_retry(self, emr, perform, lost, emr_makes_it_ready, code) -> None:
        lost(code)
        with pytest.raises(ClusterLost, match=rf"{code}: why.*\nNext: nothing; this may pass, and a retry") as caught:
            perform(wait())
        assert not isinstance(caught.value, AirflowFailException)
        assert emr.asked("RunJobFlow") == [], "the retry does, after its delay"
        result, _ = perform(wait(), **LAST)
        assert result == "j-2"
        assert emr.asked("RunJobFlow") == [{**REQUEST, "Tags": [*TAGS, {"Key": "try", "Value": "2"}]}]

    @pytest.mark.parametrize("code", ["VALIDATION_ERROR", "USER_REQUEST", "ALL_STEPS_COMPLETED", "OF_TOMORROW"])
    def test_would_not_live_either(self, emr, perform, lost, code) -> None:
        """Nor is one asked for when the task is cleared alone, whose run's cluster the teardown has ended."""
        lost(code)
        for tries in ({}, LAST):
            with pytest.raises(ClusterFailed, match=f"{code}: why") as caught:
                perform(wait(), **tries)
            assert isinstance(caught.value, AirflowFailException)
        assert emr.asked("RunJobFlow") == []

    def test_has_ended_as_well(self, emr, perform, lost, monkeypatch) -> None:
        lost("BOOTSTRAP_FAILURE")
        ask = emr.RunJobFlow

        def ask_and_fail(params: Any, none: None) -> Any:
            answer = ask(params, none)
            made = emr.clusters[answer["JobFlowId"]]
            made.states, made.reason = ["BOOTSTRAPPING", "TERMINATED_WITH_ERRORS"], {"Code": "BOOTSTRAP_FAILURE"}
            return answer

        monkeypatch.setattr(emr, "RunJobFlow", ask_and_fail)
        with pytest.raises(ClusterLost, match=r"Cluster j-2 ended.*\nNext: several clusters have ended so\. .* clear"):
            perform(wait(), **LAST)
        assert len(emr.asked("RunJobFlow")) == 1

    def test_that_a_lost_try_has_asked_for_is_taken(self, emr, perform, lost) -> None:
        lost("INSTANCE_FAILURE")
        emr.cluster("j-2", "BOOTSTRAPPING", "WAITING", name=NAME)
        result, _ = perform(wait(), try_number=3, max_tries=3)
        assert result == "j-2"
        assert emr.asked("RunJobFlow") == []

    def test_is_the_one_that_is_said_to_be_late(self, emr, perform, lost, deferrable) -> None:
        lost("INSTANCE_FAILURE")
        with pytest.raises(ClusterFailed, match="Cluster j-2 is not ready after"):
            perform(wait(timeout=2400 if deferrable else 0.01), **LAST, waiting=time_over)

    def test_is_what_the_steps_are_for(self, emr, perform, s3) -> None:
        from feature_store_airflow.step import StepOperator

        emr.cluster("j-1", "TERMINATED_WITH_ERRORS", name=NAME)
        emr.cluster("j-2", name=NAME)
        with DAG("daily"):
            step = StepOperator(task_id="ingest", job="ingest", arguments=(), **MODE)
        key = "runs/daily/manual__2014-02-28T04:00:00+00:00/ingest.json"
        emr.on_new_step = lambda: s3.put_object(Bucket="lake", Key=key, Body=b"{}")
        perform(step, wait_for_cluster="j-2")
        assert [asked["JobFlowId"] for asked in emr.asked("AddJobFlowSteps")] == ["j-2"]

    def test_is_ended_with_the_run(self, emr, perform, lost) -> None:
        lost("BOOTSTRAP_FAILURE")
        emr.cluster("j-2", "BOOTSTRAPPING", name=NAME)
        perform(terminate())
        assert emr.asked("TerminateJobFlows") == [{"JobFlowIds": ["j-2"]}]


class TestTerminate:
    @pytest.fixture(autouse=True)
    def _in_both_modes(self, deferrable) -> None:
        pass

    def test_ends_the_cluster_and_sees_it_end(self, emr, perform, deferrable) -> None:
        emr.cluster("j-1", name=NAME)
        _, context = perform(terminate())
        assert len(context["deferred"]) == int(deferrable)
        assert emr.asked("TerminateJobFlows") == [{"JobFlowIds": ["j-1"]}]
        assert emr.clusters["j-1"].state == "TERMINATED"

    def test_finds_the_cluster_of_a_create_task_that_crashed(self, emr, perform) -> None:
        emr.cluster("j-7", "BOOTSTRAPPING", name=NAME)
        emr.cluster("j-8", "WAITING", name="feature-store daily r2")
        perform(terminate(), create_cluster=None)
        assert emr.asked("TerminateJobFlows") == [{"JobFlowIds": ["j-7"]}]

    def test_ends_a_second_cluster_of_the_run_too(self, emr, perform) -> None:
        emr.cluster("j-1", name=NAME)
        emr.cluster("j-2", name=NAME)
        perform(terminate())
        assert emr.asked("TerminateJobFlows") == [{"JobFlowIds": ["j-1", "j-2"]}]

    @pytest.mark.parametrize("state", ["TERMINATED", "TERMINATED_WITH_ERRORS"])
    def test_a_cluster_that_is_gone_is_no_error(self, emr, perform, state) -> None:
        emr.cluster("j-1", state, name=NAME)
        perform(terminate())
        assert emr.asked("TerminateJobFlows") == []

    def test_neither_is_one_that_emr_has_forgotten(self, emr, perform) -> None:
        perform(terminate())
        assert emr.asked("TerminateJobFlows") == []

    def test_nor_a_run_that_never_had_one(self, emr, perform) -> None:
        perform(terminate(), create_cluster=None)
        assert [name for name, _ in emr.calls] == ["ListClusters"]

    def test_a_cluster_that_does_not_end_is_an_alarm(self, emr, perform, monkeypatch) -> None:
        emr.cluster("j-1", name=NAME)
        monkeypatch.setattr(emr, "TerminateJobFlows", lambda *_: {})
        with pytest.raises(ClusterStillAlive, match=r"j-1 did not end.*cost.*terminate-clusters --cluster-ids j-1"):
            perform(terminate(deadline=timedelta()))

    def test_a_cluster_that_does_not_end_while_it_is_deferred_is_the_same_alarm(
        self, emr, perform, monkeypatch
    ) -> None:
        emr.cluster("j-1", name=NAME)
        monkeypatch.setattr(emr, "TerminateJobFlows", lambda *_: {})
        with pytest.raises(ClusterStillAlive, match=r"j-1 did not end within 0:01:00 .*terminate-clusters") as caught:
            perform(terminate(deferrable=True), waiting=time_over)
        assert caught.value.context["ti"].xcoms["terminate_cluster", FAILURE] == str(caught.value)

    def test_a_cluster_that_ended_while_its_time_did(self, emr, perform) -> None:
        emr.cluster("j-1", name=NAME)

        def late(deferred: Any) -> Any:
            emr.clusters["j-1"].states = ["TERMINATED"]
            return time_over(deferred)

        perform(terminate(deferrable=True), waiting=late)

    def test_what_the_triggerer_is_refused_is_tried_again(self, emr, perform) -> None:
        """It says nothing of the cluster."""
        emr.cluster("j-1", name=NAME)

        def refused(deferred: Any) -> Any:
            emr.fail_next["DescribeCluster"] = ("AccessDeniedException", "not allowed")
            return triggerer(deferred)

        with pytest.raises(WatchFailed, match="not allowed") as caught:
            perform(terminate(deferrable=True), waiting=refused)
        assert not isinstance(caught.value, AirflowFailException)

    def test_an_error_while_looking_is_not_taken_for_its_end(self, emr, perform) -> None:
        emr.cluster("j-1")
        emr.fail_next["DescribeCluster"] = ("ThrottlingException", "Rate exceeded")
        with pytest.raises(emr.client.exceptions.ClientError, match="Rate exceeded"):
            perform(terminate())
