"""What the tests of several folders share: free ports, and parts of the stack run by themselves."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from infra.local import parts
from infra.local.aws.faults import CAPACITY, PATH, SPOT_LOSS
from infra.local.settings import REGION, ROOT, Stack

START_SECONDS = 120.0


def committed_on(table: Path, version: int, moment: dt.datetime) -> None:
    """Let a commit of a Delta table be of another moment than now."""
    log = table / "_delta_log" / f"{version:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "commitInfo" in action:
            action["commitInfo"]["timestamp"] = int(moment.timestamp() * 1000)
    log.write_text("\n".join(map(json.dumps, actions)) + "\n")
    (log.parent / f".{log.name}.crc").unlink(missing_ok=True)  # Hadoop's, of what was there


@contextmanager
def serving(stack: Stack, part: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A part of a stack, running and answering; killed at the end if it is still there."""
    stack.logs.mkdir(parents=True, exist_ok=True)
    log = stack.logs / f"{part}.log"
    begun = dt.datetime.now(dt.UTC)
    with log.open("a") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.local", "serve", part],
            cwd=ROOT,
            env={**stack.process_environment(), **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not parts.is_ready(stack, part, begun):
            assert process.poll() is None, f"{part} ended with {process.returncode}: {last_lines(log)}"
            assert time.monotonic() < deadline, f"{part} gave no answer: {last_lines(log)}"
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


def last_lines(log: Path, count: int = 5) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:])


@dataclass(frozen=True)
class Faults:
    """What goes wrong on purpose in the local AWS of a stack: its resource /faults (infra/local/aws/faults.py)."""

    stack: Stack

    def put(self, **counts: int) -> None:
        """Throttle so many calls of these actions of EMR (DescribeStep=3), and give so many clusters no `capacity`."""
        named = {name if name == CAPACITY else f"elasticmapreduce.{name}": count for name, count in counts.items()}
        self._ask("PUT", PATH, named)

    def left(self) -> dict[str, int]:
        """What of that has not come yet."""
        return {name.removeprefix("elasticmapreduce."): count for name, count in self._ask("GET", PATH).items()}

    def lose_instances(self, cluster_id: str) -> None:
        self._ask("POST", f"{SPOT_LOSS}{cluster_id}")

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, int]:
        request = AWSRequest(method, f"{self.stack.aws_url}{path}", data=json.dumps(body) if body is not None else "")
        secrets = self.stack.secrets
        SigV4Auth(Credentials(secrets.aws_access_key_id, secrets.aws_secret_access_key), "faults", REGION).add_auth(
            request
        )
        answer = httpx.request(method, request.url, content=request.data, headers=dict(request.headers), timeout=30)
        answer.raise_for_status()
        return dict(answer.json())
