"""The highest rate that meets an objective, and what it costs on demand to be asked so much all day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feature_store import cost

A_DAY = 24 * 3600
FEWEST = 100  # calls, without which there is no 99th percentile


@dataclass(frozen=True)
class Objective:
    """What callers are to see.

    Attributes:
        p99_ms: within which 99 of 100 calls end, from when they were due, in milliseconds: less than that.
        errors: the share, 0 to 1, of calls without an answer: less than that.
    """

    p99_ms: float = 10.0
    errors: float = 0.0001

    def __str__(self) -> str:
        """Say it as people do."""
        return f"p99 < {self.p99_ms:g} ms and errors < {self.errors * 100:g} %"

    def met(self, seen: Seen) -> bool | None:
        """Whether it is met; None where too few calls have ended to say so."""
        if seen.p99_ms is None or seen.calls < FEWEST:
            return None
        return seen.p99_ms < self.p99_ms and seen.errors < self.errors


@dataclass(frozen=True)
class Seen:
    """What was seen at one rate.

    Attributes:
        rate: calls per second, as planned.
        calls: how many were due.
        p99_ms: milliseconds from when they were due.
        errors: the share without an answer, 0 to 1.
        units: read units per second.
        sound: whether the workers kept up.
        whole: whether so much was asked; not if a worker was lost or stopped meanwhile.
    """

    rate: float
    calls: int
    p99_ms: float | None
    errors: float
    units: float
    sound: bool
    whole: bool = True


@dataclass(frozen=True)
class Met:
    """How far an objective is met.

    Attributes:
        says: in a sentence or two.
        rate: the highest rate that meets it, calls per second; None if none does.
        units: read units per second at that rate.
        dollars: for a day of these, on demand; None if no rate meets it, or the region's prices are not known.
        region: whose prices.
    """

    says: str
    rate: float | None
    units: float | None
    dollars: float | None
    region: str


def meet(objective: Objective, phases: Sequence[Seen], region: str) -> Met:
    """Find the highest rate that meets an objective; of a rate that came twice, each time has to."""
    fails = {seen.rate for seen in phases if not objective.met(seen)}
    meets = [seen for seen in phases if seen.rate not in fails and seen.whole]
    notes = _notes(objective, phases, max((seen.rate for seen in meets), default=0.0))
    if not meets:
        told = all(seen.whole and objective.met(seen) is not None for seen in phases)
        says = f"No rate {'meets' if told else 'is known to meet'} {objective}."
        return Met(" ".join([says, *notes]), None, None, None, region)
    best = max(meets, key=lambda seen: seen.rate)
    dollars = cost.dollars(region, reads=round(best.units * A_DAY))
    price = f", ${dollars:,.2f} a day on demand in {region}" if dollars is not None else ""
    price = price or f" (no price of {region or 'an unknown region'} is known here: see --region)"
    says = f"{objective} is met up to {best.rate:,.6g} calls/s: {best.units:,.4g} read units/s{price}."
    return Met(" ".join([says, *notes]), best.rate, best.units, dollars, region)


def _notes(objective: Objective, phases: Sequence[Seen], best: float) -> list[str]:
    """What may be misread: lower rates that fail, and higher ones at which it was not the server."""
    lower = sorted({seen.rate for seen in phases if objective.met(seen) is False and seen.rate < best})
    few = sorted({seen.rate for seen in phases if objective.met(seen) is None})
    less = sorted({seen.rate for seen in phases if not seen.whole})
    slow = sorted({seen.rate for seen in phases if not seen.sound and seen.rate > best})
    # Without an error at all it is met all the same: one is more than was asked for.
    blind = sorted({seen.rate for seen in phases if objective.met(seen) and seen.calls * objective.errors < 1})
    notes = []
    if lower:
        notes.append(f"It is not met at {_list(lower)} calls/s, though less is asked then: was something else at work?")
    if few:
        notes.append(f"At {_list(few)} calls/s too few calls have ended to say.")
    if blind:
        notes.append(
            f"At {_list(blind)} calls/s fewer than {1 / objective.errors:,.0f} calls were made, which can't show that "
            "fewer than one of so many fails: run longer."
        )
    if less:
        notes.append(f"At {_list(less)} calls/s fewer calls were due than that: a worker was lost, or stopped.")
    if slow:
        notes.append(f"At {_list(slow)} calls/s the workers did not keep up: that says nothing of the server.")
    return notes


def _list(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:,.6g}" for rate in rates)
