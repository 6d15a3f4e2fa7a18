"""What the benchmarks read: 3.5 million generated readings, three times that, and the London ones if they are here."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import polars as pl
from deltalake import DeltaTable, write_deltalake

from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.view import Type
from infra.local import generate
from spark_jobs import tables

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "build" / "bench" / "data"
LONDON = ROOT.parent / "shared" / "data" / "smart-meters-in-london" / "daily_dataset"
LAST_DAY = dt.date(2014, 2, 27)
HOUSEHOLDS = 5_500
DAYS = 736  # of these households: 3.5 million readings
MANY, PART = 550_000, 25_000  # households, and how many of them are made at a time
YEAR = 366


def generated(times: int) -> Path:
    """Make, once, a Delta table of readings of `times` the history, up to LAST_DAY."""
    return _once(f"readings_{times}x", lambda: [generate.generate(LAST_DAY, households=HOUSEHOLDS, days=DAYS * times)])


def few(households: int) -> Path:
    """Make, once, a Delta table of some households' readings: to try a benchmark."""
    return _once(f"readings_{households}", lambda: [generate.generate(LAST_DAY, households=households, days=DAYS)])


def many() -> Path:
    """Make, once, a Delta table of the last year's readings of MANY households: some 180 million, 4 GB."""

    def parts() -> Iterator[pl.DataFrame]:
        for first in range(1, MANY, PART):
            yield generate.generate(LAST_DAY, households=PART, days=YEAR, first_household=first)

    return _once("readings_many", parts)


def london() -> Path | None:
    """Make, once, a Delta table of the London readings; None where they are not on this machine."""
    files = sorted(LONDON.glob("block_*.csv.gz"))
    return _once("readings_london", lambda: [pl.read_csv(files, try_parse_dates=True)]) if files else None


def rows(table: Path, of: DayRange) -> int:
    """Count a Delta table's rows of some days."""
    there = pl.scan_delta(str(table)).filter(pl.col(ENERGY.day).is_between(of.start, of.end))
    return int(there.select(pl.len()).collect().item())


def days(table: Path) -> DayRange:
    """Find a Delta table's first and last day."""
    ends = pl.scan_delta(str(table)).select(first=pl.min(ENERGY.day), last=pl.max(ENERGY.day)).collect()
    return DayRange(*ends.row(0))


def link(table: Path, to: Path) -> None:
    """Put a table where a run may write to it: Delta never changes a file, so links will do for a copy."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(table, to, copy_function=lambda source, target: Path(target).hardlink_to(source))


def _once(name: str, make: Callable[[], Iterable[pl.DataFrame]]) -> Path:
    table = DATA / name
    if not table.exists():
        whole = table.with_name(f".{name}.part")
        shutil.rmtree(whole, ignore_errors=True)
        for part in make():
            _write(part, whole)
        whole.rename(table)
    return table


def _write(landed: pl.DataFrame, table: Path) -> None:
    """Write readings as ingest leaves them: its columns, in files of a month of days each."""
    entity = next(name for name in ENERGY.source.landed_entities if name in landed.columns)
    types = {Type.INT: pl.Int32, Type.DOUBLE: pl.Float64}
    measures = [pl.col(measure.name).cast(types[measure.type]) for measure in ENERGY.measures]
    moment = pl.lit(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    readings = landed.select(
        pl.col(entity).alias(ENERGY.entity),
        pl.col(ENERGY.source.landed_day).alias(ENERGY.day),
        *measures,
        pl.lit("file:/landed.csv").alias("source_file"),
        moment.alias("source_modified"),
        moment.alias("ingested_at"),
    ).sort(ENERGY.day)
    first = readings[ENERGY.day].min()
    months = readings.with_columns(
        ((pl.col(ENERGY.day) - first).dt.total_days() // tables.DAYS_PER_FILE).alias("month")
    )
    for part in months.partition_by("month", maintain_order=True, include_key=False):
        write_deltalake(str(table), part.to_arrow(), mode="append")


def recorded_rows(table: Path) -> int:
    """Count a Delta table's rows by what its log says."""
    counts = DeltaTable(str(table)).get_add_actions(flatten=True).column("num_records").to_pylist()
    return sum(int(count) for count in counts)
