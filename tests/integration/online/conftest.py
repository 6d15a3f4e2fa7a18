"""A server with a table of two days of each entity, and whoever reads it."""

from __future__ import annotations

import datetime as dt
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from feature_store import cql, online
from feature_store.energy import ENERGY
from feature_store.online import Options
from infra.local import cassandra as stand_in
from infra.local.cassandra.faults import Authority, Way
from infra.local.settings import REGION
from tests.integration.capacity import CONSUMED, Capacity
from tests.integration.conftest import RunningCassandra
from tests.integration.sync.conftest import server

KEYSPACE = "reads"
TABLE = f'"{KEYSPACE}"."{ENERGY.name}"'
YESTERDAY = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
IDS = [f"H{number:03}" for number in range(200)]
INSERT = f"INSERT INTO {TABLE} (id, day_date, energy_sum, energy_count) VALUES (%s, %s, %s, %s)"
PATIENT = 20.0  # seconds: of a busy machine, where no test is of the deadline


@dataclass
class Table:
    """A table, whoever reads it, and the server's process."""

    cassandra: RunningCassandra
    process: subprocess.Popen[bytes]
    connection: online.Connection

    def reader(self, **options: Any) -> online.Reader:
        return self.connection.reader(ENERGY, Options(**{"deadline": PATIENT, **options}))

    def run(self, statement: str, *values: Any) -> Any:
        return self.connection.session.execute(statement.replace("TABLE", TABLE), values or None)

    def counted(self) -> tuple[int, int, float]:
        row = self.connection.session.execute(CONSUMED, [KEYSPACE, ENERGY.name]).one() or {}
        return tuple(row.get(name, 0) for name in ("reads", "reads_refused", "read_units"))  # type: ignore[return-value]

    @contextmanager
    def by(self, way: Way, authority: Authority | None = None) -> Iterator[online.Connection]:
        """A connection by a way on which something goes wrong."""
        ca = authority.ca if authority else self.cassandra.ca
        with connect(self.cassandra, port=way.port, ca=ca) as made:
            yield made


def connect(cassandra: RunningCassandra, **other: Any) -> online.Connection:
    where = {"host": cassandra.host, "port": cassandra.port, "ca": cassandra.ca, "region": REGION}
    login = {"username": cassandra.username, "password": cassandra.password}
    return online.connect(**{**where, **login, **other}, keyspace=KEYSPACE)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    stack = tmp_path_factory.mktemp("online") / "stack"
    with server(stack, KEYSPACES_WCU="0") as (cassandra, process), connect(cassandra) as made:
        yield Table(cassandra, process, made)


@pytest.fixture(scope="session")
def filled(served: Table) -> Table:
    cql.apply(served.connection.session, cql.keyspace(KEYSPACE) + cql.table(ENERGY, KEYSPACE))
    for number, entity in enumerate(IDS):
        for back in (1, 0):
            served.run(INSERT, entity, YESTERDAY - dt.timedelta(days=back), number + back / 10, 48)
    return served


@pytest.fixture
def table(filled: Table) -> Table:
    return filled


@pytest.fixture
def capacity(table: Table) -> Iterator[Capacity]:
    stack = table.cassandra.stack
    with stand_in.session(stack, table.cassandra.username, table.cassandra.password) as session:
        made = Capacity(stack, session, 0)
        yield made
        made.set(rcu=0)


def until(condition: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
