"""When a worker's calls are due: at the plan's rates, whether or not those before have ended."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import count

from Simulation.plan import Phase, Plan


def due(plan: Plan, worker: int) -> Iterator[tuple[float, int]]:
    """The calls of one worker, in their order: seconds from the start of the run, and the number of the phase.

    Constant arrivals of all workers together are evenly spaced, each worker making every N-th. Those of Poisson are
    independent, as the sum of several is one, too; a worker's are drawn from the plan's seed and its number.
    """
    draw = random.Random(f"{plan.seed}:{worker}:arrivals")  # noqa: S311 - no secret
    for phase in plan.phases:
        for calls in _poisson(draw, plan.workers) if plan.arrivals == "poisson" else _even(worker, plan.workers):
            at = reached(phase, calls)
            if at >= phase.seconds:
                break
            yield phase.begins + at, phase.number


def reached(phase: Phase, calls: float) -> float:
    """Seconds from the begin of a phase until so many calls of all workers are due; infinite if they never are."""
    climb = (phase.until - phase.rate) / phase.seconds
    # The rate is rate + climb * t, and its integral rate * t + climb / 2 * t^2: solved for t without cancellation.
    square = phase.rate**2 + 2 * climb * calls
    return 2 * calls / (phase.rate + math.sqrt(square)) if square >= 0 else math.inf


def _even(worker: int, workers: int) -> Iterator[float]:
    return (float(number) for number in count(worker, workers))


def _poisson(draw: random.Random, workers: int) -> Iterator[float]:
    """Calls of all workers when each of this one is due: where the rate climbs, what is stretched is the time."""
    calls = 0.0
    while True:
        calls += workers * draw.expovariate(1.0)
        yield calls
