"""The DAG of simulations on a stack with a day in it: a good run with its page, and every way to lose one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from infra.local.settings import BUCKET, SECRET_NAME
from tests import api_calls
from tests.e2e.conftest import BROWSER, Live, until

pytestmark = pytest.mark.e2e

DAG_ID = "feature_store_simulation"
CLUSTER, LOG_GROUP = "feature-store-simulation", "/feature-store/simulation"
SMALL = {"rates": "20,40", "seconds": 5, "workers": 2}


@pytest.fixture(scope="module", autouse=True)
def before(live: Live) -> tuple[int, int]:
    """How long the records of calls are before the first simulation; what other tests have asked is in them."""
    length = api_calls.length(live.stack)
    live.api.unpause(DAG_ID)
    return length


def errors(live: Live, run_id: str, task_id: str, map_index: int = -1) -> str:
    """What the log of a task's last try says, exceptions included."""
    path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1"
    url = f"{live.stack.airflow_url}/api/v2{path}"
    return httpx.get(url, params={"map_index": map_index, "full_content": "true"}, timeout=30).text


def states(live: Live, run_id: str) -> dict[str, str]:
    """By task id, and for the workers by task id and number."""
    return {
        task["task_id"] + (f"_{task['map_index']}" if task["map_index"] >= 0 else ""): task["state"]
        for task in live.api.tasks(DAG_ID, run_id)
    }


def tasks_of(live: Live, run_id: str) -> list[dict[str, Any]]:
    """The workers' tasks of ECS that were started for a run, as ECS describes them."""
    ecs = live.client("ecs")
    name = f"--name={name_of(live, run_id)}"
    found = [*ecs.list_tasks(cluster=CLUSTER, desiredStatus="RUNNING")["taskArns"]]
    found += ecs.list_tasks(cluster=CLUSTER, desiredStatus="STOPPED")["taskArns"]
    described = ecs.describe_tasks(cluster=CLUSTER, tasks=found)["tasks"] if found else []
    return [
        task
        for task in described
        if name in (command := task["overrides"]["containerOverrides"][0]["command"]) and "Simulation.worker" in command
    ]


def name_of(live: Live, run_id: str) -> str:
    body = live.client("s3").get_object(Bucket=BUCKET, Key=f"runs/{DAG_ID}/{run_id}/simulation.json")["Body"].read()
    return str(json.loads(body)["name"])


def report(live: Live, name: str) -> Any:
    key = f"simulation_results/{name}/report.json"
    return json.loads(live.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())


def files(live: Live, name: str, prefix: str) -> list[str]:
    """Those of a simulation that begin so."""
    folder = f"simulation_results/{name}/"
    found = live.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=folder + prefix)
    return [each["Key"].removeprefix(folder) for each in found.get("Contents", [])]


def logs(live: Live) -> str:
    client = live.client("logs")
    streams = client.describe_log_streams(logGroupName=LOG_GROUP)["logStreams"]
    events = [
        event["message"]
        for stream in streams
        for event in client.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream["logStreamName"])["events"]
    ]
    return "\n".join(events)


@pytest.fixture(scope="module")
def done(live: Live, before: tuple[int, int]) -> tuple[str, str]:
    """A good run: its id, and the name of its simulation."""
    run_id, state = live.run(DAG_ID, **SMALL, name="e2e-load")
    assert state == "success", errors(live, run_id, "verdict")
    return run_id, name_of(live, run_id)


def test_a_small_simulation_ends_with_a_report(live: Live, done: tuple[str, str]) -> None:
    run_id, name = done
    assert states(live, run_id) == dict.fromkeys(
        ("choose_name", "run_worker_0", "run_worker_1", "report", "verdict"), "success"
    )
    assert report(live, name)
    for worker in ("00", "01"):
        assert files(live, name, f"workers/{worker}/ended.json")
    # The worker's own lines are in the log of its task in Airflow.
    assert "calls/s due" in errors(live, run_id, "run_worker", 0)


@pytest.mark.skipif(BROWSER is None, reason="needs a browser")
def test_the_report_opens_in_a_browser(live: Live, done: tuple[str, str]) -> None:
    run_id, name = done
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, chromium_sandbox=False)
        page = browser.new_page(base_url=live.stack.airflow_url)
        expect.set_options(timeout=60_000)
        page.goto(f"/feature-store/simulations/{DAG_ID}/{run_id}")
        expect(page.get_by_text(name).first).to_be_visible()
        page.goto("/feature-store/simulations")
        page.get_by_role("link", name=name).click()
        expect(page.get_by_text(name).first).to_be_visible()
        browser.close()


def test_no_credential_is_told_anywhere(live: Live, done: tuple[str, str]) -> None:
    run_id, _ = done
    ecs = live.client("ecs")
    told = json.dumps(
        [
            tasks_of(live, run_id),
            ecs.describe_task_definition(taskDefinition=CLUSTER),
            logs(live),
            *(
                errors(live, run_id, task, index)
                for task, index in (("run_worker", 0), ("run_worker", 1), ("report", -1))
            ),
        ],
        default=str,
    )
    assert "KEYSPACES_PASSWORD" in told  # as the name of what is found by an ARN
    for secret in (live.stack.secrets.keyspaces_password, live.stack.secrets.aws_secret_access_key):
        assert secret not in told


def test_a_worker_that_is_stopped_fails_the_run_and_is_named(live: Live) -> None:
    run_id = live.trigger(DAG_ID, **{**SMALL, "seconds": 30}, name="e2e-stopped")

    def running() -> list[dict[str, Any]] | None:
        if states(live, run_id).get("run_worker_1") != "running":
            return None
        found = [task for task in tasks_of(live, run_id) if task["lastStatus"] == "RUNNING"]
        return found if len(found) == 2 else None

    workers = until(running, 180, "both workers")
    # Into the plan: what is stopped before it has begun has measured nothing.
    until(lambda: files(live, "e2e-stopped", "workers/01/samples-") or None, 60, "the first samples of worker 1")
    stopped = next(task for task in workers if "--worker=1" in task["overrides"]["containerOverrides"][0]["command"])
    live.client("ecs").stop_task(cluster=CLUSTER, task=stopped["taskArn"], reason="an operator's mistake")
    assert live.wait(DAG_ID, run_id) == "failed"
    seen = states(live, run_id)
    assert (seen["run_worker_0"], seen["run_worker_1"], seen["report"]) == ("success", "failed", "success")
    assert "an operator's mistake" in errors(live, run_id, "run_worker", 1)
    assert "worker 1 failed" in errors(live, run_id, "verdict")
    assert "stopped" in json.dumps(report(live, "e2e-stopped"))


@pytest.fixture
def wrong_password(live: Live) -> Iterator[None]:
    """A secret whose password is not the one that the online store knows."""
    secrets = live.client("secretsmanager")
    good = secrets.get_secret_value(SecretId=SECRET_NAME)["SecretString"]
    secrets.put_secret_value(SecretId=SECRET_NAME, SecretString=json.dumps({**json.loads(good), "password": "no-such"}))
    try:
        yield
    finally:
        secrets.put_secret_value(SecretId=SECRET_NAME, SecretString=good)


def test_a_wrong_password_fails_at_once_and_is_not_told(live: Live, wrong_password: None) -> None:
    run_id, state = live.run(DAG_ID, **SMALL, name="e2e-password")
    assert state == "failed"
    said = errors(live, run_id, "run_worker", 0)
    assert "ended with exit code 1" in said
    assert "no-such" not in said
    assert not [task for task in tasks_of(live, run_id) if task["lastStatus"] != "STOPPED"]


def test_nothing_is_asked_of_aws_that_is_not_in_the_list(
    live: Live, before: tuple[int, int], done: tuple[str, str]
) -> None:
    """As tests/e2e/test_api_calls.py, which runs no simulation."""
    page = f"{live.stack.airflow_url}/feature-store/simulations/{done[1]}"
    assert httpx.get(page, timeout=60).status_code == httpx.codes.OK
    seen = api_calls.recorded(live.stack, before)
    assert "simulation" in {call.role for call in seen}
    if os.environ.get("GOLDEN_REWRITE") == "1":
        api_calls.write(seen | api_calls.read())
    assert seen <= api_calls.read()
