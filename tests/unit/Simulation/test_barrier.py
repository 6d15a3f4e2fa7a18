"""That all workers begin together, or none does."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from feature_store import layout
from Simulation import barrier
from Simulation.barrier import BarrierError, UsedError
from Simulation.plan import Plan
from Simulation.recording import Ended, Ready
from Simulation.store import Folder

pytestmark = pytest.mark.unit


def ready(worker: int, **other: object) -> Ready:
    given = {"name": "first", "workers": 3, "rates": (1.0,), "seconds": 1, **other}
    return Ready(worker=worker, plan=Plan(**given))  # type: ignore[arg-type]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait(store: Folder, worker: int = 0) -> float:
    clock = Clock()
    return barrier.wait(store, ready(worker), 10, clock.sleep, lambda: clock.now)


def test_the_start_is_the_same_for_all_by_the_last_that_came(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    for worker in range(3):
        barrier.come(store, ready(worker))
        os.utime(tmp_path / layout.simulation_worker("first", worker) / "plan.json", (0, 1000 + worker))
    assert {wait(store, worker) for worker in range(3)} == {1002 + barrier.LEAD}


def test_those_that_are_missing_are_named(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    barrier.come(store, ready(0))
    with pytest.raises(
        BarrierError, match=r"After 10 s these of the 3 workers of first are missing: 1, 2 \(of 0 to 2\)"
    ):
        wait(store)


def test_one_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    barrier.come(store, ready(0))
    barrier.come(store, ready(1))
    store.write(layout.simulation_worker("first", 1) + "ended.json", Ended("failed", "It broke.").encode())
    with pytest.raises(BarrierError, match=r"Worker 1 of first has ended before all had begun: It broke\."):
        wait(store)


def test_one_of_which_the_end_can_not_be_read(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    barrier.come(store, ready(0))
    store.write(layout.simulation_worker("first", 1) + "ended.json", b"{")
    with pytest.raises(
        BarrierError, match=r"Worker 1 of first has ended .*01/ended\.json can't be read: That is no JSON"
    ):
        wait(store)


def test_one_with_another_plan(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    barrier.come(store, ready(0))
    barrier.come(store, ready(1, seconds=2))
    with pytest.raises(BarrierError, match="Worker 1 of first has another plan"):
        wait(store)


def test_a_name_that_is_used_is_refused_and_nothing_is_overwritten(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    barrier.check_unused(store, "first", 0, 300)
    barrier.come(store, ready(0))
    before = store.read(layout.simulation_worker("first", 0) + "plan.json")
    with pytest.raises(UsedError, match="The name first is used"):
        barrier.check_unused(store, "first", 0, 300)
    with pytest.raises(UsedError, match="The name first is used"):
        barrier.come(store, ready(0))
    assert store.read(layout.simulation_worker("first", 0) + "plan.json") == before


def test_a_write_whose_answer_was_lost_is_ones_own(tmp_path: Path) -> None:
    class Losing(Folder):
        def write(self, key: str, content: bytes, **other: Any) -> None:
            """Write it, hear nothing, and write it again."""
            super().write(key, content, **other)
            super().write(key, content, **other)

    mine = ready(0)
    barrier.come(Losing(tmp_path), mine)
    assert Ready.decode(Folder(tmp_path).read(layout.simulation_worker("first", 0) + "plan.json")) == mine


@pytest.mark.parametrize(
    ("file", "seconds", "used"),
    [
        ("plan.json", 290, False),
        ("plan.json", 310, True),
        ("ended.json", 1, False),  # who waits says why it has ended
        ("samples-000000.json", 1, True),
    ],
)
def test_what_others_have_left_long_ago_is_of_another_run(
    file: str, seconds: float, used: bool, tmp_path: Path
) -> None:
    store, key = Folder(tmp_path), layout.simulation_worker("first", 1) + file
    store.write(key, b"")
    then = time.time() - seconds
    os.utime(tmp_path / key, (then, then))
    with pytest.raises(UsedError, match=f"01/{file} is there") if used else nullcontext():
        barrier.check_unused(store, "first", 0, 300)


def test_one_that_gives_up_when_the_last_has_come_is_seen_before_the_run(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    for worker in range(3):
        barrier.come(store, ready(worker))
    assert wait(store) > time.time()
    slept: list[float] = []
    begins = barrier.together(store, ready(0), time.time() + 4, slept.append)
    assert begins - time.monotonic() == pytest.approx(4, abs=0.5)
    assert slept == [pytest.approx(4 - barrier.BEFORE, abs=0.5)]
    store.write(layout.simulation_worker("first", 2) + "ended.json", Ended("failed", "After 10 s.").encode())
    with pytest.raises(BarrierError, match=r"Worker 2 of first has ended before all had begun: After 10 s\."):
        barrier.together(store, ready(0), time.time())


@pytest.mark.parametrize(("off", "taken"), [(0.0, 0.0), (1.5, 0.0), (60.0, 60.0)])
def test_a_clock_that_is_far_off_is_corrected(
    off: float, taken: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Folder(tmp_path)
    monkeypatch.setattr(Folder, "now", lambda self: time.time() + off)
    begins = barrier.local(store, time.time() + 100)
    assert begins - time.monotonic() == pytest.approx(100 - taken, abs=0.5)
