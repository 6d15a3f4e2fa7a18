"""Feast, as the benchmark of reads runs it: its environment, its rows, its readers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

from benchmarks import data
from benchmarks.features import LOGS
from benchmarks.online_store import RIVALS_KEYSPACE, Rows
from benchmarks.online_worker import ROOT, Worker
from benchmarks.sync_server import Server

FEAST = ("store", "features")  # its ways, as benchmarks.online_feast names them
VENV = data.DATA.parent / "feast-venv"
QUIET = {"FEAST_USAGE": "False"}  # it would tell its makers
LOCK = ROOT / "benchmarks" / "feast.lock"


class Feast:
    """Feast in an environment of its own. Where it can't be had, `why_not` says why, and nothing else happens."""

    def __init__(self, made: Rows, say: Callable[[str], None]) -> None:
        """Make its environment, once for each state of its lock."""
        self.why_not = ""
        self._made, self._say = made, say
        self._python = VENV / "bin" / "python"
        mark = VENV / "made_of"
        if mark.exists() and mark.read_text() == LOCK.read_text():
            return
        say("Feast: its environment (made once)")
        shutil.rmtree(VENV, ignore_errors=True)
        uv = str(ROOT / ".venv" / "bin" / "uv")
        self._run("can't be installed", [uv, "venv", "--quiet", "--python", sys.executable, str(VENV)])
        sync = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(self._python), str(LOCK)]
        self._run("can't be installed", sync)
        if not self.why_not:
            mark.write_text(LOCK.read_text())

    def load(self, server: Server) -> None:
        """Write the newest rows, by Feast itself."""
        self._say("Feast: the newest rows, written by itself")
        self._run("can't write", self._command("load"), server)

    def reader(self, way: str, server: Server) -> Worker:
        """Start what reads in one of its ways."""
        where = ["--server", str(server.process.pid), "--entities", str(self._made.names)]
        environment = {**server.environment, **QUIET}
        return Worker([*self._command(way), *where], environment, LOGS / f"online_feast_{way}.log")

    def _command(self, way: str) -> list[str]:
        where = ["--keyspace", RIVALS_KEYSPACE, "--newest", str(self._made.newest)]
        return [str(self._python), "-m", "benchmarks.online_feast", way, *where]

    def _run(self, what: str, command: Sequence[str], server: Server | None = None) -> None:
        if self.why_not:
            return
        environment = {**os.environ, **QUIET, **(server.environment if server else {})}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            self.why_not = f"it {what}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
