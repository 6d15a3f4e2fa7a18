"""Where throttling begins: how much a table gives while it refuses tries without a break, which is all that it has.

A table that refuses tries has nothing left, and what it is given again it gives to whoever asks next. So what was
answered while tries are refused in nearly every second is its capacity, however much was asked of it: a try that is
refused takes nothing, and its retry counts when it succeeds. In calls, it is that by what a call takes.

What is left out: seconds before tries are refused, as a table gives what it has saved until then (its burst) on top;
the first second with refused tries, of which a part was so; the end of each phase, whose retries come in the next one;
seconds in which calls ended otherwise, as what they took may not have been counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import mean, stdev

# Of the seconds from when tries are first refused to when they last are, the share in which they are, if the table has
# no more to give: if it is asked for less, it saves in between, and gives that on top.
SUSTAINED = 0.9
FEWEST = 4  # seconds of a phase, without which it says nothing
# What phases differ by at most, if it is one limit that they show: else it is that of some partitions.
AGREE = 1.15
OTHERWISE = 0.02  # share of a second's calls that failed with other than a throttle, above which it is left out
UNCERTAIN = 0.05  # relative standard error above which the estimate is said to be rough


class State(Enum):
    """What can be said of where throttling begins."""

    BEGINS = "begins"
    NOT_REACHED = "not reached"
    WORKER = "worker"  # it was the worker, or its machine, that had no more
    UNCLEAR = "unclear"  # tries were refused, and not for long enough, or not by one limit
    NOTHING = "nothing"  # no call was answered, and no try refused


@dataclass(frozen=True)
class Second:
    """What has come of the calls that were due in one second.

    Attributes:
        second: from the start of the run.
        units: read units that were answered.
        throttled: tries that were refused for want of capacity.
        ended: calls that have ended.
        otherwise: of these, those that failed with anything else than a throttle.
    """

    second: int
    units: float
    throttled: int
    ended: int
    otherwise: int = 0


@dataclass(frozen=True)
class Asked:
    """What was asked in one phase.

    Attributes:
        rate: calls per second of it, as planned; of one that climbs, in its middle.
        offered: calls per second that were due.
        seconds: of it, all of them, in their order.
        sound: whether the workers kept up.
    """

    rate: float
    offered: float
    seconds: Sequence[Second]
    sound: bool = True

    @property
    def refused(self) -> bool:
        """Whether any try was refused."""
        return any(second.throttled for second in self.seconds)

    @property
    def answered(self) -> bool:
        """Whether any read was answered."""
        return any(second.units for second in self.seconds)


@dataclass(frozen=True)
class Throttling:
    """Where throttling begins.

    Attributes:
        state: what can be said of it.
        says: the same in a sentence or two.
        units: read units per second that the table gives; None if no rate can be named.
        calls: calls per second that take as much.
        error: standard error of both, as a share of them.
        seconds: how many the estimate is of.
        without: the highest rate without a refused try, calls per second; None if there was none.
        refused: the lowest rate at which tries were refused for long; if there is none, at which any was.
        first: the second of the run in which that began.
    """

    state: State
    says: str
    units: float | None = None
    calls: float | None = None
    error: float | None = None
    seconds: int = 0
    without: float | None = None
    refused: float | None = None
    first: int | None = None


def throttling(phases: Sequence[Asked], units_a_call: float, deadline: float) -> Throttling:
    """Tell where throttling begins.

    Args:
        phases: of the run, in their order.
        units_a_call: read units that a call takes, on average over the kinds of calls.
        deadline: seconds that a call is tried for.
    """
    if not any(phase.answered or phase.refused for phase in phases):
        return Throttling(State.NOTHING, "No call was answered: nothing can be said of the table.")
    whole = [phase for phase in phases if phase.answered and not phase.refused and phase.sound]
    refused = [phase for phase in phases if phase.refused]
    without = max((phase.offered for phase in whole), default=None)
    if not refused:
        state, says = _nothing_refused(phases, without)
        return Throttling(state, says, without=without)
    tail = math.ceil(deadline) + 1
    found = [(phase, used) for phase in refused if (used := _used(phase.seconds, tail))]
    # A try may be refused at any rate, before the table has saved anything.
    in_earnest = [phase for phase, _ in found] or refused
    lowest = min(phase.offered for phase in in_earnest)
    first = min(each.second for phase in in_earnest for each in phase.seconds if each.throttled)
    if any(phase.sound for phase, _ in found):
        found = [(phase, used) for phase, used in found if phase.sound]
    means = [mean(used) for _, used in found]
    wrong = _unfit(refused, means)
    if wrong:
        state, says = wrong
        return Throttling(state, says, without=without, refused=lowest, first=first)
    every = [units for _, used in found for units in used]
    units = mean(every)
    # Of one value a second; seconds that follow each other differ by less than that, if by anything.
    error = stdev(every) / math.sqrt(len(every)) / units
    calls = units / units_a_call
    says = f"Throttling begins at {_short(calls)} calls/s, {_short(units)} read units/s: so much was answered"
    says += f" in {len(every)} seconds in which the table refused tries"
    says += (
        f" (standard error {error:.1%})." if error <= UNCERTAIN else f", and it varied much ({error:.0%}): run longer."
    )
    if not any(phase.sound for phase, _ in found):
        says += " The workers did not keep up then, but it is the table that refused."
    return Throttling(State.BEGINS, says, units, calls, error, len(every), without, lowest, first)


def _used(seconds: Sequence[Second], tail: int) -> list[float]:
    """Read units of the seconds of a phase in which the table gave all that it had; none if it did not for long."""
    before_end = seconds[:-tail]
    refused = [place for place, second in enumerate(before_end) if second.throttled]
    if not refused:
        return []
    # Also where tries are refused from its beginning: calls of the phase before are tried again in it.
    begins, ends = max(refused[0] + 2, tail), refused[-1] + 1
    span = [second for second in before_end[begins:ends] if second.otherwise <= OTHERWISE * second.ended]
    if len(span) < FEWEST or sum(bool(second.throttled) for second in span) < SUSTAINED * len(span):
        return []
    return [second.units for second in span]


def _unfit(refused: Sequence[Asked], means: Sequence[float]) -> tuple[State, str] | None:
    """Why no rate can be named though tries were refused."""
    if not means and not any(phase.sound for phase in refused):
        return State.WORKER, (
            "Tries were refused only while the workers did not keep up, and not for long: they had fallen behind and "
            "asked all at once. No rate is named: take more workers, or larger ones."
        )
    lowest, highest = (each(phase.offered for phase in refused) for each in (min, max))
    between = f"{_short(lowest)}" if lowest == highest else f"{_short(lowest)} to {_short(highest)}"
    if not means:
        return State.UNCLEAR, (
            f"Tries were refused at {between} calls/s, but never for long without a break: calls came in bunches, or "
            "what the table had saved was not used up. No rate is named: run longer, or at a higher rate."
        )
    if not min(means):
        return State.UNCLEAR, (
            f"Tries were refused at {between} calls/s, and nothing was answered meanwhile. No rate is named: see what "
            "calls ended with."
        )
    if max(means) / min(means) > AGREE:
        return State.UNCLEAR, (
            f"Tries were refused at {between} calls/s, but what was answered meanwhile differs from rate to rate, "
            f"{_short(min(means))} to {_short(max(means))} read units/s: that is not one limit of the table. Single "
            "partitions may be asked too often (3,000 read units/s each), or the table has scaled. No rate is named."
        )
    return None


def _nothing_refused(phases: Sequence[Asked], without: float | None) -> tuple[State, str]:
    late = [phase.offered for phase in phases if not phase.sound]
    if without is None:
        return State.WORKER, (
            "No try was refused, but the workers kept up with no rate: it was they, or their machine, that had no "
            "more, and not the table. No rate is named: take more workers, or larger ones."
        )
    says = f"Throttling does not begin up to {_short(without)} calls/s: no try was refused."
    if late and min(late) > without:
        says += f" Above that the workers did not keep up ({_short(min(late))} calls/s), and nothing can be said."
    elif late:
        says += " The workers did not always keep up."
    return State.NOT_REACHED, says


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
