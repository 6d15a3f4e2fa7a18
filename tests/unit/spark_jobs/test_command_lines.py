"""The jobs' command lines, as a person and as EMR call them."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from feature_store import registry
from feature_store.energy import ENERGY

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
NEEDED = {
    "ingest": ["--source", "s", "--readings", "r"],
    "featurize": ["--readings", "r", "--features", "f"],
    "validate": ["--readings", "r", "--features", "f", "--report", "p"],
    "sync": ["--features", "f", "--keyspace", "k", "--table", "t"],
}


@dataclass(frozen=True)
class Shown:
    """How a job has ended, and what it has shown."""

    returncode: int
    stdout: str
    stderr: str


Call = Callable[..., Shown]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a job's main here: call("featurize", "--readings", ...). A process of each takes seconds, for its imports."""
    monkeypatch.delenv("KEYSPACES_HOST", raising=False)

    def run_main(job: str, *arguments: str) -> Shown:
        try:
            status = importlib.import_module(f"spark_jobs.{job}").main(arguments)
        except SystemExit as ended:
            status = ended.code
        shown = capsys.readouterr()
        return Shown(status or 0, shown.out, shown.err)

    return run_main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Without a java: a job that starts a JVM here fails.
    environment = {"PATH": "/nonexistent", "PYTHONPATH": str(ROOT), "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.mark.parametrize("job", NEEDED)
def test_help_names_every_argument(job: str) -> None:
    shown = run("-m", f"spark_jobs.{job}", "--help")
    assert shown.returncode == 0, shown.stderr
    for argument in ("--start", "--end", "--summary", *NEEDED[job][::2]):
        assert argument in shown.stdout


def test_a_script_runs_as_a_file_too() -> None:
    assert run("spark_jobs/featurize.py", "--help").returncode == 0


@pytest.mark.parametrize("job", NEEDED)
@pytest.mark.parametrize(
    ("days", "message"),
    [
        (["--start", "2013-02-02", "--end", "2013-02-01"], "2013-02-01 is before the first day 2013-02-02"),
        (["--start", "2013-02-30", "--end", "2013-03-01"], "'2013-02-30' is not a day"),
        (["--start", "2013-02-01"], "--end"),
        (["--start", "2013-02-01", "--end", "2013-02-01", "--what"], "--what"),
    ],
)
def test_bad_arguments_end_with_2(call: Call, job: str, days: list[str], message: str) -> None:
    shown = call(job, *NEEDED[job], *days)
    assert shown.returncode == 2, shown.stderr
    assert message in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("job", NEEDED)
def test_a_missing_argument_is_named(call: Call, job: str) -> None:
    shown = call(job, *NEEDED[job][2:], "--start", "2013-02-01", "--end", "2013-02-01")
    assert shown.returncode == 2
    assert NEEDED[job][0] in shown.stderr


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("featurize", ["--features", "f"], "--features takes {view} in it where there are several views"),
        ("validate", ["--features", "{view}", "--report", "p"], "--report takes {view} in it"),
        ("sync", ["--features", "{view}", "--table", "t"], "--table takes {view} in it"),
        ("sync", ["--features", "{view}", "--table", "{view}", "--features-version", "1"], "once for each --view"),
        ("sync", ["--features", "{view}", "--table", "{view}", "--view", ENERGY.name], "names a view twice"),
        ("featurize", ["--features", "{view}", "--view", "wheather"], "There is no feature view 'wheather'"),
    ],
)
def test_several_views_keep_apart_what_is_theirs(call: Call, job: str, arguments: list[str], message: str) -> None:
    both = [part for view in registry.views()[:2] for part in ("--view", view.name)]
    days = ["--start", "2013-02-01", "--end", "2013-02-01"]
    shown = call(job, *NEEDED[job], *arguments, *both, *days)
    assert shown.returncode == 2, shown.stderr
    assert message in shown.stderr


def test_featurize_without_anything_to_do_says_what_to_give(call: Call) -> None:
    shown = call("featurize", *NEEDED["featurize"])
    assert shown.returncode == 2
    assert "give --start and --end, or --changed, or all of them" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--known-on", "2999-01-01"], "--known-on 2999-01-01 is not over yet"),
        (["--known-on", "2014-02-01", "--changed"], "give one of them"),
        (["--known-on", "soon"], "'soon' is not a day"),
    ],
)
def test_featurize_refuses_a_day_of_which_nothing_can_be_known(call: Call, arguments: list[str], message: str) -> None:
    days = ["--start", "2013-02-01", "--end", "2013-02-01"]
    shown = call("featurize", *NEEDED["featurize"], *days, *arguments)
    assert shown.returncode == 2
    assert message in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --start and --end, or --changed, or --whole"),
        (["--whole=no"], "give --start and --end, or --changed, or --whole"),
        (["--start", "2013-02-01", "--end", "2013-02-01", "--changed"], "leave --start and --end out"),
        (["--changed", "--budget", "much"], "'much' is no number of dollars"),
        (["--changed", "--budget=-1"], "'-1' is no number of dollars"),
        (["--changed", "--budget=nan"], "'nan' is no number of dollars"),
    ],
)
def test_sync_says_what_to_give(call: Call, arguments: list[str], message: str) -> None:
    shown = call("sync", *NEEDED["sync"], *arguments)
    assert shown.returncode == 2
    assert message in shown.stderr


def test_sync_without_a_place_to_go_to_says_so(call: Call, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "f"), pa.table({"id": ["a"]}))
    shown = call("sync", *NEEDED["sync"][2:], "--features", str(tmp_path / "f"), "--changed")
    assert shown.returncode == 1
    assert "KEYSPACES_HOST is not set: the environment must name the online store" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_maintain_is_of_tables_and_of_no_days(call: Call) -> None:
    shown = call("maintain", "--help")
    assert shown.returncode == 0, shown.stderr
    assert all(argument in shown.stdout for argument in ("--table", "--day", "--retention-hours", "--no-vacuum"))
    assert "--start" not in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "t", "--retention-hours", "167"], "167 hours are under the 168 of Delta's safe retention"),
        (["--table", "t", "--retention-hours", "a week"], "'a week' is not a number of hours"),
        (["--table", "t", "--start", "2013-02-01"], "--start"),
        ([], "--table"),
    ],
)
def test_maintain_refuses_with_2(call: Call, arguments: list[str], message: str) -> None:
    shown = call("maintain", *arguments)
    assert shown.returncode == 2, shown.stderr
    assert message in shown.stderr


def test_training_takes_what_the_other_engine_takes(call: Call) -> None:
    shown = call("training", "--help")
    assert shown.returncode == 0, shown.stderr
    for argument in ("--events", "--view", "--out", "--start", "--max-age", "--rebuild", "--summary"):
        assert argument in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "it takes --features and at least one --view"),
        (["--features", "f", "--view", "wheather"], "There is no feature view 'wheather'"),
        (["--features", "f", "--view", f"{ENERGY.name}:x"], f"view {ENERGY.name} has no feature 'x'"),
        (["--features", "f", "--view", ENERGY.name], "it takes --events, or --start and --end"),
        (["--features", "f", "--view", ENERGY.name, "--events", "e", "--zone", "Moon"], "there is no time zone 'Moon'"),
        (["--features", "f", "--view", ENERGY.name, "--events", "e", "--as-known"], "made in one process"),
        (["--rebuild", "r", "--max-age", "0"], "alone: not --max-age"),
        (["--rebuild", "r", "--view", ENERGY.name], "alone: not --view"),
    ],
)
def test_training_says_what_to_give(call: Call, arguments: list[str], message: str) -> None:
    shown = call("training", "--out", "o", *arguments)
    assert shown.returncode == 2
    assert message in shown.stderr
    assert "Traceback" not in shown.stderr
