"""What Prometheus is told of reads."""

from __future__ import annotations

import datetime as dt

import pytest
from prometheus_client import CollectorRegistry

from feature_store.online import Answer, State, ThrottledError
from feature_store.online.prometheus import Metrics

pytestmark = pytest.mark.unit


def test_calls_answers_errors_and_ages_are_counted() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.answered("view", Answer("A", State.STALE, dt.date(2014, 2, 1), 28))
    metrics.answered("view", Answer("B", State.MISSING))
    metrics.failed("view", ThrottledError)
    metrics.called("view", "get_many", 0.004, None)
    metrics.called("view", "get", 1.5, ThrottledError("no"))

    def counted(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"feature_store_read_{name}", {"view": "view", **labels})

    assert counted("answers_total", state="stale") == counted("answers_total", state="missing") == 1
    assert (counted("age_days_count"), counted("age_days_sum")) == (1, 28)
    assert (
        counted("seconds_bucket", call="get_many", le="0.003"),
        counted("seconds_bucket", call="get_many", le="0.005"),
    ) == (0, 1)
    assert counted("seconds_sum", call="get") == 1.5
    assert counted("failed_tries_total", error="ThrottledError") == 1
    assert counted("errors_total", call="get", error="ThrottledError") == 1
    assert counted("errors_total", call="get_many", error="ThrottledError") is None
