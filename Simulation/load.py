"""Makes a worker's calls when they are due, from threads of which one is free as long as the server keeps up.

Threads, each of which sleeps until its call is due, and no event loop: a loop's timers are of milliseconds, which would
be in the latency of every call. Measured with the server on the same two cores: at 800 calls/s p50 was 1.3 ms and p99
5.6 ms by threads, 2.3 and 23 ms by aget; where neither kept up, threads answered 1,070 calls/s, the loop 1,230.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from feature_store.online import ReadError
from feature_store.online.answers import Answer
from Simulation import schedule
from Simulation.entities import Draw
from Simulation.plan import Plan
from Simulation.recorder import Key, Made, Recorder, Tries
from Simulation.recording import GET, GET_MANY, MOST_CALLERS

FEWEST = 16  # threads
SPARE = 1.5
NAP = 0.25  # seconds, at most, until a thread sees that it is to stop
NEVER = float("inf")
COUNTED = 5.0  # seconds, at most, of counting the calls that were never made: ECS waits 30 for the end of all
log = logging.getLogger(__name__)


class Reader(Protocol):
    """What is called: feature_store.online.Reader."""

    def get(self, entity: str) -> Answer:
        """Read one entity."""
        ...

    def get_many(self, entities: Sequence[str]) -> list[Answer]:
        """Read several at once."""
        ...


@dataclass(frozen=True)
class Call:
    """One that is to be made.

    Attributes:
        due: seconds from the start of the run.
        key: what it is counted under.
        size: of how many entities; who they are is drawn when somebody is free to make it.
    """

    due: float
    key: Key
    size: int


def callers(plan: Plan) -> int:
    """How many calls of a worker may be under way: half as many again as at its highest rate end by the deadline."""
    highest = max(plan.rates) / plan.workers
    return min(MOST_CALLERS, max(FEWEST, math.ceil(SPARE * highest * plan.deadline)))


def calls(plan: Plan, worker: int) -> Iterator[Call]:
    """All calls of a worker, in their order."""
    kinds = random.Random(f"{plan.seed}:{worker}:kinds")  # noqa: S311 - no secret
    for due, phase in schedule.due(plan, worker):
        many = kinds.random() < plan.many
        yield Call(due, (int(due), phase, GET_MANY if many else GET), plan.many_size if many else 1)


class Load:
    """The calls of a worker, made by threads of its own.

    Attributes:
        start: second 0, by time.monotonic.
        callers: how many threads make calls.
        error: what kept it from saying when further calls are due, or whom they ask for: no more are made.
    """

    def __init__(self, reader: Reader, wanted: Iterator[Call], draw: Draw, recorder: Recorder, tries: Tries) -> None:
        """Take what to call, when, for whom, and who counts; `tries` is the reader's observer."""
        self._reader, self._wanted, self._draw, self._recorder, self._tries = reader, wanted, draw, recorder, tries
        self._next = threading.Lock()
        self._until = NEVER
        self._threads: list[threading.Thread] = []
        self.start, self.callers = 0.0, 0
        self.error: Exception | None = None

    def begin(self, start: float, threads: int) -> None:
        """Begin with so many threads; second 0 is then, by time.monotonic."""
        self.start, self.callers = start, threads
        self._threads = [
            threading.Thread(target=self._work, name=f"caller-{each}", daemon=True) for each in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def now(self) -> float:
        """Seconds from the start of the run."""
        return time.monotonic() - self.start

    def done(self, seconds: float = 0.0) -> bool:
        """Wait for so long until all calls have ended; whether they have."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            if thread.ident is not None:  # or a signal came before it was started
                thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> int:
        """Begin no more calls. Those that are due by now, and have not begun, are counted as due; how many they are.

        For COUNTED seconds at most: some million calls. Then those that are left are not counted, which is logged.
        """
        self._until = self.now()
        waiting: Counter[Key] = Counter()
        with self._next:
            ends = time.monotonic() + COUNTED
            for call in self._wanted:
                if call.due > self._until:
                    break
                waiting[call.key] += 1
                if time.monotonic() > ends:
                    log.warning("Calls that were due after second %d and never made are too many to count.", call.due)
                    self._wanted = iter(())
                    break
        for key, count in waiting.items():
            self._recorder.offer(key, count)
        return waiting.total()

    def _work(self) -> None:
        busy = False
        while True:
            with self._next:
                try:
                    call = next(self._wanted, None)
                    entities = self._draw(call.size) if call else ()
                except Exception as error:  # noqa: BLE001 - nobody else hears of it: who looks on ends the run with it
                    self.error, self._wanted, call = error, iter(()), None
            if call is None or not self._wait(call, busy=busy):
                return
            self._make(call, entities)
            busy = True

    def _wait(self, call: Call, *, busy: bool) -> bool:
        """Sleep until a call is due; whether it is to be made. It is counted as due then, and not before.

        One that is due before has waited for whoever makes it, if that one was busy until now with another.
        """
        waited = busy and call.due < self.now()
        while (left := call.due - self.now()) > 0:
            if self._until < call.due:
                return False
            time.sleep(min(left, NAP))
        if self._until < call.due:  # it was stopped while this slept until then
            return False
        self._recorder.offer(call.key)
        if self._until < NEVER:
            return False
        self._recorder.begin(call.key, self.now() - call.due, waited=waited)
        return True

    def _make(self, call: Call, entities: Sequence[str]) -> None:
        began = self.now()
        error: Exception | None = None
        answers: Sequence[Answer] = ()
        try:
            many = call.key[2] == GET_MANY
            answers = self._reader.get_many(entities) if many else (self._reader.get(entities[0]),)
        except ReadError as failure:
            answers, error = tuple(failure.answers.values()), failure
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is counted by its name, as callers would see it
            error = failure
        made = Made(call.due, began, self.now(), len(entities), answers, error, self._tries.take())
        self._recorder.end(call.key, made)
