"""Calls at a fixed rate, whether or not those before have ended: what waits for a slow server is seen to wait.

Callers that come one after another (a closed loop) ask less of a server that is slow, and hide its queue.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True, slots=True)
class Call:
    """One call. Times are those of time.monotonic, in seconds.

    Attributes:
        due: when it should have begun.
        began: when it did: later, if all threads were busy, and by what it takes to wake one.
        ended: when it gave an answer or an error.
        error: the name of the error's type; None for an answer.
    """

    due: float
    began: float
    ended: float
    error: str | None

    @property
    def latency(self) -> float:
        """Seconds from when it was due, not from when it began."""
        return self.ended - self.due


@dataclass(frozen=True)
class Loads:
    """All calls of a run, in the order in which they were due."""

    calls: Sequence[Call]

    @property
    def latencies(self) -> list[float]:
        """Seconds of each call, also of one that failed, least first."""
        return sorted(call.latency for call in self.calls)

    def quantile(self, share: float) -> float:
        """Seconds within which that share (0 to 1) of the calls had ended: that of a call, none between two.

        Raises:
            ValueError: there was no call.
        """
        latencies = self.latencies
        if not latencies:
            raise ValueError("there was no call")
        return latencies[max(0, math.ceil(share * len(latencies)) - 1)]

    @property
    def errors(self) -> Counter[str]:
        """How many calls failed, by the name of the error's type."""
        return Counter(call.error for call in self.calls if call.error)

    @property
    def answers(self) -> int:
        """How many calls gave an answer."""
        return sum(call.error is None for call in self.calls)

    @property
    def rate(self) -> float:
        """Answers per second, from when the first call was due to when the last one had ended."""
        return self.answers / (max(call.ended for call in self.calls) - self.calls[0].due) if self.calls else 0.0


def run(rate: float, seconds: float, call: Callable[[], object], threads: int) -> Loads:
    """Call at a rate for so long, and wait for all calls to end.

    Args:
        rate: calls per second, evenly spaced.
        seconds: from the first call to the last one, however long they take.
        call: what to call, from several threads at once.
        threads: how many calls may be under way; what is due while all are busy waits, and its latency says so.
    """
    total = int(rate * seconds)
    numbers, made = count(), threading.Lock()
    calls: list[Call | None] = [None] * total
    first = time.monotonic() + 0.05  # all threads are there by then

    def work() -> None:
        while True:
            with made:
                number = next(numbers)
            if number >= total:
                return
            due = first + number / rate
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            began, error = time.monotonic(), None
            try:
                call()
            except Exception as failure:  # noqa: BLE001 - whatever it is, it is counted
                error = type(failure).__name__
            calls[number] = Call(due, began, time.monotonic(), error)

    workers = [threading.Thread(target=work, name=f"caller-{number}") for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return Loads([one for one in calls if one])
