"""The page of all feature views and the tab of a run: who sees them, what they show, and how little they ask for."""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from feature_store_airflow import lookup, page
from feature_store_airflow.links import reports_path

from feature_store import registry
from feature_store.calendar import DayRange
from feature_store.metrics import ViewMetrics
from feature_store.validation.verdict import Verdict
from tests.unit.plugins import plausible

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette"),  # Airflow's own import of its API
]

PAGE = "/feature-store/"
DAILY = "feature_store_daily"
VIEWS = registry.views()
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
NOW = dt.datetime(2014, 2, 28, 6, 30, tzinfo=dt.UTC)
YESTERDAY = dt.date(2014, 2, 27)
RUN_ID = "manual__2014-02-28T04:00:00+00:00"
RUN = f"/feature-store/runs/{DAILY}/{quote(RUN_ID, safe='')}"


def put(s3: Any, *of: ViewMetrics) -> None:
    for each in of:
        s3.put_object(Bucket="lake", Key=f"metrics/{each.view}.json", Body=each.dump().encode())


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_now", lambda: NOW)


@pytest.fixture
def filled(s3: Any) -> list[ViewMetrics]:
    """Three months of both views, up to yesterday."""
    made = [plausible.metrics(view, YESTERDAY, seed=number) for number, view in enumerate(VIEWS)]
    put(s3, *made)
    return made


class Read(HTMLParser):
    """Collects what a page is made of: tags with their attributes, and all of its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def said(self) -> str:
        """The text in single blanks."""
        return " ".join(self.text.split())


def read(browser: Any, path: str = PAGE) -> Read:
    got = browser.get(path)
    assert got.status_code == 200, got.text
    return Read(got.text)


class TestAccess:
    def test_nobody_sees_anything_without_signing_in(self, client, filled) -> None:
        assert client(None).get(PAGE).status_code == 401
        assert client(None).get(RUN).status_code == 401

    def test_who_may_not_read_the_dags_runs_sees_nothing(self, client, filled) -> None:
        for path in (PAGE, f"{PAGE}?entity=A", RUN):
            assert client("none").get(path).status_code == 403

    @pytest.mark.parametrize(
        ("path", "about"),
        [
            (PAGE, DAILY),
            (f"{PAGE}?dag_id=another", DAILY),
            (f"{PAGE}?dag_id=another&entity=A", DAILY),
            ("/feature-store/runs/third/r?dag_id=another", "third"),
        ],
    )
    def test_airflow_is_asked_about_the_dag_that_the_page_is_about(self, client, filled, monkeypatch, path, about):
        from airflow.api_fastapi.app import get_auth_manager

        asked = []

        def refuse(**of: Any) -> bool:
            asked.append((of["method"], of["access_entity"].name, of["details"].id))
            return False

        monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", refuse)
        assert client().get(path).status_code == 403
        assert asked == [("GET", "RUN", about)]

    @pytest.mark.parametrize("path", [PAGE, RUN])
    def test_nothing_but_reading_is_possible(self, client, filled, path) -> None:
        for method in ("post", "put", "patch", "delete"):
            assert getattr(client("admin"), method)(path).status_code == 405


class TestCost:
    """What makes it quick: an object for each view, and nothing else."""

    def test_one_request_for_each_view_and_none_of_the_lake(self, client, s3, filled, monkeypatch) -> None:
        def never(*_: object) -> None:
            raise AssertionError("the page has opened the lake or the online store")

        for name in ("_offline", "_online"):
            monkeypatch.setattr(lookup, name, never)
        asked: list[tuple[str, str]] = []

        def keep(params: dict[str, Any], model: Any, **_: Any) -> None:
            asked.append((model.name, params["Key"]))

        s3.meta.events.register("provide-client-params.s3.*", keep)
        try:
            assert client().get(PAGE).status_code == 200
        finally:
            s3.meta.events.unregister("provide-client-params.s3.*", keep)
        assert sorted(asked) == [("GetObject", f"metrics/{view.name}.json") for view in VIEWS]

    def test_the_page_is_small(self, client, s3) -> None:
        put(s3, *(plausible.metrics(view, YESTERDAY, days=400) for view in VIEWS))
        assert len(client().get(PAGE).content) < 120_000 * len(VIEWS)


class TestViews:
    def test_say_how_far_each_stage_has_come(self, client, filled) -> None:
        shown = read(client())
        last = YESTERDAY
        held = last - dt.timedelta(days=plausible.HELD)
        assert f"{VIEWS[0].name}: online up to {last}, which is yesterday; {held} is held back" in shown.said
        assert f"Newest day computed {last} which is yesterday" in shown.said
        assert f"Last validated day {last}" in shown.said
        certified = filled[0].certified[last]
        at = f"{certified.certified_at:%Y-%m-%d %H:%M} UTC"
        assert f"Last certified day {last} at {at}, {certified.rows:,} rows" in shown.said
        assert "Online lag 0 days behind yesterday (UTC)" in shown.said
        assert "Held back 1 day" in shown.said

    def test_say_why_days_are_held_back_and_who_has_released_which(self, client, filled) -> None:
        shown = read(client())
        held = YESTERDAY - dt.timedelta(days=plausible.HELD)
        assert f"{held} ✕ held back {plausible.MESSAGE.format(day=held)} report" in shown.said
        assert "Released by Ada Lovelace: the meters' clock was set that night, ticket 7" in shown.said

    def test_of_a_check_whose_message_is_lost_it_names_the_check(self, client, s3, filled) -> None:
        day = YESTERDAY - dt.timedelta(days=plausible.HELD)
        lost = {**filled[0].validated, day: replace(filled[0].validated[day], failed={"day_filled": None})}
        put(s3, replace(filled[0], validated=lost))
        assert "held back day_filled: see the report" in read(client()).said

    def test_lead_to_the_reports(self, client, s3, filled) -> None:
        day = YESTERDAY - dt.timedelta(days=plausible.HELD)
        key = f"runs/{DAILY}/{plausible.run_id(day)}/{VIEWS[0].name}/validation_report.html"
        s3.put_object(Bucket="lake", Key=key, Body=b"<p>the report</p>")
        browser = client()
        got = browser.get(PAGE)
        links = [str(each["href"]) for each in Read(got.text).of("a") if each.get("aria-label") == f"Report on {day}"]
        assert browser.get(str(got.url.join(links[0]))).text == "<p>the report</p>"

    def test_cost_is_summed_by_the_day_of_spending(self, client, filled) -> None:
        shown = read(client())
        spent = [each for each in filled[0].syncs if (NOW.date() - each.at.date()).days < 90]
        assert (
            f"Keyspaces ${sum(each.dollars or 0 for each in spent):.4g} on demand, {len(spent)} sync(s)" in shown.said
        )
        last = spent[-1]
        units = f"{last.write_units:,} {last.read_units:,}"
        assert f"{last.at.date()} 1 {last.rows_written:,} 0 {units} ${last.dollars:.4g}" in shown.said

    def test_nothing_in_it_runs_or_loads_anything(self, client, s3, filled) -> None:
        day = YESTERDAY
        bad = replace(
            filled[0].validated[day],
            verdict=Verdict.RELEASED,
            failed={"day_filled": HOSTILE},
            released_by=HOSTILE,
            release_reason=HOSTILE,
            report=f"s3://lake/runs/{HOSTILE}",
            nulls={HOSTILE: 0.5},
        )
        put(s3, filled[0].with_validated(DayRange(day, day), {day: bad}))
        got = client().get(f"{PAGE}?entity={quote('x' * 3000 + HOSTILE)}&view={VIEWS[0].name}")
        shown = Read(got.text)
        assert {"script", "img", "link", "iframe"}.isdisjoint(name for name, _ in shown.tags)
        assert not [name for _, attributes in shown.tags for name in attributes if name.startswith("on")]
        assert HOSTILE in shown.text
        assert not re.search(r"@import|url\(|https?://", got.text)
        policy = got.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "form-action 'self'" in policy
        assert got.headers["cache-control"] == "no-store"

    def test_one_that_nothing_is_known_of_hides_no_other(self, client, s3, filled) -> None:
        s3.delete_object(Bucket="lake", Key=f"metrics/{VIEWS[0].name}.json")
        shown = read(client())
        assert f"{VIEWS[0].name}: nothing is known of it" in shown.said
        assert "No run of this feature store has validated it yet. Next: " in shown.said
        assert f"{VIEWS[1].name}: online up to {YESTERDAY}" in shown.said

    def test_one_whose_metrics_are_none_says_so(self, client, s3, filled) -> None:
        s3.put_object(Bucket="lake", Key=f"metrics/{VIEWS[0].name}.json", Body=b"\xff{")
        shown = read(client())
        assert f"s3://lake/metrics/{VIEWS[0].name}.json can't be read: it is no JSON of metrics" in shown.said
        assert f"{VIEWS[1].name}: online up to" in shown.said

    @pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket", "InternalError"])
    def test_that_s3_does_not_give_are_not_called_missing(self, client, s3, filled, monkeypatch, code) -> None:
        from botocore.exceptions import ClientError

        def fail(**_: Any) -> Any:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetObject")

        monkeypatch.setattr(s3, "get_object", fail)
        got = client().get(PAGE)
        assert (got.status_code, code in got.text) == (502, True)


class TestReadingAloud:
    """For those who see no pictures, or use no mouse."""

    def test_each_plot_is_said_in_words_and_has_its_numbers_in_a_table(self, client, filled) -> None:
        shown = read(client())
        figures = shown.of("figure")
        assert [each["role"] for each in figures] == ["img"] * 3 * len(VIEWS)
        held = YESTERDAY - dt.timedelta(days=plausible.HELD)
        assert re.match(
            rf"Rows per day: [\d,]+ on {YESTERDAY}; [\d,]+ to [\d,]+ on the 88 days before that are known; "
            rf"nothing on 1 of 90 days; held back: {held}$",
            str(figures[0]["aria-label"]),
        )
        assert all(each["aria-hidden"] == "true" for each in shown.of("svg"))
        assert len(shown.of("table")) == 4 * len(VIEWS)
        for day in (YESTERDAY, held):
            assert f"{filled[0].validated[day].rows:,}" in shown.said

    def test_fields_have_labels_and_tables_have_heads(self, client, filled) -> None:
        shown = read(client())
        ids = {each["id"] for name in ("input", "select") for each in shown.of(name)}
        assert ids == {each["for"] for each in shown.of("label")}
        assert {each["scope"] for each in shown.of("th")} == {"col", "row"}
        assert shown.of("html") == [{"lang": "en"}]
        # What scrolls can be reached, and says what it is.
        scrolled = [each for each in shown.of("div") if each.get("class") == "scroll"]
        assert all(each["tabindex"] == "0" and each["aria-label"] for each in scrolled)

    def test_a_verdict_is_a_word_and_a_sign_and_not_a_colour_alone(self, client, filled) -> None:
        said = read(client()).said
        for mark in ("✕ held back", "! released", "! warned", "✓ passed"):
            assert mark in said

    def test_light_and_dark_are_the_readers_own(self, client, filled) -> None:
        assert "@media (prefers-color-scheme: dark)" in client().get(PAGE).text


def summaries(s3: Any, **jobs: dict[str, Any]) -> None:
    for job, views in jobs.items():
        said = {"job": job, "start": "2014-02-26", "end": "2014-02-27", "seconds": 1.0, "views": views}
        s3.put_object(Bucket="lake", Key=f"runs/{DAILY}/{RUN_ID}/{job}.json", Body=json.dumps(said).encode())


def judged(**more: Any) -> dict[str, Any]:
    days = {"passed": ["2014-02-26", "2014-02-27"], "warned": [], "quarantined": [], "released": []}
    return {"verdict": "passed", "checks": 42, "rows": 11062, "days": days, "failed": [], "warned": [], **more}


def synced(**more: Any) -> dict[str, Any]:
    return {
        "table": "feature_store.v",
        "features_version": 7,
        "days_held_back": [],
        "days_online": 2,
        "rows_online": 11062,
        "rows_compared": 10443,
        "rows_written": 5531,
        "rows_deleted": 3,
        "write_units": 5534,
        "read_units": 350,
        "dollars": 0.004159,
        "prices": "eu-west-2 on demand, 2025-11-05",
        **more,
    }


class TestRun:
    def test_says_what_it_has_done_for_each_view(self, client, s3) -> None:
        held = {"passed": ["2014-02-26"], "quarantined": ["2014-02-27"], "warned": [], "released": []}
        bad = judged(verdict="failed", days=held, failed=[{"check": "day_filled", "message": "day_filled: half a day"}])
        summaries(
            s3,
            validate={VIEWS[0].name: bad, VIEWS[1].name: judged()},
            sync={VIEWS[0].name: synced(days_held_back=["2014-02-27"]), VIEWS[1].name: synced(dollars=None)},
        )
        said = read(client(), RUN).said
        first, second = said.split(f" {VIEWS[1].name} ")
        assert "2014-02-26 to 2014-02-27" in first
        assert "✕ failed, 11,062 rows, 42 checks. Report" in first
        assert "✓ passed: 2014-02-26 (1 day)" in first
        assert "✕ error day_filled: half a day" in first
        assert "✓ 11,062 rows of 2 day(s) are in feature_store.v and equal to version 7 of the Delta table" in first
        assert "✕ held back: 2014-02-27" in first
        assert "$0.004159: 5,534 write units (5,531 rows written, 3 deleted), 350 read units; eu-west-2" in first
        assert "2014-02-26 to 2014-02-27 (2 days)" in second
        assert "Not known: 5,534 write units" in second

    def test_in_chunks_says_how_far_it_has_come(self, client, s3) -> None:
        """And takes nothing of before it was cleared for its own, nor of folders that are none of its chunks."""
        folder = f"runs/{DAILY}/{RUN_ID}"
        chunks = [{"start": f"2014-02-0{day}", "end": f"2014-02-0{day + 1}", "days": 2} for day in (1, 3, 5)]
        outlook = {"start": "2014-02-01", "end": "2014-02-06", "dry_run": False, "last_job": "sync", "days_to_do": 6}

        def say(start: int, *jobs: str, **more: Any) -> None:
            for job in jobs:
                views = {VIEWS[0].name: judged() if job == "validate" else synced()}
                days = {"start": f"2014-02-0{start}", "end": f"2014-02-0{start + 1}"}
                said = {"job": job, **days, "seconds": 1.0, "views": views, **more}
                key = f"{folder}/{days['start']}_{days['end']}/{job}.json"
                s3.put_object(Bucket="lake", Key=key, Body=json.dumps(said).encode())

        say(1, "validate", "sync")
        time.sleep(1.1)  # S3 tells when an object was written by the second
        looked = {**outlook, "chunks": chunks, "lines": ["To do: 6 day(s)"]}
        s3.put_object(Bucket="lake", Key=f"{folder}/outlook.json", Body=json.dumps(looked).encode())
        assert "0 of 6 day(s) done, 0 of 3 chunk(s)" in read(client(), RUN).said
        say(1, "validate", "sync")
        say(3, "validate", "sync", error="the budget")
        say(5, "validate")
        say(7, "validate", "sync")
        said = read(client(), RUN).said
        assert "2 of 6 day(s) done, 1 of 3 chunk(s)" in said
        assert "To do: 6 day(s)" in said
        assert f"{3 * 11_062:,} rows" in said

    def test_leads_to_its_reports(self, client, s3) -> None:
        summaries(s3, validate={view.name: judged() for view in VIEWS})
        key = f"runs/{DAILY}/{RUN_ID}/{VIEWS[1].name}/validation_report.html"
        s3.put_object(Bucket="lake", Key=key, Body=b"<p>the report</p>")
        browser = client()
        got = browser.get(RUN)
        links = [str(each["href"]) for each in Read(got.text).of("a")]
        assert browser.get(str(got.url.join(links[1]))).text == "<p>the report</p>"

    def test_that_is_under_way_says_what_is_not_done_yet(self, client, s3) -> None:
        summaries(s3, validate={view.name: judged() for view in VIEWS})
        said = read(client(), RUN).said
        assert "Certificate Nothing was synced." in said
        assert "Cost in Keyspaces Nothing is known to be spent." in said

    def test_that_has_failed_says_why(self, client, s3) -> None:
        summaries(
            s3,
            validate={
                VIEWS[0].name: {"error": "s3://lake/delta/readings is not a Delta table."},
                VIEWS[1].name: judged(),
            },
            sync={VIEWS[1].name: synced(error="the table is not what Delta has")},
        )
        said = read(client(), RUN).said
        assert "✕ failed s3://lake/delta/readings is not a Delta table." in said
        assert "✕ failed the table is not what Delta has" in said

    @pytest.mark.parametrize("text", [None, "half a summ", "[1]"])
    def test_of_which_nothing_is_known_is_said_plainly(self, client, s3, text) -> None:
        if text:
            s3.put_object(Bucket="lake", Key=f"runs/{DAILY}/{RUN_ID}/validate.json", Body=text.encode())
        got = client().get(RUN)
        assert got.status_code == 404
        assert got.text.startswith(f"Run {RUN_ID} of {DAILY} has neither validated nor synced anything yet. Next: ")

    def test_shows_hostile_texts_as_texts(self, client, s3) -> None:
        summaries(s3, validate={VIEWS[0].name: judged(failed=[{"check": "x", "message": HOSTILE}], verdict="failed")})
        shown = read(client(), RUN)
        assert "script" not in {name for name, _ in shown.tags}
        assert HOSTILE in shown.text

    @pytest.mark.parametrize(
        "path", [f"{DAILY}/%2e%2e", f"%2e%2e/{DAILY}", f"{DAILY}/r%2F..%2Fs", f"~/{RUN_ID}", "x/."]
    )
    def test_tricks_with_paths_reach_nothing(self, client, s3, monkeypatch, path) -> None:
        asked: list[Any] = []
        monkeypatch.setattr(s3, "get_object", lambda **about: asked.append(about))
        assert client().get(f"/feature-store/runs/{path}").status_code == 404
        assert asked == []


class TestPlugin:
    def test_the_navigation_and_each_run_lead_to_the_pages(self, client, s3, filled) -> None:
        """As Airflow's page does it: placeholders are replaced, escaped; the result is below the base URL."""
        summaries(s3, validate={view.name: judged() for view in VIEWS})
        browser = client("admin")
        (plugin,) = [
            each for each in browser.get("/api/v2/plugins").json()["plugins"] if each["name"] == "feature_store"
        ]
        named = {(each["destination"], each["name"]): each for each in plugin["external_views"]}
        entry, tab = named["nav", "Features"], named["dag_run", "Features"]
        assert len(entry["name"]) <= 10  # the navigation cuts off more
        assert entry["nav_top_level"] is True
        assert "<h1>Features</h1>" in browser.get(f"/{entry['href']}").text
        path = tab["href"].replace("{DAG_ID}", quote(DAILY, safe="")).replace("{RUN_ID}", quote(RUN_ID, safe=""))
        assert "<h1>Features of this run</h1>" in browser.get(f"/{path}").text
        assert ("dag_run", "Validation report") in named
        assert len({each["url_route"] for each in named.values()}) == len(named)

    def test_a_report_has_the_same_address_everywhere(self) -> None:
        from feature_store_airflow.view_page import report_path

        uri = f"s3://lake/runs/{DAILY}/{RUN_ID}/v/validation_report.json"
        assert report_path(uri, "lake") == f"{reports_path(DAILY, RUN_ID)}/v"
        assert report_path(uri, "another") is None
        assert report_path("/tmp/report.json", "lake") is None
