"""A process that reads in one way, told by its parent how: JSON lines in, JSON lines out.

It is run in the environment of what is measured, which may be no environment of ours: it needs psutil, no more.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks import open_loop

ROOT = Path(__file__).resolve().parents[1]
# What a call does: it reads the newest features of the entities that it is given.
Read = Callable[[Sequence[str]], object]


def serve(entities: Sequence[str], reads: Mapping[str, Read], server: int, other: Read | None = None) -> None:
    """Do what the lines of the standard input say, until it ends; say it on the standard output, and nothing else.

    Args:
        entities: whom to read, at random.
        reads: how: `get`, and `look`, which gives what was read as the newest features by name.
        server: the process id of the server, whose CPU is counted too.
        other: another way to `get`, for pairs.
    """
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed
    asked = psutil.Process(server)
    print(json.dumps("ready"), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(_done(json.loads(line), entities, reads, asked, other)), file=out, flush=True)


def _done(
    task: Mapping[str, Any],
    entities: Sequence[str],
    reads: Mapping[str, Read],
    server: psutil.Process,
    other: Read | None,
) -> object:
    def some() -> Sequence[str]:
        return random.sample(entities, task["size"])

    get = reads["get"]
    if task["do"] == "look":
        return reads["look"](task["entities"])
    if task["do"] == "pairs" and other:
        return pairs(get, other, some, task["pairs"])
    return _loads(task, lambda: get(some()), server)


def pairs(one: Read, other: Read, entities: Callable[[], Sequence[str]], number: int) -> dict[str, float]:
    """Read the same entities in two ways, one call after the other, and who is first in turns.

    Returns:
        Seconds by the clock, of this thread's CPU and of the process's, at the median of each way, and of `one` more.
    """
    clocks = {"clock": time.perf_counter, "thread": time.thread_time, "process": time.process_time}
    took: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in clocks}
    for turn in range(number):
        asked = entities()
        for place, read in ((0, one), (1, other)) if turn % 2 else ((1, other), (0, one)):
            began = [clock() for clock in clocks.values()]
            read(asked)
            ended = [clock() for clock in clocks.values()]
            for name, first, last in zip(clocks, began, ended, strict=True):
                took[name][place].append(last - first)
    found = {}
    for name, ways in took.items():
        found[f"{name}_one"], found[f"{name}_other"] = (statistics.median(way) for way in ways)
        found[f"{name}_more"] = found[f"{name}_one"] - found[f"{name}_other"]
    return found


def closed_loop(callers: int, seconds: float, call: Callable[[], object]) -> tuple[list[float], Counter[str]]:
    """Call again and again, by so many callers, each of which waits for its answer; seconds of each, and errors."""
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    until = time.perf_counter() + seconds

    def work() -> None:
        while (began := time.perf_counter()) < until:
            try:
                call()
            except Exception as failure:  # noqa: BLE001 - whatever it is, it is counted
                errors[type(failure).__name__] += 1
            latencies.append(time.perf_counter() - began)

    workers = [threading.Thread(target=work) for _ in range(callers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return latencies, errors


def _loads(task: Mapping[str, Any], call: Callable[[], object], server: psutil.Process) -> dict[str, object]:
    """Call at a rate, or by callers that wait; what each took, and the CPU of all."""
    before, used, began = _cpu(server), time.process_time(), time.perf_counter()
    if task["do"] == "open":
        loads = open_loop.run(task["rate"], task["seconds"], call, task["callers"])
        latencies, errors = [one.latency for one in loads.calls], loads.errors
    else:
        latencies, errors = closed_loop(task["callers"], task["seconds"], call)
    return {
        "latencies": latencies,
        "errors": errors,
        "elapsed": time.perf_counter() - began,
        "cpu_s": time.process_time() - used,
        "server_cpu_s": _cpu(server) - before,
        "rss_mb": psutil.Process().memory_info().rss / 2**20,
    }


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class Worker:
    """Such a process, as its parent has it. End it by `close`, or use it in `with`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start it, and wait until it is ready; what it says beside goes to a file."""
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._hear()

    def __enter__(self) -> Self:
        """Use until the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.close()

    def do(self, what: str, **task: object) -> Any:  # noqa: ANN401 - JSON
        """Have it do something, and wait for what comes of it.

        Raises:
            WorkerError: it has ended.
        """
        stdin = self._process.stdin
        assert stdin  # noqa: S101 - it was opened as a pipe
        stdin.write(json.dumps({"do": what, **task}) + "\n")
        stdin.flush()
        return self._hear()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _hear(self) -> Any:  # noqa: ANN401 - JSON
        stdout = self._process.stdout
        assert stdout  # noqa: S101 - it was opened as a pipe
        line = stdout.readline()
        if not line:
            self.close()
            raise WorkerError(f"A reader has ended: {self._log.read_text()[-2000:]}")
        return json.loads(line)


class WorkerError(Exception):
    """A process that reads has ended; the message has the end of what it said."""
