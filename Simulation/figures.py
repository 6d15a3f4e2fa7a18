"""The figures of a run: of each rate and kind of call, second by second, and of the workers themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from Simulation import bottleneck
from Simulation.latencies import Latencies
from Simulation.plan import Phase
from Simulation.recording import DONE, THROTTLED, Samples, Vitals, counted
from Simulation.results import Results
from Simulation.throttling import Asked, Second

ALL = "all"
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
# Points of a timeline: a longer run has several seconds in each.
POINTS = 600
CURVE_POINTS_A_NINE = 8  # of a curve of percentiles, for each further nine
UNWRITTEN = 10  # seconds that a lost worker may have made calls in after its last samples: it writes every five
Figures = dict[str, Any]


@dataclass(frozen=True)
class Took:
    """How long calls took.

    Attributes:
        latency: since they were due.
        service: since they began.
    """

    latency: Latencies
    service: Latencies

    @classmethod
    def of(cls, samples: Sequence[Samples]) -> Took:
        """Put together those of samples."""
        return cls(
            Latencies.merged(text for each in samples for text in each.latency),
            Latencies.merged(text for each in samples for text in each.service),
        )


@dataclass(frozen=True)
class Of:
    """One phase of a run.

    Attributes:
        phase: as it was planned.
        seconds: of it that were run.
        samples: of its calls, those of all workers together.
        late: what says that a worker was too slow in it, a sentence each; none if they kept up.
        uncounted: seconds of the run in which a worker that did not end well may have had answers that are not written.
    """

    phase: Phase
    seconds: int
    samples: Sequence[Samples]
    late: Sequence[str]
    uncounted: frozenset[int] = frozenset()

    @property
    def title(self) -> str:
        """Its rate, as people say it."""
        return title(self.phase)

    @cached_property
    def took(self) -> dict[str, Took]:
        """How long its calls took, of all and by their kind: a histogram is decoded once, of which there are many."""
        kinds = {kind: Took.of(samples) for kind, samples in self._kinds().items()}
        every = Took(Latencies(), Latencies())
        for kind in kinds.values():
            every.latency.add(kind.latency)
            every.service.add(kind.service)
        return {ALL: every, **kinds}

    def figures(self) -> Figures:
        """All of its figures, by kind of call, too."""
        kinds = self._kinds()
        calls = {ALL: self._calls(self.samples, self.took[ALL])}
        if len(kinds) > 1:
            calls |= {kind: self._calls(samples, self.took[kind]) for kind, samples in kinds.items()}
        return {
            "number": self.phase.number,
            "title": self.title,
            "begins": self.phase.begins,
            "seconds": self.seconds,
            "rate": self.phase.mean,
            "kinds": list(kinds),
            "calls": calls,
            "late": list(self.late),
        }

    def curve(self) -> Figures:
        """How many nines of the calls end within which milliseconds, since they were due and since they began."""
        took = self.took[ALL]
        count = len(took.latency)
        nines = math.log10(count) if count else 0.0
        steps = math.floor(nines * CURVE_POINTS_A_NINE)
        shares = [1 - 10 ** (-step / CURVE_POINTS_A_NINE) for step in range(steps + 1)] if count else []
        return {
            "title": self.title,
            "shares": [round(share, 9) for share in shares],
            "latency_ms": [_ms(took.latency.quantile(share)) for share in shares],
            "service_ms": [_ms(took.service.quantile(share)) for share in shares],
        }

    def asked(self) -> Asked:
        """What was asked in it, as throttling is told by."""
        seconds = by_second(self.samples)
        every = range(self.phase.begins, self.phase.begins + self.seconds)
        offered = sum(each.offered for each in self.samples) / self.seconds
        told = [_second(at, seconds.get(at, []), counted=at not in self.uncounted) for at in every]
        return Asked(self.phase.mean, offered, told, not self.late)

    def _kinds(self) -> dict[str, list[Samples]]:
        kinds = sorted({each.call for each in self.samples})
        return {kind: [each for each in self.samples if each.call == kind] for kind in kinds}

    def _calls(self, samples: Sequence[Samples], took: Took) -> Figures:
        offered, sent, answered, missing, stale, entities = (
            sum(getattr(each, name) for each in samples)
            for name in ("offered", "sent", "answered", "missing", "stale", "entities")
        )
        units = sum(each.read_units for each in samples)
        return {
            "offered": offered,
            "sent": sent,
            "answered": answered,
            "offered_per_s": round(offered / self.seconds, 2),
            "sent_per_s": round(sent / self.seconds, 2),
            "answered_per_s": round(answered / self.seconds, 2),
            "without_answer": offered - answered,
            "without_answer_share": (offered - answered) / offered if offered else 0.0,
            "errors": counted(each.errors for each in samples),
            "never_ended": offered - answered - sum(each.failed for each in samples),
            "failed_tries": counted(each.failed_tries for each in samples),
            "throttled_tries": sum(each.throttled for each in samples),
            "entities": entities,
            "missing": missing,
            "stale": stale,
            "read_units_per_s": round(units / self.seconds, 2),
            "latency_ms": quantiles(took.latency),
            "service_ms": quantiles(took.service),
        }


def title(phase: Phase) -> str:
    """The rate of a phase, as people say it."""
    return f"{phase.rate:,.6g}/s" if phase.rate == phase.until else f"{phase.rate:,.6g} to {phase.until:,.6g}/s"


def phases(results: Results) -> list[Of]:
    """The phases of which there are samples; the last one as far as it was run."""
    samples, uncounted = results.samples, _uncounted(results)
    last = max((each.second for each in samples), default=-1)
    whole = not results.missing and all(worker.state == DONE for worker in results.workers.values())
    found = []
    for phase in results.plan.phases:
        of = [each for each in samples if each.phase == phase.number]
        if of:
            seconds = phase.seconds if whole else min(phase.seconds, last + 1 - phase.begins)
            found.append(Of(phase, seconds, of, _late(results, phase), uncounted))
    return found


def _uncounted(results: Results) -> frozenset[int]:
    """The seconds around the last samples of a worker that was lost, stopped, or has failed.

    It took capacity in them that it may not have written of.
    """
    before = math.ceil(results.plan.deadline) + 1
    last = [worker.last_second or 0 for worker in results.workers.values() if worker.state != DONE]
    return frozenset(second for at in last for second in range(at - before, at + UNWRITTEN))


def _late(results: Results, phase: Phase) -> list[str]:
    span = range(phase.begins, phase.begins + phase.seconds)
    return [
        f"Worker {number}: {why}"
        for number, worker in sorted(results.workers.items())
        for why in bottleneck.reasons([each for each in worker.vitals if each.second in span], worker.ready.callers)
    ]


def units_a_call(results: Results) -> float:
    """Read units that a call takes, on average over those that have ended, answered or not."""
    samples = results.samples
    ended = sum(each.answered + each.failed for each in samples)
    units = next(iter(results.workers.values())).ready.units
    return units * sum(each.entities for each in samples) / ended if ended else units


def timeline(results: Results) -> Figures:
    """What was seen in each second, or in so many as there are in a point of a longer run."""
    seconds = by_second(results.samples)
    last = max(seconds, default=0)
    width = -(-(last + 1) // POINTS)
    found: Figures = {"width": width, "second": list(range(0, last + 1, width))}
    names = ("offered", "answered", "failed", "throttled", "read_units")
    found |= {name: [] for name in (*names, "p50_ms", "p99_ms")}
    for at in found["second"]:
        until = min(at + width, last + 1)  # the last point may have fewer seconds
        of = [each for second in range(at, until) for each in seconds.get(second, [])]
        for name in names:
            found[name].append(round(sum(getattr(each, name) for each in of) / (until - at), 2))
        latencies = Latencies.merged(text for each in of for text in each.latency)
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
            found[name].append(_ms(latencies.quantile(share)) if len(latencies) else None)
    return found


def workers(results: Results) -> list[Figures]:
    """What is to be known of each worker that came."""
    found = []
    for number, worker in sorted(results.workers.items()):
        vitals = worker.vitals
        machine = [each.machine_cpu for each in vitals if each.machine_cpu is not None]
        found.append(
            {
                "worker": number,
                "state": worker.state,
                "reason": worker.ended.reason if worker.ended else "",
                "offered": sum(each.offered for each in worker.samples),
                "last_second": worker.last_second,
                "cores": worker.ready.cores,
                "callers": worker.ready.callers,
                "late_ms": _most(vitals, "late", 1000),
                "waited": sum(each.waited for each in vitals),
                "process_cpu": _most(vitals, "process_cpu"),
                "machine_cpu": max(machine, default=None),
                "bottleneck": bottleneck.reasons(vitals, worker.ready.callers),
            }
        )
    return found


def by_second(samples: Iterable[Samples]) -> dict[int, list[Samples]]:
    """Samples by the second in which their calls were due."""
    found: dict[int, list[Samples]] = {}
    for each in samples:
        found.setdefault(each.second, []).append(each)
    return found


def quantiles(latencies: Latencies) -> dict[str, float | None]:
    """Percentiles in milliseconds, and the longest; None for one that so few calls do not have."""
    count = len(latencies)
    found: dict[str, float | None] = {
        name: _ms(latencies.quantile(share)) if count * (1 - share) >= 1 - 1e-9 else None
        for name, share in QUANTILES.items()
    }
    return {**found, "max": _ms(latencies.quantile(1.0)) if count else None}


def _second(at: int, samples: Sequence[Samples], *, counted: bool) -> Second:
    ended = sum(each.answered + each.failed for each in samples)
    otherwise = sum(each.failed - each.errors.get(THROTTLED, 0) for each in samples)
    return Second(
        second=at,
        units=sum(each.read_units for each in samples),
        throttled=sum(each.throttled for each in samples),
        ended=ended,
        otherwise=otherwise if counted else ended + 1,  # as many as leave it out
    )


def _most(vitals: Sequence[Vitals], name: str, times: float = 1.0) -> float:
    return round(max((getattr(each, name) for each in vitals), default=0.0) * times, 3)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
