"""Thirty days by each way in Airflow: a run for each, Airflow's own backfill, and the range backfill.

Each way has a stack of its own, which the main job has brought up to the day after, and leaves the same tables.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from benchmarks import data
from benchmarks.measure import Case, CaseFailedError
from infra.local import generate
from infra.local.settings import Ports

__all__ = ["LOGS", "RATIOS", "cases"]

WORK = data.DATA.parent / "backfills"
LOGS = data.DATA.parent / "logs"
DAYS = 30
# How many clusters each takes.
WAYS = {"single": DAYS, "native": 1, "range": 1}
RATIOS = (("native", "single"), ("range", "single"), ("range", "native"))


def cases(say: Callable[[str], None]) -> Iterator[Case]:
    """Make the readings, and name the ways."""
    shutil.rmtree(WORK, ignore_errors=True)
    landed = WORK / "landed"
    landed.mkdir(parents=True)
    last = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    say(f"data: {generate.DAYS} days of {generate.HOUSEHOLDS} households, up to {last}")
    generate.write_csv(landed / "readings.csv", last)
    left: dict[str, object] = {}
    for way in WAYS:
        home = WORK / way
        ports = Ports.free()
        environment = {"FEATURE_STORE_HOME": str(home)}
        environment |= {field.name.upper(): str(getattr(ports, field.name)) for field in fields(Ports)}
        first = last - dt.timedelta(days=DAYS)
        yield Case(
            way,
            [sys.executable, "-m", "benchmarks.backfill_way", way, str(first), str(last - dt.timedelta(days=1))],
            DAYS,
            before=_starter(landed, last, environment),
            after=_checker(way, left, environment),
            runs=1,
            environment=environment,
        )


def _starter(landed: Path, day: dt.date, environment: Mapping[str, str]) -> Callable[[], None]:
    return lambda: _stack(environment, "run", "--data", str(landed), "--day", str(day))


def _checker(way: str, left: dict[str, object], environment: Mapping[str, str]) -> Callable[[str], Mapping[str, float]]:
    """Check the clusters, and that the tables are those of the way before; end the stack."""

    def check(said: str) -> Mapping[str, float]:
        _stack(environment, "stop")
        found = json.loads(said.strip().splitlines()[-1])
        if found["clusters"] != WAYS[way]:
            raise CaseFailedError(f"{way} has made {found['clusters']} clusters instead of {WAYS[way]}")
        if left.setdefault("tables", found["tables"]) != found["tables"]:
            raise CaseFailedError(f"{way} has left other tables: {found['tables']} instead of {left['tables']}")
        return {"clusters": found["clusters"], "steps": found["steps"]}

    return check


def _stack(environment: Mapping[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "infra.local", *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stdout[-2000:] + done.stderr[-2000:]
        raise CaseFailedError(f"{' '.join(command)} ended with {done.returncode}: {said}")
