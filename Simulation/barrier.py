"""All workers begin together, or none does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from feature_store import layout
from Simulation.recording import Ended, Ready, RecordError
from Simulation.results import ENDED, PLAN
from Simulation.store import Entry, ExistsError, Store, moment

LEAD = 5.0  # seconds from when the last worker has come: each has seen by then that all have
LOOK_EVERY = 1.0  # seconds
# Clocks of machines that keep time agree to milliseconds, and an answer of S3 tells it to a second: ours is taken,
# unless it is further off than that.
CLOCKS_DIFFER = 2.0  # seconds
log = logging.getLogger(__name__)


class UsedError(Exception):
    """There are results of that name already; one sentence says so."""


class BarrierError(Exception):
    """Not all workers have come, or not for the same; one sentence says which."""


def check_unused(store: Store, name: str, worker: int) -> None:
    """See that nothing is there of a worker; UsedError if there is."""
    if store.list(layout.simulation_worker(name, worker)):
        raise _used(store, name, worker)


def come(store: Store, ready: Ready) -> None:
    """Say that a worker is there; UsedError, and nothing is changed, if one of its number has been."""
    name = ready.plan.name
    try:
        store.write(layout.simulation_worker(name, ready.worker) + PLAN, ready.encode(), new=True)
    except ExistsError as error:
        raise _used(store, name, ready.worker) from error


def wait(
    store: Store,
    ready: Ready,
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Wait until all workers are there, for so many seconds; seconds since 1970, by the store's clock, when all begin.

    Raises:
        BarrierError: some are missing, have ended already, or have another plan.
        StoreError: it can't be told.
    """
    plan, until, seen = ready.plan, clock() + seconds, {ready.worker}
    prefix = layout.simulation_workers(plan.name)
    while True:
        entries = {entry.key.removeprefix(prefix): entry for entry in store.list(prefix)}
        there = {worker: entries[key] for worker in range(plan.workers) if (key := f"{worker:02}/{PLAN}") in entries}
        for worker in sorted(set(there) - seen):
            _check(store, there[worker], worker, ready)
        seen |= set(there)
        for worker in set(range(plan.workers)) - {ready.worker}:
            if ended := entries.get(f"{worker:02}/{ENDED}"):
                raise BarrierError(
                    f"Worker {worker} of {plan.name} has ended before all were there: {_why(store, ended)}"
                )
        if len(there) == plan.workers:
            return max(entry.modified for entry in there.values()) + LEAD
        if clock() >= until:
            missing = ", ".join(str(worker) for worker in range(plan.workers) if worker not in there)
            raise BarrierError(
                f"After {seconds:g} s these of the {plan.workers} workers of {plan.name} are missing: {missing} "
                f"(of 0 to {plan.workers - 1}). Next: see why, and start all again under another name."
            )
        sleep(LOOK_EVERY)


def local(store: Store, start: float) -> float:
    """When that is by time.monotonic. It may be past: then a worker begins late, and its calls show it."""
    off = store.now() - time.time()
    if abs(off) < CLOCKS_DIFFER:
        off = 0.0
    else:
        log.warning("This machine's clock is %+.0f s off that of %s: the other one is taken.", -off, store)
    begins = time.monotonic() + start - (time.time() + off)
    log.info("All are there: second 0 is %s.", moment(start))
    return begins


def _why(store: Store, entry: Entry) -> str:
    try:
        return Ended.decode(store.read(entry.key)).reason
    except RecordError as error:
        return f"{entry.key} can't be read: {error}"


def _check(store: Store, entry: Entry, worker: int, ready: Ready) -> None:
    try:
        other = Ready.decode(store.read(entry.key)).plan
    except RecordError as error:
        raise BarrierError(f"{entry.key} can't be read: {error}") from error
    if other != ready.plan:
        raise BarrierError(
            f"Worker {worker} of {ready.plan.name} has another plan than this one: give each run a name of its own, "
            "and all its workers the same arguments but for --worker."
        )


def _used(store: Store, name: str, worker: int) -> UsedError:
    where = f"{store}/{layout.simulation_worker(name, worker)}"
    return UsedError(f"The name {name} is used: there are results in {where}. Give another --name, or delete them.")
