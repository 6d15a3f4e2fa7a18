"""The gate, through Airflow: a day that is not whole stays out of the online table until a person lets it in."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import httpx
import polars as pl
import pytest
from deltalake import DeltaTable
from playwright.sync_api import expect, sync_playwright

from feature_store import registry
from infra.local import generate, prepare
from tests.e2e.conftest import BROWSER, BROWSERS, DAILY, Live

pytestmark = pytest.mark.e2e

BAD = dt.date(2020, 2, 10)
GOOD = BAD - dt.timedelta(days=1)
HOUSEHOLDS = 60
KEY = "Dataset/not-whole.csv"
RANGE = {"start": GOOD.isoformat(), "end": BAD.isoformat()}
ALONE = {"start": BAD.isoformat(), "end": BAD.isoformat()}


@pytest.fixture(scope="module")
def household(live: Live) -> str:
    """Land 40 days of households of their own; of the last day one half hour was read. Return one that has that day."""
    made = generate.generate(BAD, HOUSEHOLDS, 40, first_household=800_001)
    last = pl.col("day") == BAD
    one = pl.when(last).then(1).otherwise(pl.col("energy_count")).alias("energy_count")
    none = pl.when(last).then(None).otherwise(pl.col("energy_std")).alias("energy_std")
    out = io.BytesIO()
    made.with_columns(one, none).write_csv(out)
    bucket = live.exports()["FEATURE_STORE_BUCKET"]
    live.client("s3").put_object(Bucket=bucket, Key=KEY, Body=out.getvalue())
    present = made.filter(pl.col("day").is_between(GOOD, BAD)).group_by("household_id").len().filter(pl.col("len") == 2)
    return str(min(present["household_id"]))


@pytest.fixture(scope="module")
def ranged(live: Live, household: str) -> str:
    """A run of the good and the bad day; it fails, at its end."""
    run_id, state = live.run(DAILY, **RANGE)
    assert state == "failed"
    return run_id


def online_day(live: Live, household: str) -> dt.date | None:
    with prepare.connect_online(live.stack) as connection:
        row = connection.latest(household)
    return row and row["day_date"]


def test_of_a_range_the_good_day_goes_online_and_the_bad_one_fails_the_run(
    live: Live, ranged: str, household: str
) -> None:
    states = live.task_states(DAILY, ranged)
    assert {states[name] for name in ("validate", "sync", "terminate_cluster")} == {"success"}
    assert states["verdict"] == "failed"
    log = live.task_log(DAILY, ranged, "verdict")
    assert str(BAD) in log
    assert "day_filled" in log
    assert "released_by" in log
    assert online_day(live, household) == GOOD
    for view, did in live.api.result(DAILY, ranged, "sync")["views"].items():
        assert did["days_held_back"] == [str(BAD)], view


def test_the_event_of_the_assets_is_validates(live: Live, ranged: str) -> None:
    events = live.api.get("/assets/events", limit="100", order_by="-timestamp")["asset_events"]
    own = {each["name"]: each for each in events if each["source_run_id"] == ranged}
    assert set(own) == {view.name for view in registry.views()}
    for each in own.values():
        assert each["source_task_id"] == "validate"
        assert each["extra"]["days"]["quarantined"] == [str(BAD)]
        assert each["extra"]["verdict"] == "failed"
        assert each["extra"]["rows"] > HOUSEHOLDS


def test_a_bad_day_alone_is_not_synced(live: Live, ranged: str, household: str) -> None:
    run_id, state = live.run(DAILY, **ALONE)
    states = live.task_states(DAILY, run_id)
    assert state == "failed"
    assert (states["featurize"], states["validate"]) == ("success", "failed")
    assert states["sync"] not in ("success", "running")
    assert [cluster["Status"]["State"] for cluster in live.clusters(run_id)] == ["TERMINATED"]
    log = live.task_log(DAILY, run_id, "validate")
    assert f"on {BAD}" in log
    assert "day_filled: the readings hold too little of the day (0.02" in log
    assert online_day(live, household) == GOOD


def test_a_person_lets_the_day_in(live: Live, ranged: str, household: str) -> None:
    who = {"released_by": "Ada Ünal", "release_reason": "the trial's last day: 'one' half hour, {{ known }}"}
    run_id, state = live.run(DAILY, **ALONE, **who)
    assert state == "success", live.task_log(DAILY, run_id, "verdict")
    assert online_day(live, household) == BAD
    uri = live.exports()["FEATURES_URI"].rpartition("/")[0] + "/validation_verdicts"
    options = {**live.stack.aws_environment(), "AWS_ENDPOINT_URL": live.stack.s3_url}
    rows = DeltaTable(uri, storage_options=options).to_pyarrow_table(filters=[("day_date", "=", BAD)]).to_pylist()
    assert {row["view"] for row in rows} == {view.name for view in registry.views()}
    for row in rows:
        assert (row["verdict"], row["released_by"], row["release_reason"]) == ("released", *who.values())


@pytest.mark.skipif(BROWSER is None, reason=f"needs a browser: none of {', '.join(BROWSERS)} is on the PATH")
def test_the_report_is_one_click_from_the_task(live: Live, ranged: str, tmp_path: Path) -> None:
    with sync_playwright() as playwright:
        # No sandbox, as root may have none, and the only pages are our own.
        browser = playwright.chromium.launch(executable_path=BROWSER, chromium_sandbox=False)
        page = browser.new_page(base_url=live.stack.airflow_url, viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        page.goto(f"/dags/{DAILY}/runs/{ranged}")
        page.get_by_role("link", name="Validation report").click()
        inside = page.locator("iframe").content_frame
        inside.get_by_role("link", name="energy_recent_features").click()
        expect(inside.get_by_role("heading", name=f"Held back: {BAD}")).to_be_visible()
        page.screenshot(path=tmp_path / "run.png")
        page.goto(f"/dags/{DAILY}/runs/{ranged}/tasks/validate/details")
        link = page.get_by_role("link", name="Validation report")
        expect(link).to_be_visible()
        page.screenshot(path=tmp_path / "task.png")
        page.goto(str(link.get_attribute("href")))
        page.get_by_role("link", name="energy_data_features").click()
        expect(page.get_by_role("heading", name=f"Held back: {BAD}")).to_be_visible()
        page.screenshot(path=tmp_path / "report.png", full_page=True)
        browser.close()


def test_a_report_that_is_not_there_is_said_so(live: Live) -> None:
    answer = httpx.get(f"{live.stack.airflow_url}/feature-store/reports/{DAILY}/no_such_run", timeout=30)
    assert answer.status_code == 404
    assert "has no validation report" in answer.text
