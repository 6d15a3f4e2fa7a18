"""One cluster for all runs of a backfill, and the sweeper: what lives too long is found whatever made it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from airflow.sdk import DAG
from feature_store_airflow.create_cluster import CreateClusterOperator
from feature_store_airflow.failures import ClusterRefused, OrphansFound
from feature_store_airflow.sharing import IDLE
from feature_store_airflow.sweep import SweepClustersOperator
from feature_store_airflow.terminate_cluster import TerminateClusterOperator

pytestmark = pytest.mark.unit

NAME = "feature-store daily backfill"
TAGS = [{"Key": "Project", "Value": "feature-store"}, {"Key": "lifetime-hours", "Value": "24"}]
REQUEST = {"Name": NAME, "AutoTerminationPolicy": {"IdleTimeout": 3600}, "Instances": {}, "Tags": TAGS}
BACKFILL = {"run_type": "backfill"}


def hours_ago(hours: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours)


def create() -> CreateClusterOperator:
    with DAG("daily"):
        return CreateClusterOperator(task_id="create_cluster", poll_seconds="0", request=REQUEST)


def terminate() -> TerminateClusterOperator:
    with DAG("daily"):
        return TerminateClusterOperator(
            task_id="terminate_cluster", deadline=dt.timedelta(minutes=1), cluster_name=NAME, cluster_tags=TAGS
        )


def sweep() -> SweepClustersOperator:
    with DAG("sweeper"):
        return SweepClustersOperator(task_id="sweep_clusters", cluster_tags=TAGS[:1])


class TestCreate:
    def test_the_first_run_makes_one_that_ends_itself_soon(self, emr, perform) -> None:
        assert perform(create(), **BACKFILL)[0] == "j-1"
        assert emr.asked("RunJobFlow")[0]["AutoTerminationPolicy"] == {"IdleTimeout": IDLE.total_seconds()}

    def test_any_other_run_has_the_idle_time_of_the_request(self, emr, perform) -> None:
        perform(create())
        assert emr.asked("RunJobFlow")[0]["AutoTerminationPolicy"] == {"IdleTimeout": 3600}

    def test_the_next_one_takes_it(self, emr, perform) -> None:
        emr.cluster("j-7", name=NAME, tags=TAGS, created=hours_ago(2))
        assert perform(create(), **BACKFILL)[0] == "j-7"
        assert emr.asked("RunJobFlow") == []

    def test_one_that_is_half_as_old_as_it_may_become_is_not_taken(self, emr, perform) -> None:
        emr.cluster("j-7", name=NAME, tags=TAGS, created=hours_ago(13))
        assert perform(create(), **BACKFILL)[0] == "j-2"

    def test_it_returns_when_the_next_run_can_find_it(self, emr, perform, monkeypatch) -> None:
        looks = []
        real = CreateClusterOperator._find

        def find(self: CreateClusterOperator, client: Any) -> list[str]:
            looks.append(1)
            return [] if len(looks) < 4 else real(self, client)

        monkeypatch.setattr(CreateClusterOperator, "_find", find)
        assert perform(create(), **BACKFILL)[0] == "j-1"
        assert len(looks) == 4

    def test_a_last_try_that_fails_leaves_the_others_their_cluster(self, emr, perform) -> None:
        emr.cluster("j-7", name=NAME, tags=TAGS, created=hours_ago(20))
        emr.fail_next["RunJobFlow"] = ("ValidationException", "no such role")
        with pytest.raises(ClusterRefused, match="is left to the other runs"):
            perform(create(), try_number=2, max_tries=1, **BACKFILL)
        assert emr.asked("TerminateJobFlows") == []


class TestTerminate:
    def test_it_is_left_while_other_runs_are_to_come(self, emr, perform) -> None:
        emr.cluster("j-1", name=NAME, tags=TAGS)
        perform(terminate(), active_runs=3, **BACKFILL)
        assert emr.clusters["j-1"].state == "WAITING"

    def test_the_last_one_ends_it(self, emr, perform) -> None:
        emr.cluster("j-1", name=NAME, tags=TAGS)
        perform(terminate(), active_runs=1, **BACKFILL)
        assert emr.clusters["j-1"].state == "TERMINATED"

    def test_a_run_that_is_not_of_a_backfill_ends_its_own(self, emr, perform) -> None:
        emr.cluster("j-1", name=NAME, tags=TAGS)
        perform(terminate(), active_runs=3)
        assert emr.clusters["j-1"].state == "TERMINATED"


class TestSweep:
    def test_clusters_that_are_not_too_old_are_told_and_left(self, emr, perform) -> None:
        emr.cluster("j-1", name=NAME, tags=TAGS, created=hours_ago(23))
        said, _ = perform(sweep())
        assert said == f"1 cluster(s), none too old: j-1 ({NAME}), 23.0 h old of 24"
        assert emr.clusters["j-1"].state == "WAITING"

    def test_one_that_is_too_old_is_ended_and_fails_the_task(self, emr, perform) -> None:
        emr.cluster("j-1", name=NAME, tags=TAGS, created=hours_ago(25))
        emr.cluster(
            "j-2", name="another", tags=[TAGS[0], {"Key": "lifetime-hours", "Value": "72"}], created=hours_ago(25)
        )
        emr.cluster("j-3", name="old", tags=TAGS[:1], created=hours_ago(25))
        with pytest.raises(OrphansFound, match=r"2 cluster\(s\) were older .* j-1 .* 25.0 h old of 24") as caught:
            perform(sweep())
        assert "j-3" in str(caught.value)
        assert emr.asked("TerminateJobFlows") == [{"JobFlowIds": ["j-1", "j-3"]}]
        assert [each["TerminationProtected"] for each in emr.asked("SetTerminationProtection")] == [False, False]
        assert emr.clusters["j-2"].state == "WAITING"

    def test_what_another_deployment_has_is_none_of_its_business(self, emr, perform) -> None:
        emr.cluster("j-1", name=NAME, tags=[{"Key": "Project", "Value": "other"}], created=hours_ago(99))
        assert perform(sweep())[0] == "0 cluster(s), none too old."

    def test_none_that_is_gone_is_ended_again(self, emr, perform) -> None:
        emr.cluster("j-1", "TERMINATED", name=NAME, tags=TAGS, created=hours_ago(99))
        assert perform(sweep())[0] == "0 cluster(s), none too old."
