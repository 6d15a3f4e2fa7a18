"""Keep Delta tables quick: gather the small files that daily runs leave into files of about a month, then vacuum."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j ships no types
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.energy import ENERGY
from spark_jobs import command, tables
from spark_jobs.errors import JobError, Summary, is_conflict

LEAST_RETENTION = 168  # hours, Delta's own 7 days: under them a reader or a writer under way can lose its files
DEEPEST = 2.0  # files that a day lies in, on average, above which the whole table is laid out anew
MOST_AT_ONCE = 2.0  # months of days in small files that still become one file


@dataclass(frozen=True)
class File:
    """A data file: its bytes and rows, and the days that it has."""

    size: int
    rows: int
    days: frozenset[dt.date]


@dataclass(frozen=True)
class Layout:
    """How a table lies in files, and what is to be done about it."""

    files: Sequence[File]

    @cached_property
    def days(self) -> list[dt.date]:
        """All days of the table, sorted."""
        return sorted(frozenset().union(*(file.days for file in self.files)))

    @cached_property
    def rows(self) -> int:
        """All rows of the table."""
        return sum(file.rows for file in self.files)

    @cached_property
    def month_rows(self) -> float:
        """How many rows a file of a month of days has."""
        return max(self.rows / len(self.days) * tables.DAYS_PER_FILE, tables.LEAST_ROWS_PER_FILE)

    @property
    def month_bytes(self) -> int:
        """How many bytes they are, about."""
        return int(self.month_rows * sum(file.size for file in self.files) / self.rows)

    @cached_property
    def depth(self) -> float:
        """In how many files' first to last day a day is, on average: so many are opened to read it."""
        days = self.days
        spans = (bisect_right(days, max(file.days)) - bisect_left(days, min(file.days)) for file in self.files)
        return sum(spans) / max(len(days), 1)

    @cached_property
    def small(self) -> list[File]:
        """The files of less than half a month."""
        return [file for file in self.files if file.rows < self.month_rows / 2]

    @property
    def needs_all(self) -> bool:
        """Whether only laying out the whole table helps: days lie in many files, or one can't take what is small."""
        return self.depth > DEEPEST or sum(file.rows for file in self.small) > MOST_AT_ONCE * self.month_rows

    @property
    def needs_gathering(self) -> bool:
        """Whether two small files or more are of settled days: the newest month's alone are left to change."""
        settled = frozenset(self.days[: -tables.DAYS_PER_FILE])
        return sum(max(file.days) in settled for file in self.small) > 1 or self.depth > DEEPEST


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status."""
    arguments = command.parser("maintain", __doc__ or "", days=False)
    arguments.add_argument(
        "--table", required=True, action="append", metavar="URI", help="Delta table; can be repeated"
    )
    arguments.add_argument(
        "--day", default=ENERGY.day, metavar="COLUMN", help=f"the tables' day column (default: {ENERGY.day})"
    )
    arguments.add_argument(
        "--retention-hours",
        type=_hours,
        default=LEAST_RETENTION,
        metavar="N",
        help=f"how long files that are no longer used stay for older versions (default, and least: {LEAST_RETENTION})",
    )
    arguments.add_argument(
        "--vacuum", action=argparse.BooleanOptionalAction, default=True, help="delete files that are no longer used"
    )
    return command.execute(arguments, run, argv)


def run(spark: SparkSession, args: argparse.Namespace) -> Summary:
    """Gather and vacuum one table after the other.

    Raises:
        JobError: a table is missing or has no such column; another job changed a table's files meanwhile.
    """
    # All of them are looked up before the first is touched.
    versions = {uri: tables.version(uri) for uri in args.table}
    return {"tables": {uri: _maintain(spark, uri, version, args) for uri, version in versions.items()}}


def _maintain(spark: SparkSession, uri: str, version: int, args: argparse.Namespace) -> Summary:
    layout = _layout(spark, uri, args.day)
    rewritten = _gather(spark, uri, args.day, layout) if layout.needs_gathering else 0
    after = _layout(spark, uri, args.day) if rewritten else layout
    vacuumed = _vacuum(spark, uri, args.retention_hours) if args.vacuum else {}
    return {
        "version_before": version,
        "version_after": tables.version(uri),
        "files_before": len(layout.files),
        "files_after": len(after.files),
        "files_a_day_before": round(layout.depth, 2),
        "files_a_day_after": round(after.depth, 2),
        "files_rewritten": rewritten,
        **vacuumed,
    }


def _layout(spark: SparkSession, uri: str, day: str) -> Layout:
    # From the files' own day columns: Delta has no public way to its log's statistics, and a file can be without them.
    table = spark.read.format("delta").load(uri)
    if day not in table.columns:
        raise JobError(f"{uri} has no column {day}: its columns are {', '.join(table.columns)}; name its day by --day.")
    files = table.where(F.col(day).isNotNull()).groupBy("_metadata.file_path", "_metadata.file_size")
    found = files.agg(F.count("*").alias("rows"), F.collect_set(day).alias("days")).collect()
    return Layout([File(row["file_size"], row["rows"], frozenset(row["days"])) for row in found])


def _gather(spark: SparkSession, uri: str, day: str, layout: Layout) -> int:
    """Let Delta write the small files into one, or the whole table anew, cut by day; how many it has taken in.

    Neither changes the table's protocol, as liquid clustering would: delta-rs goes on writing to it.

    Args:
        spark: the session.
        uri: the table.
        day: its day column.
        layout: how it lies.

    Raises:
        JobError: another job has replaced files of the table meanwhile.
    """
    settings = {
        # What is larger stays as it is.
        "spark.databricks.delta.optimize.minFileSize": max((file.size for file in layout.small), default=0) + 1,
        # All that is small becomes one file: several would be filled by size, and so with days by chance.
        "spark.databricks.delta.optimize.maxFileSize": (
            layout.month_bytes if layout.needs_all else 2 * sum(file.size for file in layout.small)
        ),
        # Else the day at the seam of two files is in both.
        "spark.databricks.io.skipping.mdc.addNoise": False,
    }
    order = f" ZORDER BY (`{day}`)" if layout.needs_all else ""
    try:
        with tables.set_for(spark, settings):
            metrics = spark.sql(f"OPTIMIZE {tables.name(uri)}{order}").collect()[0]["metrics"]
    except (PySparkException, Py4JJavaError) as error:
        if is_conflict(error):
            raise JobError(
                f"Another job replaced files of {uri} meanwhile: nothing was changed, run this again."
            ) from error
        raise
    return int(metrics["numFilesRemoved"])


def _vacuum(spark: SparkSession, uri: str, hours: int) -> Summary:
    vacuum = f"VACUUM {tables.name(uri)} RETAIN {hours} HOURS"
    # Delta lists the folder by so many tasks, 10,000 unless told: most of a minute on two cores.
    tasks = int(spark.conf.get("spark.sql.shuffle.partitions") or 1)
    with tables.set_for(spark, {"spark.sql.sources.parallelPartitionDiscovery.parallelism": tasks}):
        if spark.sql(f"{vacuum} DRY RUN").isEmpty():
            return {"files_vacuumed": 0, "bytes_vacuumed": 0}  # doing it would add two versions that say so
        spark.sql(vacuum)
    history = spark.sql(f"DESCRIBE HISTORY {tables.name(uri)} LIMIT 100").where("operation LIKE 'VACUUM %'")
    ended, started = (row["operationMetrics"] for row in history.orderBy(F.desc("version")).take(2))
    return {
        "files_vacuumed": int(ended["numDeletedFiles"]),
        "bytes_vacuumed": int(started["sizeOfDataToDelete"]),
    }


def _hours(text: str) -> int:
    try:
        hours = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours") from None
    if hours < LEAST_RETENTION:
        raise argparse.ArgumentTypeError(f"{hours} hours are under the {LEAST_RETENTION} of Delta's safe retention")
    return hours


if __name__ == "__main__":
    sys.exit(main())
