"""Faults on purpose: they come as EMR's own do, as often as they were asked for, and no more."""

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from infra.local.settings import REGION
from tests.support import Faults
from tests.unit.infra.aws.cloud import Cloud, shell, wait_until

pytestmark = pytest.mark.unit


def emr_with_attempts(cloud: Cloud, attempts: int):
    return boto3.client(
        "emr",
        endpoint_url=cloud.stack.aws_url,
        region_name=REGION,
        aws_access_key_id=cloud.stack.secrets.aws_access_key_id,
        aws_secret_access_key=cloud.stack.secrets.aws_secret_access_key,
        config=Config(retries={"mode": "standard", "total_max_attempts": attempts}),
    )


def test_a_throttled_call_is_refused_as_emr_refuses_it_and_only_so_often(cloud: Cloud):
    faults, emr = Faults(cloud.stack), emr_with_attempts(cloud, 1)
    faults.put(ListClusters=2)
    for left in ({"ListClusters": 1}, {}):
        with pytest.raises(ClientError) as caught:
            emr.list_clusters()
        assert caught.value.response["Error"] == {"Code": "ThrottlingException", "Message": "Rate exceeded"}
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert faults.left() == left
    assert emr.list_clusters()["Clusters"] == []


def test_boto3_asks_again_when_it_is_throttled(cloud: Cloud):
    faults = Faults(cloud.stack)
    faults.put(ListClusters=1)
    answer = emr_with_attempts(cloud, 2).list_clusters()
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert faults.left() == {}


def test_other_actions_are_not_throttled_and_a_fault_can_be_taken_back(cloud: Cloud):
    faults, emr = Faults(cloud.stack), emr_with_attempts(cloud, 1)
    faults.put(RunJobFlow=100)
    emr.list_clusters()
    assert faults.left() == {"RunJobFlow": 100}
    faults.put()
    assert faults.left() == {}
    cloud.wait_for(cloud.run(), "WAITING")


def test_a_cluster_without_capacity_ends_before_it_has_a_node(cloud: Cloud, tmp_path):
    Faults(cloud.stack).put(capacity=1)
    cluster = cloud.run(shell("never", "true"), bootstrap=f"touch {tmp_path / 'booted'}")
    ended = cloud.wait_for(cluster, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert ended["State"] == "TERMINATED_WITH_ERRORS"
    assert ended["StateChangeReason"]["Code"] == "INTERNAL_ERROR"
    assert ended["StateChangeReason"]["Message"].startswith(
        f"EC2 is out of capacity for m5.xlarge in availability zone {REGION}a."
    )
    (details,) = ended["ErrorDetails"]
    assert details["ErrorCode"] == "INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ"
    assert {"instance-type": "m5.xlarge"} in details["ErrorData"]
    assert cloud.steps(cluster) == {"never": "CANCELLED"}
    assert not (tmp_path / "booted").exists()
    (listed,) = cloud.client("emr").list_clusters()["Clusters"]
    assert listed["Status"]["ErrorDetails"] == ended["ErrorDetails"]
    cloud.wait_for(cloud.run(), "WAITING")


def test_a_spot_loss_ends_the_cluster_under_its_step(cloud: Cloud, tmp_path):
    started, told = tmp_path / "started", tmp_path / "told"
    # A machine that is taken away asks no program to end.
    cluster = cloud.run(shell("long", f"trap 'touch {told}' TERM; touch {started}; sleep 60"), shell("after", "true"))
    wait_until(started.exists, "the step runs")
    Faults(cloud.stack).lose_instances(cluster)
    ended = cloud.wait_for(cluster, "TERMINATED", "TERMINATED_WITH_ERRORS")
    assert ended["State"] == "TERMINATED_WITH_ERRORS"
    assert ended["StateChangeReason"] == {
        "Code": "INSTANCE_FAILURE",
        "Message": "All slaves in the job flow were terminated due to Spot",
    }
    assert "ErrorDetails" not in ended
    assert cloud.steps(cluster) == {"long": "CANCELLED", "after": "CANCELLED"}
    assert not told.exists()


@pytest.mark.parametrize("body", ["[]", '{"capacity": -1}', '{"capacity": "1"}', '{"capacity": true}', "no JSON"])
def test_what_is_no_count_of_faults_is_refused(cloud: Cloud, body: str):
    key = cloud.stack.secrets.aws_access_key_id
    signed = {"Authorization": f"AWS4-HMAC-SHA256 Credential={key}/20260101/{REGION}/faults/aws4_request"}
    answer = httpx.put(f"{cloud.stack.aws_url}/faults", content=body, headers=signed)
    assert answer.status_code == 400
    assert answer.json()["message"]


def test_a_cluster_that_is_not_there_loses_no_instances(cloud: Cloud):
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        Faults(cloud.stack).lose_instances("j-NONE")


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PUT", ""), ("POST", "/spot-loss/j-1")])
def test_a_stranger_asks_for_no_faults(cloud: Cloud, method: str, path: str):
    assert httpx.request(method, f"{cloud.stack.aws_url}/faults{path}", content="{}").status_code == 403
