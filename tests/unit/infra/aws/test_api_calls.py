"""The records of what is asked of the local AWS, and what is read from them."""

from __future__ import annotations

import json
from io import BytesIO

import pytest

from infra.local.aws.calls import CallLog
from infra.local.aws.faults import ACTION
from infra.local.settings import BUCKET
from tests import api_calls
from tests.api_calls import SEVERAL, Call, of_aws, of_s3

pytestmark = pytest.mark.unit

BOTO = "Boto3/1.43.117 md/Botocore#1.43.117 os/linux cfg/retry-mode#legacy app/airflow Botocore/1.43.117"


def log(thread: str, method: str, path: str, user_agent: str, **headers: str) -> list[str]:
    """As S3Proxy 4.1.0 writes them."""
    request = f"ServletApiRequest@26{{ServletContextRequest@64{{GracefulHandler$Request@1b{{{method}@6e4d http://127.0.0.1:5056{path} HTTP/1.1}}}}}}"
    named = {"Host": "127.0.0.1:5056", "User-Agent": user_agent, **headers}
    return [f"{thread} request: {request}", *(f"{thread} header: {name}: {value}" for name, value in named.items())]


@pytest.mark.parametrize(
    ("method", "path", "action", "resource"),
    [
        ("GET", f"/{BUCKET}?list-type=2&prefix=delta%2F", "ListBucket", "BUCKET"),
        ("HEAD", f"/{BUCKET}", "ListBucket", "BUCKET"),
        ("GET", f"/{BUCKET}?location", "GetBucketLocation", "BUCKET"),
        ("GET", f"/{BUCKET}/delta/readings/part%201.parquet", "GetObject", "BUCKET/delta/*"),
        ("HEAD", f"/{BUCKET}/Dataset/a.csv", "GetObject", "BUCKET/Dataset/*"),
        ("GET", f"/{BUCKET}/releases/0123/certs/ca.pem", "GetObject", "BUCKET/releases/DIGEST/certs/*"),
        ("GET", f"/{BUCKET}/releases/0123/code.zip", "GetObject", "BUCKET/releases/*"),
        ("GET", "/another/releases/0123/code.zip", "GetObject", "another/releases/*"),
        ("GET", f"/{BUCKET}/file", "GetObject", "BUCKET/file"),
        ("PUT", f"/{BUCKET}/runs/a.json", "PutObject", "BUCKET/runs/*"),
        ("POST", f"/{BUCKET}/runs/a.json?uploads", "PutObject", "BUCKET/runs/*"),
        ("PUT", f"/{BUCKET}/runs/a.json?partNumber=1&uploadId=x", "PutObject", "BUCKET/runs/*"),
        ("DELETE", f"/{BUCKET}/runs/a.json?uploadId=x", "AbortMultipartUpload", "BUCKET/runs/*"),
        ("DELETE", f"/{BUCKET}/delta/t/_delta_log/1.json", "DeleteObject", "BUCKET/delta/*"),
        ("POST", f"/{BUCKET}?delete", "DeleteObject", SEVERAL),
    ],
)
def test_a_request_to_s3_is_an_action_on_a_resource(method, path, action, resource) -> None:
    assert list(of_s3(log("Jetty-1", method, path, BOTO))) == [Call("airflow", f"s3:{action}", resource)]


def test_requests_of_several_threads_keep_apart() -> None:
    first = log("Jetty-1", "GET", f"/{BUCKET}/delta/a", "app/node")
    second = log("Jetty-2", "PUT", f"/{BUCKET}/runs/b", BOTO)
    third = log("Jetty-1", "GET", f"/{BUCKET}/metrics/c", "Hadoop 3.3.4, aws-sdk-java/1.12.262 Linux")
    mixed = [*(line for pair in zip(first, second, strict=True) for line in pair), "a line of another kind", *third]
    assert set(of_s3(mixed)) == {
        Call("node", "s3:GetObject", "BUCKET/delta/*"),
        Call("airflow", "s3:PutObject", "BUCKET/runs/*"),
        Call("node", "s3:GetObject", "BUCKET/metrics/*"),
    }


def test_a_copy_is_a_read_too() -> None:
    copied = log("Jetty-1", "PUT", f"/{BUCKET}/runs/b", BOTO, **{"x-amz-copy-source": f"/{BUCKET}/delta/a"})
    assert set(of_s3(copied)) == {
        Call("airflow", "s3:PutObject", "BUCKET/runs/*"), Call("airflow", "s3:GetObject", "BUCKET/delta/*")
    }  # fmt: skip


def test_a_request_of_a_kind_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="no action of S3 is known for PATCH"):
        list(of_s3(log("Jetty-1", "PATCH", f"/{BUCKET}/a", BOTO)))


@pytest.mark.parametrize(
    ("service", "action", "names", "resource"),
    [
        ("elasticmapreduce", "RunJobFlow", {"JobFlowRole": "node"}, "*"),
        ("elasticmapreduce", "ListClusters", {}, "*"),
        ("elasticmapreduce", "DescribeStep", {"ClusterId": "j-1"}, "cluster/*"),
        ("secretsmanager", "GetSecretValue", {"SecretId": "feature-store/keyspaces"}, "secret:feature-store/keyspaces"),
    ],
)
def test_a_request_to_another_service_is_an_action_on_a_resource(service, action, names, resource) -> None:
    line = json.dumps({"app": "airflow", "service": service, "action": action, "names": names})
    assert list(of_aws([line])) == [Call("airflow", f"{service}:{action}", resource)]


def test_the_local_aws_records_names_only_and_lets_the_request_through(tmp_path) -> None:
    seen = []

    def app(environ, start_response):
        seen.append(environ["wsgi.input"].read())
        return [b"answer"]

    body = json.dumps({"SecretId": "feature-store/keyspaces", "SecretString": "word"}).encode()
    record = CallLog(app, tmp_path / "logs" / "calls.jsonl")
    asked = {
        "HTTP_USER_AGENT": BOTO, ACTION: "secretsmanager.PutSecretValue", "CONTENT_TYPE": "application/x-amz-json-1.1",
        "CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body),
    }  # fmt: skip
    assert record(asked, lambda *_: None) == [b"answer"]
    assert seen == [body]
    record({ACTION: "unsigned", "wsgi.input": BytesIO()}, lambda *_: None)  # it has no action
    text = (tmp_path / "logs" / "calls.jsonl").read_text()
    assert "word" not in text
    assert list(of_aws(text.splitlines())) == [
        Call("airflow", "secretsmanager:PutSecretValue", "secret:feature-store/keyspaces")
    ]


def test_the_list_is_written_sorted_and_read_back(tmp_path) -> None:
    calls = {Call("node", "s3:GetObject", "BUCKET/a"), Call("airflow", "s3:PutObject", "BUCKET/b")}
    api_calls.write(calls, tmp_path / "calls.json")
    assert api_calls.read(tmp_path / "calls.json") == calls
    assert (tmp_path / "calls.json").read_text().splitlines()[1] == ' ["airflow", "s3:PutObject", "BUCKET/b"],'
