"""The pages with the reports, in Airflow's own API server: who sees them, what they show, what they refuse."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from feature_store_airflow.links import reports_path

from feature_store import registry
from infra.local.settings import ROOT

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette"),  # Airflow's own import of its API
]

DAG_ID, RUN_ID = "feature_store_daily", "manual__2014-02-28T04:00:00+00:00"
RUN = f"/feature-store/{reports_path(DAG_ID, RUN_ID)}"
VIEWS = [view.name for view in registry.views()]
REPORT = "<!doctype html><title>Report</title><p>é</p>"
CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def key(view: str, run_id: str = RUN_ID) -> str:
    return f"runs/{DAG_ID}/{run_id}/{view}/validation_report.html"


def put(s3: Any, *views: str, body: str = REPORT) -> None:
    for view in views:
        s3.put_object(Bucket="lake", Key=key(view), Body=body.encode(), ContentType="application/x-msdownload")


class TestAccess:
    @pytest.mark.parametrize("path", [RUN, f"{RUN}/{VIEWS[0]}", f"{RUN}/unknown", "/feature-store/reports/~/~"])
    def test_nobody_sees_anything_without_signing_in(self, client, s3, path) -> None:
        put(s3, *VIEWS)
        assert client(None).get(path).status_code == 401

    def test_a_token_that_is_not_airflows_is_none(self, client, s3) -> None:
        put(s3, *VIEWS)
        got = client(None).get(RUN, headers={"Authorization": "Bearer x.y.z"})
        assert got.status_code == 403
        assert REPORT not in got.text

    @pytest.mark.parametrize("path", [RUN, f"{RUN}/{VIEWS[0]}"])
    def test_who_may_not_read_the_dags_runs_sees_no_report(self, client, s3, path) -> None:
        put(s3, *VIEWS)
        assert client("none").get(path).status_code == 403

    def test_airflow_is_asked_about_this_dag(self, client, s3, monkeypatch) -> None:
        from airflow.api_fastapi.app import get_auth_manager

        asked = []

        def refuse(**about: Any) -> bool:
            asked.append((about["method"], about["access_entity"].name, about["details"].id))
            return False

        monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", refuse)
        assert client().get(f"{RUN}/{VIEWS[0]}").status_code == 403
        assert asked == [("GET", "RUN", DAG_ID)]

    @pytest.mark.parametrize("path", ["/feature-store/docs", "/feature-store/openapi.json", "/feature-store/reports"])
    def test_there_are_no_pages_about_the_pages(self, client, path) -> None:
        assert client().get(path).status_code == 404

    def test_a_token_in_the_header_does_as_well(self, client, s3) -> None:
        put(s3, VIEWS[0])
        token = client().cookies["_token"]
        got = client(None).get(f"{RUN}/{VIEWS[0]}", headers={"Authorization": f"Bearer {token}"})
        assert got.text == REPORT


class TestReport:
    def test_is_shown_as_a_page_that_can_do_nothing(self, client, s3) -> None:
        put(s3, VIEWS[0])
        got = client().get(f"{RUN}/{VIEWS[0]}")
        assert (got.status_code, got.text) == (200, REPORT)
        assert got.headers["content-type"] == "text/html; charset=utf-8"
        assert got.headers["content-security-policy"].startswith(CSP)
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["cache-control"] == "no-store"

    def test_may_be_large(self, client, s3) -> None:
        put(s3, VIEWS[0], body="x" * 1_000_000)
        assert len(client().get(f"{RUN}/{VIEWS[0]}").text) == 1_000_000

    def test_that_is_not_there_is_said_plainly(self, client, s3) -> None:
        put(s3, VIEWS[1])
        got = client().get(f"{RUN}/{VIEWS[0]}")
        assert got.status_code == 404
        assert got.headers["content-type"].startswith("text/plain")
        assert got.text.startswith(
            f"Run {RUN_ID} of {DAG_ID} has no validation report on {VIEWS[0]}. The task validate"
        )
        assert "Next: " in got.text

    def test_of_no_view_is_refused_with_those_that_there_are(self, client, s3) -> None:
        s3.put_object(Bucket="lake", Key=key("secret"), Body=b"secret")
        got = client().get(f"{RUN}/secret")
        assert got.status_code == 404
        assert VIEWS[0] in got.text

    @pytest.mark.parametrize(
        "path",
        [
            f"{DAG_ID}/%2e%2e/{VIEWS[0]}",
            f"%2e%2e/{DAG_ID}/{VIEWS[0]}",
            f"{DAG_ID}/r%2F..%2Fs/{VIEWS[0]}",
            f"{DAG_ID}/r%5c..%5cs/{VIEWS[0]}",
            f"{DAG_ID}/r%00/{VIEWS[0]}",
            f"{DAG_ID}/r%0a/{VIEWS[0]}",
            f"{DAG_ID}/{RUN_ID}/%2e%2e",
            f"{DAG_ID}/r%252F/{VIEWS[0]}",
            f"~/{RUN_ID}/{VIEWS[0]}",
            f"~/{RUN_ID}",
            f"{DAG_ID}/.",
        ],
    )
    def test_tricks_with_paths_reach_nothing(self, client, s3, monkeypatch, path) -> None:
        asked: list[Any] = []
        monkeypatch.setattr(s3, "get_object", lambda **about: asked.append(about))
        monkeypatch.setattr(s3, "list_objects_v2", lambda **about: asked.append(about))
        assert client().get(f"/feature-store/reports/{path}").status_code in (404, 405)
        assert asked == []

    @pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket", "InternalError"])
    @pytest.mark.parametrize("path", [RUN, f"{RUN}/{VIEWS[0]}"])
    def test_that_s3_does_not_give_is_no_missing_one(self, client, s3, monkeypatch, path, code) -> None:
        from botocore.exceptions import ClientError

        def fail(**_: Any) -> Any:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetObject")

        monkeypatch.setattr(s3, "get_object", fail)
        monkeypatch.setattr(s3, "list_objects_v2", fail)
        got = client().get(path)
        assert got.status_code == 502
        assert code in got.text

    def test_without_the_variable_it_is_said_what_is_missing(self, client, monkeypatch) -> None:
        browser = client()
        monkeypatch.delenv("AIRFLOW_VAR_FEATURE_STORE")
        got = browser.get(RUN)
        assert got.status_code == 502
        assert "Variable feature_store" in got.text


class TestList:
    def test_has_a_link_for_each_view_that_leads_to_its_report(self, client, s3) -> None:
        put(s3, *VIEWS)
        browser = client()
        got = browser.get(RUN)
        assert (got.status_code, got.headers["content-security-policy"].startswith(CSP)) == (200, True)
        links = [part.partition('"')[0] for part in got.text.split('<a href="')[1:]]
        assert len(links) == len(VIEWS)
        for link in links:
            assert browser.get(str(got.url.join(link))).text == REPORT

    def test_of_one_leads_straight_to_it(self, client, s3) -> None:
        put(s3, VIEWS[1])
        browser = client()
        got = browser.get(RUN)
        assert got.status_code == 307
        assert browser.get(str(got.url.join(got.headers["location"]))).text == REPORT

    def test_of_none_is_said_plainly(self, client, s3) -> None:
        s3.put_object(Bucket="lake", Key=key(VIEWS[0], "another"), Body=b"")
        got = client().get(RUN)
        assert got.status_code == 404
        assert got.text.startswith(f"Run {RUN_ID} of {DAG_ID} has no validation report. The task validate writes it")


class TestPlugin:
    def test_a_run_has_a_tab_that_leads_to_its_reports(self, client, s3) -> None:
        """As Airflow's page does it: both placeholders are replaced, escaped; the result is below the base URL."""
        from urllib.parse import quote

        put(s3, *VIEWS)
        browser = client("admin")
        plugins = {plugin["name"]: plugin for plugin in browser.get("/api/v2/plugins").json()["plugins"]}
        plugin = plugins["feature_store"]
        (view,) = [each for each in plugin["external_views"] if each["url_route"] == "validation-report"]
        assert view["destination"] == "dag_run"
        path = view["href"].replace("{DAG_ID}", quote(DAG_ID, safe="")).replace("{RUN_ID}", quote(RUN_ID, safe=""))
        assert "<h1>Validation reports</h1>" in browser.get(f"/{path}").text
        assert browser.get("/api/v2/plugins/importErrors").json()["import_errors"] == []

    def test_a_process_of_airflow_runs_one_module_of_the_folder(self, tmp_path) -> None:
        """Each task looks for plugins first, and waits for what that imports: nothing of what serves the pages."""
        looking = (
            "import sys; from airflow import plugins_manager as manager; manager.ensure_plugins_loaded();"
            "ours = lambda it: (getattr(it, '__file__', '') or '').startswith(sys.argv[1]);"
            "names = [name for name, it in sys.modules.items() if ours(it) and '.' not in name];"
            "print(manager.get_import_errors(), names, 'fastapi' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", looking, str(ROOT / "plugins")],
            env={
                "PATH": "",
                "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
                "AIRFLOW_HOME": str(tmp_path),
                "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        said = "{} ['airflow_plugin', 'feature_store_airflow'] False"
        assert done.stdout.splitlines()[-1:] == [said], done.stdout + done.stderr
