"""Delta tables by path: read a version of some days, replace just those days, merge."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.calendar import DayRange
from spark_jobs import storage
from spark_jobs.errors import JobError

DAYS_PER_FILE = 31
COMMIT = re.compile(r"(\d{20})\.json")


@dataclass(frozen=True)
class Extent:
    """How many rows a table has, and from which day to which."""

    rows: int
    first_day: dt.date | None
    last_day: dt.date | None


def name(uri: str) -> str:
    """A table's name in SQL."""
    return "delta.`{}`".format(uri.replace("`", "``"))


def exists(spark: SparkSession, uri: str) -> bool:
    """Tell whether there is a Delta table."""
    return bool(_commits(spark, uri))


def version(spark: SparkSession, uri: str) -> int:
    """The table's newest version; JobError if there is no table."""
    if not (commits := _commits(spark, uri)):
        raise JobError(f"{uri} is not a Delta table: has the step before this one been run?")
    return max(commits)


def _commits(spark: SparkSession, uri: str) -> list[int]:
    # Delta's protocol: one commit, one file of that number. DESCRIBE HISTORY says the same by a Spark job of seconds.
    found = (COMMIT.fullmatch(file) for file in storage.names(spark, f"{uri.rstrip('/')}/_delta_log"))
    return [int(commit[1]) for commit in found if commit]


def read(spark: SparkSession, uri: str, at: int) -> DataFrame:
    """Read one version, whatever is committed meanwhile."""
    return spark.read.format("delta").option("versionAsOf", at).load(uri)


def within(column: str, days: DayRange) -> Column:
    """Whether a day is in the range; Delta prunes files by it."""
    return F.col(column).between(F.lit(days.start), F.lit(days.end))


def extent(table: DataFrame, day: str) -> Extent:
    """Count a table's rows and find its first and last day."""
    row = table.agg(F.count("*").alias("rows"), F.min(day).alias("first"), F.max(day).alias("last")).collect()[0]
    return Extent(row["rows"], row["first"], row["last"])


def clustered(rows: DataFrame, day: str, days: DayRange) -> DataFrame:
    """Arrange rows for writing: files of some month of days each, so that replacing a day rewrites few of them."""
    files = math.ceil(len(days) / DAYS_PER_FILE)
    return rows.repartitionByRange(files, day).sortWithinPartitions(day)


def replace_days(rows: DataFrame, uri: str, day: str, days: DayRange, ignoring: Collection[str] = ()) -> bool:
    """Make the table's rows of these days exactly these rows; create the table if it is missing.

    Args:
        rows: of these days only, with no row twice; read several times, so cached by the caller.
        uri: the table.
        day: its day column.
        days: those to replace.
        ignoring: columns that do not make a row another one.

    Returns:
        Whether anything was written: a table that has these rows already gets no new version.
    """
    spark = rows.sparkSession
    if exists(spark, uri):
        there = spark.read.format("delta").load(uri).where(within(day, days))
        if there.columns == rows.columns and _same(rows, there, [c for c in rows.columns if c not in ignoring]):
            return False
    where = f"{day} >= DATE'{days.start}' AND {day} <= DATE'{days.end}'"
    written = rows.agg(F.min(day), F.max(day)).collect()[0]
    span = DayRange(written[0], written[1]) if written[0] else days
    clustered(rows, day, span).write.format("delta").mode("overwrite").option("replaceWhere", where).save(uri)
    return True


def _same(rows: DataFrame, there: DataFrame, columns: list[str]) -> bool:
    if rows.count() != there.count():
        return False
    mine, other = rows.alias("mine"), there.alias("other")
    equal = [F.col(f"mine.{column}").eqNullSafe(F.col(f"other.{column}")) for column in columns]
    return mine.join(other, on=equal, how="left_anti").isEmpty()
