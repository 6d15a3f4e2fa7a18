"""Ports are looked at before anything is started, and a sweep ends all of one stack and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import processes
from infra.local.settings import HOST, MARK, Ports, StackError

pytestmark = pytest.mark.unit

SLEEP = "import time; print(flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
# A child in a session of its own whose parent ends at once, as a killed supervisor leaves them.
ORPHANING = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        process.kill()
        process.communicate()


def start(started: list[subprocess.Popen[str]], home: Path, code: str) -> subprocess.Popen[str]:
    environment = {**os.environ, MARK: str(home)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    started.append(process)
    assert process.stdout
    process.stdout.readline()
    return process


def test_a_taken_port_is_named_with_its_holder_and_its_variable() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        ports = Ports(**{**Ports.free().__dict__, "s3_port": taken.getsockname()[1]})
        with pytest.raises(StackError) as refused:
            processes.check_ports(ports, ["keyspaces_port", "s3_port"])
    assert f"Port {ports.s3_port} is taken by" in str(refused.value)
    assert f"(process {os.getpid()})" in str(refused.value)
    assert "S3_PORT=NUMBER" in str(refused.value)


def test_a_port_of_a_part_that_is_not_started_may_be_taken() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        ports = Ports(**{**Ports.free().__dict__, "s3_port": taken.getsockname()[1]})
        processes.check_ports(ports, ["keyspaces_port"])


def test_two_parts_on_one_port_are_refused() -> None:
    with pytest.raises(StackError, match="AWS_PORT and S3_PORT are the same port 5055"):
        processes.check_ports(Ports(s3_port=5055), [])


def test_a_sweep_ends_one_stack_only(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    mine, stubborn = start(started, tmp_path / "a", SLEEP), start(started, tmp_path / "a", STUBBORN)
    other = start(started, tmp_path / "ab", SLEEP)
    start(started, tmp_path / "a", ORPHANING)
    assert len(processes.of_stack(tmp_path / "a")) >= 3
    processes.sweep(tmp_path / "a")
    assert processes.of_stack(tmp_path / "a") == []
    assert mine.wait(1) == -15
    assert stubborn.wait(1) == -9
    assert other.poll() is None


def test_the_caller_and_its_ancestors_are_spared(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "inner = 'from pathlib import Path; from infra.local import processes; processes.sweep(Path(sys.argv[1]))'\n"
        "sys.exit(subprocess.run([sys.executable, '-c', 'import sys; ' + inner, sys.argv[1]]).returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, MARK: str(tmp_path)}, check=False
    )
    assert done.returncode == 0
