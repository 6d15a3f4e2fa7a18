"""The report of a simulation, for machines: its figures, where throttling begins, and what was wrong with the run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from feature_store import layout
from Simulation import figures, report
from Simulation.latencies import Latencies
from Simulation.objective import Objective
from Simulation.recording import MOST_CALLERS, Batch, Ended, Ready, Samples, Vitals
from Simulation.results import ENDED, PLAN
from Simulation.store import Folder
from tests.unit.Simulation import made

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Two runs: one as it should be, and one that is slower, with late workers, of which one was killed."""
    store = Folder(tmp_path_factory.mktemp("results"))
    made.write(store, made.plan())
    made.write(store, made.plan("worse"), slow=3.0, late_from=34, lost=[1], lost_at=40)
    return store


@pytest.fixture
def main(store: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command: its status, its summary, and what is in report.json."""

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(report, "Bucket", lambda name: store)
        status = report.main(["--bucket", "results", *arguments])
        return status, json.loads(capsys.readouterr().out.splitlines()[-1])

    return call


def written(store: Folder, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.read(layout.simulation_report(name, "json")))
    return found


def test_the_command_writes_both_and_says_what_is_in_them(main, store: Folder) -> None:
    status, summary = main("--name", "evening")
    assert status == 0
    assert summary["state"] == "done"
    told = written(store, "evening")
    assert told["format"] == report.FORMAT
    assert summary["throttling"]["calls"] == told["throttling"]["calls"]
    assert summary["objective"]["rate"] == told["objective"]["rate"] == 120
    assert summary["page"].endswith("simulation_results/evening/report.html")
    assert store.read(layout.simulation_report("evening", "html")).startswith(b"<!DOCTYPE html>")


def test_throttling_begins_where_the_table_ends(main, store: Folder) -> None:
    main("--name", "evening")
    told = written(store, "evening")["throttling"]
    assert told["state"] == "begins"
    assert told["units"] == pytest.approx(220, rel=0.05)
    assert told["provisioned"] == 220
    assert 120 < told["calls"] < 260
    assert told["first"] > 32
    assert "provisioned with 220" in told["says"]


def test_the_figures_of_a_rate_are_those_of_its_samples(store: Folder) -> None:
    results = report.Results.load(store, "evening")
    told = report.report(results, Objective(), None)
    for phase in told["phases"]:
        calls = phase["calls"]
        assert calls["all"]["offered"] == calls["get"]["offered"] + calls["get_many"]["offered"]
        assert calls["all"]["answered"] + calls["all"]["without_answer"] == calls["all"]["offered"]
        assert calls["all"]["never_ended"] == 0
        own = [each for each in results.samples if each.phase == phase["number"]]
        merged = Latencies.merged(text for each in own for text in each.latency)
        assert calls["all"]["latency_ms"]["p99"] == pytest.approx(merged.quantile(0.99) * 1000, abs=1e-3)
        assert calls["all"]["service_ms"]["p50"] < calls["all"]["latency_ms"]["p50"]
        assert calls["get"]["latency_ms"]["p50"] < calls["get_many"]["latency_ms"]["p50"]
    calm, _, throttled = (phase["calls"]["all"] for phase in told["phases"])
    assert (calm["errors"], calm["throttled_tries"]) == ({}, 0)
    assert throttled["errors"]["ThrottledError"] == throttled["without_answer"] > 0
    assert throttled["throttled_tries"] > throttled["without_answer"]
    assert throttled["read_units_per_s"] < calm["read_units_per_s"] * 260 / 60


def test_percentiles_that_so_few_calls_do_not_have(store: Folder) -> None:
    told = report.report(report.Results.load(store, "evening"), Objective(), None)
    few = told["phases"][0]["calls"]["get_many"]  # 60 a second, 16 seconds, 5 of 100: some fifty
    assert few["latency_ms"]["p90"] is not None
    assert few["latency_ms"]["p99"] is few["latency_ms"]["p99.9"] is None
    assert few["latency_ms"]["max"] is not None


def test_dollars_are_of_the_region_that_is_asked_for(store: Folder) -> None:
    results = report.Results.load(store, "evening")
    london, virginia = (report.report(results, Objective(), region)["objective"] for region in (None, "us-east-1"))
    assert london["region"] == "eu-west-2"
    assert virginia["dollars"] == pytest.approx(london["dollars"] * 0.125 / 0.1487)
    assert london["dollars"] == pytest.approx(london["units"] * 86400 * 0.1487 / 1e6, rel=1e-4)


def test_a_run_that_went_wrong_says_so(main, store: Folder) -> None:
    status, summary = main("--name", "worse", "--p99-ms", "50")
    assert status == 0
    said = " ".join(summary["trouble"])
    assert "Worker 1 was lost, or runs still: its last samples are of second 39." in said
    assert "At 260/s: Worker 0: " in said
    told = written(store, "worse")
    assert told["verdict"] == "warned"
    assert [worker["state"] for worker in told["workers"]] == ["done", "lost"]
    assert {(event["second"], event["says"]) for event in told["events"]} >= {
        (39, "worker 1 lost"),
        (32, "workers late"),
    }


def test_a_worker_that_has_not_come_or_was_stopped(store: Folder) -> None:
    made.write(store, made.plan("stopped", rates=(40.0,), seconds=6), missing=[1])
    store.write(
        f"{layout.simulation_worker('stopped', 0)}{ENDED}", Ended("stopped", "It was stopped after 6 s of 16.").encode()
    )
    told = report.report(report.Results.load(store, "stopped"), Objective(), None)
    assert told["trouble"] == [
        "Worker 1 has not come.",
        "Worker 0 has stopped: It was stopped after 6 s of 16. (its last samples are of second 5)",
    ]


def test_seconds_that_a_lost_worker_has_taken_with_it_say_nothing_of_the_table(store: Folder) -> None:
    third = figures.phases(report.Results.load(store, "worse"))[2].asked()
    left_out = [each.second for each in third.seconds if each.otherwise > each.ended]
    assert left_out == list(range(39 - 2, 48))
    whole = figures.phases(report.Results.load(store, "evening"))[2].asked()
    assert [each.second for each in whole.seconds if each.otherwise] == []


def test_likewise_of_one_that_has_failed_or_was_stopped(store: Folder) -> None:
    made.write(store, made.plan("failed"), lost=[1], lost_at=40)
    for state in ("failed", "stopped"):
        store.write(layout.simulation_worker("failed", 1) + ENDED, Ended(state, "It broke.").encode())
        third = figures.phases(report.Results.load(store, "failed"))[2].asked()
        assert [each.second for each in third.seconds if each.otherwise > each.ended] == list(range(39 - 2, 48))


def test_a_phase_in_which_no_call_was_due_is_said(store: Folder) -> None:
    made.write(store, made.plan("rare", rates=(40.0, 0.001), seconds=6))
    told = report.report(report.Results.load(store, "rare"), Objective(), None)
    assert len(told["phases"]) == 1
    assert told["trouble"] == ["At 0.001/s no call was due: the run had ended before, or it was too short for one."]


def test_workers_of_which_none_may_have_more_callers_are_blamed_for_calls_that_waited(store: Folder) -> None:
    plan = made.plan("capped", rates=(40.0,), seconds=5, workers=1)
    for name, callers in (("capped", MOST_CALLERS), ("slow", 16)):
        folder, of = layout.simulation_worker(name, 0), replace(plan, name=name)
        seconds = tuple(Samples(second=second, phase=0, call="get", offered=40, sent=40) for second in range(5))
        vitals = tuple(Vitals(second=second, waited=9) for second in range(5))
        batch = Batch(worker=0, number=0, start=made.START, samples=seconds, vitals=vitals)
        store.write(f"{folder}plan.json", Ready(worker=0, plan=of, callers=callers).encode())
        store.write(f"{folder}samples-000000.json", batch.encode())
        store.write(folder + ENDED, Ended("done").encode())
    capped, slow = (
        report.report(report.Results.load(store, name), Objective(), None)["trouble"] for name in ("capped", "slow")
    )
    assert capped[0].startswith("At 40/s: Worker 0: In 5 of 5 seconds it had 1,000 calls under way, the most of a")
    assert "workers have 1,000 callers at most, and there were too few, or those before them were slow." in capped[1]
    assert len(slow) == 1
    assert "callers" not in slow[0]


def test_a_phase_that_was_cut_short_is_counted_over_what_was_run(store: Folder) -> None:
    made.write(store, made.plan("cut", rates=(60.0,), seconds=20), lost=[0, 1], lost_at=10)
    (phase,) = report.report(report.Results.load(store, "cut"), Objective(), None)["phases"]
    assert phase["seconds"] == 10
    assert phase["calls"]["all"]["offered_per_s"] == pytest.approx(60, rel=0.2)


def test_two_runs_side_by_side(main, store: Folder) -> None:
    made.write(store, made.plan("weak", strong=False))
    main("--name", "evening", "--against", "weak")
    against = written(store, "evening")["against"]
    assert against["name"] == "weak"
    assert against["differs"] == [{"name": "strong", "here": True, "there": False}]
    assert len(against["phases"]) == 3
    main("--name", "evening")
    assert written(store, "evening")["against"] is None


def test_a_long_run_has_several_seconds_in_a_point(store: Folder) -> None:
    made.write(store, made.plan("long", rates=(0.5,), seconds=1300, workers=1, many=0.0))
    line = report.report(report.Results.load(store, "long"), Objective(), None)["timeline"]
    assert line["width"] == 3
    assert len(line["second"]) == len(line["p99_ms"]) <= 600
    assert sum(line["offered"]) * 3 == pytest.approx(650, rel=0.2)


def test_the_last_point_of_a_long_run_is_of_the_seconds_that_it_has(store: Folder) -> None:
    plan = made.plan("odd", rates=(10.0,), seconds=601, workers=1)
    folder = layout.simulation_worker("odd", 0)
    seconds = tuple(Samples(second=second, phase=0, call="get", offered=10) for second in range(601))
    store.write(f"{folder}plan.json", Ready(worker=0, plan=plan).encode())
    store.write(f"{folder}samples-000000.json", Batch(worker=0, number=0, start=made.START, samples=seconds).encode())
    line = figures.timeline(report.Results.load(store, "odd"))
    assert line["width"] == 2
    assert set(line["offered"]) == {10.0}


def test_the_same_results_are_the_same_report(main, store: Folder) -> None:
    keys = [layout.simulation_report("evening", kind) for kind in ("json", "html")]
    main("--name", "evening")
    first = [store.read(key) for key in keys]
    main("--name", "evening")
    assert [store.read(key) for key in keys] == first


def test_a_histogram_that_is_none_is_said_in_a_sentence(main, store: Folder) -> None:
    folder = layout.simulation_worker("broken", 0)
    broken = Samples(second=0, phase=0, call="get", offered=1, sent=1, answered=1, latency=("x",), service=("x",))
    store.write(f"{folder}plan.json", Ready(worker=0, plan=made.plan("broken")).encode())
    store.write(f"{folder}samples-000000.json", Batch(worker=0, number=0, start=1e9, samples=(broken,)).encode())
    status, summary = main("--name", "broken")
    assert status == 1
    assert "'x' is no histogram" in summary["error"]


def test_no_such_run(main) -> None:
    status, summary = main("--name", "nobody")
    assert status == 1
    assert summary["error"].startswith("There is no simulation nobody: nothing is in ")
    assert main("--name", "evening", "--against", "nobody")[0] == 1


def test_no_samples_at_all(main, store: Folder) -> None:
    folder = layout.simulation_worker("silent", 0)
    store.write(folder + PLAN, Ready(worker=0, plan=made.plan("silent")).encode())
    assert main("--name", "silent")[1]["error"] == "No call was made in silent: 1 of 2 worker(s) came."
    store.write(folder + ENDED, Ended("failed", "Of 2 workers, 1 has not come.").encode())
    status, summary = main("--name", "silent")
    assert status == 1
    assert summary["error"] == "No call was made in silent: 1 of 2 worker(s) came; Of 2 workers, 1 has not come."


def test_what_is_there_is_of_another_format(main, store: Folder) -> None:
    made.write(store, made.plan("other", rates=(20.0,), seconds=5))
    store.write(f"{layout.simulation_worker('other', 1)}samples-000000.json", b'{"version": 9}')
    status, summary = main("--name", "other")
    assert status == 1
    assert "workers/01/samples-000000.json can't be read: " in summary["error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "Evening"], "--name is a-z, 0-9"),
        (["--name", "a", "--against", "../b"], "--against is a-z, 0-9"),
        (["--name", "a", "--against", "a"], "--against names another simulation"),
        (["--name", "a", "--p99-ms", "0"], "--p99-ms is milliseconds"),
        (["--name", "a", "--p99-ms", "nan"], "--p99-ms is milliseconds"),
        (["--name", "a", "--errors", "0"], "--errors is a share"),
        (["--name", "a", "--errors", "2"], "--errors is a share"),
        (["--name", "a", "--region", "mars-north-1"], "--region has no known prices: mars-north-1"),
        ([], "required: --name"),
    ],
)
def test_bad_arguments_end_before_anything_is_begun(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        report.main(["--bucket", "none", *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
