"""Run commands and measure them: wall seconds, CPU seconds and peak memory of a command's whole process tree."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

LOOKS_APART = 0.05  # seconds between two looks at the processes; what a process uses after the last one is not seen


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        name: in the table and the JSON.
        command: the process to run.
        rows: that it makes, for rows per second.
        before: run before each time, unmeasured: such as taking the output of the time before away.
        after: run after each time, unmeasured: such as checking the output; an error of it ends the benchmark.
        runs: how many times, at least 3 where a ratio is judged.
        environment: variables on top of the caller's.
    """

    name: str
    command: Sequence[str]
    rows: int
    before: Callable[[], None] = lambda: None
    after: Callable[[str], Mapping[str, float]] = lambda _: {}
    runs: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What one run took; `more` is what the case's `after` has read from its output."""

    seconds: float
    cpu_s: float
    peak_mb: float
    more: Mapping[str, float]


class CaseFailedError(Exception):
    """A case did not end well; the message has the end of what it said."""


def run_rounds(
    cases: Sequence[Case], log: Path, say: Callable[[str], None], runs: int | None = None
) -> dict[str, list[Run]]:
    """Run the cases in turn, again and again, so that the machine's slow minutes fall on all of them."""
    found: dict[str, list[Run]] = {case.name: [] for case in cases}
    times = {case.name: runs or case.runs for case in cases}
    for number in range(max(times.values())):
        for case in cases:
            if number < times[case.name]:
                run = run_once(case, log)
                found[case.name].append(run)
                say(f"{number + 1}/{times[case.name]} {case.name:<28} {run.seconds:7.1f} s {run.cpu_s:7.1f} CPU s")
    return found


def run_once(case: Case, log: Path) -> Run:
    """Run a case once; what it says goes to a file in the folder `log`."""
    case.before()
    log.mkdir(parents=True, exist_ok=True)
    file = log / f"{case.name}.log"
    with file.open("w") as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            case.command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **case.environment}
        )
        cpu_s, peak = _watch(process)
        seconds = time.perf_counter() - began
    said = file.read_text()
    if process.returncode:
        raise CaseFailedError(f"{case.name} ended with {process.returncode}: {said[-2000:]}")
    return Run(seconds, cpu_s, peak / 2**20, case.after(said))


def _watch(process: subprocess.Popen[bytes]) -> tuple[float, int]:
    """Follow a process and all that come from it to its end: their CPU seconds, and their largest sum of memory."""
    root = psutil.Process(process.pid)
    used: dict[tuple[int, float], float] = {}
    peak = 0
    while process.poll() is None:
        memory = 0
        try:
            family = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            break
        for each in family:
            try:
                with each.oneshot():
                    times = each.cpu_times()
                    used[each.pid, each.create_time()] = times.user + times.system
                    memory += each.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        peak = max(peak, memory)
        time.sleep(LOOKS_APART)
    process.wait()
    return sum(used.values()), peak


def summary(case: Case, runs: Sequence[Run]) -> dict[str, object]:
    """The medians of a case's runs, as the JSON has them."""
    seconds = statistics.median(run.seconds for run in runs)
    more = {
        name: round(statistics.median(run.more[name] for run in runs), 3) for name in (runs[0].more if runs else {})
    }
    return {
        "name": case.name,
        "seconds": round(seconds, 2),
        "all_seconds": [round(run.seconds, 2) for run in runs],
        "runs": len(runs),
        "rows": case.rows,
        "rows_per_s": round(case.rows / seconds),
        "cpu_s": round(statistics.median(run.cpu_s for run in runs), 2),
        "peak_mb": round(statistics.median(run.peak_mb for run in runs)),
        **more,
    }
