"""The life of one task of ECS on Fargate: its container's command runs as a process of this machine."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moto.core.utils import utcnow

from infra.local.aws import sessions
from infra.local.aws.awslogs import Follower, Put
from infra.local.settings import MARK, ROOT, VENV, Stack

log = logging.getLogger(__name__)

STOP_TIMEOUT_SECONDS = 30.0  # from TERM to KILL, where the container does not say: as on ECS
# What a shell, and so ECS, says of a program that was ended by a signal: this and the signal's number.
BY_SIGNAL = 128
FOLDER = "ecs"  # of all tasks, in the stack's
ENDED = "Essential container in task exited"


class NotStartedError(Exception):
    """A task can't be started; the message is ECS's reason."""


@dataclass
class Life:
    """What DescribeTasks says of a task's life; the runner moves it. Names as moto looks for them, times in UTC."""

    last_status: str = "PROVISIONING"
    desired_status: str = "RUNNING"
    stop_code: str = ""
    stopped_reason: str = ""
    exit_code: int | None = None
    times: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Container:
    """What is run: of the task definition and of the request that overrides some of it.

    Attributes:
        name: of the container.
        command: its words.
        environment: what the definition and the request say, without any secret.
        secrets: where the values of variables are, by name: `valueFrom` of the definition.
        stop_timeout: seconds from TERM to KILL.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    stop_timeout: float

    @classmethod
    def of(cls, definition: Mapping[str, Any], override: Mapping[str, Any]) -> Container:
        """Take a container definition and its override, both as the API names their parts."""
        pairs = [*definition.get("environment", []), *override.get("environment", [])]
        return cls(
            definition["name"],
            tuple(override.get("command") or definition.get("command") or ()),
            {pair["name"]: pair["value"] for pair in pairs},
            {secret["name"]: secret["valueFrom"] for secret in definition.get("secrets", [])},
            float(definition.get("stopTimeout", STOP_TIMEOUT_SECONDS)),
        )


class TaskRunner:
    """Runs one task in a thread; the API asks for its end from another."""

    def __init__(  # noqa: PLR0913 - each from another place
        self,
        stack: Stack,
        task_id: str,
        container: Container,
        life: Life,
        *,
        fetch: Callable[[str], str],
        put: Put | None,
    ) -> None:
        """Take a task that is PROVISIONING.

        Args:
            stack: whose task it is.
            task_id: the last part of its ARN.
            container: what it runs.
            life: what is to be told of it.
            fetch: returns the value at a `valueFrom`; NotStartedError if it can't be had.
            put: takes the lines of its log, none when it begins; None if the definition has no log.
        """
        self._stack = stack
        self._container = container
        self._life = life
        self._fetch = fetch
        self._put = put
        self._folder = folder_of(stack, task_id)
        self._lock = threading.Lock()
        self._session: sessions.Session | None = None
        self._stopped = False
        self._grace = container.stop_timeout
        self._thread = threading.Thread(target=self._run, name=task_id, daemon=True)

    def start(self) -> None:
        """Start the task."""
        self._thread.start()

    def stop(self, reason: str, grace: float | None = None) -> None:
        """End the task: TERM, and KILL after its stop timeout, or after `grace` seconds; returns at once."""
        with self._lock:
            if self._life.last_status == "STOPPED":
                return
            self._grace = self._grace if grace is None else min(grace, self._grace)
            if not self._stopped:
                self._stopped = True
                self._life.desired_status = "STOPPED"
                self._life.stop_code, self._life.stopped_reason = "UserInitiated", reason
                self._life.times["stopping_at"] = utcnow()
            if self._session:
                threading.Thread(target=self._session.end, args=(self._grace,), daemon=True).start()

    def join(self, timeout: float) -> None:
        """Wait for the task's end, for so many seconds at most."""
        self._thread.join(timeout)

    def _run(self) -> None:
        follower = Follower(self._folder / "log", self._put) if self._put else None
        status: int | None = None
        try:
            self._move("PENDING")
            process = self._start()
            if process:
                if follower:
                    follower.start()
                status = process.wait()
        except NotStartedError as error:
            self._refuse(f"{error}")
        except (OSError, ValueError) as error:  # ValueError: a word that no program can be given
            self._refuse(f"CannotStartContainerError: {error}")
        finally:
            self._finish(follower, status)

    def _finish(self, follower: Follower | None, status: int | None) -> None:
        self._move("DEPROVISIONING")
        try:
            if follower:
                follower.finish()  # before the state: whoever sees that a task has ended finds all of its log
        finally:  # also of a task whose log nobody takes
            self._remove()
            self._settle(status)

    def _start(self) -> subprocess.Popen[bytes] | None:
        """Start the command; None if the task was stopped before.

        Raises:
            NotStartedError: a secret can't be had, or there is no such command.
        """
        self._life.times["pull_started_at"] = utcnow()
        secrets = {name: self._fetch(where) for name, where in self._container.secrets.items()}
        self._life.times["pull_stopped_at"] = utcnow()
        environment = self._environment(secrets)
        program = shutil.which(self._container.command[0], path=environment["PATH"])
        if program is None:
            raise NotStartedError(
                f"CannotStartContainerError: {self._container.command[0]}: executable file not found in $PATH"
            )
        argv: Sequence[str] = [program, *self._container.command[1:]]
        with self._lock:
            if self._stopped:
                return None
            process, self._session = sessions.start(
                argv, environment, ROOT, self._folder / "log", sessions.records_of(self._folder)
            )
            self._life.last_status = "RUNNING"
            self._life.times["started_at"] = utcnow()
        return process

    def _environment(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """Build the whole environment of the process: the image's part, the definition's, and the role's."""
        temporary = self._folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return {
            # What the image sets (Simulation/Dockerfile), here the project's environment and this stack's authority.
            "PATH": os.pathsep.join([str(VENV / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]),
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "KEYSPACES_CA": str(self._stack.ca),
            **self._container.environment,
            **secrets,
            # On ECS the endpoint of the task role's credentials gives them.
            **self._stack.aws_access(),
            **self._stack.asked_by("simulation"),
            MARK: str(self._stack.home),
        }

    def _move(self, status: str) -> None:
        with self._lock:
            self._life.last_status = status

    def _refuse(self, reason: str) -> None:
        with self._lock:
            self._life.stop_code, self._life.stopped_reason = "TaskFailedToStart", reason

    def _settle(self, status: int | None) -> None:
        with self._lock:
            life = self._life
            if status is not None:
                life.exit_code = BY_SIGNAL - status if status < 0 else status
            if not life.stop_code:
                life.stop_code, life.stopped_reason = "EssentialContainerExited", ENDED
            now = utcnow()
            life.times.setdefault("stopping_at", now)
            life.times["execution_stopped_at"] = life.times["stopped_at"] = now
            life.desired_status = life.last_status = "STOPPED"

    def _remove(self) -> None:
        """End what the command has left running, which ends with its container; nobody waits for it."""
        try:
            sessions.remove(self._folder, grace=0.0)
        except OSError as error:
            log.warning("%s: what is left of the task can't be removed: %s", self._thread.name, error)


def secret_value(where: str, text: Callable[[str], str]) -> str:
    """Find the value at a `valueFrom` (the secret's ARN, and after it :key:stage:version) in a secret's JSON text.

    Args:
        where: the `valueFrom`.
        text: returns the text of a secret by its ARN; LookupError if there is none.

    Raises:
        NotStartedError: there is none, in the words of Fargate.
    """
    parts = where.split(":")
    arn, key = ":".join(parts[:7]), (parts[7:] or [""])[0]
    failed = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed"
    try:
        found = text(arn)
    except LookupError as error:
        raise NotStartedError(
            f"{failed}: unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch "
            f"secret {arn} from secrets manager: ResourceNotFoundException: Secrets Manager can't find the specified "
            "secret."
        ) from error
    if not key:
        return found
    try:
        value = json.loads(found)[key]
    except (ValueError, KeyError, TypeError):
        raise NotStartedError(
            f"{failed}: unable to retrieve secret from asm: service call has been retried 1 time(s): retrieved secret "
            f"from Secrets Manager did not contain json key {key}"
        ) from None  # what the secret is must not be told
    return str(value)


def remove_leftovers(stack: Stack) -> list[str]:
    """End and remove the tasks that a local AWS left behind when it was killed; their ids."""
    return sessions.remove_leftovers(stack.home / FOLDER, "*")


def folder_of(stack: Stack, task_id: str) -> Path:
    """Name the folder of a task."""
    return stack.home / FOLDER / task_id
