"""The page with what a step has written, in Airflow's own API server: who sees it, what it shows, what it refuses."""

from __future__ import annotations

import gzip
import itertools
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from feature_store_airflow.links import STEP, StepStderrLink, StepStdoutLink, log_path

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette"),  # Airflow's own import of its API
]

DAG_ID = "feature_store_daily"
RUN_IDS = (f"manual__2014-02-28T04:00:{number:02}+00:00" for number in itertools.count())
CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@pytest.fixture
def run_id() -> str:
    return next(RUN_IDS)


@pytest.fixture
def left(server, run_id) -> Any:
    """Let the task ingest of the run leave where its step is, as XCom in Airflow's database."""
    from airflow import settings
    from airflow.models.dagrun import DagRun
    from airflow.models.xcom import XComModel
    from sqlalchemy import insert
    from sqlalchemy.orm import Session

    def leave(logs: str | None = "s3://lake/elasticmapreduce/j-1/steps/s-1/", dag_id: str = DAG_ID) -> None:
        value = {"cluster_id": "j-1", "step_id": "s-1", "logs": logs}
        now = datetime.now(UTC)
        with settings.engine.connect() as connection, Session(connection) as session:
            # The rows that it belongs to (the task's, its DAG's version) are of no account here.
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            run = DagRun(dag_id=dag_id, run_id=run_id, run_type="manual", run_after=now)
            session.add(run)
            session.flush()
            where = {"dag_run_id": run.id, "dag_id": dag_id, "run_id": run_id, "task_id": "ingest"}
            session.execute(insert(XComModel).values(**where, map_index=-1, key=STEP, value=value, timestamp=now))
            session.flush()
            connection.commit()
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")

    return leave


def path_of(run_id: str, stream: str = "stderr", task_id: str = "ingest") -> str:
    key = SimpleNamespace(dag_id=DAG_ID, run_id=run_id, task_id=task_id, map_index=-1)
    return f"/feature-store/{log_path(key, stream)}"


@pytest.mark.parametrize("path", [f"/feature-store/logs/{DAG_ID}/r/ingest/stderr", "/feature-store/logs/~/~/~/~"])
def test_nobody_sees_anything_without_signing_in(client, s3, path) -> None:
    assert client(None).get(path).status_code == 401


@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_a_log_is_shown_whole_as_plain_text(client, s3, left, run_id, stream) -> None:
    left()
    text = "<script>é</script>\n" + "x" * 1_000_000
    key = f"elasticmapreduce/j-1/steps/s-1/{stream}.gz"
    s3.put_object(Bucket="lake", Key=key, Body=gzip.compress(text.encode()), ContentType="text/html")
    got = client().get(path_of(run_id, stream))
    assert (got.status_code, got.text) == (200, text)
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert got.headers["content-security-policy"].startswith(CSP)
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["cache-control"] == "no-store"


def test_a_log_that_is_not_compressed(client, s3, left, run_id) -> None:
    left("s3n://lake/elasticmapreduce/j-1/steps/s-1/")
    s3.put_object(Bucket="lake", Key="elasticmapreduce/j-1/steps/s-1/stderr", Body=b"plain words")
    assert client().get(path_of(run_id)).text == "plain words"


def test_a_log_that_emr_has_not_put_away_yet_is_said_plainly(client, s3, left, run_id) -> None:
    left()
    got = client().get(path_of(run_id))
    assert got.status_code == 404
    assert got.text.startswith("The stderr of step s-1 of ingest (cluster j-1) is not in s3://lake/elasticmapreduce")
    assert "every few minutes. Next: look again" in got.text


def test_a_task_without_a_step_is_said_plainly(client, s3, left, run_id) -> None:
    left()
    for path in (path_of(run_id, task_id="sync"), path_of("another")):
        got = client().get(path)
        assert got.status_code == 404
        assert "has no step yet. Next: " in got.text


def test_a_cluster_that_keeps_no_logs_is_said_plainly(client, s3, left, run_id) -> None:
    left(None)
    assert "has no LogUri" in client().get(path_of(run_id)).text


def test_the_log_of_another_dag_is_not_shown(client, s3, left, run_id) -> None:
    """Airflow was asked about this DAG."""
    left(dag_id="another")
    assert client().get(path_of(run_id)).status_code == 404


def test_airflow_is_asked_about_the_logs_of_this_dag(client, s3, left, run_id, monkeypatch) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    asked = []

    def refuse(**about: Any) -> bool:
        asked.append((about["method"], about["access_entity"].name, about["details"].id))
        return False

    left()
    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", refuse)
    assert client().get(path_of(run_id)).status_code == 403
    assert asked == [("GET", "TASK_LOGS", DAG_ID)]


@pytest.mark.parametrize(
    "path",
    [
        f"{DAG_ID}/RUN/ingest/controller",
        f"{DAG_ID}/RUN/ingest/stderr.gz",
        f"{DAG_ID}/RUN/ingest/%2e%2e",
        f"{DAG_ID}/RUN/%2e%2e/stderr",
        f"{DAG_ID}/RUN/a%2Fb/stderr",
        f"{DAG_ID}/RUN/ingest%00/stderr",
        f"{DAG_ID}/%2e%2e/ingest/stderr",
        f"{DAG_ID}/r%0a/ingest/stderr",
        "~/RUN/ingest/stderr",
    ],
)
def test_tricks_with_paths_reach_nothing(client, s3, left, run_id, monkeypatch, path) -> None:
    left()
    asked: list[Any] = []
    monkeypatch.setattr(s3, "get_object", lambda **about: asked.append(about))
    got = client().get(f"/feature-store/logs/{path.replace('RUN', quote(run_id))}")
    assert got.status_code in (404, 405)
    assert asked == []


def test_a_log_that_s3_does_not_give_is_no_missing_one(client, s3, left, run_id, monkeypatch) -> None:
    from botocore.exceptions import ClientError

    def fail(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetObject")

    left()
    monkeypatch.setattr(s3, "get_object", fail)
    got = client().get(path_of(run_id))
    assert got.status_code == 502
    assert "AccessDenied" in got.text


@pytest.mark.parametrize(("link", "stream"), [(StepStderrLink(), "stderr"), (StepStdoutLink(), "stdout")])
def test_a_log_is_one_click_from_the_task(client, s3, left, run_id, link, stream) -> None:
    left()
    s3.put_object(Bucket="lake", Key=f"elasticmapreduce/j-1/steps/s-1/{stream}.gz", Body=gzip.compress(b"words"))
    key = SimpleNamespace(dag_id=DAG_ID, run_id=run_id, task_id="ingest", map_index=-1)
    assert client().get(link.get_link(None, ti_key=key)).text == "words"


def test_the_links_are_kept_apart_by_airflow() -> None:
    assert StepStderrLink().xcom_key != StepStdoutLink().xcom_key
