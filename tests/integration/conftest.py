"""Real servers for the integration tests, one of each for all of them, on free ports and in temporary folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from infra.local.settings import HOST, REGION, Ports, Stack
from tests.support import serving


@dataclass(frozen=True)
class RunningCassandra:
    """What a client of the Keyspaces stand-in needs; the role is an ordinary one, under Keyspaces' limits."""

    stack: Stack
    host: str
    port: int
    username: str
    password: str
    ca: Path

    @classmethod
    def of(cls, stack: Stack) -> RunningCassandra:
        login = stack.secrets.keyspaces_username, stack.secrets.keyspaces_password
        return cls(stack, HOST, stack.ports.keyspaces_port, *login, stack.ca)


@dataclass(frozen=True)
class RunningS3:
    """What an S3 client needs: `env` for one in a process of its own, `bucket` is there and empty at first."""

    stack: Stack
    url: str
    env: dict[str, str]
    bucket: str


@pytest.fixture(scope="session")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCassandra]:
    stack = Stack(tmp_path_factory.mktemp("cassandra"), Ports.free())
    with serving(stack, "cassandra"):
        yield RunningCassandra.of(stack)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    stack = Stack(tmp_path_factory.mktemp("s3"), Ports.free())
    # delta-rs refuses plain HTTP unless told otherwise.
    env = {**stack.aws_environment(), "AWS_ALLOW_HTTP": "true"}
    with serving(stack, "s3"):
        client = boto3.client(
            "s3",
            endpoint_url=stack.s3_url,
            region_name=REGION,
            aws_access_key_id=stack.secrets.aws_access_key_id,
            aws_secret_access_key=stack.secrets.aws_secret_access_key,
        )
        client.create_bucket(Bucket="tests", CreateBucketConfiguration={"LocationConstraint": REGION})
        yield RunningS3(stack, stack.s3_url, env, "tests")
