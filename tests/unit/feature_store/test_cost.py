"""What a sync costs: by the formulas and prices that Keyspaces documents."""

from __future__ import annotations

import pytest

from feature_store import cost, registry
from feature_store.energy import ENERGY

pytestmark = pytest.mark.unit


def test_a_row_of_the_kit_is_one_unit() -> None:
    # 22 values of at most 11 bytes and a byte of identifier each; the household's name and the day twice.
    assert 200 < cost.row_bytes(ENERGY, 9) < 260
    assert {cost.write_units(cost.row_bytes(view, 36)) for view in registry.views()} == {1}


@pytest.mark.parametrize(("size", "writes", "reads"), [(0, 1, 1), (1024, 1, 1), (1025, 2, 1), (4097, 5, 2)])
def test_units_are_of_what_has_begun(size: int, writes: int, reads: int) -> None:
    assert (cost.write_units(size), cost.read_units(size)) == (writes, reads)


def test_dollars() -> None:
    # All 3.51 million rows of London: the figure of the peers' comparison.
    assert cost.dollars("us-east-1", writes=3_510_000) == pytest.approx(2.19, abs=0.01)
    assert cost.dollars("us-east-1", writes=1_000_000, reads=2_000_000) == pytest.approx(0.875)
    assert cost.dollars("eu-west-2", writes=1_000_000) == pytest.approx(0.7423)
    assert cost.dollars("mars-1", writes=1) is None


def test_deleting_by_a_write_is_dearer_than_by_expiry_and_cheap_still() -> None:
    """The figures of ADR 0018: a day of 5,500 rows that leaves."""
    prices = cost.PRICES["us-east-1"]
    assert 5500 * prices.write_units / 1e6 == pytest.approx(0.0034, abs=1e-4)
    assert 5500 * prices.expired_rows / 1e6 == pytest.approx(0.0015, abs=1e-4)
