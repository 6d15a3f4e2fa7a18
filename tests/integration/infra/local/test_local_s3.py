"""The local S3 takes what the stack's clients send, refuses a stranger, and keeps its objects when it is killed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from feature_store import files
from infra.local.settings import REGION, Ports, Stack
from tests.support import serving

pytestmark = pytest.mark.integration

MB = 1024 * 1024


def client_of(stack: Stack, **other: str) -> Any:
    keys = {
        "aws_access_key_id": stack.secrets.aws_access_key_id,
        "aws_secret_access_key": stack.secrets.aws_secret_access_key,
    }
    return boto3.client("s3", endpoint_url=stack.s3_url, region_name=REGION, **{**keys, **other})


@pytest.fixture(scope="module")
def client(s3: Any) -> Any:
    return client_of(s3.stack)


def test_an_object_comes_back_with_its_tag_and_its_metadata(client: Any, s3: Any) -> None:
    put = client.put_object(Bucket=s3.bucket, Key="a/b c+d/é.txt", Body=b"hello", Metadata={"k": "v"})
    assert put["ETag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'
    got = client.get_object(Bucket=s3.bucket, Key="a/b c+d/é.txt")
    assert (got["Body"].read(), got["Metadata"]) == (b"hello", {"k": "v"})


def test_lists_are_paged_and_folded(client: Any, s3: Any) -> None:
    for n in range(5):
        client.put_object(Bucket=s3.bucket, Key=f"list/{n}/x", Body=b"")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=s3.bucket, Prefix="list/", PaginationConfig={"PageSize": 2}
    )
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == [f"list/{n}/x" for n in range(5)]
    folded = client.list_objects_v2(Bucket=s3.bucket, Prefix="list/", Delimiter="/")
    assert [entry["Prefix"] for entry in folded["CommonPrefixes"]] == [f"list/{n}/" for n in range(5)]
    client.delete_objects(Bucket=s3.bucket, Delete={"Objects": [{"Key": f"list/{n}/x"} for n in range(5)]})
    assert client.list_objects_v2(Bucket=s3.bucket, Prefix="list/")["KeyCount"] == 0


def test_a_big_object_goes_in_parts(client: Any, s3: Any, tmp_path: Path) -> None:
    data = os.urandom(12 * MB)
    (tmp_path / "big").write_bytes(data)
    config = TransferConfig(multipart_threshold=5 * MB, multipart_chunksize=5 * MB)
    client.upload_file(str(tmp_path / "big"), s3.bucket, "big", Config=config)
    client.copy_object(Bucket=s3.bucket, Key="copy", CopySource={"Bucket": s3.bucket, "Key": "big"})
    client.delete_object(Bucket=s3.bucket, Key="big")
    assert client.get_object(Bucket=s3.bucket, Key="copy")["Body"].read() == data
    assert client.get_object(Bucket=s3.bucket, Key="copy", Range="bytes=10-19")["Body"].read() == data[10:20]
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket=s3.bucket, Key="big")


def test_a_key_that_is_there_is_not_replaced_where_that_is_asked(client: Any, s3: Any) -> None:
    client.put_object(Bucket=s3.bucket, Key="once", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=s3.bucket, Key="once", Body=b"2", IfNoneMatch="*")


def test_a_stranger_is_refused(s3: Any) -> None:
    for other in ({"aws_secret_access_key": "x"}, {"aws_access_key_id": "AKIAOTHER"}):
        with pytest.raises(ClientError) as refused:
            client_of(s3.stack, **other).list_buckets()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_delta_rs_reads_what_it_wrote(s3: Any) -> None:
    uri = f"s3://{s3.bucket}/delta/rs"
    pl.DataFrame({"a": [1, 2]}).write_delta(uri, storage_options=s3.env)
    pl.DataFrame({"a": [3]}).write_delta(uri, mode="append", storage_options=s3.env)
    assert pl.read_delta(uri, storage_options=s3.env)["a"].sort().to_list() == [1, 2, 3]


def test_objects_outlive_a_killed_server(tmp_path: Path) -> None:
    stack = Stack(tmp_path, Ports.free())
    with serving(stack, "s3"):  # killed (-9) at its end
        client = client_of(stack)
        client.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": REGION})
        client.put_object(Bucket="kept", Key="k", Body=b"v", ContentType="text/x")
    with serving(stack, "s3"):
        got = client_of(stack).get_object(Bucket="kept", Key="k")
        assert (got["Body"].read(), got["ContentType"]) == (b"v", "text/x")


def test_writers_of_one_small_object_do_not_lose_each_others_changes(
    s3: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the jobs keep a view's metrics: the object is replaced on the condition that it is the one that was read."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    uri, others = f"s3://{s3.bucket}/metrics/v.json", ["between"]

    def add(name: str) -> Callable[[str | None], str]:
        return lambda text: f"{text or ''}{name} "

    def change(text: str | None) -> str:
        if others:
            files.update_text(uri, add(others.pop()))
        return add("own")(text)

    files.update_text(uri, change)  # made by another between the look and the write
    others.append("again")
    files.update_text(uri, change)  # changed by another
    got = client.get_object(Bucket=s3.bucket, Key="metrics/v.json")["Body"].read()
    assert got == b"between own again own "
