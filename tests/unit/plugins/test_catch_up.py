"""Late readings that a daily run finds: the backfill is triggered for the features that they are in, once."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowSkipException, DagRunTriggerException
from feature_store_airflow.catch_up import CAUGHT_UP, CatchUpOperator
from feature_store_airflow.failures import FAILURE, OutlookFailed

from feature_store import backfill
from tests.unit.conftest import PLAN

pytestmark = pytest.mark.unit

CHANGED = {"days_changed": 1, "first_day_changed": "2014-02-20", "last_day_changed": "2014-02-20"}
RUN_ID = "late__manual__2014-02-28T04:00:00+00:00.try1"
VIEWS = ["energy_data_features", "energy_recent_features"]
OPTIONS = {"views": VIEWS, "cluster_size": "small", "skip_sync": False}


@pytest.fixture
def catch_up(perform: Any, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the task, where the features of these days are of older readings."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setattr("feature_store_airflow.choose_days.S3Hook.get_credentials", lambda _: _Signed())

    def run(
        *stale: int,
        ingest: dict[str, Any] | None = CHANGED,
        error: Exception | None = None,
        max_tries: int = 0,
        params: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        looked: list[tuple[str, dt.date]] = []

        def stale_days(store: backfill.Store, _: Any, since: dt.date) -> list[dt.date]:
            looked.append((store.features, since))
            if error:
                raise error
            return [dt.date(2014, 2, day) for day in stale]

        monkeypatch.setattr(backfill, "stale_days", stale_days)
        with DAG("feature_store_daily"):
            operator = CatchUpOperator(task_id="catch_up")
        about = {"params": {"budget": None, **(params or {})}}
        plan = {**PLAN, **OPTIONS, **options}
        return perform(operator, about=about, max_tries=max_tries, ingest=ingest, plan=plan), looked

    return run


class _Signed:
    access_key = secret_key = "test"  # pragma: allowlist secret
    token = None


def test_other_days_are_the_backfills(catch_up: Any) -> None:
    with pytest.raises(DagRunTriggerException) as caught:
        catch_up(20, 21, 22, 26, 27)
    asked = caught.value
    assert (asked.trigger_dag_id, asked.dag_run_id) == ("feature_store_backfill", RUN_ID)
    # The run's own days, 26 and 27, it computes itself.
    days = {"start": "2014-02-20", "end": "2014-02-22", "reprocess": "stale", "dry_run": False}
    assert asked.conf == {**days, **OPTIONS}
    assert asked.skip_when_already_exists
    said = caught.value.context["ti"].xcoms["catch_up", CAUGHT_UP]
    assert said.startswith("Features of 2014-02-20 to 2014-02-22 (3 day(s)) are of older readings")
    assert ("catch_up", FAILURE) not in caught.value.context["ti"].xcoms


def test_they_are_done_as_the_run_is(catch_up: Any) -> None:
    with pytest.raises(DagRunTriggerException) as caught:
        catch_up(20, views=VIEWS[:1], cluster_size="large", skip_sync=True, params={"budget": 0.5})
    asked = {"views": VIEWS[:1], "cluster_size": "large", "skip_sync": True, "budget": 0.5}
    assert asked.items() <= caught.value.conf.items()


def test_a_run_that_is_cleared_may_find_others(catch_up: Any) -> None:
    with pytest.raises(DagRunTriggerException) as caught:
        catch_up(20, max_tries=1)
    assert caught.value.dag_run_id == RUN_ID.replace("try1", "try2")


@pytest.mark.parametrize("stale", [[], [26], [26, 27]])
def test_none_but_the_runs_own_is_nothing_to_do(catch_up: Any, stale: list[int]) -> None:
    with pytest.raises(AirflowSkipException):
        catch_up(*stale)


@pytest.mark.parametrize("ingest", [{"days_changed": 0, "first_day_changed": None}, None])
def test_without_changed_readings_nobody_looks(catch_up: Any, ingest: dict[str, Any] | None) -> None:
    with pytest.raises(AirflowSkipException):
        catch_up(20, ingest=ingest)


def test_a_lake_that_can_not_be_read_is_one_to_be_tried_again(catch_up: Any) -> None:
    with pytest.raises(OutlookFailed, match=r"Which features are of older readings can't be told: no log\. Next:"):
        catch_up(error=backfill.BackfillError("no log."))
