"""Counts what comes of a worker's calls while they are made, and gives it away every few seconds."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from feature_store.online import ReadError
from feature_store.online.answers import Answer, State
from Simulation.latencies import Latencies
from Simulation.recording import Samples, Vitals

Key = tuple[int, int, str]  # second, phase, call


@dataclass(frozen=True, slots=True)
class Made:
    """A call that has ended. Times are seconds from the start of the run.

    Attributes:
        due: when it should have begun.
        began: when it did.
        ended: when it gave an answer or an error.
        entities: how many it asked for.
        answers: those that it has; of a call that failed, those that had one all the same.
        error: what it failed with.
        failed_tries: tries of it that failed and may pass.
    """

    due: float
    began: float
    ended: float
    entities: int
    answers: Iterable[Answer]
    error: Exception | None
    failed_tries: Mapping[str, int]


class Tries(threading.local):
    """The observer of a reader: what tries of the call failed with that this thread makes."""

    def __init__(self) -> None:
        """Have heard of none."""
        self.failed_with: Counter[str] = Counter()

    def take(self) -> Mapping[str, int]:
        """What was heard of since this was last asked."""
        if not self.failed_with:
            return {}
        taken, self.failed_with = self.failed_with, Counter()
        return taken

    def failed(self, view: str, kind: type[ReadError]) -> None:  # noqa: ARG002
        """Hear of a try that has failed and may pass."""
        self.failed_with[kind.__name__] += 1

    def answered(self, view: str, answer: Answer) -> None:
        """Whoever calls has it."""

    def called(self, view: str, call: str, seconds: float, error: BaseException | None) -> None:
        """Likewise."""


@dataclass
class _Tally:
    offered: int = 0
    sent: int = 0
    answered: int = 0
    # Seconds, as a histogram takes longer to make than some calls do: whoever takes them makes it.
    latency: list[float] = field(default_factory=list)
    service: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    failed_tries: Counter[str] = field(default_factory=Counter)
    entities: int = 0
    missing: int = 0
    stale: int = 0
    found: int = 0


class Recorder:
    """What has come of calls since it was last taken. Thread-safe."""

    def __init__(self, units: float) -> None:
        """Have nothing yet; an answer is estimated to consume so many read units."""
        self._units = units
        self._lock = threading.Lock()
        self._tallies: dict[Key, _Tally] = {}
        self._vitals: dict[int, Vitals] = {}
        self._under_way = 0

    def offer(self, key: Key, count: int = 1) -> None:
        """Count a call as due, or several, whatever comes of it."""
        with self._lock:
            self._tally(key).offered += count

    def begin(self, key: Key, late: float, *, waited: bool) -> None:
        """Count a call as begun, so many seconds late, and whether that is so as too many others were under way."""
        second = key[0]
        with self._lock:
            self._tally(key).sent += 1
            self._under_way += 1
            of = self._vitals.get(second) or Vitals(second=second)
            self._vitals[second] = replace(
                of,
                late=of.late if waited else max(of.late, late),
                waited=of.waited + waited,
                under_way=max(of.under_way, self._under_way),
            )

    def end(self, key: Key, made: Made) -> None:
        """Count what has come of a call."""
        states = Counter(answer.state for answer in made.answers)
        with self._lock:
            self._under_way -= 1
            tally = self._tally(key)
            tally.latency.append(made.ended - made.due)
            tally.service.append(made.ended - made.began)
            tally.entities += made.entities
            tally.missing += states[State.MISSING]
            tally.stale += states[State.STALE]
            tally.found += states.total()
            tally.failed_tries.update(made.failed_tries)
            if made.error is None:
                tally.answered += 1
            else:
                tally.errors[type(made.error).__name__] += 1

    def cpu(self, second: int, process: float, machine: float | None, stopped: float) -> None:
        """Keep how busy process and machine were in a second."""
        with self._lock:
            of = self._vitals.get(second) or Vitals(second=second)
            self._vitals[second] = replace(of, process_cpu=process, machine_cpu=machine, throttled_cpu=stopped)

    def take(self) -> tuple[list[Samples], list[Vitals]]:
        """What there is since it was last taken. It is encoded by whoever takes it, while calls go on."""
        with self._lock:
            tallies, self._tallies = self._tallies, {}
            vitals, self._vitals = self._vitals, {}
        samples = [self._samples(key, tallies[key]) for key in sorted(tallies)]
        return samples, [vitals[second] for second in sorted(vitals)]

    def _tally(self, key: Key) -> _Tally:
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally()
        return tally

    def _samples(self, key: Key, tally: _Tally) -> Samples:
        second, phase, call = key
        return Samples(
            second=second,
            phase=phase,
            call=call,
            offered=tally.offered,
            sent=tally.sent,
            answered=tally.answered,
            latency=_encoded(tally.latency),
            service=_encoded(tally.service),
            errors=dict(tally.errors),
            failed_tries=dict(tally.failed_tries),
            entities=tally.entities,
            missing=tally.missing,
            stale=tally.stale,
            read_units=tally.found * self._units,
        )


def _encoded(seconds: Iterable[float]) -> tuple[str, ...]:
    latencies = Latencies()
    for each in seconds:
        latencies.record(each)
    return (latencies.encode(),) if len(latencies) else ()
