"""How calls are made: when they are due, however long those before take, and none is dropped without a word."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from feature_store.online import ThrottledError
from feature_store.online.answers import Answer, State
from Simulation import load
from Simulation.latencies import Latencies
from Simulation.load import Load
from Simulation.plan import Plan
from Simulation.recorder import Recorder, Tries
from Simulation.recording import MOST_CALLERS, Samples, Vitals

pytestmark = pytest.mark.unit


class Store:
    """A reader; `each` is what a call does before it answers."""

    def __init__(self, each: Callable[[], None] = lambda: None) -> None:
        self.each, self.asked, self.lock = each, [], threading.Lock()

    def get(self, entity: str) -> Answer:
        return self.get_many([entity])[0]

    def get_many(self, entities: Sequence[str]) -> list[Answer]:
        with self.lock:
            self.asked.append(list(entities))
        self.each()
        return [Answer(entity, State.MISSING if entity == "nobody" else State.FOUND) for entity in entities]


def plan(rate: float, **other: object) -> Plan:
    given = {"name": "x", "workers": 1, "rates": (rate,), "seconds": 1, "arrivals": "constant", **other}
    return Plan(**given)  # type: ignore[arg-type]


def made(reader: Store, of: Plan, threads: int = 16, stop_after: float | None = None) -> tuple[Load, Recorder, int]:
    recorder, tries = Recorder(0.5), Tries()
    running = Load(reader, load.calls(of, 0), lambda size: ["a", "nobody"][:size], recorder, tries)
    running.begin(time.monotonic() + 0.05, threads)
    if stop_after is None:
        assert running.done(30)
        waiting = 0
    else:
        time.sleep(stop_after)
        waiting = running.stop()
        assert running.done(5)
    return running, recorder, waiting


def total(recorder: Recorder) -> tuple[Samples, list[Vitals]]:
    samples, vitals = recorder.take()
    (found,) = Samples.merged(replace(each, second=0, phase=0, call="") for each in samples)
    return found, vitals


def test_all_are_made_and_counted() -> None:
    reader = Store()
    samples, _ = total(made(reader, plan(200))[1])
    assert (samples.offered, samples.sent, samples.answered, len(reader.asked)) == (200, 200, 200, 200)
    assert samples.read_units == 100  # half a unit of each
    assert len(Latencies.merged(samples.latency)) == 200


def test_a_share_of_them_asks_for_many() -> None:
    reader = Store()
    samples, _ = total(made(reader, plan(200, many=0.5, many_size=2))[1])
    many = sum(len(each) == 2 for each in reader.asked)
    assert 70 < many < 130  # 100, and 4 standard deviations of 7
    assert samples.entities == 200 + many
    assert samples.missing == many
    assert samples.read_units == (200 + many) / 2  # whoever has no row costs as much


def test_latency_is_from_when_a_call_was_due() -> None:
    """One caller that takes 50 ms, and a call every 10 ms: the last of 20 waits for 19 others."""
    samples, vitals = total(made(Store(lambda: time.sleep(0.05)), plan(100, seconds=1), threads=1, stop_after=0.6)[1])
    assert Latencies.merged(samples.latency).quantile(1.0) > 0.3
    assert Latencies.merged(samples.service).quantile(0.5) == pytest.approx(0.05, abs=0.03)
    assert vitals[0].waited >= samples.sent - 2
    assert vitals[0].late < 0.2  # which it is not blamed for


def test_a_worker_that_begins_late_says_so() -> None:
    recorder, tries = Recorder(0.5), Tries()
    running = Load(Store(), load.calls(plan(20), 0), lambda size: ["a"], recorder, tries)
    running.begin(time.monotonic() - 0.5, 16)
    assert running.done(30)
    _, vitals = total(recorder)
    assert vitals[0].late >= 0.5


def test_stopped_before_all_callers_were_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def three(thread: threading.Thread) -> None:
        if len(started) == 3:
            raise KeyboardInterrupt
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", three)
    running = Load(Store(), load.calls(plan(0.1, seconds=60), 0), lambda size: ["a"], Recorder(1.0), Tries())
    with pytest.raises(KeyboardInterrupt):
        running.begin(time.monotonic() + 5, 16)
    assert running.stop() == 0
    assert running.done(5)


def test_what_could_not_begin_is_counted_as_due() -> None:
    release = threading.Event()
    reader = Store(lambda: release.wait(10) and None)
    threading.Timer(0.7, release.set).start()
    _, recorder, waiting = made(reader, plan(100), threads=2, stop_after=0.55)
    samples, _ = total(recorder)
    assert samples.sent == samples.answered == 2
    assert samples.offered == pytest.approx(50, abs=10)
    assert waiting == pytest.approx(48, abs=12)


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_those_that_could_not_begin_are_counted_by_kind_and_nobody_is_drawn_for_them(arrivals: str) -> None:
    of = plan(1000, seconds=30, arrivals=arrivals, many=0.25)
    recorder = Recorder(1.0)
    running = Load(Store(), load.calls(of, 0), lambda size: pytest.fail(str(size)), recorder, Tries())
    running.start = time.monotonic() - 20
    waiting = running.stop()
    samples, _ = recorder.take()
    due = Counter(call.key for call in load.calls(of, 0) if call.due <= running._until)
    assert {each.key: each.offered for each in samples} == due
    assert waiting == due.total()


def test_more_than_can_be_counted_in_time_are_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(load, "COUNTED", 0.1)
    recorder = Recorder(1.0)
    running = Load(Store(), load.calls(plan(10_000, seconds=3600), 0), lambda size: ["a"], recorder, Tries())
    running.start = began = time.monotonic() - 3600
    waiting = running.stop()
    assert time.monotonic() - 3600 - began < 2
    assert "never made are too many to count" in caplog.text
    assert total(recorder)[0].offered == waiting > 100


def test_what_fails_before_a_call_is_no_end_without_a_word() -> None:
    def draw(size: int) -> list[str]:
        raise ZeroDivisionError

    running = Load(Store(), load.calls(plan(20), 0), draw, Recorder(1.0), Tries())
    running.begin(time.monotonic(), 4)
    assert running.done(5)
    assert isinstance(running.error, ZeroDivisionError)


def test_stopped_while_all_sleep() -> None:
    began = time.monotonic()
    _, recorder, waiting = made(Store(), plan(0.1, seconds=60), stop_after=0.2)
    assert time.monotonic() - began < 2
    samples, _ = total(recorder)
    assert (samples.offered, samples.answered, waiting) == (1, 1, 0)  # that of second 0


def test_what_is_due_after_the_stop_is_not_counted() -> None:
    """Sixteen sleep until theirs is due, within moments of the stop, which none of them sees before that."""
    running, recorder, _ = made(Store(), plan(100, seconds=60), stop_after=0.3)
    samples, _ = total(recorder)
    assert samples.offered == int(running._until * 100) + 1  # one every 10 ms, the first at 0


def test_errors_are_counted_by_kind_and_what_others_had_is_paid_for() -> None:
    def fail() -> None:
        error = ThrottledError("no")
        error.answers = {"a": Answer("a", State.FOUND)}
        raise error

    samples, _ = total(made(Store(fail), plan(20, many=1.0, many_size=2))[1])
    assert (samples.answered, samples.errors, samples.sent) == (0, {"ThrottledError": 20}, 20)
    assert samples.read_units == 10
    assert len(Latencies.merged(samples.latency)) == 20


def test_an_error_that_nobody_thought_of_is_counted_too() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    assert total(made(Store(fail), plan(20))[1])[0].errors == {"ZeroDivisionError": 20}


def test_tries_that_failed_are_those_of_the_thread_that_makes_the_call() -> None:
    tries = Tries()
    tries.failed("view", ThrottledError)
    seen = []
    other = threading.Thread(target=lambda: seen.append(dict(tries.take())))
    other.start()
    other.join()
    assert seen == [{}]
    assert tries.take() == {"ThrottledError": 1}
    assert tries.take() == {}


def test_callers_are_enough_for_all_calls_to_take_until_the_deadline() -> None:
    assert load.callers(plan(100, deadline=2.0)) == 300
    assert load.callers(plan(100, deadline=2.0, workers=4)) == 75
    assert load.callers(plan(1)) == load.FEWEST
    assert load.callers(plan(100_000)) == MOST_CALLERS
