"""Summaries of chunks of days, put together."""

from __future__ import annotations

import pytest
from feature_store_airflow.chunks import combined

pytestmark = pytest.mark.unit


def test_none_of_none() -> None:
    assert combined([]) is None


def test_amounts_are_summed_up_and_the_rest_is_not() -> None:
    one = {"seconds": 2.0, "views": {"a": {"rows_written": 5, "entities": 7, "features_version": 3, "dollars": None}}}
    two = {"seconds": 1.5, "views": {"a": {"rows_written": 6, "entities": 9, "features_version": 4, "dollars": 0.5}}}
    assert combined([one, two]) == {
        "seconds": 3.5,
        "views": {"a": {"rows_written": 11, "entities": 9, "features_version": 3, "dollars": 0.5}},
    }


def judged(verdict: str, day: str, page: str) -> dict[str, object]:
    passed = verdict == "passed"
    days = {"passed": [day] if passed else [], "quarantined": [] if passed else [day]}
    of = {"verdict": verdict, "checks": 9, "days": days, "failed": [] if passed else [{"check": "x"}], "page": page}
    return {"seconds": 1, "views": {"a": of}}


def test_the_worst_verdict_counts_and_days_are_joined() -> None:
    found = combined([judged("failed", "1", "p"), judged("passed", "2", "q")])
    assert found is not None
    assert found["views"]["a"] == {
        "verdict": "failed",
        "checks": 9,
        "days": {"passed": ["2"], "quarantined": ["1"]},
        "failed": [{"check": "x"}],
        "page": "p",  # the one in which it is
    }
