"""Validation: what it costs beside computing what is validated, for 5,500 and for 550,000 households."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks import data, features
from benchmarks.features import LOGS, WORK
from benchmarks.measure import Case, CaseFailedError, run_once
from feature_store.calendar import DayRange

__all__ = ["LOGS", "RATIOS", "cases"]

RATIOS = (
    ("validate_day_5500", "compute_day_5500"),
    ("validate_days30_5500", "compute_days30_5500"),
    ("validate_full_5500", "compute_full_5500"),
    ("validate_day_550000", "compute_day_550000"),
)


def cases(say: Callable[[str], None]) -> Iterator[Case]:
    """Make the data, once, and name what is to be measured."""
    say("data: 3.5 million generated readings (made once)")
    few = data.generated(1)
    yield from _pair("day_5500", few, _last(1), 5)
    yield from _pair("days30_5500", few, _last(30), 3)
    yield from _pair("full_5500", few, data.days(few), 3)
    say("data: a year of 550,000 households, some 180 million readings (made once)")
    yield from _pair("day_550000", data.many(), _last(1), 3)


def _last(days: int) -> DayRange:
    return DayRange(data.LAST_DAY - dt.timedelta(days=days - 1), data.LAST_DAY)


def _pair(name: str, readings: Path, days: DayRange, runs: int) -> Iterator[Case]:
    """Compute some days into a table of their own; validate such a table."""
    rows = data.rows(readings, days)
    computed, judged = WORK / f"compute_{name}", WORK / f"validate_{name}"
    compute = features.featurize(readings, days)
    yield Case(
        computed.name,
        [*compute, "--features", str(computed / "features")],
        rows,
        before=features.remover(computed),
        after=features.checker(computed / "features", rows),
        runs=runs,
        environment=features.spark(),
    )
    table = judged / "features"

    def prepare() -> None:
        features.remover(judged)()
        # What is validated is what the case before has left.
        if not (computed / "features").exists():
            run_once(Case("prepare", [*compute, "--features", str(computed / "features")], rows), LOGS)
        data.link(computed / "features", table)

    command = [sys.executable, "-m", "spark_jobs.validate", "--readings", str(readings), "--features", str(table)]
    command += ["--start", str(days.start), "--end", str(days.end), "--report", str(judged / "report.json")]
    yield Case(judged.name, command, rows, before=prepare, after=_passed(rows), runs=runs)


def _passed(rows: int) -> Callable[[str], Mapping[str, float]]:
    """Check that all rows were looked at and passed, and read the job's own seconds."""

    def check(said: str) -> Mapping[str, float]:
        summary = json.loads(said.strip().splitlines()[-1])
        if summary["rows"] != rows or summary["days"]["quarantined"]:
            raise CaseFailedError(f"{summary['rows']} rows of {rows}, held back: {summary['days']['quarantined']}")
        return {"job_s": summary["seconds"]}

    return check
