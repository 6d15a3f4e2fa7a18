"""One whole stack for all end-to-end tests: started by the very command that a person types, on ports of its own."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import boto3
import httpx
import psutil
import pytest

from infra.local import parts, supervision
from infra.local import stack as supervisor
from infra.local.airflow_api import AirflowApi
from infra.local.settings import RECORD, REGION, ROOT, Ports, Stack

T = TypeVar("T")
DAILY = "feature_store_daily"
# Run with nothing of the project on its path: Delta by delta-rs, online by the driver, windows by DuckDB from the CSVs.
OUTSIDE = (Path(__file__).parent / "outside_look.py").read_text()
LOCAL_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
# The project's DAGs, and those that only these tests need.
DAG_BUNDLES = [
    {"name": "dags-folder", "classpath": LOCAL_BUNDLE, "kwargs": {}},
    {"name": "drill", "classpath": LOCAL_BUNDLE, "kwargs": {"path": str(Path(__file__).parent / "dags")}},
]
RUN_ENDS_WITHIN = 420.0  # seconds; a run of one day took 60 to 90 on two busy cores


@dataclass(frozen=True)
class Live:
    """A running stack and how to talk to it."""

    stack: Stack
    variables: dict[str, str]

    @property
    def first_run(self) -> str:
        """What the first `make run` has shown."""
        return (self.stack.home / "first-run.txt").read_text()

    @property
    def day(self) -> dt.date:
        """The day of the first `make run`: yesterday, unless midnight has gone by since."""
        found = re.search(r"^The features of (\S+) are online", self.first_run, re.MULTILINE)
        assert found, self.first_run
        return dt.date.fromisoformat(found[1])

    @property
    def api(self) -> AirflowApi:
        return AirflowApi(self.stack.airflow_url)

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.stack.s3_url if service == "s3" else self.stack.aws_url,
            region_name=REGION,
            aws_access_key_id=self.stack.secrets.aws_access_key_id,
            aws_secret_access_key=self.stack.secrets.aws_secret_access_key,
        )

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the stack as the Makefile does."""
        return subprocess.run(
            [sys.executable, "-m", "infra.local", *arguments],
            env={**os.environ, **self.variables},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def exports(self) -> dict[str, str]:
        """What `make -s env` prints, as a shell that evaluates it sees it, and nothing else."""
        printed = self.make("env").stdout
        shown = subprocess.run(
            ["sh", "-c", f"{printed}\nenv"],
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def trigger(self, dag_id: str, **conf: object) -> str:
        run = self.api.call("POST", f"/dags/{dag_id}/dagRuns", logical_date=None, conf=conf)
        return str(run["dag_run_id"])

    def wait(self, dag_id: str, run_id: str) -> str:
        """Wait for a run's end and return its state."""
        return until(lambda: _ended(self.api.run_state(dag_id, run_id)), RUN_ENDS_WITHIN, f"{dag_id} {run_id} to end")

    def run(self, dag_id: str, **conf: object) -> tuple[str, str]:
        run_id = self.trigger(dag_id, **conf)
        return run_id, self.wait(dag_id, run_id)

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in self.api.tasks(dag_id, run_id)}

    def task_log(self, dag_id: str, run_id: str, task_id: str) -> str:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1"
        return httpx.get(f"{self.stack.airflow_url}/api/v2{path}", timeout=30).text

    @contextmanager
    def settings(self, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
        """Let the DAGs have other settings for a while: `change` is given what the Airflow Variable holds."""
        file = self.stack.home / "airflow" / "variables.json"
        good = file.read_text()
        changed = json.loads(json.loads(good)["feature_store"])
        change(changed)
        file.write_text(json.dumps({"feature_store": json.dumps(changed)}))
        try:
            yield
        finally:
            file.write_text(good)

    def restart(self, part: str, end: Callable[[psutil.Process], None]) -> None:
        """End a part of the stack, and wait until its supervisor has it back."""
        watch = supervision.Supervisor(self.stack)
        pid = watch.states()[part].pid
        end(psutil.Process(pid))

        def is_back() -> bool | None:
            state = watch.states()[part]
            started = dt.datetime.fromtimestamp(state.started, dt.UTC)
            return (state.pid not in (0, pid) and parts.is_ready(self.stack, part, started)) or None

        until(is_back, 120, f"{part} to be back")

    def clusters(self, run_id: str) -> list[dict[str, Any]]:
        """The clusters of one run, as EMR describes them."""
        emr = self.client("emr")
        found = emr.list_clusters()["Clusters"]
        return [emr.describe_cluster(ClusterId=each["Id"])["Cluster"] for each in found if run_id in each["Name"]]


def _ended(state: str) -> str | None:
    return state if state in ("success", "failed") else None


def until(look: Callable[[], T | None], seconds: float, what: str) -> T:
    """Look twice a second until there is something to return."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (seen := look()) is not None:
            return seen
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Start a stack by the main job, with generated readings; end it after the last test."""
    home = tmp_path_factory.mktemp("stack")
    ports = Ports.free()
    variables = {name.upper(): str(port) for name, port in ports.__dict__.items()}
    bundles = {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(DAG_BUNDLES)}
    here = Live(Stack(home, ports), {"FEATURE_STORE_HOME": str(home), RECORD: "1", **variables, **bundles})
    try:
        first = here.make("run")
        assert first.returncode == 0, first.stdout + first.stderr
        (home / "first-run.txt").write_text(first.stdout)
        yield here
    finally:
        supervisor.down(here.stack)


@dataclass(frozen=True)
class Rerun:
    """The main job done twice for one day: both runs, and every command line that was seen during the second."""

    first: str
    second: str
    command_lines: frozenset[str]


@pytest.fixture(scope="session")
def rerun(live: Live) -> Rerun:
    """Do the main job again, with the same files and day also where midnight has gone by since."""
    before = {run["dag_run_id"] for run in live.api.get(f"/dags/{DAILY}/dagRuns")["dag_runs"]}
    lines: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            lines.update(" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        again = live.make("run", "--data", str(live.stack.home / "generated"), "--day", live.day.isoformat())
    finally:
        ended.set()
        watcher.join()
    assert again.returncode == 0, again.stdout + again.stderr
    (first,) = before
    (second,) = {run["dag_run_id"] for run in live.api.get(f"/dags/{DAILY}/dagRuns")["dag_runs"]} - before
    return Rerun(first, second, frozenset(lines))


def outside_look(live: Live, day: str, *csvs: Path, **environment: str) -> str:
    """Compare Delta, online and an independent computation, row by row, knowing only what `make -s env` prints."""
    found = subprocess.run(
        ["python", "-I", "-c", OUTSIDE, day, *map(str, csvs)],
        env={**live.exports(), **environment},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def generated(live: Live) -> list[Path]:
    """The files of readings that `make run` has made."""
    return sorted((live.stack.home / "generated").glob("readings_*.csv"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End with the drill's table, and leave it as build/drill.json too, if cases of it were run."""
    from tests.e2e import drill

    if ended := terminalreporter.config.stash.get(drill.ENDED, []):
        terminalreporter.section("how each fault ended")
        for line in drill.table(ended):
            terminalreporter.write_line(line)
        drill.write(ended)
