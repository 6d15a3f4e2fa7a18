"""The parts of the stack: how each is run, and how one sees that it answers."""

from __future__ import annotations

import datetime as dt
import os
import urllib.error
import urllib.request
from typing import NoReturn

from infra.local import airflow, s3
from infra.local.settings import VENV, Stack, StackError

SERVERS = ("cassandra", "s3", "aws")
AIRFLOW = tuple(airflow.COMMANDS)
PARTS = (*SERVERS, *AIRFLOW)
# Airflow itself takes a process whose last heartbeat is older for dead.
LAST_SIGN_OF_LIFE = dt.timedelta(seconds=30)
# The ports that each part listens on, by their names in settings.Ports.
PORTS = {
    "cassandra": ("keyspaces_port", "cassandra_storage_port"),
    "s3": ("s3_port",),
    "aws": ("aws_port",),
    "airflow-api-server": ("airflow_port",),
}


def serve(stack: Stack, part: str) -> NoReturn:
    """Replace this process by a part of the stack; StackError if there is no such part."""
    if part == "cassandra":
        # Imported here: the driver and the cryptography under it cost 0.3 s, and every process of the stack comes by.
        from infra.local.cassandra import server  # noqa: PLC0415

        server.serve(stack)
    elif part == "s3":
        s3.serve(stack)
    elif part == "aws":
        python = str(VENV / "bin" / "python")
        os.execv(python, [python, "-m", "infra.local.aws"])  # noqa: S606 - no shell is wanted: signals must reach it
    elif part in AIRFLOW:
        airflow.serve(stack, part)
    else:
        raise _no_part(part)


def is_ready(stack: Stack, part: str, started: dt.datetime) -> bool:
    """Whether a part that was started then answers its clients now."""
    if part == "cassandra":
        from infra.local import cassandra  # noqa: PLC0415 - as above

        return cassandra.is_ready(stack)
    if part == "s3":
        # Unsigned, so refused: but by S3.
        return _answers(stack.s3_url, 403)
    if part == "aws":
        return _answers(f"{stack.aws_url}/moto-api/", 200)
    return airflow.is_ready(stack, part, started)


def answers(stack: Stack, part: str) -> bool:
    """Whether a part answers its clients, whoever has started it and when."""
    if part not in PARTS:
        raise _no_part(part)
    return is_ready(stack, part, dt.datetime.now(dt.UTC) - LAST_SIGN_OF_LIFE)


def _answers(url: str, status: int) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - an address of our own
            return int(answer.status) == status
    except urllib.error.HTTPError as refused:
        return refused.code == status
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _no_part(part: str) -> StackError:
    return StackError(f"There is no part {part!r}: the parts are {', '.join(PARTS)}.")
