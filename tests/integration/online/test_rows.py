"""Rows that are none of the view, and a table that changes: whoever asks for it hears of it, and no one else."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator

import pytest
from cassandra.cqltypes import DoubleType

from feature_store import cql, online
from feature_store.energy import ENERGY
from feature_store.online import Options, State
from infra.local import cassandra as stand_in
from tests.integration.online.conftest import INSERT, PATIENT, YESTERDAY, Table

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
    with pytest.raises(online.PoisonedRowError, match="of 'poisoned' is of 2999-01-01, a day that is not over"):
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


def test_a_row_that_can_not_be_decoded(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    """As the four bytes of a number that is said to be a double: it costs no one else the connection."""
    sound, broken = table.reader(), table.reader()
    said = broken._statement.result_metadata
    broken._statement.result_metadata = [(*each[:3], DoubleType if each[2] == "day_date" else each[3]) for each in said]
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(online.PoisonedRowError, match=r"of 'H005' is unreadable: .*day_"),
    ):
        broken.get("H005")
    assert not caplog.records, "the driver ends the connection"
    reads_on(table, sound)


class TestAltered:
    """The server forgets a table's statements when it is altered."""

    def test_a_column_is_added(self, table: Table) -> None:
        reader = table.reader()
        before = reader.get("H009")
        table.run("ALTER TABLE TABLE ADD other int")
        try:
            assert reader.get_many(["H009"] * 3) == [before] * 3
        finally:
            table.run("ALTER TABLE TABLE DROP other")

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
