"""What is published for CloudWatch's alarms, and that nothing is where nobody asks, and nothing fails for it."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowSkipException
from botocore.exceptions import ClientError
from feature_store_airflow.failures import MeasureFailed, OrphansFound
from feature_store_airflow.measures import FAILED_TASKS, FEATURE_AGE, ORPHANED_CLUSTERS, MeasureAgesOperator
from feature_store_airflow.notifier import notify_failure
from feature_store_airflow.sweep import SweepClustersOperator

from feature_store import layout, registry
from feature_store.metrics import Certified, ViewMetrics
from tests.unit.infra.cloudformation import templates

pytestmark = pytest.mark.unit

TODAY = dt.datetime.now(dt.UTC).date()
SETTINGS = {"bucket": "lake", "metrics_namespace": "my-store"}
TAGS = [{"Key": "Project", "Value": "feature-store"}]


@pytest.fixture
def cloudwatch(monkeypatch) -> Iterator[Any]:
    """A CloudWatch that keeps what it is sent, or refuses it."""
    taken: list[dict[str, Any]] = []
    watch = SimpleNamespace(taken=taken, refuses=False)

    def put_metric_data(**request: Any) -> None:
        if watch.refuses:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutMetricData")
        taken.append(request)

    watch.put_metric_data = put_metric_data
    conn = AwsBaseHook.conn
    monkeypatch.setattr(
        AwsBaseHook, "conn", property(lambda hook: watch if hook.client_type == "cloudwatch" else conn.__get__(hook))
    )
    monkeypatch.setenv("AIRFLOW_VAR_FEATURE_STORE", json.dumps(SETTINGS))
    return watch


def measure() -> MeasureAgesOperator:
    with DAG("sweeper"):
        return MeasureAgesOperator(task_id="measure_ages")


def asked(context_of: Any, task: Any, **settings: Any) -> dict[str, Any]:
    """What a context says of the Variable."""
    return {"var": {"json": {"feature_store": {**context_of(task)["var"]["json"]["feature_store"], **settings}}}}


def online(s3: Any, name: str, days_ago: int, rows: int = 3) -> None:
    day = TODAY - dt.timedelta(days=days_ago)
    certified = {day: Certified(rows, 5, dt.datetime.now(dt.UTC))}
    body = ViewMetrics(name, certified=certified).dump()
    s3.put_object(Bucket="lake", Key=layout.VIEW_METRICS.replace(layout.VIEW, name), Body=body)


def sent(taken: list[dict[str, Any]]) -> dict[tuple[str, ...], float]:
    """The values, by the metric's name and the values of its dimensions."""
    assert {request["Namespace"] for request in taken} <= {"my-store"}
    return {
        (each["MetricName"], *(f"{d['Name']}={d['Value']}" for d in each["Dimensions"])): each["Value"]
        for request in taken
        for each in request["MetricData"]
    }


class TestAges:
    def test_the_age_of_each_view_and_the_highest(self, s3, cloudwatch, perform, context_of) -> None:
        first, second = (view.name for view in registry.views())
        online(s3, first, 1)
        online(s3, second, 4)
        task = measure()
        result, _ = perform(task, about=asked(context_of, task, metrics_namespace="my-store"))
        assert result == {first: 1, second: 4}
        assert sent(cloudwatch.taken) == {
            (FEATURE_AGE, f"View={first}"): 1,
            (FEATURE_AGE, f"View={second}"): 4,
            (FEATURE_AGE,): 4,
        }

    def test_a_view_that_is_not_online_has_none(self, s3, cloudwatch, perform, context_of) -> None:
        task = measure()
        about = asked(context_of, task, metrics_namespace="my-store")
        assert perform(task, about=about)[0] == {}
        assert cloudwatch.taken == []
        online(s3, "energy_data_features", 1, rows=0)
        assert perform(task, about=about)[0] == {}

    def test_nobody_asks(self, cloudwatch, perform) -> None:
        with pytest.raises(AirflowSkipException, match="no metrics_namespace"):
            perform(measure())
        assert cloudwatch.taken == []

    def test_what_can_not_be_told_fails(self, s3, cloudwatch, perform, context_of) -> None:
        task = measure()
        about = asked(context_of, task, metrics_namespace="my-store")
        s3.put_object(Bucket="lake", Key="metrics/energy_data_features.json", Body="{}")
        with pytest.raises(MeasureFailed, match="can't be told"):
            perform(task, about=about)
        online(s3, "energy_data_features", 1)
        cloudwatch.refuses = True
        with pytest.raises(MeasureFailed, match="did not take"):
            perform(task, about=about)


class TestSweep:
    @pytest.mark.parametrize(("hours", "found"), [(1, 0), (25, 1)])
    def test_how_many_were_left_behind(self, emr, cloudwatch, perform, context_of, hours, found) -> None:
        with DAG("sweeper"):
            task = SweepClustersOperator(task_id="sweep_clusters", cluster_tags=TAGS)
        emr.cluster("j-1", name="x", tags=TAGS, created=dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours))
        about = asked(context_of, task, metrics_namespace="my-store")
        if found:
            with pytest.raises(OrphansFound):
                perform(task, about=about)
        else:
            perform(task, about=about)
        assert sent(cloudwatch.taken) == {(ORPHANED_CLUSTERS,): found}

    def test_a_refusal_hides_no_orphan(self, emr, cloudwatch, perform, context_of, caplog) -> None:
        with DAG("sweeper"):
            task = SweepClustersOperator(task_id="sweep_clusters", cluster_tags=TAGS)
        cloudwatch.refuses = True
        emr.cluster("j-1", name="x", tags=TAGS, created=dt.datetime.now(dt.UTC) - dt.timedelta(hours=25))
        with caplog.at_level(logging.WARNING), pytest.raises(OrphansFound):
            perform(task, about=asked(context_of, task, metrics_namespace="my-store"))
        assert "took no values" in caplog.text
        assert emr.asked("TerminateJobFlows") == [{"JobFlowIds": ["j-1"]}]


class TestFailures:
    def test_a_failed_task_is_counted_whoever_is_told(self, cloudwatch) -> None:
        notify_failure(SimpleNamespace())  # type: ignore[arg-type] # it is looked at only where somebody is told
        assert sent(cloudwatch.taken) == {(FAILED_TASKS,): 1}

    def test_nobody_asks(self, cloudwatch, monkeypatch) -> None:
        monkeypatch.setenv("AIRFLOW_VAR_FEATURE_STORE", json.dumps({"bucket": "lake"}))
        notify_failure(SimpleNamespace())  # type: ignore[arg-type]
        assert cloudwatch.taken == []


def test_the_alarms_look_at_what_is_published() -> None:
    """By name, and without dimensions, as an alarm sees only the very metric that it names."""
    alarms = templates.resources(templates.load("monitoring"), "AWS::CloudWatch::Alarm")
    ours = {of["MetricName"]: of.get("Dimensions") for _, of in alarms if of.get("Namespace") == {"Ref": "Prefix"}}
    assert ours == {FAILED_TASKS: None, ORPHANED_CLUSTERS: None, FEATURE_AGE: None}
