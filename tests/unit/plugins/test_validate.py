"""The gate's task: what it tells those who wait for its days, and those who have to see to the others."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from airflow.sdk import DAG
from feature_store_airflow.assets import asset, assets
from feature_store_airflow.failures import FAILURE, StepFailed
from feature_store_airflow.links import ValidationReportLink
from feature_store_airflow.validate import ValidateOperator

from feature_store import registry

pytestmark = pytest.mark.unit

RUN_ID = "manual__2014-02-28T04:00:00+00:00"
SUMMARY = f"runs/daily/{RUN_ID}/validate.json"
VIEWS = [view.name for view in registry.views()]
PAGE = "s3://lake/runs/r/validation_report.html"


def judged(verdict: str, *, failed: tuple[str, ...] = (), **days: list[str]) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "checks": 13,
        "rows": 886,
        "days": {name: days.get(name, []) for name in ("passed", "warned", "quarantined", "released")},
        "failed": [{"check": check, "message": f"{check}: wrong"} for check in failed],
        "warned": [],
        "report": "s3://lake/runs/r/validation_report.json",
        "page": PAGE,
        "readings_version": 7,
        "features_version": 5,
    }


GOOD = judged("passed", passed=["2014-02-26", "2014-02-27"])
PARTLY = judged("failed", passed=["2014-02-26"], quarantined=["2014-02-27"], failed=("day_filled",))
WHOLLY = judged("failed", quarantined=["2014-02-26", "2014-02-27"], failed=("day_filled",))


def task() -> ValidateOperator:
    with DAG("daily", default_args={"retries": 1}):
        return ValidateOperator(task_id="validate", job="validate", arguments=())


@pytest.fixture
def judge(s3, emr, perform) -> Any:
    """Run the task on a cluster whose step leaves a summary with these views; what it returned, and its context."""

    def run(*states: str, **views: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        errors = [did["error"] for did in views.values() if "error" in did]
        summary = {"job": "validate", "start": "2014-02-26", "end": "2014-02-27", "seconds": 1, "views": views}
        if errors:
            summary["error"] = " ".join(errors)
        emr.cluster()
        emr.new_states = list(states or ("RUNNING", "COMPLETED"))
        emr.on_new_step = lambda: s3.put_object(Bucket="lake", Key=SUMMARY, Body=json.dumps(summary))
        return perform(task())

    return run


class TestAssets:
    def test_there_is_one_for_each_view_and_airflow_takes_its_uri_as_it_is(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made = assets()
        assert [each.name for each in made] == VIEWS
        assert [each.uri for each in made] == [f"feature-store://delta/{view}" for view in VIEWS]

    def test_a_consumer_gets_the_very_asset(self) -> None:
        assert asset(VIEWS[0]) == assets()[0]
        with pytest.raises(registry.UnknownViewError, match="energy_data_features"):
            asset("energy")

    def test_they_are_outlets_of_the_task(self) -> None:
        assert task().outlets == assets()

    def test_an_event_says_what_was_validated(self, judge) -> None:
        _, context = judge(**{**dict.fromkeys(VIEWS, GOOD), VIEWS[1]: PARTLY})
        events = context["outlet_events"]
        assert events[asset(VIEWS[0])].extra == {
            "view": VIEWS[0],
            "uri": f"s3://lake/delta/{VIEWS[0]}",
            "start": "2014-02-26",
            "end": "2014-02-27",
            "rows": 886,
            "days": {"passed": ["2014-02-26", "2014-02-27"], "warned": [], "quarantined": [], "released": []},
            "features_version": 5,
            "verdict": "passed",
            "report": "s3://lake/runs/r/validation_report.json",
        }
        other = events[asset(VIEWS[1])].extra
        assert (other["uri"], other["verdict"]) == (f"s3://lake/delta/{VIEWS[1]}", "failed")
        assert other["days"]["quarantined"] == ["2014-02-27"]
        assert json.loads(json.dumps(other)) == other

    def test_a_failure_leaves_none(self, judge) -> None:
        with pytest.raises(StepFailed) as caught:
            judge("FAILED", **{view: {**WHOLLY, "error": "Validation failed."} for view in VIEWS})
        assert len(caught.value.context["outlet_events"]) == 0


class TestFailure:
    def test_says_how_the_days_come_online(self, judge) -> None:
        with pytest.raises(StepFailed) as caught:
            judge("FAILED", **{VIEWS[0]: {**WHOLLY, "error": "Validation failed: day_filled."}, VIEWS[1]: PARTLY})
        said = str(caught.value)
        assert "The job says: Validation failed: day_filled." in said
        _, _, following = said.partition("\nNext: ")
        assert following.splitlines() == [
            "if the data is wrong, have it mended and compute these days anew:",
            'airflow dags trigger daily --conf \'{"start": "2014-02-26", "end": "2014-02-27"}\'',
            "If it is right and only unusual, release them, which is recorded with the verdict:",
            'airflow dags trigger daily --conf \'{"start": "2014-02-26", "end": "2014-02-27", "released_by": "WHO", '
            '"release_reason": "WHY"}\'',
        ]
        assert caught.value.context["ti"].xcoms["validate", FAILURE] == said

    @pytest.mark.parametrize(
        "views",
        [
            pytest.param({VIEWS[0]: {"error": "s3://lake/x can't be validated."}, VIEWS[1]: GOOD}, id="no verdict"),
            pytest.param({VIEWS[0]: {"error": "no table"}, VIEWS[1]: PARTLY}, id="not the verdict alone"),
            pytest.param({VIEWS[0]: {**judged("failed"), "error": "Validation failed: rows_present"}}, id="no day"),
            pytest.param({}, id="nothing"),
        ],
    )
    def test_of_another_kind_offers_no_release(self, judge, views) -> None:
        with pytest.raises(StepFailed, match=r"Next: correct what .*, then clear the run") as caught:
            judge("FAILED", **views)
        assert "released_by" not in str(caught.value)

    def test_that_nobody_judged_offers_no_release(self, judge) -> None:
        """The cluster went away after the summary was written: nothing is wrong with the data then."""
        with pytest.raises(StepFailed, match="Next: someone, or the end of this task, cancelled the step"):
            judge("CANCELLED", **dict.fromkeys(VIEWS, WHOLLY))


class TestLink:
    @pytest.fixture
    def link(self, context_of, monkeypatch) -> Any:
        def of(base: str | None, run_id: str = RUN_ID) -> str:
            if base is not None:
                monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
            ti = context_of(task())["ti"]
            ti.run_id = run_id
            return ValidationReportLink().get_link(task(), ti_key=ti)

        return of

    def test_is_one_of_the_tasks_beside_the_providers(self) -> None:
        assert [each.name for each in task().operator_extra_links] == [
            "Validation report",
            "Step log (stderr)",
            "Step log (stdout)",
            "EMR Cluster",
            "EMR Cluster Logs",
        ]

    @pytest.mark.parametrize(
        ("base", "start"),
        [
            (None, "/"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("https://example.com/airflow/", "https://example.com/airflow/"),
        ],
    )
    def test_is_below_airflows_base_url(self, link, base, start) -> None:
        path = "feature-store/reports/daily/manual__2014-02-28T04%3A00%3A00%2B00%3A00"
        assert link(base) == f"{start}{path}"

    def test_has_a_run_id_in_one_piece(self, link) -> None:
        assert link(None, "a/../b?c#d%e").endswith("/reports/daily/a%2F..%2Fb%3Fc%23d%25e")
