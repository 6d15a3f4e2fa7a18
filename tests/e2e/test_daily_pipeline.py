"""The main job and the daily DAG, as a person and as other people's programs see them."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
import subprocess
from pathlib import Path

import psutil
import pytest

from feature_store import registry
from infra.local.settings import MARK, ROOT
from tests import first_hour
from tests.e2e.conftest import BROWSER, DAILY, Live, Rerun, generated, outside_look

pytestmark = pytest.mark.e2e


def test_the_main_job_shows_each_stage_and_a_household(live: Live) -> None:
    shown = live.first_run
    for number, stage in enumerate(
        (
            "plan",
            "create_cluster",
            "wait_for_cluster",
            "schema",
            "ingest",
            "featurize",
            "validate",
            "sync",
            "terminate_cluster",
            "verdict",
        ),
        1,
    ):
        assert f"[{number:>2}/10] {stage:<17} success" in shown
    generated_up_to = re.findall(r"generated [\d,]+ readings of households up to (\S+)", shown)
    assert generated_up_to == [live.day.isoformat()]
    assert f"its latest features are of {live.day}" in shown
    for view in registry.views():
        assert re.search(rf"^  {view.name}\n    features +[\d,]+ .*\n    validation +passed ", shown, re.MULTILINE), (
            shown
        )
    assert live.stack.airflow_url in shown


def test_delta_online_and_an_independent_computation_agree(live: Live) -> None:
    assert "rows agree" in outside_look(live, live.day.isoformat(), *generated(live))


def test_rerunning_the_day_changes_no_row(live: Live, rerun: Rerun) -> None:
    first, second = (live.api.result(DAILY, run_id, "featurize")["views"] for run_id in (rerun.first, rerun.second))
    assert list(first) == [view.name for view in registry.views()]
    for name, did in first.items():
        assert second[name]["rows"] == did["rows"] > 0
        assert (did["rows_written"], second[name]["rows_written"]) == (did["rows"], 0)
    ingested = live.api.result(DAILY, rerun.second, "ingest")
    assert (ingested["files"], ingested["rows_in"]) == (0, 0)


def test_no_secret_in_logs_arguments_or_process_lists(live: Live, rerun: Rerun) -> None:
    """Looks at every command line of a run, every log file, every object but the lake's, and every rendered field."""
    public = ("aws_access_key_id", "keyspaces_username")
    secrets = [value.encode() for name, value in live.stack.secrets.__dict__.items() if name not in public]
    # The trust store's password is made on the node: here on this machine as a node.
    config = (live.stack.home / "node" / "feature-store" / "app.config").read_text()
    secrets.append(re.findall(r'truststore-password = "(.+)"', config)[0].encode())
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


@pytest.mark.skipif(BROWSER is not None, reason="a browser is here: test_dialog.py does it from the dialog")
def test_a_range_by_the_api_fills_each_of_its_days(live: Live) -> None:
    start, end = live.day - dt.timedelta(days=2), live.day - dt.timedelta(days=1)
    run_id, state = live.run("feature_store_backfill", start=start.isoformat(), end=end.isoformat(), dry_run=False)
    assert state == "success", live.task_states("feature_store_backfill", run_id)
    for day in (start, end):
        assert "rows agree" in outside_look(live, day.isoformat(), *generated(live))
    (cluster,) = live.clusters(run_id)
    assert cluster["Status"]["State"] == "TERMINATED"


def test_everything_listens_on_loopback_only(live: Live) -> None:
    listening: set[tuple[str, int]] = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(live.stack.home):
                found = process.net_connections("inet")
                listening |= {(each.laddr.ip, each.laddr.port) for each in found if each.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert set(live.stack.ports.__dict__.values()) <= {port for _, port in listening}


def test_the_commands_of_the_readme_work(live: Live) -> None:
    """Each line of the README's look-around block, in a shell that has evaluated `make -s env`."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (block,) = [block for block in blocks if 'eval "$(make -s env)"' in block]
    commands = [line for line in block.splitlines() if "make -s env" not in line]
    assert commands
    for command in commands:
        done = subprocess.run(["sh", "-c", command], env=live.exports(), cwd="/", capture_output=True, text=True)  # noqa: PLW1510
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout, command


def test_the_first_hour_can_be_pasted(live: Live, tmp_path: Path) -> None:
    """The guide's blocks, in one session that knows what `make -s env` prints."""
    printed = first_hour.paste("python", tmp_path, live.exports())
    for what in (first_hour.FOUND, first_hour.EQUAL, first_hour.MADE_AGAIN):
        assert any(map(what.search, printed)), printed
    assert (tmp_path / "build/first-hour/household.png").exists()
