"""Runs as workers would have written them, of a table with a token bucket, in simulated time."""

from __future__ import annotations

import random
from collections.abc import Sequence

from feature_store import layout
from Simulation.latencies import Latencies
from Simulation.plan import Plan
from Simulation.recording import DONE, GET, GET_MANY, Batch, Ended, Ready, Samples, Vitals
from Simulation.results import ENDED, PLAN, Results
from Simulation.store import Store
from tests.unit.Simulation import bucket
from tests.unit.Simulation.bucket import Happened, Load

START = 1_795_000_000.0


def plan(name: str = "evening", **given: object) -> Plan:
    """A run at three rates, of two workers."""
    known = {
        "workers": 2,
        "rates": (60.0, 120.0, 260.0),
        "seconds": 16,
        "many": 0.05,
        "many_size": 10,
        "capacity": 220.0,
    }
    return Plan(name=name, **{**known, **given})  # type: ignore[arg-type]


def write(
    store: Store,
    of: Plan,
    *,
    slow: float = 1.0,
    late_from: int | None = None,
    lost: Sequence[int] = (),
    lost_at: int = 40,
    missing: Sequence[int] = (),
    seed: int = 3,
) -> Results:
    """Write a run, and read it back.

    Args:
        store: where to.
        of: its plan; one without a capacity is never throttled.
        slow: how much longer calls take than they would.
        late_from: the second from which workers are late, and their machine busy.
        lost: workers that were killed.
        lost_at: the second in which they were.
        missing: workers that have not come.
        seed: of all that is drawn.
    """
    load = Load(
        capacity=of.capacity or 1e6,
        rates=of.rates,
        seconds=of.seconds,
        many=of.many,
        size=of.many_size,
        unit=1.0 if of.strong else 0.5,
        seed=seed,
    )
    happened = bucket.run(load)
    dice = random.Random(seed)
    for worker in range(of.workers):
        if worker in missing:
            continue
        folder = layout.simulation_worker(of.name, worker)
        ready = Ready(worker=worker, plan=of, cores=2, callers=16, ids=5000, units=load.unit, region="eu-west-2")
        store.write(folder + PLAN, ready.encode())
        ends = min(lost_at, len(happened)) if worker in lost else len(happened)
        for number, first in enumerate(range(0, ends, 5)):
            seconds = range(first, min(first + 5, ends))
            batch = Batch(
                worker=worker,
                number=number,
                start=START,
                samples=tuple(
                    each for second in seconds for each in _samples(happened[second], second, worker, of, dice, slow)
                ),
                vitals=tuple(_vitals(second, late_from) for second in seconds),
            )
            store.write(f"{folder}samples-{number:06}.json", batch.encode())
        if worker not in lost:
            store.write(folder + ENDED, Ended(DONE).encode())
    return Results.load(store, of.name)


def _vitals(second: int, late_from: int | None) -> Vitals:
    if late_from is not None and second >= late_from:
        return Vitals(second=second, late=0.3, under_way=9, process_cpu=0.97, machine_cpu=0.99)
    return Vitals(second=second, late=0.001, under_way=3, process_cpu=0.2, machine_cpu=0.4)


def _samples(of: Happened, second: int, worker: int, planned: Plan, dice: random.Random, slow: float) -> list[Samples]:
    """One worker's part of a second: an equal share, and what is left over for the first."""

    def share(count: int) -> int:
        return count // planned.workers + (count % planned.workers if worker == 0 else 0)

    made = []
    for kind in (GET, GET_MANY):
        offered, answered = share(of.offered[kind]), share(of.answered[kind])
        if not of.offered[kind]:
            continue
        failed = offered - answered
        latency, service = Latencies(), Latencies()
        for call in range(offered):
            took = dice.lognormvariate(-6.0, 0.35) * slow * (2.5 if kind == GET_MANY else 1)
            if of.throttled:
                took += dice.uniform(0.0, 0.6)
            if call < failed:
                took = planned.deadline
            service.record(took)
            latency.record(took + 0.0004)
        made.append(
            Samples(
                second=second,
                phase=of.phase,
                call=kind,
                offered=offered,
                sent=offered,
                answered=answered,
                latency=(latency.encode(),) if offered else (),
                service=(service.encode(),) if offered else (),
                errors={"ThrottledError": failed} if failed else {},
                failed_tries={"ThrottledError": share(of.throttled)} if kind == GET and of.throttled else {},
                entities=offered * (planned.many_size if kind == GET_MANY else 1),
                missing=int(dice.random() < 0.2),
                read_units=of.units[kind] / planned.workers,
            )
        )
    return made
