"""The sync: rows a second into the Keyspaces stand-in beside other ways and the most that it takes; a day's rows."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
from deltalake import write_deltalake

from benchmarks import data, sync_server
from benchmarks.features import LOGS, WORK, spark
from benchmarks.measure import Case, CaseFailedError
from benchmarks.sync_server import Server
from feature_store import layout
from feature_store.arrow_readings import schema
from feature_store.energy import ENERGY
from feature_store.function import Type

__all__ = ["LOGS", "RATIOS", "cases"]

HOUSEHOLDS, DAYS = 5_500, 182  # a million rows, of half a year
KEYSPACE = "bench_sync"
NULLS = 0.02

RATIOS = (
    ("ours", "ceiling"),
    ("original", "ours"),
    ("connector_defaults", "ours"),
    ("python_driver", "ours"),
)


def cases(say: Callable[[str], None]) -> Iterator[Case]:
    """Make the data, once, start a stand-in, and name what is to be measured."""
    say("data: a million rows of features (made once)")
    half_a_year, day = features(DAYS), features(1)
    server = sync_server.start(WORK / "sync_stack")
    yield _ours("ours", half_a_year, DAYS, server, runs=3)
    for name in ("original", "connector_defaults", "python_driver", "ceiling"):
        yield _rival(name, half_a_year, server)
    yield _ours("ours_day", day, 1, server, runs=5)


def features(days: int) -> Path:
    """Make, once, a table of features of so many days up to the last one: every type, few nulls."""
    table = data.DATA / f"features_{days}_days"
    if not table.exists():
        random, rows = np.random.default_rng(days), HOUSEHOLDS * days
        columns = []
        of_days = [data.LAST_DAY - dt.timedelta(days=number) for number in range(days)]
        for column in ENERGY.columns:
            if column.type is Type.TEXT:
                names = [f"SYN{number:06}" for number in range(HOUSEHOLDS)]
                columns.append(pa.array(names * days, pa.string()))
            elif column.type is Type.DATE:
                columns.append(pa.array([day for day in of_days for _ in range(HOUSEHOLDS)], pa.date32()))
            elif column.type is Type.DOUBLE:
                columns.append(pa.array(random.gamma(2.0, 5.0, rows), mask=random.random(rows) < NULLS))
            else:
                columns.append(pa.array(random.integers(0, 17_000, rows)))
        made = pa.table(columns, [column.name for column in ENERGY.columns]).cast(schema(ENERGY.columns))
        part = table.with_name(f".{table.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        write_deltalake(str(part), made)
        part.rename(table)
    return table


def _ours(name: str, table: Path, days: int, server: Server, *, runs: int) -> Case:
    first = data.LAST_DAY - dt.timedelta(days=days - 1)
    where = ["--features", str(table), "--keyspace", KEYSPACE, "--table", ENERGY.name]
    command = [sys.executable, "-m", "spark_jobs.sync", *where, "--start", str(first), "--end", str(data.LAST_DAY)]

    def before() -> None:
        shutil.rmtree(layout.beside(str(table), layout.CERTIFICATES), ignore_errors=True)
        server.fresh(KEYSPACE)

    def after(said: str) -> Mapping[str, float]:
        done = json.loads(said.strip().splitlines()[-1])
        if done["rows_compared"] != HOUSEHOLDS * days:
            raise CaseFailedError(f"{done['rows_compared']} rows were compared of {HOUSEHOLDS * days}")
        return {**_all_there(server, days), "write_s": done["seconds_writing"], "compare_s": done["seconds_reading"]}

    return Case(name, command, HOUSEHOLDS * days, before, after, runs, server.environment)


def _rival(name: str, table: Path, server: Server) -> Case:
    command = [sys.executable, "-m", "benchmarks.sync_rivals", name, "--features", str(table), "--keyspace", KEYSPACE]

    def after(said: str) -> Mapping[str, float]:
        alone = json.loads(said.strip().splitlines()[-1]) if name == "ceiling" else {}
        return {**_all_there(server, DAYS), **alone}

    environment = {**server.environment, **spark()}
    return Case(name, command, HOUSEHOLDS * DAYS, lambda: server.fresh(KEYSPACE), after, 3, environment)


def _all_there(server: Server, days: int) -> Mapping[str, float]:
    found = server.rows(KEYSPACE)
    if found != HOUSEHOLDS * days:
        raise CaseFailedError(f"{found} rows are online instead of {HOUSEHOLDS * days}")
    return {}
