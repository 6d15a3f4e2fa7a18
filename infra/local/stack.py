"""Start, stop and look at the whole stack of one machine."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

import psutil

from infra.local import airflow, parts, processes
from infra.local.settings import Stack, StackError
from infra.local.supervision import FAILED, STOP_SECONDS, PartState, Supervisor, SupervisorGoneError

READY_WITHIN = 300.0  # seconds; what fails is told at once, so this only has to be longer than a slow machine takes
POLL_SECONDS = 0.2
RUNNING = {"STARTING", "RUNNING", "BACKOFF"}  # BACKOFF: the supervisor is about to start it again


def up(stack: Stack, on_progress: Callable[[str], None], only: Sequence[str] = parts.PARTS) -> None:
    """Start what is not running, and return when every part answers.

    Args:
        stack: the stack to start; what a killed supervisor of it left behind is ended first. Of one whose parts are
            elsewhere nothing is started.
        on_progress: called with one line whenever a part is ready.
        only: the parts to start.

    Raises:
        StackError: a port is taken, a part does not start or does not answer in time; what runs is left running.
    """
    begun = time.monotonic()
    if stack.is_elsewhere:
        _wait(only, lambda part: parts.answers(stack, part), begun, on_progress, "the logs of their containers")
        return
    with _alone(stack):
        supervisor = Supervisor(stack)
        if supervisor.pid() is None:
            _start_supervisor(stack, supervisor, only)
        else:
            stack.check_ports_kept()
        _start_parts(stack, supervisor, only)
        _wait(
            only,
            lambda part: _is_ready(stack, part, supervisor.states()[part]),
            begun,
            on_progress,
            f"their logs in {stack.logs}",
        )


def down(stack: Stack) -> None:
    """End every process of the stack within 20 seconds; data and logs stay. Does nothing where nothing runs."""
    if stack.is_elsewhere:
        raise StackError("The parts run elsewhere: stop them where they were started (docker compose down).")
    supervisor = Supervisor(stack)
    pid = supervisor.pid()
    if pid is not None:
        with suppress(SupervisorGoneError):  # by another `make stop`, a moment ago
            supervisor.shut_down()
        _wait_for_end(pid, STOP_SECONDS + 2)
    processes.sweep(stack.home)


def status(stack: Stack) -> dict[str, str]:
    """The state of every part: running, stopped, or another of the supervisor's words, in lower case.

    Of parts that are elsewhere: running or silent.
    """
    if stack.is_elsewhere:
        return {part: "running" if parts.answers(stack, part) else "silent" for part in parts.PARTS}
    try:
        states = Supervisor(stack).states()
    except SupervisorGoneError:
        return dict.fromkeys(parts.PARTS, "stopped")
    return {part: state.name.lower() for part, state in states.items()}


def is_up(stack: Stack) -> bool:
    """Whether every part is running."""
    return set(status(stack).values()) == {"running"}


def is_going(stack: Stack) -> bool:
    """Whether nobody has stopped the stack: parts that are elsewhere are not ours to look after."""
    return stack.is_elsewhere or Supervisor(stack).pid() is not None


def check_not_stopped(stack: Stack) -> None:
    """Raise a StackError if the stack has been stopped."""
    if not stack.is_elsewhere:
        Supervisor(stack).states()


def serve(part: str) -> NoReturn:
    """Become one part of the stack that the environment names; what the supervisor runs, and a container."""
    stack = Stack.from_environment()
    os.environ.update(stack.aws_environment())
    parts.serve(stack, part)


def _start_supervisor(stack: Stack, supervisor: Supervisor, only: Sequence[str]) -> None:
    processes.sweep(stack.home)
    processes.check_ports(stack.ports, [port for part in only for port in parts.PORTS.get(part, ())])
    stack.keep_ports()
    supervisor.start_daemon(parts.PARTS)


def _start_parts(stack: Stack, supervisor: Supervisor, only: Sequence[str]) -> None:
    """Start what is down, the servers first: Airflow's database is made while they start."""
    missing = [part for part in only if supervisor.states()[part].name not in RUNNING]
    processes.check_ports(stack.ports, [port for part in missing for port in parts.PORTS.get(part, ())])
    for part in missing:
        if part in parts.SERVERS:
            supervisor.start(part)
    if set(missing) & set(parts.AIRFLOW):
        airflow.write_home(stack)
        airflow.migrate(stack)
    for part in missing:
        if part in parts.AIRFLOW:
            supervisor.start(part)


def _wait(
    names: Sequence[str],
    is_ready: Callable[[str], bool],
    begun: float,
    on_progress: Callable[[str], None],
    where: str,
) -> None:
    """Return when every part is ready, and say so of each; StackError, with where to look, if one is not in time."""
    waiting = list(names)
    while waiting:
        for part in list(waiting):
            if is_ready(part):
                waiting.remove(part)
                on_progress(f"{part} is ready ({time.monotonic() - begun:.1f} s)")
        if waiting and time.monotonic() - begun > READY_WITHIN:
            raise StackError(f"{' and '.join(waiting)} gave no answer within {READY_WITHIN:.0f} s: see {where}.")
        if waiting:
            time.sleep(POLL_SECONDS)


def _is_ready(stack: Stack, part: str, state: PartState) -> bool:
    if state.name in FAILED:
        raise StackError(f"{part} does not start: {_last_line(stack, part)} (all of it: {_log(stack, part)}).")
    started = dt.datetime.fromtimestamp(state.started, dt.UTC)
    return state.name in {"STARTING", "RUNNING"} and parts.is_ready(stack, part, started)


def _log(stack: Stack, part: str) -> str:
    return str(stack.logs / f"{part}.log")


def _last_line(stack: Stack, part: str) -> str:
    log = stack.logs / f"{part}.log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"


def _wait_for_end(pid: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


@contextmanager
def _alone(stack: Stack) -> Iterator[None]:
    """Keep a second `up` of the same stack out; the lock goes with its process, however that ends."""
    stack.home.mkdir(parents=True, exist_ok=True)
    stack.home.chmod(0o700)  # data and logs of everything are in it
    with (stack.home / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise StackError(f"Another process is starting the stack in {stack.home}: wait until it has.") from taken
        yield
