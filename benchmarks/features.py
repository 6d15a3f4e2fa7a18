"""Features: the whole history, a range of 30 days and one day, beside the other ways and beside computing nothing."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from deltalake import DeltaTable

from benchmarks import data
from benchmarks.measure import Case, CaseFailedError, run_once
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from infra.local.spark_defaults import BY_HAND, properties_text, spark_defaults
from spark_jobs.in_process import AUTO, SPARK

NEWEST = DayRange(data.LAST_DAY, data.LAST_DAY)
WORK = data.DATA.parent / "work"
LOGS = data.DATA.parent / "logs"
RATIOS = (
    ("original_full", "ours_full"),
    ("original_full", "ours_spark_full"),
    ("spark_range_full", "ours_full"),
    ("ours_full", "floor_full"),
    ("ours_spark_full", "floor_full"),
    ("ours_full", "duckdb_full"),
    ("ours_full", "polars_full"),
    ("ours_in_process_full", "polars_full"),
    ("ours_day_1x", "floor_day"),
    ("ours_spark_day_1x", "floor_day"),
    ("ours_day_3x", "ours_day_1x"),
    ("ours_spark_day_3x", "ours_spark_day_1x"),
    ("london_original_full", "london_ours_full"),
    ("london_ours_full", "london_floor_full"),
)


def cases(say: Callable[[str], None]) -> Iterator[Case]:
    """Make the data, once, and name what is to be measured."""
    say("data: 3.5 million generated readings, and 3 times the history (made once)")
    readings = {times: data.generated(times) for times in (1, 3)}
    yield from _full(readings[1], "", 3)
    if london := data.london():
        yield from _full(london, "london_", 3)
    held = {times: computed(table, f"features_{times}x", say) for times, table in readings.items()}
    # Side by side: a case that comes after a JVM's end is slower than one that comes after its like.
    for times, table in readings.items():
        yield _newest(f"ours_day_{times}x", table, held[times], 1)
    # Where the readings do not fit into one process: the same rows by Spark.
    for times, table in readings.items():
        yield _newest(f"ours_spark_day_{times}x", table, held[times], 1, featurize(table, NEWEST, SPARK))
    yield _newest("ours_range30", readings[1], held[1], 30)
    command = [*_rival("floor_day", readings[1]), "--day", str(data.LAST_DAY)]
    yield _newest("floor_day", readings[1], held[1], 1, command)


def _full(readings: Path, prefix: str, runs: int) -> Iterator[Case]:
    rows = data.recorded_rows(readings)
    names = ("original_full", "spark_range_full", "duckdb_full", "polars_full", "floor_full", "ours_in_process_full")
    commands = {
        "ours_full": featurize(readings, data.days(readings)),
        "ours_spark_full": featurize(readings, data.days(readings), SPARK),
        **{name: _rival(name, readings) for name in names},
    }
    for name, command in commands.items():
        out = WORK / f"{prefix}{name}"
        yield Case(
            f"{prefix}{name}",
            [*command, "--features", str(out)],
            rows,
            before=remover(out),
            after=checker(out, rows),
            runs=runs,
            environment=spark(),
        )


def _newest(name: str, readings: Path, held: Path, days: int, command: Sequence[str] | None = None) -> Case:
    """The newest days of a table that has all others; computed, unless the command is another."""
    asked = DayRange(data.LAST_DAY - dt.timedelta(days=days - 1), data.LAST_DAY)
    out = WORK / name
    return Case(
        name,
        [*(command or featurize(readings, asked)), "--features", str(out)],
        data.rows(readings, asked),
        before=lambda: data.link(_without(held, asked), out),
        after=checker(out, data.recorded_rows(readings)),
        runs=5,
        environment=spark(),
    )


def computed(readings: Path, name: str, say: Callable[[str], None]) -> Path:
    """Compute the whole history's features, once."""
    table = data.DATA / name
    if not table.exists():
        say(f"data: {name}")
        part = table.with_name(f".{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        command = [*featurize(readings, data.days(readings)), "--features", str(part)]
        run_once(Case(name, command, 1, environment=spark()), LOGS)
        part.rename(table)
    return table


def _without(held: Path, days: DayRange) -> Path:
    """The table as it was before these days were computed, made once."""
    table = held.with_name(f"{held.name}_before_{days.start}")
    if not table.exists():
        part = table.with_name(f".{table.name}.part")
        data.link(held, part)
        DeltaTable(str(part)).delete(f"{ENERGY.day} >= '{days.start}'")
        part.rename(table)
    return table


def featurize(readings: Path, days: DayRange, engine: str = AUTO) -> Sequence[str]:
    """The command that computes some days; it lacks --features."""
    how = ["--start", str(days.start), "--end", str(days.end), "--engine", engine]
    return [sys.executable, "-m", "spark_jobs.featurize", "--readings", str(readings), *how]


def _rival(name: str, readings: Path) -> Sequence[str]:
    return [sys.executable, "-m", "benchmarks.rivals", name, "--readings", str(readings)]


def remover(table: Path) -> Callable[[], None]:
    """Take a table of the time before away."""
    return lambda: shutil.rmtree(table, ignore_errors=True)


def checker(table: Path, rows: int) -> Callable[[str], Mapping[str, float]]:
    """Check that the output has its rows, and read what a job of ours says of its own time."""

    def check(said: str) -> Mapping[str, float]:
        found = data.recorded_rows(table)
        if found != rows:
            raise CaseFailedError(f"{table} has {found} rows instead of {rows}")
        last = said.strip().splitlines()[-1:] or [""]
        return {"job_s": json.loads(last[0])["seconds"]} if last[0].startswith('{"job"') else {}

    return check


def spark() -> Mapping[str, str]:
    """The configuration that jobs have on this machine when they are started by hand."""
    folder = WORK / "spark-conf"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spark-defaults.conf").write_text(properties_text(spark_defaults(BY_HAND)))
    return {"SPARK_CONF_DIR": str(folder)}
