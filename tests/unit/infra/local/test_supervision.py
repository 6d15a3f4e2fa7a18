"""A supervisor that ends while it is being asked is told in a sentence, not by a traceback."""

from __future__ import annotations

import os
import socket
import threading
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from supervisor.xmlrpc import Faults

from infra.local import __main__ as command
from infra.local import stack, supervision
from infra.local.settings import Ports, Stack, StackError
from infra.local.supervision import Supervisor, SupervisorGoneError

pytestmark = pytest.mark.unit


@pytest.fixture
def this(tmp_path: Path) -> Iterator[Stack]:
    with patch.dict(os.environ, FEATURE_STORE_HOME=str(tmp_path)):  # a command sets variables for its own process
        yield Stack(tmp_path, Ports())


@contextmanager
def answering(this: Stack, *answers: bytes | None) -> Iterator[None]:
    """A supervisor that gives these answers, one a connection (None: it hangs up), and then is gone."""
    path = Supervisor(this).socket
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    asked = b""  # to its end: the client sends its head and its body apart
                    while b"</methodCall>" not in asked and (part := connection.recv(65536)):
                        asked += part
                    if answer is not None:
                        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {len(answer)}\r\n\r\n"
                        connection.sendall(head.encode() + answer)
            listening.close()
            path.unlink()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(5)


def fault(code: int) -> bytes:
    return xmlrpc.client.dumps(xmlrpc.client.Fault(code, "FAULT")).encode()


def test_the_faults_code_is_the_supervisors() -> None:
    assert Faults.SHUTDOWN_STATE == supervision.SHUTTING_DOWN


def test_one_that_is_not_there(this: Stack) -> None:
    assert Supervisor(this).pid() is None
    with pytest.raises(StackError, match=r"was stopped, as by `make stop` .*`make run` starts it again"):
        Supervisor(this).states()


def test_one_that_hangs_up(this: Stack) -> None:
    # xmlrpc asks twice where the connection breaks.
    with answering(this, None, None), pytest.raises(SupervisorGoneError):
        Supervisor(this).states()


def test_one_that_is_shutting_down(this: Stack) -> None:
    with answering(this, fault(Faults.SHUTDOWN_STATE)), pytest.raises(SupervisorGoneError, match="shutting down"):
        Supervisor(this).start("s3")


def test_any_other_fault_is_not_taken_for_a_stop(this: Stack) -> None:
    with answering(this, fault(Faults.SPAWN_ERROR)), pytest.raises(xmlrpc.client.Fault):
        Supervisor(this).start("s3")


def test_a_stop_during_the_start_ends_make_run_with_a_sentence(
    this: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The supervisor is there when `up` begins, and gone when it asks for the parts."""
    monkeypatch.setattr(supervision.Supervisor, "pid", lambda _: 1)
    assert command.main(["run", "--data", str(a_reading(this.home))]) == 2
    said = capsys.readouterr().err
    assert "was stopped" in said
    assert "Traceback" not in said


def test_a_second_stop_at_the_same_time_does_no_harm(this: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision.Supervisor, "pid", lambda _: 2**22 + 1)  # of a process that can't be there
    stack.down(this)


def test_a_stack_that_is_gone_is_stopped(this: Stack) -> None:
    assert set(stack.status(this).values()) == {"stopped"}


def a_reading(folder: Path) -> Path:
    file = folder / "a.csv"
    file.write_text(
        "LCLid,day,energy_median,energy_mean,energy_max,energy_count,energy_std,energy_sum,energy_min\n"
        "MAC1,2014-02-27,1,1,1,48,1,48,1\n"
    )
    return file
