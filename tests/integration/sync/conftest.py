"""A table of features that tests change, and an online table of its own for each of them."""

from __future__ import annotations

import datetime as dt
import subprocess
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from feature_store import endpoint, online
from feature_store.arrow_readings import schema
from feature_store.calendar import DayRange, parse_day
from feature_store.energy import ENERGY
from feature_store.function import Type
from feature_store.sync import certificates
from feature_store.sync.certificates import Certificate
from feature_store.view import FeatureView
from infra.local.settings import REGION, Ports, Stack
from spark_jobs import schema as schema_job
from spark_jobs import sync
from tests.integration.capacity import CONSUMED
from tests.integration.conftest import RunningCassandra
from tests.support import serving

FIRST = dt.date(2014, 2, 1)


def day(number: int) -> dt.date:
    """A day of these tests, from 0."""
    return FIRST + dt.timedelta(days=number)


def features(ids: Sequence[str], days: Iterable[dt.date], seed: int = 0, view: FeatureView = ENERGY) -> pa.Table:
    """Rows of features as they might be: every type, and nulls."""
    days = list(days)
    random, count = np.random.default_rng(seed), len(ids) * len(days)
    columns = []
    for column in view.columns:
        if column.type is Type.TEXT:
            columns.append(pa.array(np.repeat(np.array(ids, dtype=object), len(days)), pa.string()))
        elif column.type is Type.DATE:
            columns.append(pa.array(days * len(ids), pa.date32()))
        elif column.type is Type.DOUBLE:
            columns.append(pa.array(random.standard_normal(count) * 1e3, mask=random.random(count) < 0.1))
        else:
            columns.append(pa.array(random.integers(-5, 2**31 - 1, count), mask=random.random(count) < 0.1))
    return pa.table(columns, [column.name for column in view.columns]).cast(schema(view.columns))


@dataclass
class Lake:
    """A Delta table of features."""

    uri: str
    view: FeatureView = ENERGY

    def put(self, rows: pa.Table) -> int:
        """Replace the days that the rows are of, all at once as featurize does; the version that this makes."""
        there = pc.unique(rows[self.view.day].combine_chunks()).to_pylist()
        self.replace(rows, min(there), max(there))
        return self.version

    def replace(self, rows: pa.Table, first: dt.date, last: dt.date) -> None:
        if not Path(self.uri).exists():
            write_deltalake(self.uri, rows)
            return
        where = f"{self.view.day} >= '{first}' AND {self.view.day} <= '{last}'"
        write_deltalake(self.uri, rows, mode="overwrite", predicate=where)

    @property
    def version(self) -> int:
        return int(DeltaTable(self.uri).version())

    def rows(self, version: int | None = None) -> dict[tuple[str, dt.date], dict[str, Any]]:
        """All rows by key, nulls as None."""
        found = DeltaTable(self.uri, version=version).to_pyarrow_table()
        return {(row[self.view.entity], row[self.view.day]): row for row in found.to_pylist()}


@dataclass
class Online:
    """An online table, looked at with the driver alone."""

    connection: online.Connection
    keyspace: str
    view: FeatureView = ENERGY

    @property
    def table(self) -> str:
        return f'"{self.keyspace}"."{self.view.name}"'

    def rows(self) -> dict[tuple[str, dt.date], dict[str, Any]]:
        """All rows by key."""
        found = self.connection.session.execute(f"SELECT * FROM {self.table}")
        return {
            (row[self.view.entity], row[self.view.day].date()): {**row, self.view.day: row[self.view.day].date()}
            for row in found
        }

    def written(self) -> dict[tuple[str, dt.date], int]:
        """When each row was written, in microseconds, by the server."""
        found = self.connection.session.execute(
            f"SELECT id, day_date, WRITETIME(energy_sum) AS s, WRITETIME(energy_sum_1yr) AS y, "
            f"WRITETIME(energy_mean) AS m, WRITETIME(energy_count_1yr) AS c FROM {self.table}"
        )
        return {
            (row["id"], row["day_date"].date()): max(filter(None, (row["s"], row["y"], row["m"], row["c"])), default=0)
            for row in found
        }

    def counted(self) -> dict[str, Any]:
        """What the server has counted of the table: requests taken and refused, their units and bytes."""
        found = self.connection.session.execute(CONSUMED, [self.keyspace, self.view.name]).one()
        return found or dict.fromkeys(("writes", "writes_refused", "written_units", "bytes_written"), 0)

    def run(self, statement: str) -> None:
        self.connection.session.execute(statement.replace("TABLE", self.table))


@dataclass
class Store:
    """A lake and its online table."""

    lake: Lake
    online: Online

    @property
    def known(self) -> dict[dt.date, Certificate]:
        return certificates.known(self.lake.uri, f"{self.online.keyspace}.{self.lake.view.name}")

    def arguments(self, days: str | None, **arguments: Any) -> Namespace:
        first, _, last = (days or "").partition("..")
        chosen = DayRange(parse_day(first), parse_day(last or first)) if days else None
        names = ("features_version", "budget", "certificate", "metrics")
        defaults = {**dict.fromkeys(names), "changed": False, "whole": "no"}
        of = {"view": self.lake.view, "features": self.lake.uri, "keyspace": self.online.keyspace}
        return Namespace(days=chosen, **{**defaults, **of, "table": self.lake.view.name, **arguments})

    def sync(self, days: str | None = None, **arguments: Any) -> dict[str, Any]:
        return sync.run(self.arguments(days, **arguments))

    def equal(self, days: Iterable[dt.date]) -> None:
        """What is online is what Delta has of these days, and nothing else."""
        wanted = set(days)
        assert self.online.rows() == {key: row for key, row in self.lake.rows().items() if key[1] in wanted}


def environment(cassandra: RunningCassandra) -> dict[str, str]:
    """Where the online store is, as variables."""
    return {
        "KEYSPACES_HOST": cassandra.host,
        "KEYSPACES_PORT": str(cassandra.port),
        "KEYSPACES_USERNAME": cassandra.username,
        "KEYSPACES_PASSWORD": cassandra.password,
        "KEYSPACES_CA": str(cassandra.ca),
        "AWS_DEFAULT_REGION": REGION,
    }


@contextmanager
def server(path: Path, **other: str) -> Iterator[tuple[RunningCassandra, subprocess.Popen[bytes]]]:
    """A server of a test's own."""
    stack = Stack(path, Ports.free())
    with serving(stack, "cassandra", **other) as running:
        yield RunningCassandra.of(stack), running


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunningCassandra], None]:
    """Let jobs find an online store."""

    def put(cassandra: RunningCassandra) -> None:
        monkeypatch.delenv("AWS_REGION", raising=False)
        for name, value in environment(cassandra).items():
            monkeypatch.setenv(name, value)

    return put


@pytest.fixture(scope="session")
def connection(cassandra: RunningCassandra) -> Iterator[online.Connection]:
    made = connect(cassandra)
    yield made
    made.close()


def connect(cassandra: RunningCassandra) -> online.Connection:
    login = endpoint.Login(cassandra.username, cassandra.password)
    where = endpoint.Endpoint(cassandra.host, cassandra.port, cassandra.ca, REGION, login)
    return online.Connection(endpoint.open_session(where))


def store_of(connection: online.Connection, path: Path, view: FeatureView = ENERGY) -> Store:
    """A lake in a folder, and an online table that the schema job has made."""
    keyspace = f"s{uuid.uuid4().hex[:20]}"
    made = Store(Lake(str(path / "features"), view), Online(connection, keyspace, view))
    schema_job.run(Namespace(view=view, features=made.lake.uri, keyspace=keyspace, table=view.name))
    connection.session.cluster.refresh_schema_metadata()
    return made


@pytest.fixture
def store(
    cassandra: RunningCassandra,
    connection: online.Connection,
    reach: Callable[[RunningCassandra], None],
    tmp_path: Path,
) -> Store:
    reach(cassandra)
    return store_of(connection, tmp_path)


@pytest.fixture
def brief(
    cassandra: RunningCassandra,
    connection: online.Connection,
    reach: Callable[[RunningCassandra], None],
    tmp_path: Path,
) -> Store:
    """One whose online table holds three days."""
    reach(cassandra)
    return store_of(connection, tmp_path, replace(ENERGY, retention=3))
