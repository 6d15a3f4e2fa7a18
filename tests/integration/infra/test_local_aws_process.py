"""The local AWS as its own process: it ends cleanly when told, and tidies up after one that was killed."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.local.settings import BUCKET, REGION, ROOT, Ports, Stack
from tests.unit.infra.aws.cloud import alive, free_port, shell, wait_until

pytestmark = pytest.mark.integration

# Ignores TERM, and so does its child: only KILL ends them.
DEAF = "trap '' TERM; (while true; do sleep 0.1; done) & echo $$ $! > {0}.part; mv {0}.part {0}; wait; wait"


class Server:
    """`python -m infra.local.aws` on a free port, with moto's own S3."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.stack = Stack(folder / "stack", Ports(aws_port=port, s3_port=port))
        self.log = folder / "aws.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infra.local.aws"],
                env=self.stack.process_environment(),
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, "the readiness page", 30)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(self.stack.aws_url + "/moto-api/", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def client(self, service: str) -> Any:
        role = self.stack.aws_environment()
        return boto3.client(
            service,
            endpoint_url=self.stack.aws_url,
            region_name=REGION,
            aws_access_key_id=role["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=role["AWS_SECRET_ACCESS_KEY"],
        )

    def run_deaf_step(self, file: Path) -> list[int]:
        """Start a cluster with a step that can only be killed; the pids of its two processes."""
        self.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.client("emr").run_job_flow(
            Name="test",
            LogUri=f"s3://{BUCKET}/logs/",
            Instances={"InstanceCount": 1, "MasterInstanceType": "m5.xlarge", "KeepJobFlowAliveWhenNoSteps": True},
            Steps=[shell("deaf", DEAF.format(file))],
        )
        wait_until(file.exists, "the step runs")
        return [int(pid) for pid in file.read_text().split()]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    assert made.process is not None
    if made.process.poll() is None:
        made.process.terminate()
        made.process.wait(10)


def test_term_ends_it_and_every_step_in_time(server: Server, tmp_path: Path):
    pids = server.run_deaf_step(tmp_path / "pids")
    assert server.process is not None
    began = time.monotonic()
    server.process.terminate()
    assert server.process.wait(10) == 0
    assert time.monotonic() - began < 8
    assert not [pid for pid in pids if alive(pid)]
    assert list((server.stack.home / "emr").iterdir()) == []


def test_it_tidies_up_after_one_that_was_killed(server: Server, tmp_path: Path):
    pids = server.run_deaf_step(tmp_path / "pids")
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    assert all(alive(pid) for pid in pids)
    server.start()
    assert not [pid for pid in pids if alive(pid)]
    assert list((server.stack.home / "emr").iterdir()) == []
    assert "removed what an earlier local AWS left of cluster j-" in server.log.read_text()


def test_a_second_one_leaves_the_first_alone(server: Server, tmp_path: Path):
    pids = server.run_deaf_step(tmp_path / "pids")
    second = subprocess.run(
        [sys.executable, "-m", "infra.local.aws"],
        env={**os.environ, **server.stack.process_environment()},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert second.returncode == 2
    assert "can't be had" in second.stdout
    assert all(alive(pid) for pid in pids)
