"""What is wrong with the input is said before anything is started; what goes wrong later, in one sentence."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import httpx
import pytest
from feature_store_airflow import pipeline

from feature_store.calendar import DayRange
from infra.local import __main__ as command
from infra.local import generate, main_job, prepare, stack
from infra.local.airflow_api import AirflowApi
from infra.local.settings import Ports, Stack, StackError
from infra.local.supervision import Supervisor, SupervisorGoneError

pytestmark = pytest.mark.unit

HEADER = "LCLid,day,energy_median,energy_mean,energy_max,energy_count,energy_std,energy_sum,energy_min"
TODAY = dt.date(2026, 3, 1)
YESTERDAY = TODAY - dt.timedelta(days=1)


class StartedError(Exception):
    """The stack would have been started."""


@pytest.fixture(autouse=True)
def this(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    def up(*_: object) -> None:
        raise StartedError

    monkeypatch.setattr(stack, "up", up)
    monkeypatch.setattr(main_job, "today", lambda: TODAY)
    with patch.dict(os.environ, FEATURE_STORE_HOME=str(tmp_path / "home")):  # the job sets variables for itself
        yield Stack(tmp_path / "home", Ports())


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder with one file of these days."""

    def make(*days: str) -> Path:
        folder = tmp_path / "data"
        folder.mkdir()
        rows = [f"MAC1,{day},1,1,1,48,1,48,1" for day in days]
        (folder / "a.csv").write_text("\n".join([HEADER, *rows]))
        return folder

    return make


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `make run` says that ends with 2 before anything is started."""
    assert command.main(["run", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_input_without_any_day_is_refused_before_the_start(data, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No file under" in refusal(capsys, "--data", str(data("27.02.2014")))


def test_a_file_that_is_cut_short_is_refused_before_the_start(data, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data("2014-02-27")
    (folder / "b.csv.gz").write_bytes(b"\x1f\x8b\x08\x00")
    assert "b.csv.gz is cut short" in refusal(capsys, "--data", str(folder))


def test_data_where_one_may_not_enter_is_refused_before_the_start(
    data, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = data("2014-02-27")
    stat = Path.stat

    def locked(path: Path, **more: Any) -> os.stat_result:  # a mode would not keep root out
        if folder in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **more)

    monkeypatch.setattr(Path, "stat", locked)
    for path in (folder / "a.csv", folder):
        said = refusal(capsys, "--data", str(path))
        assert f"DATA={path} can't be looked into: [Errno 13] Permission denied: '{folder / 'a.csv'}'." in said


@pytest.mark.parametrize(
    ("day", "sentence"),
    [
        ("2014-02-28", "DAY=2014-02-28 is after the newest day in the data: give a day from 2014-01-01 to 2014-02-27."),
        ("2013-12-31", "DAY=2013-12-31 is before the oldest day in the data: give a day from 2014-01-01"),
        ("27.02.2014", "DAY=27.02.2014 is not a day: give it as YYYY-MM-DD."),
    ],
)
def test_a_day_that_the_data_does_not_have_is_refused_before_the_start(
    data, capsys: pytest.CaptureFixture[str], day: str, sentence: str
) -> None:
    assert sentence in refusal(capsys, "--data", str(data("2014-01-01", "2014-02-27")), "--day", day)


def test_a_day_that_is_not_over_is_refused_before_the_start(data, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(data(YESTERDAY.isoformat(), TODAY.isoformat()))
    assert f"{TODAY}, the newest day in the data, is not over yet" in refusal(capsys, "--data", folder)
    assert f"DAY={TODAY} is not over yet" in refusal(capsys, "--data", folder, "--day", TODAY.isoformat())


def test_the_generated_readings_have_their_days_too(this: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    first = YESTERDAY - dt.timedelta(days=generate.DAYS - 1)
    said = refusal(capsys, "--day", "2001-01-01")
    assert f"give a day from {first} to {YESTERDAY}." in said
    assert [file.name for file in generate.files(this.home / "generated")] == [f"readings_{first}_{YESTERDAY}.csv"]


@pytest.mark.parametrize(
    ("wanted", "chosen"), [(None, "2014-02-27"), ("2014-02-27", "2014-02-27"), ("2014-01-01", "2014-01-01")]
)
def test_the_newest_day_unless_another_is_wanted(wanted: str | None, chosen: str) -> None:
    days = DayRange(dt.date(2014, 1, 1), dt.date(2014, 2, 27))
    day = main_job._choose_day(wanted and dt.date.fromisoformat(wanted), days, dt.date(2014, 2, 28))
    assert day.isoformat() == chosen


def test_good_input_starts_the_stack_and_a_file_without_a_day_is_named(
    data, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = data("2014-02-27")
    (folder / "empty.csv").touch()
    (folder / "._a.csv").write_text("not looked at")
    with pytest.raises(StartedError):
        main_job.run(str(folder), "2014-02-27")
    said = capsys.readouterr().out
    assert f"{folder / 'empty.csv'} has no header of readings: it goes to quarantine as a whole" in said
    assert "._a.csv" not in said


class TestWhileTheStackIsUp:
    def test_whatever_fails_after_a_stop_is_told_as_the_stop(self, this: Stack) -> None:
        with pytest.raises(SupervisorGoneError, match="was stopped"), main_job._while_up(this):
            raise ConnectionError("by any client of any part")

    def test_a_failed_run_stays_one(self, this: Stack) -> None:
        with pytest.raises(main_job.RunFailedError), main_job._while_up(this):
            raise main_job.RunFailedError("why")

    def test_what_airflow_refuses_is_told_in_a_sentence(self, this: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Supervisor, "states", lambda _: {})
        request = httpx.Request("GET", "http://127.0.0.1:1/api/v2/dags/d/dagRuns/r")
        answer = httpx.Response(404, text='{"detail": "no such run"}', request=request)
        with (
            pytest.raises(StackError, match=r"refuses GET http.*/dagRuns/r with 404: .*no such run"),
            main_job._while_up(this),
        ):
            answer.raise_for_status()

    def test_what_is_wrong_with_the_program_is_not_hidden(self, this: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Supervisor, "states", lambda _: {})
        with pytest.raises(KeyError), main_job._while_up(this):
            raise KeyError("ours")


class Ran:
    """An Airflow that has run the daily DAG."""

    def __init__(self, verdict: str | None) -> None:
        self.returned = {
            "ingest": {"files": 1, "readings_rows": 48, "rows_in": 48, "rows_quarantined": 0},
            "featurize": {"views": {"v": {"rows": 1, "rows_written": 1, "entities": 1}}},
            "validate": {"views": {"v": {"verdict": "passed", "checks": 9, "rows": 88}}},
            "sync": {
                "views": {
                    "v": {
                        **{"rows_online": 1, "rows_written": 1, "rows_deleted": 0, "dollars": None, "table": "t"},
                        **{"days_too_old": 0, "retention": None},
                    }
                }
            },
            "verdict": verdict,
        }

    def result(self, _dag: str, _run: str, task_id: str) -> Any:
        return self.returned[task_id]

    def tasks(self, _dag: str, _run: str) -> list[dict[str, Any]]:
        return [{"task_id": name, "duration": 1.0} for name in main_job.STAGES]


@pytest.mark.parametrize("advice", ["", "Readings of 2014-01-01 came or changed. Next: airflow dags trigger ..."])
def test_the_advice_of_the_verdict_is_shown(this: Stack, monkeypatch: pytest.MonkeyPatch, advice: str) -> None:
    monkeypatch.setattr(main_job, "_one_household", lambda *_: iter(["Household MAC1"]))
    did = "2014-02-27 to 2014-02-27 (1 day(s)): 48 rows read"

    def shown(verdict: str | None) -> list[str]:
        return list(main_job._summary(this, cast(AirflowApi, Ran(verdict)), "r", dt.date(2014, 2, 27), 60.0))

    lines = shown(f"{did}\n{advice}" if advice else did)
    assert did not in lines
    assert lines[lines.index("Household MAC1") + 1 :][: 3 if advice else 1] == (["", advice, ""] if advice else [""])
    assert len(lines) == len(shown(None)) + (2 if advice else 0)


def test_the_pool_is_the_one_that_the_pipelines_tasks_ask_for() -> None:
    assert prepare.POOL == pipeline.LAKE
