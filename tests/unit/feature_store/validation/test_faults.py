"""Each planted fault is caught by the check that is named for it; what is right passes every check."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from feature_store import registry
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.validation.checks import checks
from spark_jobs import validate
from spark_jobs.errors import VerdictError
from tests.unit.feature_store.validation import planted
from tests.unit.feature_store.validation.planted import DAY, FAULTS, Fault

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def readings() -> planted.Frame:
    return planted.readings()


def found(folder: Path, **more: object) -> tuple[dict, dict[str, dict]]:
    """Validate; the summary, and by check what was found."""
    try:
        summary, said = validate.run(planted.arguments(folder, **more)), None
    except VerdictError as error:
        summary, said = error.summary, str(error)
    assert said is None or all(entry["message"] in said for entry in summary["failed"])
    return summary, {entry["check"]: entry for entry in (*summary["warned"], *summary["failed"])}


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_planted_fault_is_caught(fault: Fault, readings: planted.Frame, tmp_path: Path) -> None:
    planted.plant(fault, tmp_path, readings)
    summary, by_check = found(tmp_path)
    assert fault.check in by_check, list(by_check)
    entry = by_check[fault.check]
    assert entry["day"] in (str(DAY), None)
    assert entry["count"] > 0
    assert (summary["verdict"], entry["severity"]) == (("warned", "warn") if fault.only_warns else ("failed", "error"))
    report = json.loads((tmp_path / "report.json").read_text())
    (shown,) = [each for each in report["checks"] if each["check"] == fault.check]
    assert shown["verdict"] == ("warned" if fault.only_warns else "failed")
    assert {each["check"] for each in report["checks"]} == set(checks(ENERGY))


def test_what_is_right_passes_every_check(readings: planted.Frame, tmp_path: Path) -> None:
    planted.save(tmp_path, readings, planted.features(readings))
    summary, by_check = found(tmp_path)
    assert (summary["verdict"], by_check) == ("passed", {})
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["rows_recomputed"] == report["rows"] > 100
    assert {each["verdict"] for each in report["checks"]} == {"passed"}


@pytest.mark.parametrize("known", [120, 480], ids=["of a new store", "of more than a year"])
@pytest.mark.parametrize("view", registry.views(), ids=lambda view: view.name)
def test_no_false_alarm_over_60_generated_days(view, known: int, tmp_path: Path) -> None:
    readings = planted.readings(known)
    days = DayRange(DAY - dt.timedelta(days=59), DAY)
    planted.save(tmp_path, readings, planted.features(readings, view, days), view.columns)
    summary, by_check = found(tmp_path, start=days.start, end=days.end, view=view)
    assert by_check == {}
    assert len(summary["days"]["passed"]) == 60


def test_every_fault_has_another_name() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
    assert {fault.check for fault in FAULTS} <= set(checks(ENERGY))
