"""Rows that are none of the view, and a table that changes: whoever asks for it hears of it, and no one else."""

from __future__ import annotations

import datetime as dt
import logging
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store import cql, online
from feature_store.energy import ENERGY
from feature_store.online import Options, State
from infra.local import cassandra as stand_in
from infra.local.cassandra.faults import Authority, Way
from tests.integration.online.conftest import INSERT, PATIENT, TABLE, YESTERDAY, Table

pytestmark = pytest.mark.integration

INFINITE = "INSERT INTO TABLE (id, day_date, energy_max) VALUES (%s, %s, %s)"


def reads_on(table: Table, reader: online.Reader) -> None:
    """The others are read, by the connection that there was."""
    assert reader.get("H001").state is State.FOUND
    assert table.connection.session.cluster.metadata.all_hosts()[0].is_up


@pytest.fixture
def poisoned(table: Table) -> Iterator[Table]:
    yield table
    table.run("DELETE FROM TABLE WHERE id = 'poisoned'")


def test_a_day_that_is_not_over(poisoned: Table) -> None:
    poisoned.run(INSERT, "poisoned", dt.date(2999, 1, 1), 0.0, 0)
    reader = poisoned.reader()
    with pytest.raises(online.PoisonedRowError, match="of 'poisoned' is of 2999-01-01, a day that has not begun"):
        reader.get("poisoned")
    with pytest.raises(online.PoisonedRowError) as caught:
        reader.get_many(["H001", "poisoned", "H002"])
    assert {name: answer["energy_sum"] for name, answer in caught.value.answers.items()} == {"H001": 1.0, "H002": 2.0}
    reads_on(poisoned, reader)


def test_a_day_that_no_calendar_has(poisoned: Table) -> None:
    poisoned.run("INSERT INTO TABLE (id, day_date, energy_sum) VALUES ('poisoned', 4294967295, 1)")
    with pytest.raises(online.PoisonedRowError, match="of 'poisoned' is unreadable: "):
        poisoned.reader().get("poisoned")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_finite_number(poisoned: Table, value: float) -> None:
    poisoned.run(INFINITE, "poisoned", YESTERDAY, value)
    with pytest.raises(online.PoisonedRowError, match=r"has energy_max (nan|inf), which no row of the view has"):
        poisoned.reader().get("poisoned")
    assert poisoned.reader(features=["energy_sum"]).get("poisoned").state is State.FOUND


def test_a_row_that_can_not_be_decoded(poisoned: Table, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a double of seven bytes: it costs no one else the connection."""
    whole = struct.pack(">id", 8, 123456.5)
    poisoned.run(INSERT, "poisoned", YESTERDAY, 123456.5, 0)
    authority = Authority(poisoned.cassandra.stack, tmp_path)
    with Way(poisoned.cassandra.stack, authority=authority) as way, poisoned.by(way, authority) as connection:
        reader = connection.reader(options=Options(features=["energy_sum"], deadline=PATIENT))
        assert reader.get("poisoned")["energy_sum"] == 123456.5
        way.changed = lambda data: data.replace(whole, struct.pack(">i", 7) + whole[4:])
        with caplog.at_level(logging.ERROR), pytest.raises(online.PoisonedRowError) as caught:
            reader.get_many(["H001", "poisoned", "H002"])
        assert "of 'poisoned' is unreadable: Failed decoding result column" in str(caught.value)
        assert caught.value.answers.keys() == {"H001", "H002"}
        assert not caplog.records, "the driver ends the connection"
        assert reader.get("H001").state is State.FOUND


class TestAltered:
    """The server forgets a table's statements when it is altered."""

    def test_a_column_is_added(self, table: Table) -> None:
        reader = table.reader()
        before = reader.get("H009")
        table.connection.session.execute(f"ALTER TABLE {TABLE} ADD other int")
        try:
            assert reader.get_many(["H009"] * 3) == [before] * 3
        finally:
            table.connection.session.execute(f"ALTER TABLE {TABLE} DROP other")

    def test_a_column_is_gone(self, table: Table) -> None:
        other = _other(table, "gone")
        lost, kept = (other.reader(options=Options(features=[name])) for name in ("energy_max", "energy_sum"))
        assert lost.get("A").state is kept.get("A").state is State.MISSING
        other.session.execute(f'ALTER TABLE "gone"."{ENERGY.name}" DROP energy_max')
        with pytest.raises(online.RefusedError, match="energy_max"):
            lost.get("A")
        assert kept.get("A").state is State.MISSING
        reads_on(table, table.reader())

    def test_another_table_of_that_name(self, table: Table) -> None:
        """Whose column is of another type."""
        other, stack = _other(table, "another"), table.cassandra.stack
        reader = other.reader(options=Options(features=["energy_sum"], deadline=PATIENT))
        assert reader.get("A").state is State.MISSING
        with stand_in.session(stack, "cassandra", stack.secrets.cassandra_superuser_password) as root:
            root.execute(f'DROP TABLE "another"."{ENERGY.name}"')
        with pytest.raises(online.RefusedError):
            reader.get("A")
        changed = cql.table(ENERGY, "another").replace('"energy_sum" double', '"energy_sum" text')
        cql.apply(other.session, changed)
        other.session.execute(f"""INSERT INTO "another"."{ENERGY.name}" (id, day_date, energy_sum)
                                  VALUES ('A', '2014-01-01', 'eight by')""")
        with pytest.raises(online.PoisonedRowError, match="of 2014-01-01 has energy_sum 'eight by', which no row"):
            reader.get("A")
        reads_on(table, table.reader())


def _other(table: Table, keyspace: str) -> online.Connection:
    cql.apply(table.connection.session, cql.keyspace(keyspace) + cql.table(ENERGY, keyspace))
    return online.Connection(table.connection.session, keyspace)
