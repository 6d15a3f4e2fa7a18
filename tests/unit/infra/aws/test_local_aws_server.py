"""The door of the local AWS: who is answered, and what is logged."""

import json
import logging
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.local.aws.server import LocalAws
from infra.local.settings import REGION, SECRET_NAME, StackError
from tests.unit.infra.aws.cloud import Cloud

pytestmark = pytest.mark.unit


def stranger(cloud: Cloud, service: str):
    return boto3.client(
        service,
        endpoint_url=cloud.stack.aws_url,
        region_name=REGION,
        aws_access_key_id="AKIA" + "A" * 16,
        aws_secret_access_key="x",
    )


@pytest.mark.parametrize(
    "call", ["emr.list_clusters", "secretsmanager.list_secrets", "sts.get_caller_identity", "s3.list_buckets"]
)
def test_another_key_is_refused(cloud: Cloud, call: str):
    service, name = call.split(".")
    with pytest.raises(ClientError) as caught:
        getattr(stranger(cloud, service), name)()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    getattr(cloud.client(service), name)()


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/moto-api/reset"), ("GET", "/moto-api/data.json"), ("GET", "/")]
)
def test_an_unsigned_request_is_refused(cloud: Cloud, method: str, path: str):
    request = urllib.request.Request(cloud.stack.aws_url + path, method=method)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 403


def test_the_readiness_page_is_open(cloud: Cloud):
    with urllib.request.urlopen(cloud.stack.aws_url + "/moto-api/") as answer:
        assert answer.status == 200


def test_the_secret_of_keyspaces_is_there(cloud: Cloud):
    value = cloud.client("secretsmanager").get_secret_value(SecretId=SECRET_NAME)["SecretString"]
    secrets = cloud.stack.secrets
    assert json.loads(value) == {"username": secrets.keyspaces_username, "password": secrets.keyspaces_password}


def test_a_call_is_logged_without_credentials_or_bodies(cloud: Cloud, caplog):
    caplog.set_level(logging.INFO)
    # pragma: allowlist nextline secret
    cloud.client("secretsmanager").put_secret_value(SecretId=SECRET_NAME, SecretString="a very secret value")
    cloud.client("sts").get_caller_identity()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("infra.local.aws")]
    assert any(line.startswith("POST secretsmanager.PutSecretValue 200 ") for line in lines)
    assert any(line.startswith("POST sts.GetCallerIdentity 200 ") for line in lines)
    everything = "\n".join(lines)
    assert "a very secret value" not in everything
    assert cloud.stack.secrets.aws_access_key_id not in everything


def test_a_port_that_is_taken_is_said_clearly(cloud: Cloud):
    with pytest.raises(StackError, match=r"Port \d+ on 127.0.0.1 can't be had .*AWS_PORT"):
        LocalAws(cloud.stack)
