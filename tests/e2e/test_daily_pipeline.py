"""The main job and the daily DAG, as a person and as other people's programs see them."""

from __future__ import annotations

import datetime as dt
import gzip
import json

import psutil
import pytest

from infra.local.settings import MARK
from tests.e2e.conftest import DAILY, Live, Rerun, outside_look

pytestmark = pytest.mark.e2e

YESTERDAY = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)


def test_the_main_job_shows_each_stage_and_a_household(live: Live) -> None:
    shown = (live.stack.home / "first-run.txt").read_text()
    for number, stage in enumerate(
        (
            "plan",
            "create_cluster",
            "wait_for_cluster",
            "ingest",
            "featurize",
            "validate",
            "sync",
            "terminate_cluster",
            "verdict",
        ),
        1,
    ):
        assert f"[{number}/9] {stage:<17} success" in shown
    assert f"The features of {YESTERDAY} are online" in shown
    assert f"its latest features are of {YESTERDAY}" in shown
    assert "validation                passed" in shown
    assert live.stack.airflow_url in shown


def test_delta_online_and_an_independent_computation_agree(live: Live) -> None:
    csv = live.stack.home / "generated" / "daily_dataset.csv"
    assert "rows agree" in outside_look(live, YESTERDAY.isoformat(), csv)


def test_rerunning_the_day_changes_no_row(live: Live, rerun: Rerun) -> None:
    first, second = (live.api.result(DAILY, run_id, "featurize") for run_id in (rerun.first, rerun.second))
    assert second["rows"] == first["rows"] > 0
    assert second["features_version"] == first["features_version"], "a rerun committed the same rows again"
    ingested = live.api.result(DAILY, rerun.second, "ingest")
    assert (ingested["files"], ingested["rows_in"]) == (0, 0)


def test_no_secret_in_logs_arguments_or_process_lists(live: Live, rerun: Rerun) -> None:
    """Looks at every command line of a run, every log file, every object but the lake's, and every rendered field."""
    public = ("aws_access_key_id", "keyspaces_username")
    secrets = [value.encode() for name, value in live.stack.secrets.__dict__.items() if name not in public]
    assert any("spark_jobs/sync.py" in line for line in rerun.command_lines), "no step was seen while it ran"
    texts = {"the process list": "\n".join(rerun.command_lines).encode()}
    texts |= {str(file): file.read_bytes() for file in live.stack.logs.rglob("*") if file.is_file()}
    s3, bucket = live.client("s3"), live.exports()["FEATURE_STORE_BUCKET"]
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for key in (each["Key"] for each in page.get("Contents", [])):
            if not key.startswith(("delta/", "Dataset/")):
                body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
                texts[key] = gzip.decompress(body) if key.endswith(".gz") else body
    assert any(name.startswith("elasticmapreduce/") for name in texts)
    fields = [task["rendered_fields"] for task in live.api.tasks(DAILY, rerun.second)]
    texts["rendered templates"] = json.dumps(fields).encode()
    assert b"spark_jobs/sync.py" in texts["rendered templates"]
    assert not {name for name, text in texts.items() for secret in secrets if secret in text}


def test_a_range_by_the_api_fills_each_of_its_days(live: Live) -> None:
    start, end = YESTERDAY - dt.timedelta(days=2), YESTERDAY - dt.timedelta(days=1)
    run_id, state = live.run("feature_store_backfill", start=start.isoformat(), end=end.isoformat())
    assert state == "success", live.task_states("feature_store_backfill", run_id)
    csv = live.stack.home / "generated" / "daily_dataset.csv"
    for day in (start, end):
        assert "rows agree" in outside_look(live, day.isoformat(), csv)
    (cluster,) = live.clusters(run_id)
    assert cluster["Status"]["State"] == "TERMINATED"


def test_everything_listens_on_loopback_only(live: Live) -> None:
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) != str(live.stack.home):
                continue
            listening = [c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        except psutil.Error:
            continue
        assert all(ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1") for ip in listening), process.cmdline()
