"""What is written while calls are made: also when it could not be written at first."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from Simulation.load import Load
from Simulation.plan import Plan
from Simulation.recorder import Made, Recorder, Tries
from Simulation.recording import Ready
from Simulation.results import Results
from Simulation.store import Folder, StoreError
from Simulation.writer import Writer

pytestmark = pytest.mark.unit

PLAN = Plan(name="first", workers=1, rates=(1.0,), seconds=5)
KEY = (0, 0, "get")


class Failing(Folder):
    broken = False

    def write(self, key: str, content: bytes, **other: Any) -> None:
        if self.broken:
            raise StoreError(f"{key} can't be written.")
        super().write(key, content, **other)


def record(recorder: Recorder, latency: float) -> None:
    recorder.offer(KEY)
    recorder.begin(KEY, 0.0, waited=False)
    recorder.end(KEY, Made(0.0, 0.0, latency, 1, (), None, {"ThrottledError": 1}))


def test_what_could_not_be_written_is_written_later_in_its_order(tmp_path: Path) -> None:
    store, recorder = Failing(tmp_path), Recorder(1.0)
    store.write("simulation_results/first/workers/00/plan.json", Ready(worker=0, plan=PLAN).encode())
    load = Load(None, iter(()), lambda size: [], recorder, Tries())  # type: ignore[arg-type]  # nothing is called
    load.begin(time.monotonic(), 0)
    writer = Writer(store, "first", 0, 1e9, load, recorder)
    store.broken = True
    for latency in (0.001, 0.002):
        record(recorder, latency)
        writer._take()
        with pytest.raises(StoreError):
            writer._write()
    store.broken = False
    record(recorder, 0.004)
    writer.begin()
    writer.end()
    assert [entry.key[-19:] for entry in store.list("")][1:] == [f"samples-{number:06}.json" for number in range(3)]
    (samples,) = Results.load(store, "first").samples
    assert (samples.answered, samples.throttled) == (3, 3)
    summary = writer.summary()
    assert (summary["answered"], summary["failed_tries"], summary["p50_ms"]) == (3, {"ThrottledError": 3}, 2.0)


def test_a_run_of_which_the_end_can_not_be_written_says_so(tmp_path: Path) -> None:
    store, recorder = Failing(tmp_path), Recorder(1.0)
    load = Load(None, iter(()), lambda size: [], recorder, Tries())  # type: ignore[arg-type]  # as above
    load.begin(time.monotonic(), 0)
    writer = Writer(store, "first", 0, 1e9, load, recorder)
    writer.begin()
    record(recorder, 0.001)
    store.broken = True
    with pytest.raises(StoreError):
        writer.end()


def test_a_run_that_is_stopped_before_it_is_written_of(tmp_path: Path) -> None:
    store, recorder = Folder(tmp_path), Recorder(1.0)
    load = Load(None, iter(()), lambda size: [], recorder, Tries())  # type: ignore[arg-type]  # as above
    record(recorder, 0.001)
    Writer(store, "first", 0, 1e9, load, recorder).end()
    assert [entry.key[-19:] for entry in store.list("")] == ["samples-000000.json"]
