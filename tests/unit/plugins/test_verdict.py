"""The verdict: a run that did not do its work fails, whatever its last tasks did."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, task
from feature_store_airflow import verdict
from feature_store_airflow.failures import FAILURE, RunIncomplete

pytestmark = pytest.mark.unit

ORDER = ("plan", "create_cluster", "wait_for_cluster", "ingest", "featurize", "validate", "sync", "terminate_cluster")
GOOD = dict.fromkeys(ORDER, "success")
SUMMARIES = {
    "ingest": {"files": 2, "rows_in": 12345, "rows_quarantined": 3, "seconds": 10.4},
    "featurize": {"rows_written": 111, "entities": 56, "seconds": 20.6},
    "validate": {"verdict": "passed", "checks": 9, "seconds": 5},
    "sync": {"rows_online": 111, "seconds": 7},
}


@pytest.fixture
def judge(context_of, monkeypatch) -> Any:
    """Judge a run whose tasks are in these states: judge(states, why={task: message})."""

    def run(states: dict[str, str], why: dict[str, str] | None = None) -> str:
        with DAG("daily"):
            operator = task(task_id="verdict")(verdict.judge_run)(ORDER).operator
        context = context_of(operator)
        context["ti"].states = {**states, "verdict": "running"}
        for name, summary in SUMMARIES.items():
            context["ti"].xcoms[name, "return_value"] = summary
        for name, message in (why or {}).items():
            context["ti"].xcoms[name, FAILURE] = message
        monkeypatch.setattr(verdict, "get_current_context", lambda: context)
        return verdict.judge_run(ORDER)

    return run


def test_a_good_run_says_what_it_did(judge, caplog) -> None:
    with caplog.at_level("INFO"):
        said = judge(GOOD)
    assert said == (
        "2014-02-26 to 2014-02-27 (2 day(s)): 12,345 rows read from 2 file(s), 3 quarantined; "
        "111 rows of features written for 56 entities; validation passed (9 checks); 111 rows online and equal. "
        "ingest 10 s, featurize 21 s, validate 5 s, sync 7 s."
    )
    assert said in caplog.text


def test_a_failed_step_is_named_with_its_reason(judge) -> None:
    states = {**GOOD, "validate": "failed", "sync": "upstream_failed"}
    with pytest.raises(RunIncomplete) as caught:
        judge(states, {"validate": "validate of 2014-02-26: 3 rows are negative."})
    assert str(caught.value).splitlines() == [
        "This run did not do its work.",
        "validate failed: validate of 2014-02-26: 3 rows are negative.",
        "Not run: sync.",
    ]


def test_a_cluster_that_did_not_end_fails_a_run_that_did_its_work(judge) -> None:
    with pytest.raises(RunIncomplete, match="terminate_cluster failed: j-1 did not end"):
        judge({**GOOD, "terminate_cluster": "failed"}, {"terminate_cluster": "j-1 did not end"})


def test_a_run_marked_failed_by_hand(judge) -> None:
    """Airflow skips what comes after, and would call the run a success."""
    states = {**GOOD, "ingest": "failed", "featurize": "skipped", "validate": "skipped", "sync": "skipped"}
    with pytest.raises(RunIncomplete) as caught:
        judge(states)
    assert "ingest failed: it could not say why (marked by hand, or its worker was lost)" in str(caught.value)
    assert "Not run: featurize, validate, sync." in str(caught.value)


@pytest.mark.parametrize("state", ["failed", "upstream_failed", "skipped"])
@pytest.mark.parametrize("name", ORDER)
def test_every_task_counts(judge, name, state) -> None:
    with pytest.raises(RunIncomplete, match=name):
        judge({**GOOD, name: state})
