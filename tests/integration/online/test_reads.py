"""Reads from a real server: what they give and what they ask of it, by each way to read."""

from __future__ import annotations

import asyncio

import pytest

from feature_store import online
from feature_store.energy import ENERGY
from feature_store.online import State
from tests.integration.online.conftest import IDS, YESTERDAY, Table

pytestmark = pytest.mark.integration


def test_the_newest_row_for_one_read_unit(table: Table) -> None:
    reader, half = table.reader(features=["energy_sum", "energy_max_1yr"]), table.reader(strong=False)
    before = table.counted()
    answer = reader.get("H007")
    assert (answer.state, answer.day, answer.age) == (State.FOUND, YESTERDAY, 1)
    assert answer.features == {"energy_sum": 7.0, "energy_max_1yr": None}
    after = table.counted()
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 0, 1]
    half.get("H007")
    assert table.counted()[2] - after[2] == 0.5


@pytest.mark.parametrize("awaited", [False, True])
def test_many_and_one_who_is_not_there(table: Table, awaited: bool) -> None:
    reader, asked = table.reader(concurrency=16), [*IDS, "nobody"]
    answers = asyncio.run(reader.aget_many(asked)) if awaited else reader.get_many(asked)
    assert [answer.entity for answer in answers] == asked
    assert [answer.features.get("energy_sum") for answer in answers] == [*map(float, range(200)), None]
    assert answers[-1].state is State.MISSING


def test_one_awaited(table: Table) -> None:
    assert asyncio.run(table.reader().aget("H003"))["energy_sum"] == 3.0


def test_what_the_lookup_of_a_whole_row_gives(table: Table) -> None:
    row = table.connection.latest("H003")
    assert row is not None
    assert list(row) == [column.name for column in ENERGY.columns]
    assert (row["id"], row["day_date"], row["energy_sum"], row["energy_mean"]) == ("H003", YESTERDAY, 3.0, None)
    assert table.connection.latest("nobody") is None


def test_a_table_that_is_not_there(table: Table) -> None:
    with pytest.raises(online.OnlineError, match=r"The latest energy_data_features can't be asked for: .*nowhere"):
        online.Connection(table.connection.session, "nowhere").reader()


def test_an_entity_that_can_not_be(table: Table) -> None:
    """Of none of them, nor of their neighbours, the server says no."""
    reader, longest = table.reader(), "x" * 2048
    for entity in ("", "x" * 2049, "\ud800"):
        with pytest.raises(online.EntityError) as caught:
            reader.get_many(["H001", entity, longest])
        assert [answer.state for answer in caught.value.answers.values()] == [State.FOUND, State.MISSING]
