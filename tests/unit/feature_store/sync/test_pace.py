"""The pace finds a table's capacity and stays there: a table that refuses is played, with a clock of its own."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from feature_store.sync.pace import Pace

pytestmark = pytest.mark.unit

WAY = 0.005  # seconds from a request to its answer


class Table:
    """A table with a bucket of tokens, that holds a second's worth, as the stand-in has it."""

    def __init__(self, capacity: Callable[[float], float]) -> None:
        self.capacity = capacity
        self.tokens = capacity(0.0)
        self.at = 0.0

    def takes(self, now: float) -> bool:
        rate = self.capacity(now)
        self.tokens = min(rate, self.tokens + (now - self.at) * rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def play(capacity: Callable[[float], float], seconds: float, most_per_second: float = 1e9) -> tuple[Pace, list[float]]:
    """Send for so long; the pace, and when each request was taken. A client sends no more than it can."""
    now = [0.0]
    pace, table = Pace(lambda: now[0]), Table(capacity)
    answers: list[tuple[float, bool]] = []
    taken = []
    while now[0] < seconds:
        now[0] += 0.001
        while answers and answers[0][0] <= now[0]:
            if answers.pop(0)[1]:
                taken.append(now[0])
                pace.accept()
            else:
                pace.refuse()
        for _ in range(min(pace.credit(), int(most_per_second / 1000))):
            pace.sent()
            answers.append((now[0] + WAY * random.uniform(0.9, 1.1), table.takes(now[0])))
    return pace, taken


@pytest.mark.parametrize("capacity", [30, 100, 300, 1000, 4000, 10_000])
def test_it_finds_the_capacity_and_few_are_refused(capacity: int) -> None:
    seconds = max(20.0, 2000 / capacity)  # of 2,000 rows or more
    pace, taken = play(lambda _: capacity, seconds)
    later = [moment for moment in taken if moment > seconds / 2]
    assert len(later) / (seconds / 2) >= 0.95 * capacity
    assert pace.refused / (pace.refused + pace.accepted) < 0.05


@pytest.mark.parametrize(("first", "then"), [(1000, 100), (100, 1000), (4000, 400), (500, 5000)])
def test_it_follows_a_capacity_that_changes(first: int, then: int) -> None:
    pace, taken = play(lambda now: first if now < 20 else then, 60)
    later = [moment for moment in taken if moment > 45]
    assert len(later) / 15 >= 0.95 * then
    assert pace.refused / (pace.refused + pace.accepted) < 0.05


def test_it_takes_no_client_that_is_slower_for_a_table_that_has_more() -> None:
    """Else it would climb without end, and send all at once when the client wakes up."""
    pace, taken = play(lambda _: 1e9, 20, most_per_second=2000)
    assert len(taken) > 0.9 * 2000 * 18
    assert pace.refused == 0
    assert pace.rate < 2000 * 4


def test_a_table_that_refuses_everything_is_asked_ever_less() -> None:
    pace, taken = play(lambda _: 0.0, 30)
    assert taken == []
    assert pace.rate == pytest.approx(1.0)
    assert pace.refused < 500
