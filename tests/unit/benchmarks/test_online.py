"""The reads' benchmark: its arithmetic, and that Feast's lock is installable and names no index."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import pytest

from benchmarks import online, online_worker
from infra.local.settings import ROOT

pytestmark = pytest.mark.unit


def sleeper(seconds: float) -> online_worker.Read:
    return lambda entities: time.sleep(seconds)


def test_pairs_say_what_one_takes_more() -> None:
    found = online_worker.pairs(sleeper(0.006), sleeper(0.002), lambda: ["A"], 10)
    assert 0.003 < found["clock_more"] < 0.008
    assert found["clock_more"] == found["clock_one"] - found["clock_other"]
    assert found["thread_more"] < 0.001  # who sleeps takes no CPU


def test_pairs_read_the_same_entities_and_take_turns() -> None:
    asked: list[tuple[str, Sequence[str]]] = []
    entities = iter([["A"], ["B"], ["C"]])
    online_worker.pairs(
        lambda of: asked.append(("one", of)), lambda of: asked.append(("other", of)), lambda: next(entities), 3
    )
    assert [of for _, of in asked] == [["A"], ["A"], ["B"], ["B"], ["C"], ["C"]]
    assert [way for way, _ in asked] == ["other", "one", "one", "other", "other", "one"]


def test_a_closed_loop_counts_what_fails() -> None:
    numbers = iter(range(1000))

    def call() -> None:
        time.sleep(0.005)
        if next(numbers) % 2:
            raise TimeoutError

    latencies, errors = online_worker.closed_loop(1, 0.1, call)
    assert 2 <= len(latencies) <= 20
    assert errors == {"TimeoutError": len(latencies) // 2}
    assert min(latencies) >= 0.005


def found(latencies: Sequence[float], errors: dict[str, int], elapsed: float) -> dict[str, object]:
    return {
        "latencies": latencies, "errors": errors, "elapsed": elapsed, "cpu_s": 0.5, "server_cpu_s": 1.0, "rss_mb": 10.0
    }  # fmt: skip


def test_a_case_is_all_of_its_rounds() -> None:
    case = online.Measured("get_many ours 5/s", 100, 5.0)
    case.add(found([0.001] * 9 + [0.5], {"ThrottledError": 1}, 2.0))
    case.add(found([0.002] * 10, {}, 3.0))
    said = case.summary()
    assert (said["calls"], said["runs"], said["seconds"]) == (20, 2, 2.5)
    assert said["rows"] == 1900  # of the 19 calls that were answered
    assert said["rows_per_s"] == 380
    assert (said["p50_ms"], said["p95_ms"], said["p999_ms"]) == (2.0, 2.0, 500.0)
    assert (said["cpu_us"], said["server_cpu_us"]) == (526, 1053)
    assert said["errors"] == {"ThrottledError": 1}


def test_a_case_without_any_answer_is_no_case() -> None:
    with pytest.raises(RuntimeError, match="No call of get ours was answered"):
        online.Measured("get ours", 1).add(found([0.1], {"OnlineError": 1}, 1.0))


def test_rates_are_shares_in_two_figures() -> None:
    assert online._rates(1234.5) == [120.0, 310.0, 620.0, 930.0]
    assert online._rates(17.0) == [1.7, 4.2, 8.5, 13.0]


def test_what_is_locked_for_feast_has_hashes_and_names_no_index() -> None:
    lock = (ROOT / "benchmarks" / "feast.lock").read_text()
    pinned = re.findall(r"^([a-z0-9.-]+)(?:\[[a-z,]+\])?==\S+(?: ; .*)? \\$", lock, re.MULTILINE)
    assert {"feast", "cassandra-driver", "psutil", "pyarrow"} <= set(pinned)
    assert len(pinned) == len(re.findall(r"^[a-z]", lock, re.MULTILINE))
    assert not re.search(r"://|--index|--find-links|--extra", lock)
    (wanted,) = re.findall(r"^feast.*==(\S+)$", (ROOT / "benchmarks" / "feast.in").read_text(), re.MULTILINE)
    assert f"feast=={wanted} " in lock
