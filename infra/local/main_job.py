"""`make run`: the stack up, the data landed, the daily DAG watched to its end, and what came out of it."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from deltalake import DeltaTable

from feature_store.calendar import parse_day
from feature_store.energy import ENERGY
from infra.local import generate, landing, prepare, stack
from infra.local.airflow_api import AirflowApi
from infra.local.settings import BUCKET, Stack, StackError

DAG = "feature_store_daily"
STAGES = (
    "plan",
    "create_cluster",
    "wait_for_cluster",
    "ingest",
    "featurize",
    "validate",
    "sync",
    "terminate_cluster",
    "verdict",
)
ENDED = ("success", "failed", "upstream_failed", "skipped", "removed")
POLL = 0.5  # seconds between two looks at a run


class RunFailedError(Exception):
    """The DAG run has failed; the message says which task and why. Exit 1."""


@dataclass
class Report:
    """What the terminal shows: each line with the seconds since the start."""

    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Print one line of progress."""
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)  # noqa: T201 - this is the terminal's view


def run(data: str | None, day: str | None) -> None:
    """Do the main job.

    Args:
        data: a CSV, a gzipped one or a folder of them; None makes 400 days of generated readings up to yesterday.
        day: the day to compute, YYYY-MM-DD; None is the newest one that the data holds.

    Raises:
        StackError: the arguments or the machine are not fit, or a part of the stack does not come up.
        RunFailedError: the DAG run failed.
    """
    wanted = _parse_day(day)
    this = Stack.from_environment()
    report = Report()
    files, root = _input(this, data, report)
    os.environ.update(this.aws_environment())
    report.say(f"starting the stack (logs in {this.logs})")
    stack.up(this, report.say)
    prepare.prepare(this, report.say)
    landed = landing.land(boto3.client("s3"), files, root, lambda text: report.say(f"landed {text}"))
    report.say(
        f"{landed.files} file(s) in s3://{BUCKET}/{landing.PREFIX}, {landed.uploaded} new, up to {landed.last_day}"
    )
    feature_day = wanted or landed.last_day
    api = AirflowApi(this.airflow_url)
    run_id = api.trigger_day(DAG, feature_day)
    for dag_id in prepare.DAGS:
        api.unpause(dag_id)
    report.say(f"{DAG} {run_id}: {feature_day}")
    _watch(api, run_id, report)
    print("\n".join(_summary(this, api, run_id, feature_day, time.monotonic() - report.began)))  # noqa: T201


def _parse_day(day: str | None) -> dt.date | None:
    if not day:
        return None
    try:
        return parse_day(day)
    except ValueError:
        raise StackError(f"DAY={day} is not a day: give it as YYYY-MM-DD.") from None


def _input(this: Stack, data: str | None, report: Report) -> tuple[list[Path], Path]:
    if data:
        path = Path(data).expanduser().resolve()
        return landing.csv_files(path), path if path.is_dir() else path.parent
    yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    file = this.home / "generated" / "daily_dataset.csv"
    rows = generate.write_csv(file, last_day=yesterday)
    report.say(f"generated {rows:,} readings of households up to {yesterday}")
    return [file], file.parent


def _watch(api: AirflowApi, run_id: str, report: Report) -> None:
    """Follow the run to its end, one line for each task that starts or ends."""
    shown: dict[str, str] = {}
    while True:
        state = api.run_state(DAG, run_id)
        tasks = {task["task_id"]: task for task in api.tasks(DAG, run_id)}
        for number, name in enumerate(STAGES, 1):
            task = tasks.get(name, {})
            now = task.get("state") or ""
            if now != shown.get(name, "") and now in ("running", *ENDED):
                took = f" in {task['duration']:.1f} s" if now in ("success", "failed") and task.get("duration") else ""
                report.say(f"[{number}/{len(STAGES)}] {name:<17} {now}{took}")
                shown[name] = now
        if state in ("success", "failed"):
            break
        time.sleep(POLL)
    if state == "failed":
        raise RunFailedError(_why(api, run_id, tasks))


def _why(api: AirflowApi, run_id: str, tasks: dict[str, dict[str, Any]]) -> str:
    failed = [name for name in STAGES if tasks.get(name, {}).get("state") == "failed"]
    if not failed:
        return f"{DAG} {run_id} failed: no task of it did; see Airflow."
    first = failed[0]
    errors = list(api.errors(DAG, run_id, first, tasks[first]["try_number"]))
    return f"{first} failed: {errors[0] if errors else 'its log says why'}"


def _summary(this: Stack, api: AirflowApi, run_id: str, day: dt.date, seconds: float) -> Iterator[str]:
    got = {name: api.result(DAG, run_id, name) or {} for name in ("ingest", "featurize", "validate", "sync")}
    took = {task["task_id"]: task["duration"] or 0.0 for task in api.tasks(DAG, run_id)}
    ingest, featurize, validate, sync = got.values()
    yield ""
    yield f"The features of {day} are online ({seconds:.0f} s in all)"
    rows = f"rows of {ingest['files']} new file(s); {ingest['readings_rows']:,} readings in the table"
    yield f"  rows in             {ingest['rows_in']:>12,}   {rows}"
    yield f"  quarantined         {ingest['rows_quarantined']:>12,}   malformed rows, with reason, file and line"
    same = "" if featurize["rows_written"] else "; the table had all of them already"
    yield f"  features            {featurize['rows']:>12,}   of {featurize['entities']:,} households{same}"
    yield f"  features written    {featurize['rows_written']:>12,}"
    yield f"  validation          {validate['verdict']:>12}   {validate['checks']} checks; report: {validate['report']}"
    yield f"  rows online         {sync['rows_online']:>12,}   read back from {sync['table']} and equal to Delta"
    yield "  seconds             " + "  ".join(
        f"{name} {took[name]:.1f}" for name in STAGES if took.get(name, 0) >= 0.05
    )
    yield ""
    yield from _one_household(this, day)
    yield ""
    yield f"Airflow   {this.airflow_url}   (no sign-in: it listens on this machine only, and you are its admin)"
    yield f"This run  {this.airflow_url}/dags/{DAG}/runs/{run_id}"
    yield "The stack stays up. `make -s env` prints what other programs need to look inside; `make stop` ends it."


def _one_household(this: Stack, day: dt.date) -> Iterator[str]:
    """Read one household's latest features online, as a service would."""
    features = DeltaTable(
        f"s3://{BUCKET}/delta/{ENERGY.name}",
        storage_options={**this.aws_environment(), "AWS_ENDPOINT_URL": this.s3_url},
    )
    table = features.to_pyarrow_table(columns=[ENERGY.entity], filters=[(ENERGY.day, "=", day)])
    entity = min(table.column(ENERGY.entity).to_pylist())
    with prepare.connect_online(this) as connection:
        began = time.perf_counter()
        row = connection.latest(entity)
        took = (time.perf_counter() - began) * 1000
    if row is None:
        raise RunFailedError(f"{entity} has features of {day} in Delta and none online: see the sync task's log.")
    yield f"Household {entity}, read online in {took:.1f} ms: its latest features are of {row['day_date']}"
    yield f"{'':<18}" + "".join(f"{window.name:>12}" for window in ENERGY.windows)
    for aggregation in ENERGY.aggregations:
        values = [row[aggregation.column(window)] for window in ENERGY.windows]
        yield f"  {aggregation.name:<16}" + "".join(f"{_shown(value):>12}" for value in values)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else f"{value}"
