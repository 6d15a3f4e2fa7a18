"""Processes of a node or a task: each in a session of its own, recorded in a file, so that all of it can be ended."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.local.settings import MARK

log = logging.getLogger(__name__)

# A JVM that was told to end closes its Spark context; what takes longer than this is not going to end by itself.
GRACE_SECONDS = 5.0
POLL_SECONDS = 0.05
# psutil derives start times from the wall clock, which may have been set since.
CLOCK_SECONDS = 1.0


@dataclass(frozen=True)
class Session:
    """A session of processes: its leader's pid, when that started (seconds since the epoch), and the stack's folder.

    A session, not a process group: PySpark's worker daemon makes a group of its own.
    """

    pid: int
    started: float
    stack: str

    def members(self) -> list[psutil.Process]:
        """Find the living processes of this session; none if another program has got the leader's number since."""
        leader = self._leader_is_ours()
        if leader is False:
            return []
        found = []
        for process in psutil.process_iter():
            try:
                ours = os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE
                # Without its leader a session is known by what every process of a stack carries.
                if ours and (leader or process.environ().get(MARK) == self.stack):
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it ended while we looked, or it is another user's
        return found

    def _leader_is_ours(self) -> bool | None:
        """None: the leader has ended (what it started may live on)."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < CLOCK_SECONDS
        except psutil.NoSuchProcess:
            return None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the session."""
        for process in self.members():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def end(self, grace: float = GRACE_SECONDS) -> None:
        """End the session: TERM, and KILL for what is left after `grace` seconds; without grace, KILL at once.

        Returns when nothing of it lives.
        """
        self.signal(signal.SIGTERM if grace > 0 else signal.SIGKILL)
        deadline = time.monotonic() + grace
        while self.members():
            if time.monotonic() >= deadline:
                self.signal(signal.SIGKILL)
            time.sleep(POLL_SECONDS)


def start(
    argv: Sequence[str], environment: Mapping[str, str], folder: Path, logs: Path, records: Path
) -> tuple[subprocess.Popen[bytes], Session]:
    """Start a program in a new session, its output in `logs`/stdout and stderr, and record it in `records`.

    The environment is the program's whole one and has to carry MARK. OSError where the program can't be started.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / "stdout").open("ab") as out, (logs / "stderr").open("ab") as err:
        process = subprocess.Popen(
            argv,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    session = Session(process.pid, psutil.Process(process.pid).create_time(), environment[MARK])
    records.mkdir(parents=True, exist_ok=True)
    (records / f"{process.pid}.json").write_text(json.dumps(session.__dict__))
    return process, session


def recorded(records: Path) -> list[Session]:
    """Read the sessions recorded in a folder; a record that was cut short by a crash is reported and left out."""
    found = []
    for file in sorted(records.glob("*.json")):
        try:
            found.append(Session(**json.loads(file.read_text())))
        except (json.JSONDecodeError, TypeError):
            log.warning("%s is not a whole record of a process: `make stop` finds what it was about", file)
    return found


def end_all(sessions: Sequence[Session], grace: float = GRACE_SECONDS) -> None:
    """End several sessions in the time of one."""
    for session in sessions:
        session.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace
    for session in sessions:
        session.end(max(0.0, deadline - time.monotonic()))


def records_of(folder: Path) -> Path:
    """Name the folder in which the processes of a node, or of a task, are recorded; `folder` is all that it has."""
    return folder / "processes"


def remove(folder: Path, grace: float = GRACE_SECONDS) -> None:
    """End what runs in the folder of a node or of a task, and remove it."""
    end_all(recorded(records_of(folder)), grace)
    if folder.exists():
        shutil.rmtree(folder)


def remove_leftovers(folders: Path, pattern: str) -> list[str]:
    """End and remove what a local AWS left behind in these folders when it was killed; their names."""
    left = sorted(path for path in folders.glob(pattern) if path.is_dir())
    for folder in left:
        remove(folder, grace=0.0)  # nobody waits for what they do any more, but the whole stack for us
    return [folder.name for folder in left]
