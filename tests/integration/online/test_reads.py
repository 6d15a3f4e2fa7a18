"""Reads from a real server: what they give and ask of it, and what becomes of them when something is wrong there."""

from __future__ import annotations

import datetime as dt
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from feature_store import cql, online
from feature_store.energy import ENERGY
from feature_store.online import Options, State
from infra.local import cassandra as stand_in
from tests.integration.capacity import CONSUMED, Capacity
from tests.integration.conftest import RunningCassandra
from tests.integration.sync.conftest import connect, server
from tests.support import serving

pytestmark = pytest.mark.integration

KEYSPACE = "reads"
TABLE = f'"{KEYSPACE}"."{ENERGY.name}"'
YESTERDAY = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
IDS = [f"H{number:03}" for number in range(200)]
INSERT = f"INSERT INTO {TABLE} (id, day_date, energy_sum, energy_count) VALUES (%s, %s, %s, %s)"


@dataclass
class Table:
    """A table with two days of each entity, and whoever reads it."""

    cassandra: RunningCassandra
    process: subprocess.Popen[bytes]
    connection: online.Connection

    def reader(self, **options: Any) -> online.Reader:
        return online.Connection(self.connection.session, KEYSPACE).reader(ENERGY, Options(**options))

    def counted(self) -> tuple[int, int, float]:
        row = self.connection.session.execute(CONSUMED, [KEYSPACE, ENERGY.name]).one() or {}
        return tuple(row.get(name, 0) for name in ("reads", "reads_refused", "read_units"))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    with server(tmp_path_factory.mktemp("online") / "stack", KEYSPACES_WCU="0") as (cassandra, process):
        made = connect(cassandra)
        cql.apply(made.session, cql.keyspace(KEYSPACE) + cql.table(ENERGY, KEYSPACE))
        for number, entity in enumerate(IDS):
            for back in (1, 0):
                day = YESTERDAY - dt.timedelta(days=back)
                made.session.execute(INSERT, (entity, day, number + back / 10, 48))
        yield Table(cassandra, process, made)
        made.close()


def test_the_newest_row_for_one_read_unit(table: Table) -> None:
    before = table.counted()
    answer = table.reader(features=["energy_sum", "energy_max_1yr"]).get("H007")
    assert (answer.state, answer.day, answer.age) == (State.FOUND, YESTERDAY, 1)
    assert answer.features == {"energy_sum": 7.0, "energy_max_1yr": None}
    after = table.counted()
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 0, 1]
    table.reader(strong=False).get("H007")
    assert table.counted()[2] - after[2] == 0.5


def test_many_and_one_who_is_not_there(table: Table) -> None:
    answers = table.reader(concurrency=16).get_many([*IDS, "nobody"])
    assert [answer.entity for answer in answers] == [*IDS, "nobody"]
    assert [answer.features.get("energy_sum") for answer in answers] == [*map(float, range(200)), None]
    assert answers[-1].state is State.MISSING


def test_what_the_lookup_of_a_whole_row_gives(table: Table) -> None:
    row = online.Connection(table.connection.session, KEYSPACE).latest("H003")
    assert row is not None
    assert list(row) == [column.name for column in ENERGY.columns]
    assert (row["id"], row["day_date"], row["energy_sum"], row["energy_mean"]) == ("H003", YESTERDAY, 3.0, None)


def test_a_table_that_is_not_there(table: Table) -> None:
    with pytest.raises(online.OnlineError, match="The latest energy_data_features can't be asked for: .*nowhere"):
        online.Connection(table.connection.session, "nowhere").reader()


def test_a_row_of_a_day_that_is_not_over(table: Table) -> None:
    table.connection.session.execute(INSERT, ("poisoned", dt.date(2999, 1, 1), 0.0, 0))
    with pytest.raises(online.UnreadableError, match="of 'poisoned' is of 2999-01-01, a day that is not over"):
        table.reader().get("poisoned")
    assert table.reader().get("H001").state is State.FOUND


class TestThrottled:
    @pytest.fixture
    def capacity(self, table: Table) -> Iterator[Capacity]:
        stack = table.cassandra.stack
        with stand_in.session(stack, table.cassandra.username, table.cassandra.password) as session:
            made = Capacity(stack, session, 0)
            yield made
            made.set()

    def test_what_is_refused_is_read_later(self, table: Table, capacity: Capacity) -> None:
        """A second's worth is there at once; twice as much takes a second more."""
        capacity.set(rcu=100)
        refused = table.counted()[1]
        answers = table.reader(deadline=20.0).get_many(IDS)
        assert {answer.state for answer in answers} == {State.FOUND}
        assert table.counted()[1] > refused

    def test_until_the_deadline(self, table: Table, capacity: Capacity) -> None:
        capacity.set(rcu=1)
        with pytest.raises(online.ThrottledError, match="can't be read within 0.5 s"):
            table.reader(deadline=0.5).get_many(IDS)


def test_a_server_that_stands_still_for_a_while(table: Table) -> None:
    reader, impatient = table.reader(deadline=30.0), table.reader(deadline=0.2)
    reader.get("H001")
    table.process.send_signal(signal.SIGSTOP)
    threading.Timer(1.0, table.process.send_signal, [signal.SIGCONT]).start()
    assert reader.get("H001").state is State.FOUND
    table.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(online.DeadlineError, match=r"within 0.2 s, in \d tries"):
            impatient.get("H001")
    finally:
        table.process.send_signal(signal.SIGCONT)


@dataclass
class Load:
    """Someone who reads all the time."""

    reader: online.Reader
    found: int = 0
    errors: list[tuple[float, online.OnlineError]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self.reader.get("H001")
            except online.OnlineError as error:
                self.errors.append((time.monotonic(), error))
            else:
                self.found += 1


def test_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    with server(tmp_path / "stack") as (first, process):
        connection = connect(first)
        cql.apply(connection.session, cql.keyspace(KEYSPACE) + cql.table(ENERGY, KEYSPACE))
        connection.session.execute(INSERT, ("H001", YESTERDAY, 1.0, 48))
        load = Load(online.Connection(connection.session, KEYSPACE).reader(options=Options(deadline=0.5)))
        reading = threading.Thread(target=load.run)
        reading.start()
        _until(lambda: load.found > 100)
        process.send_signal(signal.SIGKILL)
        process.wait()
        _until(lambda: load.errors)
        with serving(first.stack, "cassandra"):
            before = load.found
            _until(lambda: load.found > before + 100)
            load.over.set()
            reading.join()
        connection.close()
    assert {type(error) for _, error in load.errors} <= {online.UnreachableError, online.DeadlineError}


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
