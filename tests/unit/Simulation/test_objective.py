"""The highest rate that meets an objective, and its price."""

from __future__ import annotations

from dataclasses import replace

import pytest

from feature_store.cost import PRICES
from Simulation.objective import A_DAY, Objective, Seen, meet

pytestmark = pytest.mark.unit

REGION = "eu-west-2"


def seen(
    rate: float, p99_ms: float | None = 5.0, errors: float = 0.0, *, calls: int = 1000, sound: bool = True
) -> Seen:
    return Seen(rate, calls, p99_ms, errors, units=rate / 2, sound=sound)


def test_the_highest_rate_and_what_it_costs() -> None:
    met = meet(Objective(), [seen(50), seen(100, 9.9), seen(200, 10.0)], REGION)
    assert (met.rate, met.units) == (100, 50)
    assert met.dollars == pytest.approx(50 * A_DAY * PRICES[REGION].read_units / 1e6)
    assert met.says.startswith("p99 < 10 ms and errors < 0.01 % is met up to 100 calls/s")


@pytest.mark.parametrize(("errors", "rate"), [(0.00009, 100), (0.0001, None), (0.5, None)])
def test_errors_count_too(errors: float, rate: float | None) -> None:
    assert meet(Objective(), [seen(100, errors=errors)], REGION).rate == rate


def test_a_rate_that_comes_twice_has_to_meet_it_each_time() -> None:
    assert meet(Objective(), [seen(50), seen(100), seen(50, 40.0)], REGION).rate == 100
    assert meet(Objective(), [seen(50), seen(100, 40.0), seen(50, 40.0)], REGION).rate is None


def test_a_rate_that_was_not_asked_is_not_met() -> None:
    met = meet(Objective(), [seen(50), replace(seen(100), whole=False)], REGION)
    assert met.rate == 50
    assert "At 100 calls/s fewer calls were due than that" in met.says
    said = meet(Objective(), [replace(seen(100), whole=False)], REGION).says
    assert said.startswith("No rate is known to meet p99 < 10 ms")


def test_what_may_be_misread_is_said() -> None:
    phases = [seen(50, 30.0), seen(100), seen(200, 80.0, sound=False), seen(300, None, calls=20)]
    said = meet(Objective(), phases, REGION).says
    assert "It is not met at 50 calls/s, though less is asked then" in said
    assert "At 200 calls/s the workers did not keep up" in said
    assert "At 300 calls/s too few calls have ended to say" in said


def test_so_few_calls_that_one_error_would_be_too_many_are_said() -> None:
    said = meet(Objective(), [seen(50, calls=9_999), seen(100, calls=10_000)], REGION).says
    assert "up to 100 calls/s" in said
    assert "At 50 calls/s fewer than 10,000 calls were made, which can't show that fewer than one of so many" in said
    assert "can't show" not in meet(Objective(errors=0.001), [seen(50)], REGION).says


def test_a_region_without_prices() -> None:
    met = meet(Objective(), [seen(100)], "mars-north-1")
    assert (met.rate, met.dollars) == (100, None)
    assert "no price of mars-north-1" in met.says
