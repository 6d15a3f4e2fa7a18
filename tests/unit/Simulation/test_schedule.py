"""When calls are due: their number, their gaps, and what several workers make together."""

from __future__ import annotations

import statistics
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from Simulation import schedule
from Simulation.plan import Plan

pytestmark = pytest.mark.unit


def plan(**other: Any) -> Plan:
    given: dict[str, Any] = {"name": "x", "workers": 1, "rates": (100.0,), "seconds": 10, "arrivals": "constant"}
    return Plan(**{**given, **other})


def times(made: Plan, worker: int = 0) -> list[float]:
    return [at for at, _ in schedule.due(made, worker)]


def test_constant_calls_are_evenly_spaced() -> None:
    assert times(plan(rates=(4.0,), seconds=2)) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]


def test_constant_calls_of_several_workers_are_evenly_spaced_together() -> None:
    made = plan(workers=4)
    together = sorted(at for worker in range(4) for at in times(made, worker))
    assert together == pytest.approx(times(plan()))
    assert len(times(made, 0)) == len(times(made, 3)) == 250


def test_phases_follow_on_each_other() -> None:
    made = plan(rates=(10.0, 30.0), seconds=5)
    assert Counter(phase for _, phase in schedule.due(made, 0)) == {0: 50, 1: 150}
    assert times(made) == sorted(times(made))
    assert times(made)[50] == 5.0


def test_a_ramp_climbs_evenly() -> None:
    """From 0 to n seconds the integral of the rate is due: 100 t + 10 t^2 of a climb from 100 to 300 in 10 s."""
    made = times(plan(rates=(100.0, 300.0), shape="ramp"))
    assert len(made) == 2000
    for second in range(1, 10):
        assert sum(at < second for at in made) == pytest.approx(100 * second + 10 * second**2, abs=1)


def test_a_ramp_down_ends() -> None:
    made = times(plan(rates=(100.0, 1e-9), shape="ramp"))
    assert len(made) == pytest.approx(500, abs=1)
    assert max(made) < 10


def test_poisson_gaps_are_exponential() -> None:
    """Of 10,000 gaps the mean is 1/rate within 4 of its standard errors, and the deviation equals the mean."""
    made = times(plan(arrivals="poisson", rates=(1000.0,), seed=1))
    gaps = [after - before for before, after in pairwise(made)]
    assert len(made) == pytest.approx(10_000, abs=4 * 100)
    assert statistics.mean(gaps) == pytest.approx(1e-3, rel=0.04)
    assert statistics.stdev(gaps) == pytest.approx(1e-3, rel=0.05)
    # The share of gaps over their mean is 1/e: evenly spaced ones would have none, or half.
    assert sum(gap > 1e-3 for gap in gaps) / len(gaps) == pytest.approx(0.3679, abs=0.02)


def test_poisson_calls_of_several_workers_have_the_rate_together_and_are_not_the_same() -> None:
    made = plan(arrivals="poisson", workers=4, rates=(1000.0,))
    each = [times(made, worker) for worker in range(4)]
    assert [len(one) for one in each] == pytest.approx([2500] * 4, abs=4 * 50)
    assert len({at for one in each for at in one}) == sum(map(len, each))


def test_a_seed_gives_the_same_calls_again_and_another_one_others() -> None:
    made = plan(arrivals="poisson", seed=1)
    assert times(made) == times(made)
    assert times(made) != times(plan(arrivals="poisson", seed=2))


def test_poisson_calls_of_a_ramp_are_more_where_the_rate_is_higher() -> None:
    made = times(plan(arrivals="poisson", rates=(100.0, 300.0), shape="ramp"))
    assert sum(at < 5 for at in made) == pytest.approx(750, abs=4 * 27)
    assert sum(at >= 5 for at in made) == pytest.approx(1250, abs=4 * 35)
