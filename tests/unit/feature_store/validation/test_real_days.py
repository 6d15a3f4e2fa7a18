"""The real London days: which pass, which warn and which are held back."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pyarrow.dataset as ds
import pytest

from feature_store import compute, registry
from feature_store.arrow_readings import schema
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.expectations import Severity
from feature_store.validation import judge, look
from feature_store.validation.judge import Judgement, Known
from feature_store.validation.records import Verdict
from feature_store.view import FeatureView
from infra.local.settings import ROOT

FOLDER = ROOT.parent / "shared" / "data" / "smart-meters-in-london" / "daily_dataset"
BLOCKS = sorted(FOLDER.glob("block_*.csv.gz"))

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(not BLOCKS, reason=f"the real data is not at {FOLDER}"),
]

LAST = dt.date(2014, 2, 28)  # one half hour of it was read
OUTAGE = DayRange(dt.date(2012, 6, 13), dt.date(2012, 6, 17))


def readings(blocks: list[Path]) -> ds.Dataset:
    frame = pl.read_csv(blocks, try_parse_dates=True).rename({"LCLid": "id", "day": "day_date"})
    return ds.dataset(frame.select(schema(ENERGY.readings).names).to_arrow().cast(schema(ENERGY.readings)))


@pytest.fixture(scope="module")
def london() -> ds.Dataset:
    return readings(BLOCKS)


def judged(view: FeatureView, of: ds.Dataset, days: DayRange) -> Judgement:
    """Judge days as the first ones that ever were: by what the readings say of the days before."""
    made = ds.dataset(compute.features(view, of.to_table(), days))
    with look.opened(of) as eye:
        seen = eye.look(made, view, days)
        past = eye.readings_metrics(view, judge.trailing(days, view.expects))
        return judge.judge(seen, view, days, Known(past, since=eye.first_day(view)))


@pytest.mark.parametrize("view", registry.views(), ids=lambda view: view.name)
def test_60_days_pass_without_a_warning_and_the_incomplete_one_is_held_back(
    view: FeatureView, london: ds.Dataset
) -> None:
    found = judged(view, london, DayRange(LAST - dt.timedelta(days=60), LAST))
    last = found.days.pop(LAST)
    assert {each.verdict for each in found.days.values()} == {Verdict.PASSED}
    assert (len(found.days), last.verdict, last.failed[0]) == (60, Verdict.QUARANTINED, "day_filled")
    assert {finding.day for finding in found.findings} == {LAST}


def test_two_blocks_alone_alarm_no_more_than_all(london: ds.Dataset) -> None:
    found = judged(ENERGY, readings(BLOCKS[:2]), DayRange(LAST - dt.timedelta(days=60), LAST))
    assert [day for day, each in found.days.items() if each.verdict is not Verdict.PASSED] == [LAST]


@pytest.mark.parametrize("view", registry.views(), ids=lambda view: view.name)
def test_days_of_a_partial_outage_warn(view: FeatureView, london: ds.Dataset) -> None:
    around = DayRange(OUTAGE.start - dt.timedelta(days=9), OUTAGE.end + dt.timedelta(days=9))
    found = judged(view, london, around)
    warned = [day for day, each in found.days.items() if each.verdict is Verdict.WARNED]
    assert warned == list(OUTAGE)
    assert all("entities_whole" in found.days[day].warned for day in OUTAGE)


def test_of_all_history_nothing_else_is_held_back(london: ds.Dataset) -> None:
    found = judged(ENERGY, london, DayRange(dt.date(2011, 11, 23), LAST))
    assert [day for day, each in found.days.items() if each.held_back] == [LAST]
    assert {finding.day for finding in found.findings if finding.severity is Severity.ERROR} == {LAST}
