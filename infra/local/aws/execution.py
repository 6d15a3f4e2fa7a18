"""One program that EMR runs on a node, a step or a bootstrap action, with its logs on the node and in S3."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from moto.core.utils import utcnow

from infra.local.aws import sessions
from infra.local.aws.node import Node
from infra.local.aws.s3 import S3

# What a shell says of a program that it can't start.
NOT_STARTED = 127


class Execution:
    """A program of a cluster; its logs are in <node>/logs/<where>, and at its end under <LogUri>/<cluster>/<where>."""

    def __init__(self, node: Node, s3: S3, log_uri: str | None, where: str) -> None:
        """Name an execution (`where`: as EMR lays out its logs, steps/<id> for one); nothing runs yet."""
        self.where = where
        self.folder = node.logs / where
        self._node = node
        self._s3 = s3
        self._logs = f"{log_uri.rstrip('/')}/{node.cluster_id}/{where}" if log_uri else ""
        self._process: subprocess.Popen[bytes] | None = None
        self._session: sessions.Session | None = None

    def start(self, argv: Sequence[str], step_id: str = "") -> None:
        """Start the program; one that can't be started ends at once with status 127, and stderr says why."""
        local = [self._node.localize(argument) for argument in argv]
        self.note(f"INFO startExec {local}")
        try:
            self._process, self._session = self._node.start(local, self.folder, step_id)
        except OSError as error:
            self.note(f"ERROR {error}")
            (self.folder / "stderr").write_text(f"{error}\n")

    def wait(self) -> int:
        """Wait for the end of the program; its exit status."""
        status = self._process.wait() if self._process else NOT_STARTED
        self.note(f"INFO ended with {status}")
        return status

    def stop(self, grace: float) -> None:
        """End the program and all that it has started; returns when nothing of it lives."""
        if self._session:
            self._session.end(grace)

    def put_logs(self) -> None:
        """Put the logs away in S3, if the cluster has a LogUri."""
        if self._logs:
            self._s3.put_logs(self.folder, self._logs)

    def failure(self, status: int) -> dict[str, str]:
        """Describe a failure as EMR's FailureDetails: the exit status, the last line of stderr, where the rest is."""
        said = (self.folder / "stderr").read_text(errors="replace").strip().splitlines()
        message = f"Exit code {status}: {said[-1][:400]}" if said else f"Exit code {status}"
        details = {"Reason": "Unknown Error.", "Message": message}
        return {**details, "LogFile": f"{self._logs}/stderr.gz"} if self._logs else details

    def note(self, line: str) -> None:
        """Add a line to EMR's own log of this execution, `controller`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "controller").open("a") as out:
            out.write(f"{utcnow().isoformat(timespec='milliseconds')}Z {line}\n")
