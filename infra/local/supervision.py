"""The supervisor of a stack's processes (supervisord): its configuration, its start, its XML-RPC on a unix socket."""

from __future__ import annotations

import http.client
import os
import shlex
import socket
import subprocess
import xmlrpc.client
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.files import write_private
from infra.local.settings import RECORD, ROOT, VENV, Stack, StackError

GROUP = "stack"
# Who has not ended by then is killed. Airflow's processes mostly end within 6 s; one scheduler in fourteen never did.
STOP_SECONDS = 10
CALL_SECONDS = 5.0
SHUTTING_DOWN = 6  # the code of its fault (supervisor.xmlrpc.Faults.SHUTDOWN_STATE)
LONGEST_SOCKET_PATH = 107  # sun_path of Linux is 108 bytes, with its final zero
FAILED = {"FATAL", "EXITED", "UNKNOWN"}
# What a caller may set for one start of the stack: the stand-in's capacity, whether waiting tasks are deferred, where
# else Airflow finds DAGs, and where lineage goes.
PASSED_ON = (
    "KEYSPACES_WCU",
    "KEYSPACES_RCU",
    "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST",
    "AIRFLOW__OPENLINEAGE__TRANSPORT",
    RECORD,
)


class SupervisorGoneError(StackError):
    """The supervisor does not answer, or is about to end: the stack is stopped."""


@dataclass(frozen=True)
class PartState:
    """What the supervisor knows of a part: its state, its pid (0 if none), when it was started (Unix seconds)."""

    name: str
    pid: int
    started: int


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CALL_SECONDS)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:  # noqa: ARG002 - the socket is the host
        return _Connection(self._path)


class Supervisor:
    """The supervisord of one stack, running or not."""

    def __init__(self, stack: Stack) -> None:
        """Name the supervisor of a stack; nothing is started."""
        self._stack = stack
        self.socket = stack.home / "supervisor.sock"

    def pid(self) -> int | None:
        """The supervisor's process, or None if none answers."""
        try:
            return int(self._call("getPID"))
        except (SupervisorGoneError, xmlrpc.client.Error):
            return None

    def start_daemon(self, parts: Iterable[str]) -> None:
        """Start the supervisor in the background, every part stopped; StackError with its last line if it can't."""
        if len(os.fsencode(self.socket)) > LONGEST_SOCKET_PATH:
            raise StackError(
                f"{self._stack.home} is too long a path for a unix socket: set FEATURE_STORE_HOME to a shorter one."
            )
        self._stack.logs.mkdir(parents=True, exist_ok=True)
        configuration = self._stack.home / "supervisord.conf"
        write_private(configuration, self._configuration(parts))
        environment = self._stack.process_environment()
        environment |= {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        # Airflow sets the titles of its processes, which would overwrite the mark in the environment that /proc shows.
        environment["SPT_NOENV"] = "1"
        started = subprocess.run(
            [VENV / "bin" / "python", "-m", "supervisor.supervisord", "-c", configuration],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if started.returncode:
            last = (started.stdout + started.stderr).strip().splitlines()[-1:] or ["it said nothing"]
            raise StackError(f"The supervisor did not start: {last[0]} (see {self._stack.logs / 'supervisord.log'}).")

    def states(self) -> dict[str, PartState]:
        """The state of every part, by name; SupervisorGoneError if the stack has been stopped."""
        return {
            info["name"]: PartState(info["statename"], info["pid"], info["start"])
            for info in self._call("getAllProcessInfo")
        }

    def start(self, part: str) -> None:
        """Start a part; whether it stays up is to be seen in its state. SupervisorGoneError as in states."""
        self._call("startProcess", f"{GROUP}:{part}", False)

    def shut_down(self) -> None:
        """Tell the supervisor to end every part, all at the same time, and then itself; returns at once."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: str | bool) -> Any:  # noqa: ANN401 - whatever the method answers
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(self.socket)) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != SHUTTING_DOWN:
                raise
            raise self._gone("it is shutting down") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise self._gone(str(error) or type(error).__name__) from error

    def _gone(self, why: str) -> SupervisorGoneError:
        return SupervisorGoneError(
            f"The stack in {self._stack.home} was stopped, as by `make stop` (its supervisor does not answer: {why}). "
            "`make run` starts it again."
        )

    def _configuration(self, parts: Iterable[str]) -> str:
        home, logs = self._stack.home, self._stack.logs
        parts = list(parts)
        sections: dict[str, dict[str, object]] = {
            "unix_http_server": {"file": self.socket, "chmod": "0700"},
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface",
            },
            "supervisord": {
                "logfile": logs / "supervisord.log",
                "logfile_maxbytes": "5MB",
                "logfile_backups": "1",
                "pidfile": home / "supervisord.pid",
                "directory": ROOT,
                "umask": "077",
            },
            # One group: what is in one is stopped at the same time, groups one after the other.
            f"group:{GROUP}": {"programs": ",".join(parts)},
            **{f"program:{part}": self._program(part) for part in parts},
        }
        return "\n".join(
            "\n".join([f"[{name}]", *(f"{key} = {_escaped(value)}" for key, value in options.items()), ""])
            for name, options in sections.items()
        )

    def _program(self, part: str) -> dict[str, object]:
        return {
            "command": shlex.join([str(VENV / "bin" / "python"), "-m", "infra.local", "serve", part]),
            "directory": ROOT,
            "autostart": "false",
            "autorestart": "true",
            "startsecs": "3",
            "stopsignal": "TERM",
            "stopwaitsecs": STOP_SECONDS,
            # Asked, a part ends its own children; killed, it takes them with it.
            "stopasgroup": "false",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": self._stack.logs / f"{part}.log",
            "stdout_logfile_maxbytes": "20MB",
            "stdout_logfile_backups": "2",
        }


def _escaped(value: object) -> str:
    """A value as supervisord reads it back: it expands what follows a per cent sign."""
    return str(value).replace("%", "%%")
