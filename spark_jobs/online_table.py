"""The online table through the Spark Cassandra Connector: write rows, read days back, compare."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j ships no types
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.view import FeatureView
from spark_jobs.errors import JobError, java_causes

FORMAT = "org.apache.spark.sql.cassandra"
WRITES_IN_FLIGHT = (
    32  # per task: enough to hide the way there and back, few enough for one table's share of a connection
)
ROWS_PER_TASK = 50_000

# What the driver and the connector say, the more particular first, and what it means here.
SENTENCES = {
    "Couldn't find": "There is no online table {table}: apply the files Keyspaces/*.cql first.",
    "AuthenticationException": "Keyspaces does not accept the user name and password in {config}: {cause}.",
    "SSLHandshakeException": "Keyspaces' certificate is not trusted by the trust store that {config} names: {cause}.",
    "Could not reach any contact point": "Keyspaces can't be reached at the address in {config}: {cause}.",
    "NoNodeAvailableException": "Keyspaces has no node in the data centre (the region) that {config} names.",
    "Failed to write statements": "Some rows could not be written to {table}, others are online now: run it again.",
}
CAUSE = re.compile(
    r"(?:AuthenticationException|SSLHandshakeException|ConnectException|UnknownHostException): ([^\n\]]+)"
)

EQUAL, DIFFERENT, MISSING, LEFT_OVER = "equal", "different", "missing", "left over"


@dataclass(frozen=True)
class OnlineTable:
    """Where the rows go: a table, and the Java driver's configuration file, which names host and credentials."""

    keyspace: str
    table: str
    driver_config: Path

    def __str__(self) -> str:
        """The table as messages name it."""
        return f"{self.keyspace}.{self.table}"

    @property
    def options(self) -> dict[str, str]:
        """The connector's options, for reading and writing."""
        prefix = "spark.cassandra"
        return {
            "keyspace": self.keyspace,
            "table": self.table,
            f"{prefix}.connection.config.profile.path": self.driver_config.absolute().as_uri(),
            # Keyspaces takes no other for writes, and a read at less might not see them.
            f"{prefix}.output.consistency.level": "LOCAL_QUORUM",
            f"{prefix}.input.consistency.level": "LOCAL_QUORUM",
            # Single rows: a batch of several partitions is slower on Keyspaces, and no cheaper.
            f"{prefix}.output.batch.size.rows": "1",
            f"{prefix}.output.batch.grouping.key": "none",
            f"{prefix}.output.concurrent.writes": str(WRITES_IN_FLIGHT),
            # A null overwrites: a row never keeps a value that its Delta row no longer has.
            f"{prefix}.output.ignoreNulls": "false",
        }


def check(spark: SparkSession, table: OnlineTable, view: FeatureView) -> None:
    """Reach the table and look at its columns.

    Raises:
        JobError: it can't be reached, does not take the credentials, or is not the view's table.
    """
    if not table.driver_config.is_file():
        raise JobError(f"{table.driver_config} is missing: it is the driver's configuration for Keyspaces.")
    with _explained(table):
        there = {field.name: field.dataType.simpleString() for field in _read(spark, table).schema}
    wanted = {column.name: column.type.spark for column in view.columns}
    if there != wanted:
        wrong = sorted(name for name, _ in there.items() ^ wanted.items())
        raise JobError(
            f"The online table {table} differs from the view in {', '.join(dict.fromkeys(wrong))}: see Keyspaces/."
        )


def write(rows: DataFrame, count: int, table: OnlineTable, view: FeatureView) -> None:
    """Upsert rows, shuffled: in the order of keys or days they would all go to the same few partitions at a time.

    Raises:
        JobError: some rows could not be written; writing all of them again does no harm.
    """
    keys = [column.name for column in view.keys]
    tasks = max(rows.sparkSession.sparkContext.defaultParallelism, count // ROWS_PER_TASK)
    shuffled = rows.repartition(tasks, *keys).sortWithinPartitions(F.xxhash64(*keys))
    with _explained(table):
        shuffled.write.format(FORMAT).options(**table.options).mode("append").save()


def compare(rows: DataFrame, chosen: Column, table: OnlineTable, view: FeatureView) -> DataFrame:
    """Compare Delta's rows of the days that are chosen with what is online of them, both ways and in every value.

    The days are chosen by the server, but over all entities: it goes through the whole table, at a cost.

    Returns:
        The view's keys and `outcome`: equal, different, missing (online) or left over (online, without a row in Delta).
    """
    keys = [column.name for column in view.keys]
    mine = rows.withColumn("in_delta", F.lit(True)).alias("mine")
    other = _read(rows.sparkSession, table).where(chosen).withColumn("is_online", F.lit(True))
    joined = mine.join(
        other.alias("other"), on=[F.col(f"mine.{key}") == F.col(f"other.{key}") for key in keys], how="full_outer"
    )
    equal: Column = reduce(
        lambda one, more: one & more,
        [F.col(f"mine.{column.name}").eqNullSafe(F.col(f"other.{column.name}")) for column in view.columns],
    )
    outcome = (
        F.when(F.col("is_online").isNull(), F.lit(MISSING))
        .when(F.col("in_delta").isNull(), F.lit(LEFT_OVER))
        .when(equal, F.lit(EQUAL))
        .otherwise(F.lit(DIFFERENT))
    )
    return joined.select(
        *(F.coalesce(f"mine.{key}", f"other.{key}").alias(key) for key in keys), outcome.alias("outcome")
    )


def _read(spark: SparkSession, table: OnlineTable) -> DataFrame:
    return spark.read.format(FORMAT).options(**table.options).load()


@contextmanager
def _explained(table: OnlineTable) -> Iterator[None]:
    """Say in a sentence what is wrong where that is understood; anything else stays the exception that it is."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        said = " ".join(java_causes(error))
        for sign, sentence in SENTENCES.items():
            if sign in said:
                cause = CAUSE.search(said)
                details = {"table": table, "config": table.driver_config, "cause": cause[1] if cause else said}
                raise JobError(sentence.format(**details)) from error
        raise
