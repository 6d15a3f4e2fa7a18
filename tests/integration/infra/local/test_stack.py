"""The stack goes up, comes back after any kill, and goes down whole."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.local import processes, stack
from infra.local.settings import HOST, Ports, Stack, StackError
from infra.local.supervision import Supervisor

pytestmark = [pytest.mark.integration, pytest.mark.alone]

PARTS = ("cassandra", "s3")


@pytest.fixture
def this(tmp_path: Path) -> Iterator[Stack]:
    this = Stack(tmp_path / "home", Ports.free())
    yield this
    stack.down(this)


def up(this: Stack) -> list[str]:
    said: list[str] = []
    stack.up(this, said.append, only=PARTS)
    return said


def running(this: Stack) -> dict[str, int]:
    return {
        name: state.pid for name, state in Supervisor(this).states().items() if state.name in {"STARTING", "RUNNING"}
    }


def test_up_kill_up_down(this: Stack) -> None:
    assert sorted(line.split()[0] for line in up(this)) == list(PARTS)
    assert this.home.stat().st_mode & 0o777 == 0o700
    first = running(this)
    assert set(first) == set(PARTS)

    # Up already: nothing is started again.
    up(this)
    assert running(this) == first

    # A part is killed: it alone is started again.
    store = psutil.Process(first["s3"])
    store.kill()
    psutil.wait_procs([store], timeout=5)
    up(this)
    second = running(this)
    assert second["s3"] != first["s3"]
    assert second["cassandra"] == first["cassandra"]

    # The supervisor is killed, and leaves its parts with the ports: they are ended and started anew.
    supervisor = Supervisor(this).pid()
    assert supervisor
    os.kill(supervisor, signal.SIGKILL)
    up(this)
    assert set(running(this)) == set(PARTS)
    assert not set(running(this).values()) & set(second.values())

    begun = time.monotonic()
    stack.down(this)
    assert time.monotonic() - begun < 20
    assert processes.of_stack(this.home) == []
    assert set(stack.status(this).values()) == {"stopped"}
    assert not stack.is_up(this)
    stack.down(this)


def test_a_taken_port_is_told_before_anything_is_started(this: Stack) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        other = Stack(this.home, Ports(**{**this.ports.__dict__, "keyspaces_port": taken.getsockname()[1]}))
        with pytest.raises(StackError, match="KEYSPACES_PORT=NUMBER"):
            up(other)
    assert processes.of_stack(this.home) == []


def test_a_part_that_does_not_start_is_told_with_its_last_line(this: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a JDK no part starts; the supervisor passes JAVA_HOME on to its parts.
    monkeypatch.setenv("JAVA_HOME", str(this.home / "nowhere"))
    with pytest.raises(StackError, match=r"does not start: JAVA_HOME=.*nowhere has no bin/java"):
        up(this)
