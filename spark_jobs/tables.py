"""Delta tables by path: read a version of some days, replace just those days."""

from __future__ import annotations

import datetime as dt
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j ships no types
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store import live_table
from feature_store.calendar import DayRange
from spark_jobs import storage
from spark_jobs.errors import JobError, is_conflict

DAYS_PER_FILE = 31
LEAST_ROWS_PER_FILE = 20_000  # some 2 MB: smaller files cost more to open than to read
CHANGE_FEED = "delta.enableChangeDataFeed"
TRIES = 5  # at one commit, while others write other days
NOTHING_WRITTEN = "nothing of this run was written. Next: run it again."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extent:
    """How many rows a table has, and from which day to which."""

    rows: int
    first_day: dt.date | None
    last_day: dt.date | None


def overtaken(uri: str) -> str:
    """Say that another writer was quicker."""
    return (
        f"Other runs wrote rows of the same days, or the files that they are in, to {uri} meanwhile; {NOTHING_WRITTEN}"
    )


def name(uri: str) -> str:
    """A table's name in SQL."""
    return "delta.`{}`".format(uri.replace("`", "``"))


@contextmanager
def set_for(spark: SparkSession, settings: Mapping[str, str | int | bool]) -> Iterator[None]:
    """Let a session have settings for what is done within, and after it those of before."""
    before = {name: spark.conf.get(name, None) for name in settings}
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, held in before.items():
            if held is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, held)


def exists(uri: str) -> bool:
    """Tell whether there is a Delta table."""
    return bool(_commits(uri))


def version(uri: str) -> int:
    """The table's newest version; JobError if there is no table."""
    if not (commits := _commits(uri)):
        raise JobError(f"{uri} is not a Delta table: has the step before this one been run?")
    return max(commits)


def identity(spark: SparkSession, uri: str) -> str:
    """The table's own id: another one, made at the same place, has another."""
    return str(spark.sql(f"DESCRIBE DETAIL {name(uri)}").select("id").collect()[0][0])


def pinned(uri: str, asked: int | None) -> int:
    """The version that was asked for, or the newest where none was; JobError if there is no such version."""
    newest = version(uri)
    if asked is None:
        return newest
    if not 0 <= asked <= newest:
        raise JobError(f"{uri} has no version {asked}: its newest is {newest}.")
    return asked


def _commits(uri: str) -> list[int]:
    # Delta's protocol: one commit, one file of that number. DESCRIBE HISTORY says the same by a Spark job of seconds.
    found = (live_table.COMMIT.fullmatch(file) for file in storage.names(f"{uri.rstrip('/')}/_delta_log"))
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


def by_days(rows: DataFrame, day: str, days: DayRange, number: int) -> DataFrameWriter:
    """Arrange rows for writing: files of about a month of days each, so that replacing a day rewrites few of them.

    Each task sorts what it has by day and cuts it into files: no shuffle, and a task more is a file a month more.

    Args:
        rows: to be written.
        day: their day column.
        days: all that the rows are of, or more.
        number: how many rows there are, about.
    """
    months = math.ceil(len(days) / DAYS_PER_FILE)
    if months == 1:
        return rows.repartition(1).write.format("delta")
    tasks = int(rows.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    per_file = max(math.ceil(number / months / tasks), LEAST_ROWS_PER_FILE)
    return rows.sortWithinPartitions(day).write.format("delta").option("maxRecordsPerFile", per_file)


def replace_days(rows: DataFrame, uri: str, day: str, days: DayRange, number: int) -> bool:
    """Make the table's rows of these days exactly these rows; create the table if it is missing.

    If the table has none of these days, the rows are evaluated once, else they are cached.

    Args:
        rows: of these days only, with no row twice.
        uri: the table.
        day: its day column.
        days: those to replace.
        number: how many rows there are, about.

    Returns:
        Whether anything was written: a table that has these rows already gets no new version.

    Raises:
        JobError: another writer has written rows of these days meanwhile; nothing of these rows was.
    """

    def held() -> DataFrame | None:
        return read(rows.sparkSession, uri, version(uri)).where(within(day, days)) if exists(uri) else None

    def write() -> None:
        by_days(rows, day, days, number).mode("overwrite").option("replaceWhere", where).save(uri)

    # Also where there is nothing to replace: of two runs that write the same day, one then fails, as it should.
    where = f"{day} >= DATE'{days.start}' AND {day} <= DATE'{days.end}'"
    there = held()
    if there is None or there.isEmpty():
        _commit(write, held, there, uri)
        return True
    rows.persist()
    try:
        if there.columns == rows.columns and same(rows, there):
            return False
        _commit(write, held, there, uri)
        return True
    finally:
        rows.unpersist()


def _commit(write: Callable[[], None], held: Callable[[], DataFrame | None], there: DataFrame | None, uri: str) -> None:
    """Write in place of the rows that are there, if they are what is held.

    Delta on Spark tells writers apart by partitions, which these tables have not: it refuses a commit after that of
    other days too. So it is tried again, as long as no other writer has touched these days.
    """
    for tried in range(1, TRIES + 1):
        try:
            write()
        except (PySparkException, Py4JJavaError) as error:
            if not is_conflict(error):
                raise
            now = held()
            touched = now is not None and not (now.isEmpty() if there is None else same(now, there))
            if touched or tried == TRIES:
                raise JobError(overtaken(uri)) from error
            log.info("Another run wrote other days to %s meanwhile: trying again.", uri)
        else:
            return


def same(one: DataFrame, other: DataFrame) -> bool:
    """Tell whether two tables of the same columns have the same rows, none of them twice."""
    return one.count() == other.count() and missing(one, other).isEmpty()


def missing(one: DataFrame, other: DataFrame) -> DataFrame:
    """The rows of one table that another one of the same columns has not."""
    mine, theirs = one.alias("mine"), other.alias("theirs")
    equal = [F.col(f"mine.{column}").eqNullSafe(F.col(f"theirs.{column}")) for column in one.columns]
    return mine.join(theirs, on=equal, how="left_anti")
