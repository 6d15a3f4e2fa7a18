"""A local AWS with moto's own S3 beside its EMR, and what tests ask of it."""

import gzip
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from moto.core.base_backend import BackendDict

from infra.local.aws.server import LocalAws
from infra.local.settings import BUCKET, HOST, REGION, Ports, Stack

DEADLINE_SECONDS = 15.0
LOG_URI = f"s3://{BUCKET}/elasticmapreduce/"


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def wait_until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
    """Poll until a condition holds; what it returned. Fails after some seconds, saying what it waited for."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not seen within {seconds} s: {what}"
        time.sleep(0.02)
    return found


@dataclass
class Cloud:
    """The running AWS and what the tests ask of it."""

    stack: Stack
    clock: Clock
    aws: LocalAws

    def client(self, service: str, region: str = REGION) -> Any:
        role = self.stack.aws_environment()
        return boto3.client(
            service,
            endpoint_url=role["AWS_ENDPOINT_URL"],
            region_name=region,
            aws_access_key_id=role["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=role["AWS_SECRET_ACCESS_KEY"],
        )

    def run(self, *steps: dict[str, Any], bootstrap: str = "", keep: bool = True, **request: Any) -> str:
        """Start a cluster; its id. `bootstrap`: text of a script, put into S3."""
        if bootstrap:
            self.client("s3").put_object(Bucket=BUCKET, Key="boot.sh", Body=bootstrap.encode())
            path = {"Path": f"s3://{BUCKET}/boot.sh", "Args": ["--first", "an argument"]}
            request["BootstrapActions"] = [{"Name": "boot", "ScriptBootstrapAction": path}]
        instances = {
            "InstanceGroups": [{"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}],
            "KeepJobFlowAliveWhenNoSteps": keep,
            **request.pop("Instances", {}),
        }
        emr = request.pop("emr", None) or self.client("emr")
        answer = emr.run_job_flow(
            Name="test", LogUri=LOG_URI, ReleaseLabel="emr-7.13.0", Instances=instances, Steps=list(steps), **request
        )
        return str(answer["JobFlowId"])

    def add(self, cluster: str, *steps: dict[str, Any]) -> list[str]:
        return list(self.client("emr").add_job_flow_steps(JobFlowId=cluster, Steps=list(steps))["StepIds"])

    def status(self, cluster: str) -> dict[str, Any]:
        return dict(self.client("emr").describe_cluster(ClusterId=cluster)["Cluster"]["Status"])

    def step(self, cluster: str, step: str) -> dict[str, Any]:
        return dict(self.client("emr").describe_step(ClusterId=cluster, StepId=step)["Step"]["Status"])

    def steps(self, cluster: str) -> dict[str, str]:
        """States of a cluster's steps by name."""
        found = self.client("emr").list_steps(ClusterId=cluster)["Steps"]
        return {step["Name"]: step["Status"]["State"] for step in found}

    def wait_for(self, cluster: str, *states: str) -> dict[str, Any]:
        return dict(
            wait_until(
                lambda: (status := self.status(cluster))["State"] in states and status, f"cluster {' or '.join(states)}"
            )
        )

    def wait_for_step(self, cluster: str, step: str, *states: str) -> dict[str, Any]:
        return dict(
            wait_until(
                lambda: (status := self.step(cluster, step))["State"] in states and status,
                f"step {' or '.join(states)}",
            )
        )

    def log(self, key: str) -> str:
        """A log that EMR has put away, by its key under LogUri."""
        body = self.client("s3").get_object(Bucket=BUCKET, Key=f"elasticmapreduce/{key}")["Body"].read()
        return gzip.decompress(body).decode()


def shell(name: str, script: str, action: str = "CONTINUE") -> dict[str, Any]:
    """A step that runs a line of shell."""
    jar = {"Jar": "command-runner.jar", "Args": ["bash", "-c", script]}
    return {"Name": name, "ActionOnFailure": action, "HadoopJarStep": jar}


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    port = free_port()
    stack = Stack(tmp_path / "stack", Ports(aws_port=port, s3_port=port))
    clock = Clock()
    aws = LocalAws(stack, clock)
    aws.start()
    made = Cloud(stack, clock, aws)
    made.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield made
    aws.stop()
    BackendDict.reset()  # moto's books are the process's: the next test starts with empty ones
