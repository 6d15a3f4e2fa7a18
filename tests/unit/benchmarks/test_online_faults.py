"""What the benchmark of faults makes of the calls of a load."""

from __future__ import annotations

import pytest

from benchmarks import online_faults
from benchmarks.open_loop import Call

pytestmark = pytest.mark.unit


def calls(failed: range, seconds: int) -> list[Call]:
    """Ten a second, of a tenth each; those of some numbers fail."""
    return [
        Call(number / 10, number / 10, number / 10 + 0.1, "DeadlineError" if number in failed else None)
        for number in range(10 * seconds)
    ]


def test_all_answered_again_after_the_last_that_failed() -> None:
    """The fault is from second 2 to second 4; reads fail until second 5.5."""
    summary = online_faults.summary(calls(range(20, 56), 10), 2.0, 4.0)
    assert summary == {
        "fault_s": 2.0,
        "reads": 20,
        "answers": 0,
        "errors": "DeadlineError 36",
        "longest_s": 0.1,
        "recovery_s": 1.5,
    }


@pytest.mark.parametrize(("failed", "seconds"), [(range(30), 0.0), (range(30, 41), 0.0), (range(30, 71), 3.0)])
def test_recovery(failed: range, seconds: float) -> None:
    assert online_faults.recovery(calls(failed, 10), 4.0) == pytest.approx(seconds, abs=0.01)


def test_no_recovery_that_was_seen() -> None:
    assert online_faults.recovery(calls(range(30, 95), 10), 4.0) is None
