"""What a deployment says of its clusters' machines reaches EMR, and what is wrong with it is said before that."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG
from feature_store_airflow.create_cluster import CreateClusterOperator
from feature_store_airflow.failures import ClusterRefused
from feature_store_airflow.machines import Machines

from tests.unit.EMR.test_cluster_request import rendered

pytestmark = pytest.mark.unit


def create() -> CreateClusterOperator:
    with DAG("daily"):
        return CreateClusterOperator(task_id="create_cluster", poll_seconds="0", request=rendered())


def said(context_of: Any, cluster: dict[str, Any]) -> dict[str, Any]:
    """The Variable of a deployment that says this."""
    return {"var": context_of(create(), cluster=cluster)["var"]}


def test_what_the_variable_says_is_asked_for(emr, perform, context_of) -> None:
    cluster = {"instances": "fleets", "core_market": "spot", "subnet_ids": ["subnet-1", "subnet-2"]}
    perform(create(), about=said(context_of, cluster))
    (asked,) = emr.asked("RunJobFlow")
    assert [fleet["InstanceFleetType"] for fleet in asked["Instances"]["InstanceFleets"]] == ["MASTER", "CORE"]
    assert asked["Instances"]["Ec2SubnetIds"] == ["subnet-1", "subnet-2"]
    assert "SecurityConfiguration" not in asked


@pytest.mark.parametrize(
    ("cluster", "why"),
    [
        ({"instances": "fleet"}, r"cluster.instances='fleet': it is groups or fleets"),
        ({"core_market": True}, r"cluster.core_market=True: it is on_demand or spot"),
        ({"architecture": "aarch64"}, r"cluster.architecture='aarch64': it is arm64 or x86_64"),
        ({"spot": True}, r"cluster.spot: there are instances, core_market, architecture, subnet_ids"),
        (None, r"cluster=None: it is an object with instances"),
        (["fleets"], r"cluster=\['fleets'\]: it is an object with instances"),
        ({"subnet_ids": "subnet-1"}, r"cluster.subnet_ids='subnet-1': it is a list"),
    ],
)
def test_what_there_is_not_is_refused_once_and_for_all(emr, perform, context_of, cluster, why) -> None:
    with pytest.raises(ClusterRefused, match=f"The Airflow Variable feature_store says {why}.* Next: correct it"):
        perform(create(), about=said(context_of, cluster))
    assert emr.asked("RunJobFlow") == []


def test_everything_may_be_left_out() -> None:
    assert Machines.of({}) == Machines()
