"""Bring the features of a range of days online, read them back, and compare every value with Delta."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.energy import ENERGY
from spark_jobs import command, online_table, tables
from spark_jobs.errors import JobError, Summary, VerdictError
from spark_jobs.online_table import OnlineTable

VIEW = ENERGY
EXAMPLES = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status: 1 also if what is online afterwards is not what Delta has."""
    arguments = command.parser("sync", __doc__ or "")
    arguments.add_argument("--features", required=True, metavar="URI", help="Delta table of features")
    arguments.add_argument("--keyspace", required=True, help="keyspace of the online table")
    arguments.add_argument("--table", required=True, help="name of the online table")
    arguments.add_argument(
        "--driver-config",
        type=Path,
        metavar="FILE",
        default=os.environ.get("KEYSPACES_DRIVER_CONFIG") or Path.home() / "feature-store" / "app.config",
        help="the Java driver's configuration (default: KEYSPACES_DRIVER_CONFIG, else ~/feature-store/app.config)",
    )
    return command.execute(arguments, run, argv)


def run(spark: SparkSession, args: argparse.Namespace) -> Summary:
    """Write, read back, compare.

    Raises:
        JobError: there is nothing to write, or no table to write to.
        VerdictError: what is online differs from Delta.
    """
    table = OnlineTable(args.keyspace, args.table, args.driver_config)
    features_version = tables.version(spark, args.features)
    online_table.check(spark, table, VIEW)
    rows = tables.read(spark, args.features, features_version).where(tables.within(VIEW.day, args.days)).persist()
    count = rows.count()
    if not count:
        raise JobError(f"{args.features} has no features of {args.days}: there is nothing to bring online.")
    online_table.write(rows, count, table, VIEW)
    compared = online_table.compare(rows, args.days, table, VIEW).persist()
    outcomes = {row["outcome"]: row["count"] for row in compared.groupBy("outcome").count().collect()}
    summary = {
        "rows_written": count,
        "rows_online": outcomes.pop(online_table.EQUAL, 0),
        "features_version": features_version,
        "table": str(table),
    }
    if outcomes:
        raise VerdictError(_difference(compared, outcomes, table), summary)
    return summary


def _difference(compared: DataFrame, outcomes: dict[str, int], table: OnlineTable) -> str:
    keys = [column.name for column in VIEW.keys]
    said = []
    for outcome, count in sorted(outcomes.items()):
        some = compared.where(F.col("outcome") == outcome).orderBy(*reversed(keys)).limit(EXAMPLES).collect()
        said.append(f"{count} {outcome} (such as {', '.join(' '.join(str(row[key]) for key in keys) for row in some)})")
    return f"{table} is not what Delta has: {'; '.join(said)}."


if __name__ == "__main__":
    sys.exit(main())
