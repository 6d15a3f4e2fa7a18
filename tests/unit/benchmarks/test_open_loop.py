"""The open loop: what waits is seen to wait, and every call counts."""

from __future__ import annotations

import time

import pytest

from benchmarks import open_loop

pytestmark = pytest.mark.unit


def test_a_queue_is_in_the_latencies() -> None:
    """Five calls due within 40 ms take one thread 50 ms each: the last one has waited for the four before it."""
    loads = open_loop.run(rate=100, seconds=0.05, call=lambda: time.sleep(0.05), threads=1)
    assert len(loads.calls) == 5
    assert loads.quantile(1.0) >= 0.05 * 5 - 0.04
    assert loads.calls[-1].ended - loads.calls[-1].began < loads.calls[-1].latency


def test_calls_do_not_wait_for_one_another() -> None:
    loads = open_loop.run(rate=50, seconds=0.2, call=lambda: time.sleep(0.2), threads=10)
    assert loads.calls[-1].began - loads.calls[0].began < 0.3
    assert [call.due for call in loads.calls] == sorted(call.due for call in loads.calls)


def test_errors_are_counted_by_kind() -> None:
    numbers = iter(range(10))

    def call() -> None:
        if next(numbers) % 5 == 0:
            raise TimeoutError

    loads = open_loop.run(rate=1000, seconds=0.01, call=call, threads=1)
    assert (loads.answers, loads.errors) == (8, {"TimeoutError": 2})


def test_quantiles_are_those_of_calls() -> None:
    calls = [open_loop.Call(0.0, 0.0, float(number), None) for number in (4, 1, 3, 2)]
    loads = open_loop.Loads(calls)
    assert [loads.quantile(share) for share in (0.25, 0.5, 0.75, 0.99, 1.0)] == [1.0, 2.0, 3.0, 4.0, 4.0]
    assert loads.rate == 1.0
    with pytest.raises(ValueError, match="no call"):
        open_loop.Loads([]).quantile(0.5)
