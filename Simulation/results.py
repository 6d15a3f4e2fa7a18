"""What the workers of a simulation have written, read back and put together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

from feature_store import layout
from Simulation.plan import Plan
from Simulation.recording import Batch, Ended, Ready, RecordError, Samples, Vitals
from Simulation.store import Store

PLAN, ENDED = "plan.json", "ended.json"
LOST = "lost"  # the state of a worker that has not said how it ended
SAMPLES = re.compile(r"samples-\d{6}\.json")
AT_ONCE = 10  # files that are read at a time, of thousands: so many connections a client of S3 keeps


class ResultsError(Exception):
    """There are no results to read, or they can't be read; one sentence says why."""


@dataclass(frozen=True)
class WorkerResults:
    """What one worker has written.

    Attributes:
        ready: what it said when it came.
        start: seconds since 1970 when its run began; None if it has written no samples.
        samples: by second, phase and call.
        vitals: by second.
        ended: how; None if it was lost: what came after its last samples is not known.
    """

    ready: Ready
    start: float | None
    samples: tuple[Samples, ...]
    vitals: tuple[Vitals, ...]
    ended: Ended | None

    @property
    def state(self) -> str:
        """How it has ended; LOST if it has not said so: it was killed, or runs still."""
        return LOST if self.ended is None else self.ended.state

    @property
    def last_second(self) -> int | None:
        """The last second of the run that there are samples of; None if there are none."""
        return max((each.second for each in self.samples), default=None)


@dataclass(frozen=True)
class Results:
    """What all workers have written.

    Attributes:
        name: of the simulation.
        plan: of all of them.
        workers: by number, those that came.
    """

    name: str
    plan: Plan
    workers: Mapping[int, WorkerResults]

    @property
    def missing(self) -> list[int]:
        """The numbers of workers that have not come at all."""
        return [number for number in range(self.plan.workers) if number not in self.workers]

    @property
    def lost(self) -> list[int]:
        """The numbers of workers that came and have not said how they ended."""
        return [number for number, worker in sorted(self.workers.items()) if worker.state == LOST]

    @property
    def start(self) -> float | None:
        """Seconds since 1970 of second 0; None if there are no samples."""
        return min((worker.start for worker in self.workers.values() if worker.start is not None), default=None)

    @cached_property
    def samples(self) -> list[Samples]:
        """Those of all workers together, by second, phase and call."""
        return Samples.merged(each for worker in self.workers.values() for each in worker.samples)

    @classmethod
    def load(cls, store: Store, name: str) -> Results:
        """Read what is there of a simulation, ended or not.

        Raises:
            ResultsError: nothing is there, or what is there is no simulation's.
            StoreError: it can't be read.
        """
        prefix = layout.simulation_workers(name)
        folders: dict[int, list[str]] = {}
        for entry in store.list(prefix):
            number, _, file = entry.key.removeprefix(prefix).partition("/")
            if number.isdecimal():
                folders.setdefault(int(number), []).append(file)
        workers = {
            number: _worker(store, layout.simulation_worker(name, number), sorted(files))
            for number, files in sorted(folders.items())
            if PLAN in files
        }
        if not workers:
            raise ResultsError(f"There is no simulation {name}: nothing is in {store}/{prefix}.")
        plans = {worker.ready.plan for worker in workers.values()}
        if len(plans) > 1:
            raise ResultsError(f"The workers of {name} had different plans: give each run a name of its own.")
        return cls(name, plans.pop(), workers)


def _worker(store: Store, folder: str, files: list[str]) -> WorkerResults:
    with _named(folder + PLAN):
        ready = Ready.decode(store.read(folder + PLAN))
    keys = [folder + file for file in files if SAMPLES.fullmatch(file)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        batches = list(pool.map(partial(_batch, store), keys))
    ended = None
    if ENDED in files:
        with _named(folder + ENDED):
            ended = Ended.decode(store.read(folder + ENDED))
    return WorkerResults(
        ready=ready,
        start=batches[0].start if batches else None,
        samples=tuple(Samples.merged(each for batch in batches for each in batch.samples)),
        vitals=tuple(Vitals.merged(each for batch in batches for each in batch.vitals)),
        ended=ended,
    )


def _batch(store: Store, key: str) -> Batch:
    with _named(key):
        return Batch.decode(store.read(key))


@contextmanager
def _named(key: str) -> Iterator[None]:
    try:
        yield
    except RecordError as error:
        raise ResultsError(f"{key} can't be read: {error}") from error
