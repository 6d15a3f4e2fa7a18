"""A view's metrics: what is kept of them and for how long, and what is no such document."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace

import pytest

from feature_store import metrics
from feature_store.calendar import DayRange
from feature_store.metrics import KEPT_DAYS, Certified, MetricsError, Synced, Validated, ViewMetrics
from feature_store.validation.verdict import Verdict

pytestmark = pytest.mark.unit

DAY = dt.date(2014, 2, 27)
MOMENT = dt.datetime(2014, 2, 28, 4, 31, 7, 12, tzinfo=dt.UTC)
PASSED = Validated(
    Verdict.PASSED,
    5531,
    {"energy_sum": 0.0, "energy_std": 0.012346},
    {},
    {"fresh": "fresh: a day did not come"},
    None,
    None,
    "s3://lake/runs/d/r/v/validation_report.json",
    MOMENT,
)
HELD = replace(PASSED, verdict=Verdict.QUARANTINED, failed={"day_filled": "day_filled: 0.021", "rows_steady": None})
RELEASED = replace(HELD, verdict=Verdict.RELEASED, released_by="Ada", release_reason="the meters' clock")
CERTIFIED = Certified(5531, 12, MOMENT)
SYNCED = Synced(MOMENT, 1, 5531, 3, 5534, 120, 0.004)


def days_before(number: int) -> dt.date:
    return DAY - dt.timedelta(days=number)


def test_comes_back_as_it_was_written() -> None:
    made = ViewMetrics("v").with_validated(DayRange(days_before(2), DAY), {DAY: PASSED, days_before(1): RELEASED})
    made = made.with_certified({DAY: CERTIFIED}).with_sync(SYNCED).with_sync(replace(SYNCED, at=MOMENT, dollars=None))
    assert metrics.load(made.dump(), "v") == made


def test_a_range_replaces_all_that_was_known_of_its_days_and_nothing_else() -> None:
    there = ViewMetrics("v", {days_before(number): PASSED for number in range(5)}, {DAY: CERTIFIED}, (SYNCED,))
    made = there.with_validated(DayRange(days_before(3), days_before(1)), {days_before(2): HELD})
    assert made.validated == {days_before(4): PASSED, days_before(2): HELD, DAY: PASSED}
    assert (made.certified, made.syncs) == (there.certified, there.syncs)


def test_the_newest_days_are_kept() -> None:
    oldest = days_before(KEPT_DAYS - 1)
    made = ViewMetrics("v").with_validated(
        DayRange(days_before(KEPT_DAYS + 5), DAY), dict.fromkeys((days_before(KEPT_DAYS), oldest, DAY), PASSED)
    )
    assert list(made.validated) == [oldest, DAY]
    later = made.with_validated(
        DayRange(DAY + dt.timedelta(days=1), DAY + dt.timedelta(days=1)), {DAY + dt.timedelta(days=1): PASSED}
    )
    assert list(later.validated) == [DAY, DAY + dt.timedelta(days=1)]
    # An old range that is run again pushes nothing out.
    again = made.with_validated(DayRange(days_before(900), days_before(900)), {days_before(900): PASSED})
    assert again.validated == made.validated
    certified = made.with_certified({days_before(KEPT_DAYS): CERTIFIED, DAY: CERTIFIED}).certified
    assert list(certified) == [DAY]


def test_what_a_sync_has_used_counts_once() -> None:
    later = replace(SYNCED, at=MOMENT + dt.timedelta(hours=1))
    made = ViewMetrics("v").with_sync(later).with_sync(SYNCED).with_sync(SYNCED)
    assert made.syncs == (SYNCED, later)
    much_later = replace(SYNCED, at=MOMENT + dt.timedelta(days=KEPT_DAYS, minutes=1))
    assert made.with_sync(much_later).syncs == (later, much_later)


def test_the_newest_day_of_each_stage() -> None:
    nothing = ViewMetrics("v")
    assert (nothing.computed, nothing.passed, nothing.online) == (None, None, None)
    validated = {days_before(2): PASSED, days_before(1): HELD, DAY: replace(HELD, rows=0)}
    certified = {days_before(3): CERTIFIED, days_before(2): replace(CERTIFIED, rows=0)}
    made = ViewMetrics("v", validated, certified)
    assert (made.computed, made.passed, made.online) == (days_before(1), days_before(2), days_before(3))
    assert ViewMetrics("v", {DAY: RELEASED}).passed == DAY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"format": 1, "view": "v", "validated": {"yesterday": {}}, "certified": {}, "syncs": []}',
        '{"format": 1, "view": "v", "validated": {"2014-02-27": {"verdict": "fine"}}, "certified": {}, "syncs": []}',
        '{"format": 1, "view": "v", "validated": {}, "certified": {}, "syncs": [{"at": "2014-02-27T00:00:00+00:00"}]}',
        '{"format": 1, "view": "v", "validated": [], "certified": {}, "syncs": []}',
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(MetricsError, match="it is no JSON of metrics"):
        metrics.load(text, "v")


def test_of_another_view_or_format_is_refused() -> None:
    with pytest.raises(MetricsError, match="it is of 'v' in format 1, not of 'w' in 1"):
        metrics.load(ViewMetrics("v").dump(), "w")
    said = {**json.loads(ViewMetrics("v").dump()), "format": 2}
    with pytest.raises(MetricsError, match="in format 2, not of 'v' in 1"):
        metrics.load(json.dumps(said), "v")


def test_a_year_of_a_wide_view_is_a_small_document() -> None:
    nulls = metrics.rounded({f"energy_measure_{number}_12months": 1 / 3 for number in range(24)})
    assert set(nulls.values()) == {0.333333}
    made = ViewMetrics(
        "v",
        {days_before(number): replace(HELD, nulls=nulls) for number in range(KEPT_DAYS)},
        {days_before(number): CERTIFIED for number in range(KEPT_DAYS)},
        tuple(replace(SYNCED, at=MOMENT - dt.timedelta(days=number)) for number in reversed(range(KEPT_DAYS))),
    )
    assert len(made.dump()) < 800_000
