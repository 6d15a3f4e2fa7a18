"""An Airflow of its own for the unit tests, and the few things of a run that tasks look at."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

# Airflow reads its configuration when it is first imported, which a test module may do while it is collected.
_HOME = tempfile.mkdtemp(prefix="airflow-unit-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.update(
    AIRFLOW_HOME=_HOME,
    AIRFLOW__CORE__UNIT_TEST_MODE="True",
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=os.path.join(_HOME, "dags"),  # noqa: PTH118
    AIRFLOW_CONN_AWS_DEFAULT="aws://?region_name=eu-west-2",
)

import pytest  # noqa: E402

RUN_ID = "manual__2014-02-28T04:00:00+00:00"
SETTINGS = {
    "bucket": "lake",
    "region": "eu-west-2",
    "release": "0123abcd",
    "keyspaces": {
        "host": "cassandra.eu-west-2.amazonaws.com",
        "port": 9142,
        "credentials": "feature-store/keyspaces",
        "keyspace": "feature_store",
    },
    "subnet_id": "subnet-0123",
    "job_flow_role": "feature-store-emr-node",
    "service_role": "feature-store-emr",
    "simulation": {
        "cluster": "feature-store-simulation",
        "task_definition": "feature-store-simulation",
        "log_group": "/feature-store/simulation",
        "subnet_ids": ["subnet-0123", "subnet-4567"],
        "security_group": "sg-0123",
    },
    "poll_seconds": 0,
}
FEATURIZED = {
    "views": {
        "energy_data_features": {"readings_version": 7, "features_version": 5},
        "energy_recent_features": {"readings_version": 8, "features_version": 6},
    }
}
PLAN = {"start": "2014-02-26", "end": "2014-02-27", "days": ["2014-02-26", "2014-02-27"]}


@dataclass
class FakeTaskInstance:
    """What tasks use of a task instance: its names, XComs by (task, key), and the states of the run's tasks."""

    dag_id: str
    task_id: str
    run_id: str = RUN_ID
    try_number: int = 1
    max_tries: int = 1
    xcoms: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    active_runs: int = 1
    map_index: int = -1

    def get_dr_count(self, dag_id: str, states: list[str]) -> int:
        assert (dag_id, states) == (self.dag_id, ["queued", "running"])
        return self.active_runs

    def get_dagrun_state(self, dag_id: str, run_id: str) -> str:
        assert (dag_id, run_id) == (self.dag_id, self.run_id)
        return "running"

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[self.task_id, key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value", map_indexes: int = -1) -> Any:
        """Of a task that is there for each chunk, by its number: (task, key, number)."""
        return self.xcoms.get((task_ids, key) if map_indexes < 0 else (task_ids, key, map_indexes))

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, dict[str, str]]:
        assert (dag_id, run_ids) == (self.dag_id, [self.run_id])
        return {self.run_id: self.states}


def run_context(task: Any, **settings: Any) -> dict[str, Any]:
    """The context of a task on its first try of two, after plan, the making of its cluster (j-1) and featurize."""
    ti = FakeTaskInstance(task.dag.dag_id, task.task_id)
    ti.xcoms["plan", "return_value"] = PLAN
    ti.xcoms["create_cluster", "return_value"] = "j-1"
    ti.xcoms["wait_for_cluster", "return_value"] = "j-1"
    ti.xcoms["featurize", "return_value"] = FEATURIZED
    ti.xcoms["choose_name", "name"] = "load"
    if task.get_closest_mapped_task_group():  # one chunk of days
        ti.map_index = 0
        ti.xcoms["choose_days", "return_value"] = [{"start": PLAN["start"], "end": PLAN["end"], "days": 2}]
        ti.xcoms["featurize", "return_value", 0] = FEATURIZED
    return {
        "ti": ti,
        "dag": task.dag,
        "task": task,
        "run_id": ti.run_id,
        "dag_run": SimpleNamespace(run_type="manual"),
        "params": {"budget": None, "whole_table": False},
        "var": {"json": {"feature_store": {**SETTINGS, **settings}}},
    }


@pytest.fixture
def context_of() -> Any:
    return run_context


@pytest.fixture(scope="session")
def clients() -> Any:
    """Make boto3 clients of a pretended account, each service's once: they are slow to make."""
    import boto3
    import moto  # noqa: F401 - clients that are made before it is imported are never mocked
    from botocore.config import Config

    session = boto3.Session("test", "test", region_name="eu-west-2")
    return functools.cache(lambda service: session.client(service, config=Config(ignore_configured_endpoint_urls=True)))


@pytest.fixture
def s3(clients: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 in memory that hooks use too, with the empty bucket `lake`."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from moto import mock_aws

    with mock_aws(config={"core": {"mock_credentials": False}}):
        client = clients("s3")
        client.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": "eu-west-2"})
        monkeypatch.setattr(S3Hook, "conn", client)
        yield client
