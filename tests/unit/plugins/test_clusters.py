"""The tasks about the cluster: created once, waited for, gone in the end."""

from __future__ import annotations

import gzip
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout
from feature_store_airflow.create_cluster import CreateClusterOperator
from feature_store_airflow.failures import FAILURE, ClusterFailed, ClusterStillAlive
from feature_store_airflow.terminate_cluster import TerminateClusterOperator
from feature_store_airflow.wait_for_cluster import WaitForClusterSensor

pytestmark = pytest.mark.unit

NAME = "feature-store daily r1"
TAGS = [{"Key": "Project", "Value": "feature-store"}, {"Key": "run_id", "Value": "r1"}]
REQUEST = {"Name": NAME, "Instances": {"KeepJobFlowAliveWhenNoSteps": True}, "Tags": TAGS}


def create() -> CreateClusterOperator:
    with DAG("daily"):
        return CreateClusterOperator(task_id="create_cluster", request=REQUEST)


def wait(**more: Any) -> WaitForClusterSensor:
    with DAG("daily"):
        return WaitForClusterSensor(task_id="wait_for_cluster", job_flow_id="j-1", **more)


def terminate(**more: Any) -> TerminateClusterOperator:
    with DAG("daily"):
        return TerminateClusterOperator(
            **{"task_id": "terminate_cluster", "deadline": timedelta(minutes=1), **more},
            cluster_name=NAME,
            cluster_tags=TAGS,
        )


class TestCreate:
    def test_asks_for_the_cluster_and_does_not_wait(self, emr, perform) -> None:
        result, _ = perform(create())
        assert result == "j-1"
        assert emr.asked("RunJobFlow") == [REQUEST]
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

    def test_killed_before_there_is_a_cluster(self, emr) -> None:
        create().on_kill()
        assert emr.calls == []

    def test_killed_afterwards_it_ends_the_cluster(self, emr, perform) -> None:
        _, context = perform(create())
        context["task"].on_kill()
        assert emr.asked("TerminateJobFlows") == [{"JobFlowIds": ["j-1"]}]


class TestWait:
    def test_until_the_cluster_takes_steps(self, emr, perform) -> None:
        emr.cluster("j-1", "STARTING", "BOOTSTRAPPING", "BOOTSTRAPPING", "WAITING")
        perform(wait())
        assert len(emr.asked("DescribeCluster")) == 4

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
        with pytest.raises(ClusterFailed) as caught:
            perform(wait())
        for part in ("j-1", "BOOTSTRAP_FAILURE", reason, "a\nno secret", "Next: "):
            assert part in str(caught.value)
        assert "innocent" not in str(caught.value)
        assert len(emr.asked("DescribeCluster")) == 3, "its log is on S3 only when it has ended"

    def test_a_cluster_that_ends_without_a_log(self, emr, perform) -> None:
        emr.cluster("j-1", "TERMINATED", reason={"Code": "USER_REQUEST", "Message": "Terminated by user request"})
        with pytest.raises(ClusterFailed, match=r"TERMINATED \(USER_REQUEST: Terminated by user request\)") as caught:
            perform(wait())
        assert "stderr" not in str(caught.value)

    def test_a_cluster_that_never_gets_ready(self, emr, perform) -> None:
        emr.cluster("j-1", "STARTING")
        with pytest.raises(ClusterFailed, match=r"not ready after 0.01 s: STARTING.*Next: ") as caught:
            perform(wait(timeout=0.01))
        assert isinstance(caught.value.__cause__, AirflowSensorTimeout)

    def test_it_is_never_deferred_to_a_trigger_that_waits_for_the_end(self) -> None:
        assert wait().deferrable is False


class TestTerminate:
    def test_ends_the_cluster_and_sees_it_end(self, emr, perform) -> None:
        emr.cluster("j-1", name=NAME)
        perform(terminate())
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

    def test_an_error_while_looking_is_not_taken_for_its_end(self, emr, perform) -> None:
        emr.cluster("j-1")
        emr.fail_next["DescribeCluster"] = ("ThrottlingException", "Rate exceeded")
        with pytest.raises(emr.client.exceptions.ClientError, match="Rate exceeded"):
            perform(terminate())
