"""The feature store's page in Airflow's own UI: reached by the navigation and by a run's tab, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FrameLocator, Page, expect, sync_playwright

from feature_store import registry
from feature_store.energy import ENERGY
from tests.e2e.conftest import BROWSER, BROWSERS, DAILY, Live

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        BROWSER is None,
        reason="needs a browser: none of " + ", ".join(BROWSERS) + " is on the PATH (Debian: apt-get install chromium)",
    ),
]
HOUSEHOLD = re.compile(r"^Household (\S+), read online", re.MULTILINE)


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


def inside(page: Page) -> FrameLocator:
    return page.frame_locator("iframe")


def household(live: Live) -> str:
    """The one that the first `make run` has shown."""
    found = HOUSEHOLD.search(live.first_run)
    assert found, live.first_run
    return found[1]


def test_the_navigation_leads_to_what_the_run_has_left(live: Live, page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Features", exact=True).click()
    shown = inside(page)
    expect(shown.get_by_role("heading", name="Features", exact=True)).to_be_visible()
    for view in registry.views():
        section = shown.get_by_role("region", name=view.name, exact=True)
        expect(section.get_by_text(f"{live.day}", exact=True).first).to_be_visible()
        expect(
            section.get_by_role("img", name=re.compile(f"^Rows per day: [1-9][0-9,]* on {live.day}"))
        ).to_be_visible()
        expect(section.get_by_role("img", name=re.compile(r"^Dollars per day of spending: \$0\.0"))).to_be_visible()


def test_one_household_is_the_same_offline_and_online(live: Live, page: Page) -> None:
    """By the keyboard alone, and again after the page is loaded anew, as its address then says what it shows."""
    page.goto("/plugin/features")
    shown = inside(page)
    shown.get_by_role("textbox", name="Entity").focus()
    page.keyboard.type(household(live))
    page.keyboard.press("Enter")
    equal = shown.get_by_text(f"✓ Equal in all {len(ENERGY.columns)} columns:")
    expect(equal).to_be_visible()
    rows = shown.get_by_role("region", name=f"The rows of {household(live)}").get_by_role("row")
    expect(rows).to_have_count(1 + len(ENERGY.columns))
    expect(rows.filter(has_text=ENERGY.day)).to_contain_text(f"{live.day}")
    assert f"entity={household(live)}" in page.url
    page.reload()
    expect(equal).to_be_visible()


def test_a_value_that_is_otherwise_online_is_marked(live: Live, page: Page) -> None:
    from infra.local import prepare

    def put(value: float) -> None:
        with prepare.connect_online(live.stack) as connection:
            connection.session.execute(
                f"UPDATE feature_store.{ENERGY.name} SET energy_sum = %s WHERE id = %s AND day_date = %s",
                (value, household(live), live.day),
            )

    with prepare.connect_online(live.stack) as connection:
        row = connection.latest(household(live))
    assert row is not None
    there = row["energy_sum"]
    assert isinstance(there, float)
    put(there + 1)
    try:
        page.goto(f"/feature-store/?entity={household(live)}")
        expect(page.get_by_text(f"✕ 1 of {len(ENERGY.columns)} columns differ:")).to_be_visible()
        line = page.get_by_role("row").filter(has_text="≠ differs")
        expect(line).to_have_count(1)
        expect(line).to_contain_text(f"energy_sum {there!r} {there + 1!r}")
    finally:
        put(there)


def test_a_run_has_a_tab_with_what_it_did_and_its_reports(live: Live, page: Page) -> None:
    (run_id,) = [run["dag_run_id"] for run in live.api.get(f"/dags/{DAILY}/dagRuns")["dag_runs"]][-1:]
    page.goto(f"/dags/{DAILY}/runs/{run_id}")
    page.locator("a[href$='/plugin/run-features']").click()  # the navigation has one of the same name
    shown = inside(page)
    expect(shown.get_by_role("heading", name="Features of this run")).to_be_visible()
    section = shown.get_by_role("region", name=ENERGY.name, exact=True)
    expect(section.get_by_text(re.compile(r"are in feature_store\.\S+ and equal to version \d+"))).to_be_visible()
    section.get_by_role("link", name="Report").click()
    expect(inside(page).get_by_role("heading", name="All that holds")).to_be_visible()
