"""Where throttling begins, told of a simulated token bucket: within 5 %, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from Simulation.throttling import Asked, Second, State, throttling
from tests.unit.Simulation.bucket import Load, asked, run, units_a_call

pytestmark = pytest.mark.unit


def told(load: Load, *, sound: bool = True):
    happened = run(load)
    return throttling(asked(load, happened, sound=sound), units_a_call(load, happened), load.deadline)


def at(capacity: float, *shares: float, many: float = 0.0, size: int = 20, **given: object) -> Load:
    """A load at such shares of a capacity."""
    a_call = (1 - many + many * size) * float(given.get("unit", 1.0))  # type: ignore[arg-type]
    return Load(capacity, tuple(capacity * share / a_call for share in shares), many=many, size=size, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("burst", [True, False])
@pytest.mark.parametrize("many", [0.0, 0.1])
@pytest.mark.parametrize("capacity", [80.0, 300.0])
def test_the_rate_is_named_within_five_percent(capacity: float, many: float, burst: bool, seed: int) -> None:
    load = at(capacity, 0.4, 0.8, 1.6, many=many, seconds=30, burst=burst, seed=seed)
    happened = run(load)
    a_call = units_a_call(load, happened)
    found = throttling(asked(load, happened), a_call, load.deadline)
    assert found.state is State.BEGINS
    assert found.units == pytest.approx(capacity, rel=0.05)
    assert found.calls == pytest.approx(capacity / a_call, rel=0.05)
    assert found.without is not None
    assert found.refused is not None
    assert found.without < found.refused


def test_more_than_is_asked_for_of_many_retries_is_no_capacity() -> None:
    """Three times the capacity: most tries are refused, and each call makes many."""
    found = told(at(150.0, 3.0, seconds=20))
    assert found.units == pytest.approx(150, rel=0.05)


def test_a_rate_just_above_the_capacity_spends_what_was_saved_first() -> None:
    found = told(at(200.0, 0.5, 1.15, seconds=40))
    assert found.units == pytest.approx(200, rel=0.05)
    assert found.first is not None
    assert found.first > 41  # one second's worth lasts 1 / 0.15 s


def test_half_a_unit_a_read() -> None:
    found = told(at(100.0, 0.5, 1.5, seconds=25, unit=0.5))
    assert found.units == pytest.approx(100, rel=0.05)
    assert found.calls == pytest.approx(200, rel=0.05)


def test_nothing_refused_names_no_rate() -> None:
    found = told(at(500.0, 0.2, 0.6, seconds=10))
    assert found.state is State.NOT_REACHED
    assert (found.units, found.calls, found.refused, found.first) == (None, None, None, None)
    assert found.without == pytest.approx(300, rel=0.05)
    assert "does not begin up to" in found.says


def test_bunches_below_the_capacity_name_no_rate() -> None:
    """Calls of a hundred, at half of what the table has: now and then they empty the bucket."""
    found = told(at(100.0, 0.5, many=1.0, size=100, seconds=40, seed=4))
    assert found.first is not None
    assert found.state is State.UNCLEAR
    assert found.calls is None


def phase(rate: float, units: list[float], throttled: list[int], first: int = 0, sound: bool = True) -> Asked:
    seconds = [
        Second(first + place, each, refused, int(rate))
        for place, (each, refused) in enumerate(zip(units, throttled, strict=True))
    ]
    return Asked(rate, rate, seconds, sound)


def test_late_workers_are_not_the_table() -> None:
    late = phase(400, [250.0] * 20, [0] * 20, sound=False)
    found = throttling([late], 1.0, 1.0)
    assert found.state is State.WORKER
    assert found.calls is None
    assert "it was they, or their machine" in found.says
    # They fall behind, and ask all at once: some tries are refused.
    found = throttling([phase(400, [250.0] * 20, [0, 0, 30, 0] * 5, sound=False)], 1.0, 1.0)
    assert found.state is State.WORKER
    assert found.calls is None


def test_up_to_where_workers_kept_up() -> None:
    found = throttling([phase(100, [100.0] * 20, [0] * 20), phase(400, [250.0] * 20, [0] * 20, 20, False)], 1.0, 1.0)
    assert found.state is State.NOT_REACHED
    assert found.without == 100
    assert "Above that the workers did not keep up (400 calls/s)" in found.says


def test_late_workers_count_less_than_those_that_kept_up() -> None:
    phases = [phase(300, [200.0] * 20, [9] * 20), phase(900, [120.0] * 20, [9] * 20, 20, sound=False)]
    assert throttling(phases, 1.0, 1.0).units == 200
    alone = throttling([replace(phases[0], sound=False)], 1.0, 1.0)
    assert (alone.state, alone.units) == (State.BEGINS, 200)
    assert "it is the table that refused" in alone.says


def test_what_goes_on_growing_is_not_one_limit() -> None:
    """One partition is asked too often: its tries are refused at any rate, and all others are answered."""
    found = throttling([phase(100, [90.0] * 20, [5] * 20), phase(200, [180.0] * 20, [5] * 20, 20)], 1.0, 1.0)
    assert found.state is State.UNCLEAR
    assert found.calls is None
    assert "not one limit" in found.says


def test_seconds_in_which_calls_ended_otherwise_are_left_out() -> None:
    """What they took is not counted: their answers came too late, or never."""
    of = phase(300, [200.0] * 10 + [20.0] * 5 + [200.0] * 10, [9] * 25)
    slow = [replace(each, otherwise=100) if each.units == 20 else each for each in of.seconds]
    assert throttling([replace(of, seconds=slow)], 1.0, 1.0).units == 200
    assert throttling([of], 1.0, 1.0).units != 200


def test_the_edges_are_left_out() -> None:
    """The burst, the second in which it is over, and the end, whose retries have an idle table."""
    units = [300.0] * 4 + [260.0] + [200.0] * 13 + [350.0] * 2
    found = throttling([phase(300, units, [0] * 4 + [9] * 16)], 2.0, 1.0)
    assert (found.units, found.calls, found.seconds) == (200, 100, 12)


def test_no_call_at_all() -> None:
    assert throttling([Asked(10, 10, [Second(0, 0.0, 0, 0)])], 1.0, 1.0).state is State.NOTHING
    failed = [Second(second, 0.0, 0, 10, 10) for second in range(10)]
    assert throttling([Asked(10, 10, failed)], 1.0, 1.0).state is State.NOTHING


def test_where_all_tries_are_refused_no_limit_is_seen() -> None:
    refused = [Second(second, 0.0, 50, 10) for second in range(30)]
    told = throttling([Asked(10, 10, refused)], 1.0, 1.0)
    assert told.state is State.UNCLEAR
    assert "nothing was answered meanwhile" in told.says
