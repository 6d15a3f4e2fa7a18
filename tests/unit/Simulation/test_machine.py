"""How busy a machine is, and when that says that a worker was itself too slow."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from Simulation import bottleneck, machine
from Simulation.machine import Used
from Simulation.recording import MOST_CALLERS, Vitals

pytestmark = pytest.mark.unit


def test_a_process_that_computes_uses_cpu() -> None:
    before = Used.now()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    used = Used.now()
    assert used.process - before.process >= 0.3
    share = used.machine_share(before)
    assert share is not None
    assert 0 < share <= 1


def test_what_the_kernel_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (
        ("STAT", "cpu  10 0 20 100 5 1 2 3 50 0\ncpu0 1 1 1\n"),
        ("CPU_MAX", "50000 100000\n"),
        ("CPU_STAT", "usage_usec 7\nthrottled_usec 1500000\n"),
    ):
        file = tmp_path / name
        file.write_text(text)
        monkeypatch.setattr(machine, name, file)
    used = Used.now()
    assert (used.busy, used.total, used.stopped) == (36, 141, 1.5)
    assert machine.cores() == 0.5
    assert Used(0, 86, 241, 0).machine_share(used) == 0.5


def test_a_system_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STAT", "CPU_MAX", "CPU_STAT"):
        monkeypatch.setattr(machine, name, tmp_path / "none")
    assert Used.now().machine_share(Used.now()) is None
    assert machine.cores() >= 1


def test_a_worker_that_kept_up_is_not_blamed() -> None:
    quiet = [Vitals(second=each, late=0.001, process_cpu=0.5, machine_cpu=0.7, waited=9) for each in range(60)]
    hiccup = [Vitals(second=60, late=0.5)]
    assert bottleneck.reasons([], 16) == []
    assert bottleneck.reasons(quiet + hiccup, 16) == []


def test_a_worker_that_stood_still_for_so_long_that_a_99th_percentile_shows_it_is_blamed() -> None:
    vitals = [Vitals(second=each, late=1.7 if each == 30 else 0.001) for each in range(60)]
    assert bottleneck.reasons(vitals, 16) == ["For 1.0 of 60 seconds it stood still, and began what was due then late."]


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"late": 0.03}, "20 ms late"),
        ({"process_cpu": 0.95}, "of a core"),
        ({"machine_cpu": 0.99}, "machine more than 95% busy"),
        ({"throttled_cpu": 0.2}, "container's share"),
    ],
)
def test_what_a_worker_is_blamed_for(said: dict[str, float], what: str) -> None:
    vitals = [Vitals(second=each, **(said if each % 10 == 0 else {})) for each in range(60)]
    (reason,) = bottleneck.reasons(vitals, 16)
    assert what in reason
    assert reason.startswith("In 6 of 60 seconds")


def test_calls_that_waited_are_blamed_on_a_worker_only_if_it_may_have_no_more_callers() -> None:
    vitals = [Vitals(second=second, waited=5) for second in range(20)]
    assert bottleneck.reasons(vitals, MOST_CALLERS - 1) == []
    assert bottleneck.reasons(vitals, MOST_CALLERS) == [
        "In 20 of 20 seconds it had 1,000 calls under way, the most of a worker, and began others late: take more "
        "workers."
    ]
