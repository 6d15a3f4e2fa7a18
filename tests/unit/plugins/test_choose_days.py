"""The days that a backfill does, told from a lake that is there: in a dry run to be read, else to be done."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import DownstreamTasksSkipped
from deltalake import write_deltalake
from feature_store_airflow.choose_days import OUTLOOK, ChooseDaysOperator, PreviewOperator
from feature_store_airflow.failures import FAILURE, OutlookFailed

from feature_store import layout, registry
from feature_store.arrow_readings import schema
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY

pytestmark = pytest.mark.unit

DAYS = DayRange(dt.date(2014, 2, 20), dt.date(2014, 2, 27))
PLAN = {"start": "2014-02-25", "end": "2014-03-02", "days": [], "views": [view.name for view in registry.views()]}
KEY = "runs/feature_store_backfill/manual__2014-02-28T04:00:00+00:00/outlook.json"


@pytest.fixture
def readings(tmp_path: Path) -> Path:
    """Three households' readings of a week."""
    rows = [
        {column.name: {"id": house, "day_date": day}.get(column.name, 1) for column in ENERGY.readings}
        for day in DAYS
        for house in "ABC"
    ]
    write_deltalake(str(tmp_path / "readings"), pa.Table.from_pylist(rows, schema(ENERGY.readings)))
    return tmp_path / "readings"


@pytest.fixture
def choose(perform: Any, s3: Any, readings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the task of a plan: choose(operator, {of the plan})."""
    # What it signs in by is this process's environment.
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.setenv(name, "test")

    def run(kind: Any, plan: dict[str, Any], **settings: Any) -> Any:
        with DAG("feature_store_backfill"):
            operator = kind(task_id="choose_days")
        operator.readings, operator.features = str(readings), str(tmp_path / layout.VIEW)
        for name, value in settings.items():
            setattr(operator, name, value)
        return perform(operator, plan={**PLAN, "dry_run": False, "reprocess": "missing", **plan})

    return run


def test_chunks_of_the_days_that_have_readings(choose: Any, s3: Any) -> None:
    chunks, context = choose(ChooseDaysOperator, {}, chunk_rows="12")
    assert chunks == [
        {"start": "2014-02-25", "end": "2014-02-26", "days": 2},
        {"start": "2014-02-27", "end": "2014-02-27", "days": 1},
    ]
    said = context["ti"].xcoms["choose_days", OUTLOOK]
    assert "energy_data_features: 3 day(s) with readings: 0 done, 3 missing" in said
    assert "To do: 3 day(s), 18 row(s), in 2 chunk(s)" in said
    kept = json.loads(s3.get_object(Bucket="lake", Key=KEY)["Body"].read())
    assert (kept["days_to_do"], kept["rows"], kept["dry_run"]) == (3, 18, False)
    assert kept["chunks"] == chunks
    assert kept["views"]["energy_data_features"]["states"]["missing"] == ["2014-02-25", "2014-02-26", "2014-02-27"]


def test_of_the_views_that_are_asked_for(choose: Any) -> None:
    _, context = choose(ChooseDaysOperator, {"views": ["energy_recent_features"]})
    assert "energy_data_features" not in context["ti"].xcoms["choose_days", OUTLOOK]


def test_days_without_readings_are_none_to_do(choose: Any) -> None:
    chunks, context = choose(ChooseDaysOperator, {"start": "2020-01-01", "end": "2020-01-02"})
    assert chunks == []
    assert "There is nothing to do." in context["ti"].xcoms["choose_days", OUTLOOK]


def test_a_dry_run_says_it_and_lets_nothing_be_done(choose: Any, s3: Any) -> None:
    with pytest.raises(DownstreamTasksSkipped) as caught:
        choose(PreviewOperator, {"dry_run": True})
    assert caught.value.tasks == ["create_cluster"]
    assert ("choose_days", FAILURE) not in caught.value.context["ti"].xcoms
    assert "To do: 3 day(s), 18 row(s), in 1 chunk(s)" in caught.value.context["ti"].xcoms["choose_days", OUTLOOK]
    assert json.loads(s3.get_object(Bucket="lake", Key=KEY)["Body"].read())["dry_run"] is True


def test_what_is_not_to_go_online_takes_no_part_of_that(choose: Any, s3: Any) -> None:
    _, context = choose(ChooseDaysOperator, {"skip_sync": True})
    said = context["ti"].xcoms["choose_days", OUTLOOK]
    assert "Online at most 0 write units" in said
    assert json.loads(s3.get_object(Bucket="lake", Key=KEY)["Body"].read())["last_job"] == "validate"


def test_more_chunks_than_airflow_maps_are_refused(choose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feature_store_airflow.choose_days.MOST_CHUNKS", 2)
    with pytest.raises(OutlookFailed, match=r"would be 3 chunks, and Airflow maps 2 tasks at most\. Next:"):
        choose(PreviewOperator, {"dry_run": True}, chunk_rows="1")


def test_any_other_run_does_not_look_twice(choose: Any, s3: Any) -> None:
    result, context = choose(PreviewOperator, {})
    assert result is None
    assert ("choose_days", OUTLOOK) not in context["ti"].xcoms
    assert s3.list_objects_v2(Bucket="lake")["KeyCount"] == 0


def test_a_lake_that_can_not_be_read_is_one_to_be_tried_again(choose: Any, readings: Path) -> None:
    for file in (readings / "_delta_log").glob("*.json"):
        file.write_text("no log")
    with pytest.raises(
        OutlookFailed, match=r"What there is of 2014-02-25\.\.2014-03-02 can't be told: .* clear this task"
    ):
        choose(ChooseDaysOperator, {})
