"""A person's way in: the trigger dialog of Airflow's own UI, in a real browser, driven by playwright."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.conftest import BROWSER, BROWSERS, DAILY, Live, generated, outside_look, until

BACKFILL = "feature_store_backfill"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        BROWSER is None,
        reason="needs a browser: none of " + ", ".join(BROWSERS) + " is on the PATH (Debian: apt-get install chromium)",
    ),
]


@pytest.fixture
def page(live: Live, tmp_path: Path) -> Iterator[Page]:
    """An empty page; what it shows at the end is left as a picture."""
    with sync_playwright() as playwright:
        # No sandbox, as root may have none, and the only pages are our own.
        browser = playwright.chromium.launch(executable_path=BROWSER, chromium_sandbox=False)
        page = browser.new_page(base_url=live.stack.airflow_url, viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)  # milliseconds; a cold api-server on two busy cores takes its time
        expect.set_options(timeout=60_000)
        yield page
        page.screenshot(path=tmp_path / "end.png")
        browser.close()


def open_dialog(page: Page, dag_id: str) -> None:
    page.goto(f"/dags/{dag_id}")
    page.get_by_test_id("trigger-dag-button").click()
    expect(page.get_by_role("heading", name=f"Trigger Dag - {dag_id}")).to_be_visible()


def pick(page: Page, title: str, day: dt.date) -> None:
    """Set a date picker, found by the title that a person reads beside it."""
    row = page.get_by_role("dialog").get_by_role("group").filter(has=page.locator("label", has_text=title))
    row.locator("input[type=date]").fill(day.isoformat())


def switch_off(page: Page, title: str) -> None:
    """Switch a param off that is on, found as above."""
    row = page.get_by_role("dialog").get_by_role("group").filter(has=page.locator("label", has_text=title))
    expect(row.get_by_role("checkbox")).to_be_checked()
    row.locator("label").last.click()
    expect(row.get_by_role("checkbox")).not_to_be_checked()


def submit(page: Page, live: Live, dag_id: str, picture: Path) -> str:
    """Press the dialog's button; the id of the run that Airflow then has, and that was not there before."""

    def runs() -> set[str]:
        return {run["dag_run_id"] for run in live.api.get(f"/dags/{dag_id}/dagRuns", limit="100")["dag_runs"]}

    before = runs()
    page.screenshot(path=picture)
    page.get_by_test_id("trigger-dag-submit").click()
    # The first: while the page goes on to the run, the notice can be there twice.
    expect(page.get_by_text("Dag Run Triggered").first).to_be_visible()
    (run_id,) = until(lambda: runs() - before or None, 30, f"a new run of {dag_id}")
    return run_id


def features_version(live: Live) -> int:
    options = {**live.stack.aws_environment(), "AWS_ENDPOINT_URL": live.stack.s3_url}
    return DeltaTable(live.exports()["FEATURES_URI"], storage_options=options).version()


def shows_success(page: Page, dag_id: str, run_id: str) -> None:
    page.goto(f"/dags/{dag_id}/runs/{run_id}")
    expect(page.get_by_test_id("state-badge").filter(has_text="Success").first).to_be_visible()


def test_a_day_that_is_computed_already_is_run_again_from_the_dialog(live: Live, page: Page, tmp_path: Path) -> None:
    before = features_version(live)
    open_dialog(page, DAILY)
    pick(page, "First day", live.day)
    run_id = submit(page, live, DAILY, tmp_path / "dialog.png")
    run = live.api.get(f"/dags/{DAILY}/dagRuns/{run_id}")
    assert run["run_type"] == "manual"
    assert run["conf"]["start"] == live.day.isoformat()
    assert run["conf"].get("end") is None
    assert live.wait(DAILY, run_id) == "success", live.task_states(DAILY, run_id)
    assert live.api.result(DAILY, run_id, "plan")["days"] == [live.day.isoformat()]
    synced = live.api.result(DAILY, run_id, "sync")["views"]
    assert all(did["rows_online"] > 0 for did in synced.values())
    assert features_version(live) == before, "a rerun committed rows that were there"
    shows_success(page, DAILY, run_id)


def test_a_wrong_range_is_refused_before_there_is_a_cluster(live: Live, page: Page, tmp_path: Path) -> None:
    """The form can't compare two days; the first task does, and the run's page says what to do."""
    open_dialog(page, BACKFILL)
    pick(page, "First day", live.day)
    pick(page, "Last day", live.day - dt.timedelta(days=1))
    run_id = submit(page, live, BACKFILL, tmp_path / "dialog.png")
    assert live.wait(BACKFILL, run_id) == "failed"
    assert live.clusters(run_id) == []
    page.goto(f"/dags/{BACKFILL}/runs/{run_id}/tasks/plan")
    expect(page.get_by_text("Next: trigger the run again with them swapped").first).to_be_visible()


def test_a_dry_run_says_what_would_be_done(live: Live, page: Page, tmp_path: Path) -> None:
    """It is what a person gets who only picks the days."""
    first, last = live.day - dt.timedelta(days=60), live.day - dt.timedelta(days=57)
    open_dialog(page, BACKFILL)
    pick(page, "First day", first)
    pick(page, "Last day", last)
    run_id = submit(page, live, BACKFILL, tmp_path / "dialog.png")
    assert live.wait(BACKFILL, run_id) == "success"
    assert live.clusters(run_id) == []
    page.goto(f"/dags/{BACKFILL}/runs/{run_id}")
    page.locator("a[href$='/plugin/run-features']").click()
    shown = page.frame_locator("iframe")
    expect(shown.get_by_text("To do: 4 day(s)").first).to_be_visible()
    page.screenshot(path=tmp_path / "preview.png")


def test_a_range_from_the_dialog_fills_each_of_its_days(live: Live, page: Page, tmp_path: Path) -> None:
    first, last = live.day - dt.timedelta(days=2), live.day - dt.timedelta(days=1)
    open_dialog(page, BACKFILL)
    expect(page.get_by_test_id("trigger-dag-submit")).to_be_disabled()
    pick(page, "First day", first)
    expect(page.get_by_test_id("trigger-dag-submit")).to_be_disabled()
    pick(page, "Last day", last)
    switch_off(page, "Dry run")
    run_id = submit(page, live, BACKFILL, tmp_path / "dialog.png")
    run = live.api.get(f"/dags/{BACKFILL}/dagRuns/{run_id}")
    given = {name: value for name, value in run["conf"].items() if value is not None}
    assert given == {
        **{"start": first.isoformat(), "end": last.isoformat(), "dry_run": False, "reprocess": "missing"},
        **{"views": [], "cluster_size": "small", "skip_sync": False, "whole_table": False},
    }
    assert live.wait(BACKFILL, run_id) == "success", live.task_states(BACKFILL, run_id)
    assert live.api.result(BACKFILL, run_id, "plan")["days"] == [first.isoformat(), last.isoformat()]
    for day in (first, last):
        assert "rows agree" in outside_look(live, day.isoformat(), *generated(live))
    shows_success(page, BACKFILL, run_id)
