"""All workers begin together, or none does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from feature_store import layout
from Simulation.plan import Plan
from Simulation.recording import Ended, Ready, RecordError
from Simulation.results import ENDED, PLAN
from Simulation.store import Entry, ExistsError, Store, moment

LEAD = 5.0  # seconds from when the last worker has come: each has seen by then that all have
LOOK_EVERY = 1.0  # seconds
BEFORE = 1.0  # seconds before second 0 in which they are looked for once more: time to start the callers
# Clocks of machines that keep time agree to milliseconds, and an answer of S3 tells it to a second: ours is taken,
# unless it is further off than that.
CLOCKS_DIFFER = 2.0  # seconds
log = logging.getLogger(__name__)


class UsedError(Exception):
    """There are results of that name already; one sentence says so."""


class BarrierError(Exception):
    """Not all workers have come, or not for the same; one sentence says which."""


def check_unused(store: Store, name: str, worker: int, within: float) -> None:
    """See that no other run has written there: all there may be is of other workers that came so many seconds ago.

    Raises:
        UsedError: there is more.
        StoreError: it can't be told.
    """
    own, oldest = layout.simulation_worker(name, worker), store.now() - within
    for entry in store.list(layout.simulation_workers(name)):
        # One that has ended already is named, with its reason, by whoever waits for it.
        if entry.key.startswith(own) or not entry.key.endswith((PLAN, ENDED)) or entry.modified < oldest:
            raise _used(store, name, entry.key)


def come(store: Store, ready: Ready) -> None:
    """Say that a worker is there; UsedError, and nothing is changed, if one of its number has been."""
    name, content = ready.plan.name, ready.encode()
    key = layout.simulation_worker(name, ready.worker) + PLAN
    try:
        store.write(key, content, new=True)
    except ExistsError as error:
        # Where S3's answer was lost, the client has tried again, and found what it had written.
        if store.read(key) != content:
            raise _used(store, name, key) from error


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
    while True:
        entries = _entries(store, plan)
        there = {worker: entries[key] for worker in range(plan.workers) if (key := f"{worker:02}/{PLAN}") in entries}
        for worker in sorted(set(there) - seen):
            _check(store, there[worker], worker, ready)
        seen |= set(there)
        _check_none_ended(store, ready, entries)
        if len(there) == plan.workers:
            return max(entry.modified for entry in there.values()) + LEAD
        if clock() >= until:
            missing = ", ".join(str(worker) for worker in range(plan.workers) if worker not in there)
            raise BarrierError(
                f"After {seconds:g} s these of the {plan.workers} workers of {plan.name} are missing: {missing} "
                f"(of 0 to {plan.workers - 1}). Next: see why, and start all again under another name."
            )
        sleep(LOOK_EVERY)


def together(store: Store, ready: Ready, start: float, sleep: Callable[[float], None] = time.sleep) -> float:
    """Wait until just before the run begins, and see that all are there still; when it begins, by time.monotonic.

    One may have given up in the moment in which the last one came: then nobody begins.

    Raises:
        BarrierError: one has ended.
        StoreError: it can't be told.
    """
    begins = local(store, start)
    sleep(max(0.0, begins - BEFORE - time.monotonic()))
    _check_none_ended(store, ready, _entries(store, ready.plan))
    return begins


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


def _entries(store: Store, plan: Plan) -> dict[str, Entry]:
    """The files of all workers, by number and name: `01/plan.json`."""
    prefix = layout.simulation_workers(plan.name)
    return {entry.key.removeprefix(prefix): entry for entry in store.list(prefix)}


def _check_none_ended(store: Store, ready: Ready, entries: Mapping[str, Entry]) -> None:
    for worker in set(range(ready.plan.workers)) - {ready.worker}:
        if ended := entries.get(f"{worker:02}/{ENDED}"):
            raise BarrierError(
                f"Worker {worker} of {ready.plan.name} has ended before all had begun: {_why(store, ended)}"
            )


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


def _used(store: Store, name: str, key: str) -> UsedError:
    return UsedError(
        f"The name {name} is used: {store}/{key} is there, of another run, or of a worker that came too long ago to "
        "wait still. Give another --name, or delete what is there."
    )
