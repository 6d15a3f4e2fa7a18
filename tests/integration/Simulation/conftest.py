"""Workers as processes of their own, as ECS runs them, against a server with a table and a local S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest

from infra.local.settings import ROOT
from Simulation.results import Results
from Simulation.store import Bucket
from tests.integration.conftest import RunningS3
from tests.integration.online.conftest import KEYSPACE, Table, capacity, filled, served, table
from tests.integration.sync.conftest import environment

__all__ = ["capacity", "filled", "served", "table"]  # fixtures


@dataclass
class Ended:
    """A worker that has ended; its output is looked at for what is secret in it."""

    status: int
    out: str
    log: str

    @property
    def summary(self) -> dict[str, Any]:
        (line,) = self.out.splitlines()
        return dict(json.loads(line))


@dataclass
class Worker:
    process: subprocess.Popen[str]
    secret: str

    def end(self, seconds: float = 60) -> Ended:
        out, log = self.process.communicate(timeout=seconds)
        assert self.secret not in out + log
        return Ended(self.process.returncode, out, log)


@dataclass
class Simulation:
    """A name of its own, and the workers that were started of it."""

    table: Table
    s3: RunningS3
    store: Bucket
    name: str = field(default_factory=lambda: f"run-{uuid.uuid4().hex[:8]}")
    started: list[Worker] = field(default_factory=list)

    def start(self, line: str, environ: dict[str, str] | None = None, **other: Any) -> Worker:
        """Start a worker; `other` are arguments in place of those that all have."""
        given = {"bucket": self.s3.bucket, "name": self.name, "worker": 0, "workers": 1, "keyspace": KEYSPACE, **other}
        arguments = [text for name, value in given.items() for text in (f"--{name}", str(value))]
        process = subprocess.Popen(
            [sys.executable, "-m", "Simulation.worker", *arguments, *line.split()],
            cwd=ROOT,
            env={**os.environ, **self.s3.env, **environment(self.table.cassandra), **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(Worker(process, self.table.cassandra.password))
        return self.started[-1]

    def results(self) -> Results:
        return Results.load(self.store, self.name)

    def until(self, condition: Callable[[list[str]], bool], seconds: float = 60) -> None:
        """Wait until the keys of its files are so."""
        deadline = time.monotonic() + seconds
        while not condition([entry.key for entry in self.store.list(f"simulation_results/{self.name}/")]):
            assert time.monotonic() < deadline
            assert all(worker.process.poll() is None for worker in self.started), self.started[0].end().log
            time.sleep(0.1)


@pytest.fixture
def simulation(table: Table, s3: RunningS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    boto3.setup_default_session()
    made = Simulation(table, s3, Bucket(s3.bucket))
    yield made
    for worker in made.started:
        worker.process.kill()
        worker.process.wait()
