"""How a worker ends: what it has done is in its summary, whatever goes wrong, and in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from feature_store import layout
from feature_store.online.answers import Answer, State
from Simulation import load, worker
from Simulation.load import Load
from Simulation.plan import Plan
from Simulation.recorder import Recorder, Tries
from Simulation.recording import Ended
from Simulation.store import Folder, StoreError
from Simulation.worker import Share
from Simulation.writer import Writer

pytestmark = pytest.mark.unit

PLAN = Plan(name="first", workers=1, rates=(50.0,), seconds=1, arrivals="constant")


class Reader:
    def get(self, entity: str) -> Answer:
        return Answer(entity, State.FOUND)

    def get_many(self, entities: Sequence[str]) -> list[Answer]:
        return [self.get(entity) for entity in entities]


class Dead(Folder):
    """Nothing can be written to it."""

    def write(self, key: str, content: bytes, **other: Any) -> None:
        raise StoreError(f"{key} can't be written")


class Hanging(Folder):
    """It does not answer."""

    def write(self, key: str, content: bytes, **other: Any) -> None:
        threading.Event().wait()


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker changes for its own process."""
    for name in ("gc.collect", "gc.freeze", "sys.setswitchinterval"):
        monkeypatch.setattr(f"Simulation.worker.{name}", lambda *given: None)
    monkeypatch.setattr(worker, "_listen", lambda *given: None)


def made(store: Folder, draw: Any = lambda size: ["a"]) -> dict[str, Any]:
    recorder, tries = Recorder(1.0), Tries()
    running = Load(Reader(), load.calls(PLAN, 0), draw, recorder, tries)
    writer = Writer(store, PLAN.name, 0, 1e9, running, recorder)
    return worker._make(Share(PLAN, 0, store, 300.0), time.monotonic(), running, writer, 4)


def ended(store: Folder) -> Ended:
    return Ended.decode(store.read(layout.simulation_worker("first", 0) + "ended.json"))


def test_all_is_done(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    summary = made(store)
    assert (summary["state"], summary["answered"], "error" in summary) == ("done", 50, False)
    assert ended(store) == Ended("done")


def test_what_was_done_is_said_though_it_can_not_be_written(tmp_path: Path) -> None:
    summary = made(Dead(tmp_path))
    assert summary["state"] == "failed"
    assert summary["error"].endswith("samples-000000.json can't be written.")
    assert (summary["answered"], summary["offered"], summary["p50_ms"] > 0) == (50, 50, True)


def test_a_store_that_hangs_is_not_waited_for_longer_than_ecs_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker.WRITTEN + load.COUNTED + worker.GRACE_SECONDS <= 25
    monkeypatch.setattr(worker, "WRITTEN", 0.5)
    began = time.monotonic()
    summary = made(Hanging(tmp_path))
    assert time.monotonic() - began < 5
    assert (summary["state"], summary["answered"]) == ("failed", 50)
    assert "could not be written" in summary["error"]


def test_a_write_under_way_that_hangs_takes_nothing_from_the_summary(tmp_path: Path) -> None:
    recorder = Recorder(1.0)
    running = Load(Reader(), iter(()), lambda size: ["a"], recorder, Tries())
    running.begin(time.monotonic(), 1)
    writer = Writer(Hanging(tmp_path), "first", 0, 1e9, running, recorder)
    writer._threads = [threading.Thread(target=threading.Event().wait, daemon=True)]
    writer.begin()
    recorder.offer((0, 0, "get"))
    threading.Thread(target=writer.end, daemon=True).start()
    until = time.monotonic() + 5
    while not writer.summary()["offered"]:
        assert time.monotonic() < until


def test_a_worker_that_can_not_tell_its_next_call_has_failed(tmp_path: Path) -> None:
    drawn = iter([["a"]] * 5)
    store = Folder(tmp_path)
    summary = made(store, lambda size: next(drawn))
    assert (summary["state"], summary["answered"]) == ("failed", 5)
    assert summary["error"].startswith("The next call could not be told: StopIteration")
    assert ended(store) == Ended("failed", summary["error"])
