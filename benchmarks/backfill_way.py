"""`python -m benchmarks.backfill_way WAY FIRST LAST`: compute days in the running stack by one way.

The last line is JSON: how many clusters and steps that took, and what each table holds of these days, as a digest.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import boto3
from deltalake import DeltaTable

from feature_store import layout, live_table, registry
from feature_store.calendar import DayRange
from feature_store.view import FeatureView
from infra.local import prepare
from infra.local.airflow_api import AirflowApi, AirflowSilentError
from infra.local.settings import BUCKET, KEYSPACE, Stack

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient

DAILY, BACKFILL = "feature_store_daily", "feature_store_backfill"
LOOKS_APART = 1.0  # seconds


def main(way: str, first: str, last: str) -> None:
    """Do it, and say what came of it."""
    days = DayRange(dt.date.fromisoformat(first), dt.date.fromisoformat(last))
    stack = Stack.from_environment()
    os.environ.update(stack.aws_environment())
    emr = boto3.client("emr")
    before = clusters(emr)
    {"single": single, "native": native, "range": as_range}[way](AirflowApi(stack.airflow_url), days)
    new = clusters(emr) - before
    pages = emr.get_paginator("list_steps")
    steps = sum(len(page["Steps"]) for each in new for page in pages.paginate(ClusterId=each))
    tables = {view.name: [of_delta(view, days), of_online(stack, view, days)] for view in registry.views()}
    print(json.dumps({"clusters": len(new), "steps": steps, "tables": tables}))  # noqa: T201


def clusters(emr: EMRClient) -> set[str]:
    """List all that there are and were."""
    return {each["Id"] for page in emr.get_paginator("list_clusters").paginate() for each in page["Clusters"]}


def single(api: AirflowApi, days: DayRange) -> None:
    """Let each day have a run, one after the other, as a schedule would."""
    for day in days:
        _run(api, DAILY, start=str(day), end=str(day))


def as_range(api: AirflowApi, days: DayRange) -> None:
    """Let one run have all of them."""
    _run(api, BACKFILL, start=str(days.start), end=str(days.end), dry_run=False)


def native(api: AirflowApi, days: DayRange) -> None:
    """Let Airflow make a run for each."""
    asked = {
        "dag_id": DAILY,
        "from_date": f"{days.start}T00:00:00Z",
        "to_date": f"{days.end}T00:00:00Z",
        "max_active_runs": 1,
        "run_backwards": False,
        "reprocess_behavior": "none",
        "dag_run_conf": {},
    }

    def create() -> object:
        try:
            return api.call("POST", "/backfills", **asked)
        except AirflowSilentError:  # SQLite was locked: Airflow says 503, and has made nothing
            return None

    _until(create)

    def ended() -> list[str] | None:
        runs = api.get(f"/dags/{DAILY}/dagRuns", run_type="backfill", limit="100")["dag_runs"]
        states = [run["state"] for run in runs]
        return states if states.count("success") + states.count("failed") == len(days) else None

    _succeeded(DAILY, _until(ended))


def _run(api: AirflowApi, dag_id: str, **conf: object) -> None:
    run_id = str(api.call("POST", f"/dags/{dag_id}/dagRuns", logical_date=None, conf=conf)["dag_run_id"])

    def ended() -> str | None:
        state = api.run_state(dag_id, run_id)
        return state if state in {"success", "failed"} else None

    _succeeded(dag_id, [str(_until(ended))])


def _succeeded(dag_id: str, states: Iterable[object]) -> None:
    if set(states) != {"success"}:
        raise SystemExit(f"{dag_id} has failed: {list(states)}")


def _until(look: Callable[[], object]) -> object:
    while (seen := look()) is None:
        time.sleep(LOOKS_APART)
    return seen


def of_delta(view: FeatureView, days: DayRange) -> str:
    """Digest a view's rows of these days in Delta."""
    uri = layout.uri(BUCKET, layout.features(view))
    table = DeltaTable(uri, storage_options=live_table.storage_options(os.environ))
    names = [column.name for column in view.columns]
    rows = table.to_pyarrow_table(columns=names, filters=[(view.day, ">=", days.start), (view.day, "<=", days.end)])
    return _digest(tuple(row[name] for name in names) for row in rows.to_pylist())


def of_online(stack: Stack, view: FeatureView, days: DayRange) -> str:
    """Digest a view's rows of these days online."""
    names = [column.name for column in view.columns]
    listed = ", ".join(f'"{name}"' for name in names)
    place = names.index(view.day)
    with prepare.connect_online(stack) as connection:
        rows = connection.session.execute(f'SELECT {listed} FROM "{KEYSPACE}"."{view.name}"')  # noqa: S608 - names
        values = ([row[name] for name in names] for row in rows)
        of_days = [row for row in values if days.start <= row[place].date() <= days.end]
    return _digest((*row[:place], row[place].date(), *row[place + 1 :]) for row in of_days)


def _digest(rows: Iterable[tuple[object, ...]]) -> str:
    texts = sorted(map(repr, rows))
    return f"{len(texts)} rows, {hashlib.sha256(repr(texts).encode()).hexdigest()}"


if __name__ == "__main__":
    main(*sys.argv[1:])
