"""The processes of a stack, and those of others that hold its ports."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil

from infra.local.settings import HOST, MARK, Ports, StackError

TERM_SECONDS = 2.0
KILL_SECONDS = 3.0
POLL_SECONDS = 0.05


def of_stack(home: Path) -> list[psutil.Process]:
    """Every process that carries this stack's mark in its environment, but the caller and the caller's ancestors."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in psutil.process_iter() if process.pid not in spared and _mark(process) == str(home)]


def sweep(home: Path) -> None:
    """End every process of a stack, whoever is its parent: ask first, then kill; StackError if one can't be ended."""
    for end, seconds in ((psutil.Process.terminate, TERM_SECONDS), (psutil.Process.kill, KILL_SECONDS)):
        found = of_stack(home)
        for process in found:
            try:
                end(process)
            except psutil.NoSuchProcess:
                continue
        if not found or _are_gone(home, seconds):
            return
    left = ", ".join(str(process.pid) for process in of_stack(home))
    raise StackError(f"These processes of the stack in {home} did not end: {left}. End them by hand (kill -9).")


def check_ports(ports: Ports, names: Iterable[str]) -> None:
    """Check that the named ports can be listened on; StackError tells port, holder and the variable to set."""
    twice = [port for port, times in Counter(ports.__dict__.values()).items() if times > 1]
    if twice:
        same = " and ".join(name.upper() for name, port in ports.__dict__.items() if port == twice[0])
        raise StackError(f"{same} are the same port {twice[0]}: give each its own.")
    for name in names:
        port = getattr(ports, name)
        with socket.socket() as probe:
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as the servers do: a port in TIME_WAIT is free
            try:
                probe.bind((HOST, port))
            except OSError as error:
                variable = name.upper()
                raise StackError(
                    f"Port {port} is taken{_holder(port)}: end that, or choose another port with {variable}=NUMBER."
                    if error.errno == errno.EADDRINUSE
                    else f"Port {port} can't be listened on ({error.strerror}): choose another with {variable}=NUMBER."
                ) from error


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except psutil.Error:  # gone meanwhile, a zombie, or another user's
        return None


def _are_gone(home: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while of_stack(home):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _holder(port: int) -> str:
    """Who listens on a port, as far as this user may know."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        return ""
    return ""
