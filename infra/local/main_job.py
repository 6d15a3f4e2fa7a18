"""`make run`: the stack up, the data landed, the daily DAG watched to its end, and what came out of it."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import httpx
from deltalake import DeltaTable

from feature_store import layout
from feature_store.calendar import DayRange, parse_day
from feature_store.energy import ENERGY
from infra.dags import DAGS
from infra.local import generate, landing, prepare, stack
from infra.local.airflow_api import AirflowApi
from infra.local.settings import BUCKET, Stack, StackError

DAG = "feature_store_daily"
STAGES = (
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
        StackError: the arguments, the data or the machine are not fit (found before anything is started), a part of the
            stack does not come up, or the stack is stopped by someone else meanwhile.
        RunFailedError: the DAG run failed.
    """
    wanted = _parse_day(day)
    this = Stack.from_environment()
    report = Report()
    day_now = today()  # once: a run that is started just before midnight is one of the day that it began on
    found = _input(this, data, day_now, report)
    feature_day = _choose_day(wanted, found.days, day_now)
    os.environ.update(this.aws_environment())
    report.say(f"starting the stack (logs in {this.logs})")
    stack.up(this, report.say)
    with _while_up(this):
        _run_day(this, found, feature_day, report)


def today() -> dt.date:
    """The day that it is, in UTC, as the schedule counts days."""
    return dt.datetime.now(dt.UTC).date()


def _run_day(this: Stack, found: landing.Input, day: dt.date, report: Report) -> None:
    prepare.prepare(this, report.say)
    landed = landing.land(boto3.client("s3"), found.sources, lambda text: report.say(f"landed {text}"))
    where = layout.uri(BUCKET, layout.LANDING)
    report.say(f"{len(found.sources)} file(s) in {where}, {landed} new, up to {found.days.end}")
    api = AirflowApi(this.airflow_url, is_up=lambda: stack.is_going(this))
    run_id = api.trigger_day(DAG, day, reader="ingest")
    for dag_id in DAGS:
        api.unpause(dag_id)
    report.say(f"{DAG} {run_id}: {day}")
    _watch(api, run_id, report)
    print("\n".join(_summary(this, api, run_id, day, time.monotonic() - report.began)))  # noqa: T201


@contextmanager
def _while_up(this: Stack) -> Iterator[None]:
    """Turn whatever fails because the stack was stopped meanwhile, and what Airflow refuses, into one sentence."""
    try:
        yield
    except RunFailedError:
        raise
    except Exception as error:
        stack.check_not_stopped(this)
        if isinstance(error, httpx.HTTPStatusError):
            request, answer = error.request, error.response
            raise StackError(
                f"Airflow refuses {request.method} {request.url} with {answer.status_code}: {answer.text[:300]}"
            ) from error
        raise


def _parse_day(day: str | None) -> dt.date | None:
    if not day:
        return None
    try:
        return parse_day(day)
    except ValueError:
        raise StackError(f"DAY={day} is not a day: give it as YYYY-MM-DD.") from None


def _input(this: Stack, data: str | None, today: dt.date, report: Report) -> landing.Input:
    """Find the run's files and their days, or generate them."""
    if data:
        path = Path(data).expanduser().resolve()
        found = landing.look(landing.csv_files(path), path if path.is_dir() else path.parent)
    else:
        folder = this.home / "generated"
        yesterday = today - dt.timedelta(days=1)
        if made := generate.extend(folder, last_day=yesterday):
            report.say(f"generated {made.readings:,} readings of households up to {yesterday}")
        found = landing.look(generate.files(folder), folder)
    for source in found.sources:
        if source.remark:
            report.say(f"{source.path} {source.remark}")
    return found


def _choose_day(wanted: dt.date | None, days: DayRange, today: dt.date) -> dt.date:
    """Choose the day to compute: the newest in the data, unless another of the data's days is wanted."""
    day = wanted or days.end
    if not days.start <= day <= days.end:
        side = "before the oldest" if day < days.start else "after the newest"
        raise StackError(f"DAY={day} is {side} day in the data: give a day from {days.start} to {days.end}.")
    if day >= today:
        named = f"DAY={day}" if wanted else f"{day}, the newest day in the data,"
        raise StackError(f"{named} is not over yet (today is {today}, UTC): give DAY as a day before it.")
    return day


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
                report.say(f"[{number:>2}/{len(STAGES)}] {name:<17} {now}{took}")
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
    ingest = got.pop("ingest")
    # Of each, what it did for every view.
    featurize, validate, sync = (summary["views"] for summary in got.values())
    yield ""
    yield f"The features of {day} are online ({seconds:.0f} s in all)"
    rows = f"rows of {ingest['files']} new file(s); {ingest['readings_rows']:,} readings in the table"
    yield f"  rows in             {ingest['rows_in']:>12,}   {rows}"
    yield f"  quarantined         {ingest['rows_quarantined']:>12,}   malformed rows, with reason, file and line"
    for name, did in featurize.items():
        same = f"{did['rows_written']:,} written" if did["rows_written"] else "the table had all of them already"
        yield f"  {name}"
        yield f"    features          {did['rows']:>12,}   of {did['entities']:,} households; {same}"
        judged, synced = validate[name], sync[name]
        yield f"    validation        {judged['verdict']:>12}   {judged['checks']} checks of {judged['rows']:,} rows"
        price = "" if synced["dollars"] is None else f", ${synced['dollars']:.4f} at on-demand prices"
        proven = f"in {synced['table']}, certified equal to Delta"
        if synced["days_too_old"]:
            proven = f"the day is older than the newest {synced['retention']} days, which the table holds"
        yield f"    rows online       {synced['rows_online']:>12,}   {proven}"
        yield f"    rows written      {synced['rows_written']:>12,}   and {synced['rows_deleted']:,} deleted{price}"
    yield "  seconds             " + "  ".join(
        f"{name} {took[name]:.1f}" for name in STAGES if took.get(name, 0) >= 0.05
    )
    yield ""
    yield from _one_household(this, day)
    yield ""
    _, _, advice = (api.result(DAG, run_id, "verdict") or "").partition("\n")
    if advice:
        yield advice
        yield ""
    yield f"Airflow   {this.airflow_page}   (no sign-in: it listens on this machine only, and you are its admin)"
    yield f"This run  {this.airflow_page}/dags/{DAG}/runs/{run_id}"
    yield f"Features  {this.airflow_page}/plugin/features"
    yield f"Report    {this.airflow_page}/feature-store/reports/{DAG}/{quote(run_id, safe='')}"
    if this.is_elsewhere:
        yield "The containers stay up. docs/guide/containers.md says how to look inside, and how to end them."
    else:
        yield "The stack stays up. `make -s env` prints what other programs need to look inside; `make stop` ends it."


def _one_household(this: Stack, day: dt.date) -> Iterator[str]:
    """Read one household's latest features online, as a service would."""
    features = DeltaTable(
        layout.uri(BUCKET, layout.features(ENERGY)),
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
