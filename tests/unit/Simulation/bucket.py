"""A table with a token bucket, and callers that try again as feature_store.online does, in simulated time."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

from feature_store.online.tries import DOUBLINGS, FIRST_PAUSE, LONGEST_PAUSE
from Simulation.throttling import Asked, Second

ANSWERED_AFTER = 0.002  # seconds from a try to what it becomes


@dataclass
class Load:
    """What callers ask for.

    Attributes:
        capacity: read units a second that the table has; it holds one second's worth.
        rates: calls a second, one phase after the other.
        seconds: of each phase.
        many: share of calls that are for several entities.
        size: how many these are for.
        unit: read units of an entity.
        deadline: seconds that a call is tried for.
        burst: whether the table's bucket is full at the start.
    """

    capacity: float
    rates: tuple[float, ...]
    seconds: int = 30
    many: float = 0.0
    size: int = 50
    unit: float = 1.0
    deadline: float = 1.0
    seed: int = 1
    burst: bool = True


@dataclass
class Happened:
    """What has come of the calls that were due in a second."""

    phase: int
    rate: float
    offered: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    units: dict[str, float] = field(default_factory=lambda: {"get": 0.0, "get_many": 0.0})
    throttled: int = 0
    failed: int = 0


@dataclass(order=True)
class _Try:
    at: float
    order: int
    call: _Call = field(compare=False)
    count: int = field(compare=False, default=1)


@dataclass
class _Call:
    kind: str
    due: float
    left: int
    failed: bool = False


def run(load: Load) -> list[Happened]:
    """Simulate a load; what happened, second by second."""
    dice = random.Random(load.seed)
    happened = [Happened(phase, rate) for phase, rate in enumerate(load.rates) for _ in range(load.seconds)]
    tries: list[_Try] = []
    order = 0
    for phase, rate in enumerate(load.rates):
        at = phase * load.seconds + dice.expovariate(rate)
        while at < (phase + 1) * load.seconds:
            kind = "get_many" if dice.random() < load.many else "get"
            call = _Call(kind, at, load.size if kind == "get_many" else 1)
            happened[int(at)].offered[kind] += 1
            for _ in range(call.left):
                tries.append(_Try(at, order, call))
                order += 1
            at += dice.expovariate(rate)
    heapq.heapify(tries)
    tokens, last = load.capacity if load.burst else 0.0, 0.0
    while tries:
        one = heapq.heappop(tries)
        call, of = one.call, happened[int(one.call.due)]
        tokens, last = min(load.capacity, tokens + (one.at - last) * load.capacity), one.at
        if tokens >= load.unit:
            tokens -= load.unit
            of.units[call.kind] += load.unit
            call.left -= 1
            if not call.left and not call.failed:
                of.answered[call.kind] += 1
            continue
        of.throttled += 1
        pause = dice.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(one.count - 1, DOUBLINGS)))
        again = one.at + ANSWERED_AFTER + pause
        if again < call.due + load.deadline:
            order += 1
            heapq.heappush(tries, _Try(again, order, call, one.count + 1))
        elif not call.failed:
            call.failed = True
            of.failed += 1
    return happened


def asked(load: Load, happened: list[Happened], *, sound: bool = True) -> list[Asked]:
    """The same, as throttling is told by."""
    phases = []
    for phase, rate in enumerate(load.rates):
        first = phase * load.seconds
        of = happened[first : first + load.seconds]
        seconds = [
            Second(
                second=first + place,
                units=sum(each.units.values()),
                throttled=each.throttled,
                ended=sum(each.offered.values()),
            )
            for place, each in enumerate(of)
        ]
        offered = sum(sum(each.offered.values()) for each in of) / load.seconds
        phases.append(Asked(rate, offered, seconds, sound))
    return phases


def units_a_call(load: Load, happened: list[Happened]) -> float:
    """Read units of a call, over those that were made."""
    gets, manys = (sum(each.offered[kind] for each in happened) for kind in ("get", "get_many"))
    return load.unit * (gets + manys * load.size) / (gets + manys)
