"""Reads as Prometheus counts them: how long they take, what they end with, how old their answers are.

    reader = connection.reader(view, Options(observer=Metrics()))

What serves them (prometheus_client.start_http_server, an ASGI application, a push gateway) is the service's own choice.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from feature_store.online.answers import Answer, ReadError

# Seconds: from what a server on the same machine needs to what a caller hardly waits for.
LATENCIES = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
AGES = (0, 1, 2, 3, 7, 14, 30, 90, 365)  # days


class Metrics:
    """An observer of reads, of any number of readers; one for a registry, where their names must not be there yet."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Register what is counted."""
        self._seconds = Histogram(
            "feature_store_read_seconds",
            "Duration of calls that read features online",
            ("view", "call"),
            buckets=LATENCIES,
            registry=registry,
        )
        self._errors = Counter(
            "feature_store_read_errors", "Calls that ended with an error", ("view", "call", "error"), registry=registry
        )
        self._tries = Counter(
            "feature_store_read_failed_tries",
            "Tries of reads that failed with what may pass, also of those that had an answer in the end",
            ("view", "error"),
            registry=registry,
        )
        self._answers = Counter(
            "feature_store_read_answers", "Entities that were read", ("view", "state"), registry=registry
        )
        self._ages = Histogram(
            "feature_store_read_age_days",
            "Days from the day of the features that were read to today",
            ("view",),
            buckets=AGES,
            registry=registry,
        )

    def answered(self, view: str, answer: Answer) -> None:
        """Count an answer and its age."""
        self._answers.labels(view, answer.state.value).inc()
        if answer.age is not None:
            self._ages.labels(view).observe(answer.age)

    def failed(self, view: str, kind: type[ReadError]) -> None:
        """Count a try that failed, by the name of what it is if it does not pass (ThrottledError, …)."""
        self._tries.labels(view, kind.__name__).inc()

    def called(self, view: str, call: str, seconds: float, error: BaseException | None) -> None:
        """Count a call: its seconds, also of one that failed, and its error by name (ThrottledError, …)."""
        self._seconds.labels(view, call).observe(seconds)
        if error is not None:
            self._errors.labels(view, call, type(error).__name__).inc()
