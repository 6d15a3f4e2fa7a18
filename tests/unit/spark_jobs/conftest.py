"""No Spark in the unit tests of the jobs: a job that asks for a session fails, and says so."""

from __future__ import annotations

import pytest

from spark_jobs import command


@pytest.fixture(autouse=True)
def no_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse a session, rather than rely on a Java that is not found.

    Tests that have a session may run in the same process: a job would be given theirs, and would stop it at its end.
    """

    def refuse(job: str) -> None:
        raise AssertionError(f"{job} has asked for Spark")

    monkeypatch.setattr(command, "_session", refuse)
