"""What hundreds of daily runs do to a Delta table, and what maintenance makes of it: `python -m benchmarks.layout`.

The table is as the runs leave it, but of random values and by delta-rs: history in files of a month, then a file a day.
"""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from benchmarks import data
from feature_store.energy import ENERGY
from feature_store.view import Type
from infra.local.spark_defaults import BY_HAND, spark_defaults
from spark_jobs import maintain, tables

FIRST = dt.date(2012, 1, 1)
NUMBERS = {Type.INT: pa.int32(), Type.BIGINT: pa.int64(), Type.DOUBLE: pa.float64()}
TIMES = 3
MB = 1e6


def main() -> int:
    """Write the table, measure it as it is, binned by size, and maintained; print a line of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layout", description=__doc__)
    parser.add_argument("--households", type=int, default=data.HOUSEHOLDS, help="rows a day, about")
    parser.add_argument("--months", type=int, default=12, help="files of a month each, before the daily runs")
    parser.add_argument("--runs", type=int, default=400, help="daily runs")
    args = parser.parse_args()
    written = data.DATA / f"layout_{args.households}_{args.months}_{args.runs}"
    if not written.exists():
        _write(written, args.households, args.months, args.runs)
    spark = _session()
    copies = data.DATA / "layout_copies"
    line = "{:<26}{:>7}{:>11}{:>13}{:>10}{:>9}{:>12}{:>13}{:>11}"
    heads = ("", "files", "median MB", "files a day", "work s", "day s", "all days s", "replace s", "MB written")
    print(line.format(*heads))  # noqa: T201 - this is what a person reads
    for name, work in {
        "as daily runs leave it": _nothing,
        "OPTIMIZE, by size": _by_size,
        "maintain": _maintain,
    }.items():
        copy = copies / work.__name__
        data.link(written, copy)
        spark.read.format("delta").load(str(copy)).where(F.col(ENERGY.day) == F.lit(FIRST)).count()  # unmeasured
        seconds = _seconds(lambda copy=copy, work=work: work(spark, copy))  # type: ignore[misc]  # mypy and defaults
        print(line.format(name, *_measured(spark, copy, seconds, args.months, args.runs)), flush=True)  # noqa: T201
    spark.stop()
    shutil.rmtree(copies)
    return 0


def _measured(spark: SparkSession, table: Path, work: float, months: int, runs: int) -> list[str]:
    sizes, firsts, lasts = _files(table)
    begin = FIRST + dt.timedelta(days=months * tables.DAYS_PER_FILE)
    # Of the days that came one by one.
    chosen = [begin + dt.timedelta(days=runs * part // (2 * TIMES)) for part in range(1, 2 * TIMES)][::2]
    opened = [sum(first <= day <= last for first, last in zip(firsts, lasts, strict=True)) for day in chosen]
    one = [_seconds(lambda day=day: _read(spark, table, day)) for day in chosen]  # type: ignore[misc]
    whole = [_seconds(lambda: _read(spark, table, None)) for _ in range(TIMES)]
    replaced, written = [], []
    for day in chosen:
        held = set(DeltaTable(table).file_uris())
        replaced.append(_seconds(lambda day=day: _replace(spark, table, day)))  # type: ignore[misc]
        written.append(sum(Path(file).stat().st_size for file in set(DeltaTable(table).file_uris()) - held))
    return [
        str(len(sizes)),
        f"{statistics.median(sizes) / MB:.1f}",
        f"{statistics.mean(opened):.1f}",
        f"{work:.1f}",
        *(f"{statistics.median(times):.2f}" for times in (one, whole, replaced)),
        f"{statistics.median(written) / MB:.1f}",
    ]


def _files(table: Path) -> tuple[list[int], list[dt.date], list[dt.date]]:
    files = DeltaTable(table).get_add_actions(flatten=True)
    sizes, firsts, lasts = (
        files.column(name).to_pylist() for name in ("size_bytes", f"min.{ENERGY.day}", f"max.{ENERGY.day}")
    )
    return sizes, firsts, lasts


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _read(spark: SparkSession, table: Path, day: dt.date | None) -> None:
    rows = spark.read.format("delta").load(str(table))
    some = rows if day is None else rows.where(F.col(ENERGY.day) == F.lit(day))
    some.write.format("noop").mode("overwrite").save()


def _replace(spark: SparkSession, table: Path, day: dt.date) -> None:
    measure = ENERGY.measures[0].name
    rows = spark.read.format("delta").load(str(table)).where(F.col(ENERGY.day) == F.lit(day))
    changed = rows.withColumn(measure, F.col(measure) + F.lit(1).cast(rows.schema[measure].dataType))
    where = f"{ENERGY.day} = DATE'{day}'"
    changed.repartition(1).write.format("delta").mode("overwrite").option("replaceWhere", where).save(str(table))


def _nothing(_: SparkSession, __: Path) -> None: ...


def _by_size(spark: SparkSession, table: Path) -> None:
    sizes, _, _ = _files(table)
    name = "spark.databricks.delta.optimize.{}FileSize"
    spark.conf.set(name.format("max"), max(sizes))
    spark.conf.set(name.format("min"), max(sizes) // 2)
    spark.sql(f"OPTIMIZE {tables.name(str(table))}")
    for end in ("max", "min"):
        spark.conf.unset(name.format(end))


def _maintain(spark: SparkSession, table: Path) -> None:
    done = maintain.run(spark, Namespace(table=[str(table)], day=ENERGY.day, retention_hours=168, vacuum=True))
    print(done, file=sys.stderr)  # noqa: T201


def _write(table: Path, households: int, months: int, runs: int) -> None:
    part = table.with_name(f".{table.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    random, day = np.random.default_rng(1), FIRST
    for length in [tables.DAYS_PER_FILE] * months + [1] * runs:
        write_deltalake(part, _rows(random, day, length, households), mode="append")
        day += dt.timedelta(days=length)
    part.rename(table)


def _rows(random: np.random.Generator, first: dt.date, days: int, households: int) -> pa.Table:
    # A day has a tenth more or less than another: files of one size would be binned in order by chance.
    numbers = random.integers(households * 9 // 10, households * 11 // 10, days)
    ids = np.concatenate([np.arange(number) for number in numbers])
    of = np.repeat([first + dt.timedelta(days=number) for number in range(days)], numbers)
    columns = {ENERGY.entity: pa.array(np.char.add("MAC", ids.astype(str))), ENERGY.day: pa.array(of, pa.date32())}
    for column in ENERGY.columns:
        if column.name not in columns:
            columns[column.name] = pa.array(random.random(len(ids)) * 48).cast(NUMBERS[column.type], safe=False)
    return pa.table(columns)


def _session() -> SparkSession:
    builder = SparkSession.builder.appName("layout")
    for name, value in spark_defaults(BY_HAND).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


if __name__ == "__main__":
    sys.exit(main())
