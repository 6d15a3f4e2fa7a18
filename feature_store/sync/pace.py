"""How many requests a second: as many as the table takes, found out by asking.

Amazon Keyspaces does not slow down, it refuses. What it has accepted while it refused some is what it can take: that is
the rate to go on with, and a little more, so that it still refuses a few; as soon as it refuses none, there is more to
be had. So a hundredth of the requests or two is the price of knowing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

START = 200.0  # requests a second: a new on-demand table takes 4,000, and one that is provisioned maybe 50
LEAST = 1.0
FIRST_SECONDS, FIRST_OUTCOMES = 0.1, 20  # of a look at the beginning, when nothing is to be measured yet
FIRST_REFUSALS = 4  # of such a look: the rate is too high by far, and half of it is nearer
DOUBLE = 2.0  # the rate, after each such look without a refusal
ANSWERED = 0.8  # of what was sent meanwhile: if less is, a faster rate would only make more that is refused at once
WINDOW_SECONDS, WINDOW_OUTCOMES = 0.2, 100  # of a look later: the longer and the more, the surer
ALARM_OUTCOMES = 40  # if half of so many are refused, there is nothing more to look at
BURST_SECONDS = 0.05  # what may be sent at once after a wait
ENOUGH_REFUSED = 0.015  # a share that is no reason to slow down: less capacity was never meant
ABOVE = 1.005  # the accepted rate times this, while there is no news
# After a look without refusals, after each further one, and at most: what a table has saved up hides for a second that
# it is too much.
CLIMB, STEEPER, STEEPEST = 1.02, 1.5, 1.15
NEAR = 1.05  # the first climb after the beginning: a half was cut off, or less
USED = 0.9  # a rate that was not used up is no news of more


@dataclass
class _Look:
    began: float
    sent: int = 0
    accepted: int = 0
    refused: int = 0

    @property
    def outcomes(self) -> int:
        return self.accepted + self.refused


class Pace:
    """A rate that follows a table's capacity. Not thread-safe: one thread asks and tells."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin slowly; `clock` is in seconds."""
        self.rate = START
        self.accepted = self.refused = 0
        self._clock = clock
        self._credit, self._credited = 1.0, clock()
        self._look = _Look(self._credited)
        self._beginning = True  # until it is known, about, what the table takes
        self._too_much = False  # whether it was more than that already
        self._climb = NEAR
        self._out = 0  # requests without an answer yet
        self._stale = 0  # of these, such as were sent at a former rate and tell nothing of this one

    def credit(self) -> int:
        """How many requests may be sent now."""
        now = self._clock()
        most = max(1.0, self.rate * BURST_SECONDS)
        self._credit = 0.0 if self._holds() else min(most, self._credit + (now - self._credited) * self.rate)
        self._credited = now
        return int(self._credit)

    def wait(self) -> float:
        """Seconds until there may be credit for one request; an answer can be sooner."""
        return BURST_SECONDS if self._holds() else max(0.0, (1.0 - self._credit) / self.rate)

    def _holds(self) -> bool:
        """Whether to wait for the answers of a rate that was too high by far: what is sent meanwhile is refused too."""
        return self._beginning and self._stale > 0

    def sent(self) -> None:
        """Take the credit of a request."""
        self._credit -= 1.0
        self._look.sent += 1
        self._out += 1

    def accept(self) -> None:
        """Hear that a request was taken."""
        self.accepted += 1
        if self._answered():
            self._look.accepted += 1
            self._consider()

    def refuse(self) -> None:
        """Hear that a request was refused for want of capacity."""
        self.refused += 1
        if self._answered():
            self._look.refused += 1
            self._consider()

    def lose(self) -> None:
        """Hear that a request has no answer, or one that tells nothing of capacity."""
        self._answered()

    def _answered(self) -> bool:
        """Whether an answer tells of the rate as it is."""
        self._out -= 1
        if self._stale:
            self._stale -= 1
            return False
        return True

    def _consider(self) -> None:
        now = self._clock()
        if self._begin(now) if self._beginning else self._follow(now):
            self._look = _Look(now)

    def _begin(self, now: float) -> bool:
        """Double the rate until too much is refused, then halve it until little is; whether a look is over."""
        look = self._look
        if look.refused >= FIRST_REFUSALS:
            self.rate = max(LEAST, self.rate / DOUBLE)
            self._too_much, self._stale = True, self._out
            return True
        if now - look.began < FIRST_SECONDS or look.outcomes < FIRST_OUTCOMES:
            return False
        if self._too_much:
            self._beginning = False
        elif self._used(look, now) and look.accepted >= ANSWERED * look.sent:
            self.rate *= DOUBLE
        return True

    def _follow(self, now: float) -> bool:
        """Keep to what is accepted while some is refused, and climb while none is; whether a look is over."""
        look, seconds = self._look, now - self._look.began
        alarm = look.outcomes >= ALARM_OUTCOMES and look.refused * 2 >= look.outcomes and seconds >= BURST_SECONDS
        if not alarm and (seconds < WINDOW_SECONDS or look.outcomes < WINDOW_OUTCOMES):
            return False
        if look.refused > ENOUGH_REFUSED * look.outcomes:
            self.rate = max(LEAST, min(self.rate, look.accepted / seconds * ABOVE))
            self._climb, self._stale = CLIMB, self._out
        elif look.refused:
            self._climb = CLIMB
        elif self._used(look, now):
            self.rate *= self._climb
            self._climb = min(STEEPEST, 1 + (self._climb - 1) * STEEPER)
        return True

    def _used(self, look: _Look, now: float) -> bool:
        return look.sent >= USED * self.rate * (now - look.began)
