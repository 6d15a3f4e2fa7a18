"""Keyspaces' limits: names beside the driver's own list, and the longest that fit."""

from __future__ import annotations

import pytest
from cassandra.metadata import cql_keywords_reserved

from feature_store import keyspaces

pytestmark = pytest.mark.unit


def test_every_reserved_word_is_one_to_the_driver_too() -> None:
    assert set(cql_keywords_reserved) >= keyspaces.RESERVED
    assert {"select", "table", "view", "token", "order", "default"} <= keyspaces.RESERVED


@pytest.mark.parametrize("name", ["a", "a1_", "a" * 48, "day", "key", "energy_sum_3months"])
def test_names_that_fit(name: str) -> None:
    assert keyspaces.name_fault(name) is None


@pytest.mark.parametrize("name", ["", "1a", "_a", "A", "a-b", "a b", 'a"', "ä", "a\n", "a" * 49, "where"])
def test_names_that_do_not(name: str) -> None:
    assert "can't be a name" in str(keyspaces.name_fault(name))


@pytest.mark.parametrize("days", [None, 1, 36_500])
def test_days_that_rows_can_be_kept(days: int | None) -> None:
    assert keyspaces.retention_fault(days) is None
