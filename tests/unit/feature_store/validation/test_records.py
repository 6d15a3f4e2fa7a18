"""What is remembered of days: replaced day by day, by several runs at once too, and never half."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable

from feature_store import layout
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.validation import records
from feature_store.validation.records import Judged, RecordsError, Release, Source, Verdict

pytestmark = pytest.mark.unit

START = dt.date(2026, 1, 1)
SOURCE = Source(3, "id", 7, dt.datetime(2026, 2, 1, tzinfo=dt.UTC), "report")
ALL = DayRange(START, START + dt.timedelta(days=30))


def day(n: int) -> dt.date:
    return START + dt.timedelta(days=n)


def keep(features: str, view, first: int, last: int, verdict: Verdict = Verdict.PASSED, value: float = 1.0) -> None:
    days = DayRange(day(first), day(last))
    judged = [Judged(each, verdict, 5, "f", ("day_filled",), ("fresh",), Release("Ada", "why")) for each in days]
    records.record(features, view, days, {each: {"rows": value, "a.p50": 0.5} for each in days}, judged, SOURCE)


def test_days_are_replaced_and_others_stay(tmp_path: Path) -> None:
    features = str(tmp_path / "lake" / "features")
    assert records.verdicts(features, ENERGY, ALL) == records.metrics(features, ENERGY, ALL) == {}
    keep(features, ENERGY, 0, 4)
    keep(features, ENERGY, 3, 5, Verdict.QUARANTINED, 2.0)
    found = records.verdicts(features, ENERGY, ALL)
    assert [found[day(n)].verdict.value for n in range(6)] == ["passed"] * 3 + ["quarantined"] * 3
    assert found[day(0)] == Judged(day(0), Verdict.PASSED, 5, "f", ("day_filled",), ("fresh",), Release("Ada", "why"))
    assert list(records.held_back(features, ENERGY, DayRange(day(0), day(3)))) == [day(3)]
    assert records.metrics(features, ENERGY, ALL)[day(3)] == {"rows": 2.0, "a.p50": 0.5}
    # Days without a row any more are forgotten.
    records.record(features, ENERGY, DayRange(day(0), day(3)), {}, [], SOURCE)
    assert set(records.verdicts(features, ENERGY, ALL)) == {day(4), day(5)}


def test_views_do_not_see_each_other(tmp_path: Path) -> None:
    other = replace(ENERGY, name="other_features")
    keep(str(tmp_path / ENERGY.name), ENERGY, 0, 1)
    keep(str(tmp_path / other.name), other, 0, 1, Verdict.QUARANTINED)
    assert records.held_back(str(tmp_path / ENERGY.name), ENERGY, ALL) == {}
    assert len(records.held_back(str(tmp_path / other.name), other, ALL)) == 2


def test_several_runs_keep_theirs_at_once(tmp_path: Path) -> None:
    """Of a table that none of them has found: one makes it, the others add to it."""
    views = [replace(ENERGY, name=f"view_{n}") for n in range(2)]
    work = [(view, n) for view in views for n in range(3)]
    with ThreadPoolExecutor(len(work)) as threads:
        list(threads.map(lambda one: keep(str(tmp_path / one[0].name), one[0], 5 * one[1], 5 * one[1] + 3), work))
    for view in views:
        assert len(records.verdicts(str(tmp_path / view.name), view, ALL)) == 12
    rows = DeltaTable(tmp_path / layout.METRICS).to_pyarrow_table()
    assert rows.num_rows == 2 * 12 * 2


@pytest.mark.parametrize("features", ["features", "/features", "s3://bucket/delta/features/", "a b/features"])
def test_the_tables_lie_beside_the_features(features: str) -> None:
    expected = {"features": "x", "/features": "/x", "s3://bucket/delta/features/": "s3://bucket/delta/x"}
    assert layout.beside(features, "x") == expected.get(features, "a b/x")


def test_a_place_that_delta_rs_would_mistake_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="takes the % in it for a sign"):
        keep(str(tmp_path / "100%" / "features"), ENERGY, 0, 0)
