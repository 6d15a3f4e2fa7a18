"""Training sets: a million events over 3.5 million rows of features, beside other ways and beside looking up nothing.

What each way has made is compared, value by value, with what pure Python finds; the benchmark ends where one differs.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.dataset as ds  # type: ignore[import-untyped]  # the same
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # the same
from deltalake import DeltaTable

from benchmarks import data, features
from benchmarks.features import LOGS, WORK
from benchmarks.measure import Case, CaseFailedError
from benchmarks.training_rivals import AGE, FEATURES, FOUND, WAYS, floor
from feature_store.energy import ENERGY

__all__ = ["EVENTS", "LOGS", "RATIOS", "cases"]

EVENTS = 1_000_000
UNKNOWN = 0.01  # of the events: of nobody who has a row
LATER = 30  # days after the last row
LOOKED_AT = 1_000  # events for which every row is looked at
DAY_MICROSECONDS = 86_400 * 10**6

RATIOS = (
    ("ours_in_process", "duckdb_asof"),
    ("ours_in_process", "duckdb_keys"),
    ("ours_in_process", "polars_asof"),
    ("ours_in_process", "floor"),
    ("ours_spark", "ours_in_process"),
)


def cases(say: Callable[[str], None], events: int = EVENTS, households: int = data.HOUSEHOLDS) -> Iterator[Case]:
    """Make the data, once, and name what is to be measured."""
    say(f"data: readings and features of {households:,} households, {events:,} events (made once)")
    readings = data.generated(1) if households == data.HOUSEHOLDS else data.few(households)
    table = features.computed(readings, readings.name.replace("readings", "features"), say)
    asked = _once(f"{table.name}_events_{events}.parquet", lambda: _events(table, events))
    expected = _once(f"{table.name}_set_{events}.parquet", lambda: _looked_up(table, asked))
    say(f"features: {data.recorded_rows(table):,} rows")
    where = ["--features", str(table), "--events", str(asked), "--view", ENERGY.name]
    yield _case("ours_in_process", [sys.executable, "-m", "feature_store", "training", *where], expected)
    for way in WAYS:
        command = [sys.executable, "-m", "benchmarks.training_rivals", way.__name__, *where[:4]]
        yield _case(way.__name__, command, None if way is floor else expected, events)
    yield _case("ours_spark", [sys.executable, "-m", "spark_jobs.training", *where], expected)


def _case(name: str, command: Sequence[str], expected: Path | None, events: int = 0) -> Case:
    out = WORK / f"training_{name}"

    def clean() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)

    def check(said: str) -> Mapping[str, float]:
        if expected is not None:
            _check(name, out / "set.parquet", expected)
        last = said.strip().splitlines()[-1:] or [""]
        return {"job_s": json.loads(last[0])["seconds"]} if last[0].startswith('{"job"') else {}

    rows = pq.read_metadata(expected).num_rows if expected else events
    return Case(
        name,
        [*command, "--out", str(out / "set.parquet")],
        rows,
        before=clean,
        after=check,
        environment=features.spark(),
    )


def _check(name: str, made: Path, expected: Path) -> None:
    """Compare a set with what had to come out: each value, whatever the rows' order."""
    wanted = pq.read_table(expected)
    found = ds.dataset(str(made)).to_table()
    if sorted(found.column_names) != sorted(wanted.column_names) or found.num_rows != wanted.num_rows:
        raise CaseFailedError(f"{name} has {found.num_rows} rows of {found.column_names}")
    found = found.select(wanted.column_names).cast(wanted.schema).sort_by("n")
    for column in wanted.column_names:
        if found[column] != wanted[column]:
            differ = sum(a != b for a, b in zip(found[column].to_pylist(), wanted[column].to_pylist(), strict=True))
            raise CaseFailedError(f"{name} differs from what pure Python finds: {column} of {differ} events")


def _events(table: Path, count: int) -> pa.Table:
    """Events of random households at random moments, in no order."""
    random = np.random.default_rng(count)
    there = DeltaTable(str(table)).to_pyarrow_dataset().to_table([ENERGY.entity, ENERGY.day])
    names = np.array(there[ENERGY.entity].unique().to_pylist())
    days = there[ENERGY.day].combine_chunks().view(pa.int32()).to_numpy()
    whose = names[random.integers(0, len(names), count)]
    whose[random.random(count) < UNKNOWN] = "NOBODY"
    when = random.integers(int(days.min()), int(days.max()) + LATER, count) * DAY_MICROSECONDS
    when += random.integers(0, DAY_MICROSECONDS, count)
    return pa.table(
        {
            ENERGY.entity: pa.array(whose.tolist()),
            "event_time": pa.array(when).view(pa.timestamp("us")),
            "n": np.arange(count),
            "label": random.random(count),
        }
    )


def _looked_up(table: Path, asked: Path) -> pa.Table:
    """What must come out: each household's days in a list, and for each event a search in its own."""
    rows = DeltaTable(str(table)).to_pyarrow_dataset().to_table([ENERGY.entity, ENERGY.day, *FEATURES])
    of: dict[str, list[tuple[dt.date, int]]] = {}
    keys = zip(rows[ENERGY.entity].to_pylist(), rows[ENERGY.day].to_pylist(), strict=True)
    for row, (entity, day) in enumerate(keys):
        of.setdefault(entity, []).append((day, row))
    for each in of.values():
        each.sort()
    events = pq.read_table(asked)
    found: list[int | None] = []
    ages: list[int | None] = []
    for number, (entity, when) in enumerate(
        zip(events[ENERGY.entity].to_pylist(), events["event_time"].to_pylist(), strict=True)
    ):
        # The day of the event is not over: what is before it counts.
        mine, today = of.get(entity, []), when.date()
        place = bisect_right(mine, (today - dt.timedelta(days=1), rows.num_rows))
        day, row = mine[place - 1] if place else (None, None)
        if number < LOOKED_AT:
            over = [known for known, _ in mine if dt.datetime.combine(known, dt.time()) + dt.timedelta(days=1) <= when]
            assert day == max(over, default=None)  # noqa: S101 - every row looked at finds the same
        found.append(row)
        ages.append((today - day).days if day else None)
    taken = rows.take(pa.array(found, pa.int64()))
    columns = {name: events[name] for name in events.column_names}
    columns |= {FOUND: taken[ENERGY.day], AGE: pa.array(ages, pa.int32())}
    return pa.table(columns | {name: taken[name] for name in FEATURES})


def _once(name: str, make: Callable[[], pa.Table]) -> Path:
    file = data.DATA / name
    if not file.exists():
        part = file.with_name(f".{name}.part")
        pq.write_table(make(), part)
        part.rename(file)
    return file
