"""What workers write: read back as it was, and merged without loss."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from feature_store import layout
from Simulation.latencies import Latencies
from Simulation.plan import Plan
from Simulation.recorder import Made, Recorder
from Simulation.recording import Batch, Ended, Ready, RecordError, Samples, Vitals
from Simulation.results import Results, ResultsError
from Simulation.store import Folder

pytestmark = pytest.mark.unit

PLAN = Plan(name="first", workers=4, rates=(100.0,), seconds=10)


def write(store: Folder, worker: int, name: str, content: bytes) -> None:
    store.write(layout.simulation_worker("first", worker) + name, content)


def come(store: Folder, worker: int, plan: Plan = PLAN) -> None:
    write(store, worker, "plan.json", Ready(worker=worker, plan=plan).encode())


class TestMerged:
    def test_four_workers_histograms_equal_that_of_one_stream(self, tmp_path: Path) -> None:
        """By way of what is written and read: the same counts, each to each, and so the same quantiles."""
        draw, one, store = random.Random(1), Latencies(), Folder(tmp_path)
        recorders = [Recorder(1.0) for _ in range(4)]
        for number in range(20_000):
            latency = draw.lognormvariate(-6, 1.5)
            one.record(latency)
            due = number * 10 / 20_000
            recorder, key = recorders[number % 4], (int(due), 0, "get")
            recorder.offer(key)
            recorder.begin(key, 0.0, waited=False)
            recorder.end(key, Made(0.0, 0.0, latency, 1, (), None, {}))
            if number in (4_000, 11_000):  # a second is in two batches
                for worker, each in enumerate(recorders):
                    write(store, worker, f"samples-{number:06}.json", batch(worker, number, each))
        for worker, each in enumerate(recorders):
            come(store, worker)
            write(store, worker, "samples-020000.json", batch(worker, 20_000, each))
        samples = Results.load(store, "first").samples
        merged = Latencies.merged(text for second in samples for text in second.latency)
        assert merged == one
        assert len(merged) == sum(each.answered for each in samples) == 20_000
        assert [merged.quantile(share) for share in (0.5, 0.99, 0.999)] == [one.quantile(s) for s in (0.5, 0.99, 0.999)]
        assert [each.second for each in samples] == list(range(10))

    def test_one_sample_less_is_seen(self) -> None:
        one, other = Latencies(), Latencies()
        for latency in (0.001, 0.002, 3.0):
            one.record(latency)
        other.record(0.001)
        other.record(3.0)
        assert one != other
        other.record(0.002)
        assert one == other

    def test_three_digits_are_kept(self) -> None:
        draw = random.Random(2)
        values = sorted(draw.lognormvariate(-5, 2) for _ in range(10_001))
        latencies = Latencies()
        for value in values:
            latencies.record(value)
        for share in (0.1, 0.5, 0.9, 0.99):
            assert latencies.quantile(share) == pytest.approx(values[int(share * 10_000)], rel=2e-3, abs=2e-6)

    def test_what_is_out_of_bounds_is_at_them(self) -> None:
        latencies = Latencies()
        for value in (-1.0, 0.0, 1e9):
            latencies.record(value)
        assert len(latencies) == 3
        assert latencies.quantile(1.0) == pytest.approx(3600, rel=1e-3)

    def test_numbers_and_kinds_are_added(self) -> None:
        one = Samples(second=1, phase=0, call="get", offered=2, errors={"A": 1}, failed_tries={"ThrottledError": 2})
        other = Samples(second=1, phase=0, call="get", offered=3, errors={"A": 1, "B": 1}, read_units=0.5)
        later = Samples(second=2, phase=0, call="get")
        (both, alone) = Samples.merged([later, one, other])
        assert (both.offered, both.errors, both.throttled, both.failed) == (5, {"A": 2, "B": 1}, 2, 3)
        assert alone == later


def batch(worker: int, number: int, recorder: Recorder) -> bytes:
    samples, vitals = recorder.take()
    return Batch(worker=worker, number=number, start=1e9, samples=tuple(samples), vitals=tuple(vitals)).encode()


class TestWritten:
    def test_it_is_read_as_it_was(self) -> None:
        sample = Samples(second=1, phase=0, call="get", latency=(Latencies().encode(),), errors={"A": 1})
        made = Batch(worker=1, number=2, start=3.5, samples=(sample,), vitals=(Vitals(second=1, late=0.5),))
        assert Batch.decode(made.encode()) == made
        ready = Ready(worker=1, plan=PLAN, cores=2.0, callers=16, ids=5, units=0.5, region="eu-west-2")
        assert Ready.decode(ready.encode()) == ready
        assert Ended.decode(Ended("failed", "why").encode()) == Ended("failed", "why")

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"samples": 1, "vitals": []}', b"\xff"])
    def test_what_is_none_of_it(self, content: bytes) -> None:
        for kind in (Batch, Ready, Ended):
            with pytest.raises(RecordError):
                kind.decode(content)

    @pytest.mark.parametrize("text", ["", "x", "HISTFAAA", Latencies().encode()[:-20]])
    def test_what_is_no_histogram(self, text: str) -> None:
        with pytest.raises(RecordError, match="no histogram"):
            Latencies.decode(text)

    def test_a_histogram_of_other_bounds_is_refused_as_it_would_not_merge_exactly(self) -> None:
        from hdrh.histogram import HdrHistogram

        with pytest.raises(RecordError, match="where those of workers are"):
            Latencies.decode(HdrHistogram(1, 1000, 2).encode().decode())


class TestResults:
    def test_nothing_is_there(self, tmp_path: Path) -> None:
        with pytest.raises(ResultsError, match="There is no simulation first"):
            Results.load(Folder(tmp_path), "first")

    def test_a_worker_that_was_killed_is_lost_and_one_that_never_came_is_missing(self, tmp_path: Path) -> None:
        store = Folder(tmp_path)
        for worker in (0, 2):
            come(store, worker)
        write(store, 0, "samples-000000.json", batch(0, 0, Recorder(1.0)))
        write(store, 0, "ended.json", Ended("done").encode())
        results = Results.load(store, "first")
        assert (results.lost, results.missing, results.start) == ([2], [1, 3], 1e9)
        assert results.workers[0].ended == Ended("done")

    def test_killed_in_mid_write(self, tmp_path: Path) -> None:
        """What is there of the file that it was writing is none of its files: the others are read."""
        store = Folder(tmp_path)
        come(store, 0)
        recorder = Recorder(1.0)
        recorder.offer((0, 0, "get"))
        write(store, 0, "samples-000000.json", batch(0, 0, recorder))
        folder = tmp_path / layout.simulation_worker("first", 0)
        (folder / ".samples-000001.json.part").write_bytes(b'{"worker": 0, "num')
        results = Results.load(store, "first")
        assert [each.offered for each in results.samples] == [1]
        assert results.lost == [0]

    def test_a_file_that_is_broken_all_the_same_is_named(self, tmp_path: Path) -> None:
        store = Folder(tmp_path)
        come(store, 0)
        write(store, 0, "samples-000000.json", b'{"worker": 0, "num')
        with pytest.raises(ResultsError, match=r"workers/00/samples-000000\.json can't be read"):
            Results.load(store, "first")

    def test_workers_of_different_plans_are_not_put_together(self, tmp_path: Path) -> None:
        store = Folder(tmp_path)
        come(store, 0)
        come(store, 1, Plan(name="first", workers=4, rates=(5.0,), seconds=10))
        with pytest.raises(ResultsError, match="different plans"):
            Results.load(store, "first")

    def test_a_name_that_begins_like_another_is_another(self, tmp_path: Path) -> None:
        store = Folder(tmp_path)
        come(store, 0)
        with pytest.raises(ResultsError, match="no simulation fir"):
            Results.load(store, "fir")


def test_vitals_of_a_second_that_came_in_two_batches() -> None:
    early: dict[str, Any] = {"late": 0.1, "waited": 1, "under_way": 3, "process_cpu": 0.5, "machine_cpu": 0.6}
    merged = Vitals.merged([Vitals(second=1, **early), Vitals(second=0), Vitals(second=1, late=0.2, waited=2)])
    assert merged == [Vitals(second=0), Vitals(second=1, **{**early, "late": 0.2, "waited": 3})]
