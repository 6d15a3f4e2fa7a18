"""Bring the features of a range of days online, read them back, and compare every value with Delta.

Days that validation holds back are left out: what is online of them stays as it is.
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store import cql
from feature_store.calendar import DayRange
from feature_store.validation import records
from feature_store.view import FeatureView
from spark_jobs import command, online_table, tables
from spark_jobs.errors import JobError, Summary, VerdictError
from spark_jobs.online_table import OnlineTable

EXAMPLES = 5

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status: 1 also if what is online afterwards is not what Delta has."""
    arguments = command.parser("sync", __doc__ or "")
    arguments.add_argument("--features", required=True, metavar="URI", help="Delta table of features")
    command.add_version(arguments, "features")
    arguments.add_argument("--keyspace", required=True, help="keyspace of the online table")
    arguments.add_argument("--table", required=True, help="name of the online table")
    arguments.add_argument(
        "--driver-config",
        type=Path,
        metavar="FILE",
        default=os.environ.get("KEYSPACES_DRIVER_CONFIG") or Path.home() / "feature-store" / "app.config",
        help="the Java driver's configuration (default: KEYSPACES_DRIVER_CONFIG, else ~/feature-store/app.config)",
    )
    command.add_view(arguments)
    return command.execute(arguments, run, argv)


def run(spark: SparkSession, args: argparse.Namespace) -> Summary:
    """Write, read back, compare.

    Raises:
        JobError: there is nothing to write, or no table to write to.
        VerdictError: what is online differs from Delta.
    """
    view: FeatureView = args.view
    table = OnlineTable(args.keyspace, args.table, args.driver_config)
    features_version = tables.pinned(args.features, args.features_version)
    held = _held_back(args.features, view, args.days)
    chosen = tables.within(view.day, args.days)
    if held:
        chosen &= ~F.col(view.day).isin(held)
    online_table.check(spark, table, view)
    rows = tables.read(spark, args.features, features_version).where(chosen).persist()
    count = rows.count()
    if not count:
        raise JobError(f"{args.features} has no features of {args.days}{_but(held)}: there is nothing to bring online.")
    newest = tables.version(args.features)
    if newest != features_version and not tables.same(rows, tables.read(spark, args.features, newest).where(chosen)):
        # Written now, they would take the place of newer ones that may be online already.
        raise JobError(
            f"Other features of {args.days} were written to {args.features} since version {features_version}: they are "
            "for the run that wrote them to sync. Nothing was written; run this again from featurize on if need be."
        )
    online_table.write(rows, count, table, view)
    compared = online_table.compare(rows, chosen, table, view).persist()
    outcomes = {row["outcome"]: row["count"] for row in compared.groupBy("outcome").count().collect()}
    summary = {
        "rows_written": count,
        "rows_online": outcomes.pop(online_table.EQUAL, 0),
        "features_version": features_version,
        "table": str(table),
        "days_held_back": [str(day) for day in held],
    }
    if outcomes:
        raise VerdictError(_difference(compared, outcomes, table, view), summary)
    return summary


def _held_back(features: str, view: FeatureView, days: DayRange) -> list[dt.date]:
    """The days that validation holds back; JobError if that can't be told, as one of them might go online."""
    try:
        found = records.held_back(features, view, days)
    except records.RecordsError as error:
        raise JobError(f"Which days validation holds back can't be told: {error}. Nothing was written.") from error
    for day, judged in sorted(found.items()):
        log.warning("%s is left out, as validation holds it back: %s.", day, ", ".join(judged.failed))
    return sorted(found)


def _but(held: Sequence[dt.date]) -> str:
    if not held:
        return ""
    few = ", ".join(map(str, held[:EXAMPLES])) + (", ..." if len(held) > EXAMPLES else "")
    return f" but those that validation holds back ({few}; see its report: recompute them, or release them)"


def _difference(compared: DataFrame, outcomes: dict[str, int], table: OnlineTable, view: FeatureView) -> str:
    keys = [column.name for column in view.keys]
    said = []
    for outcome, count in sorted(outcomes.items()):
        some = compared.where(F.col("outcome") == outcome).orderBy(*reversed(keys)).limit(EXAMPLES).collect()
        said.append(f"{count} {outcome} (such as {', '.join(' '.join(str(row[key]) for key in keys) for row in some)})")
        if outcome == online_table.LEFT_OVER:
            deletes = [cql.delete(view, table.keyspace, table.table, *(row[key] for key in keys)) for row in some]
            said[-1] += (
                f", which Delta no longer has; if that is right, remove them by statements like {' '.join(deletes)}"
            )
    return f"{table} is not what Delta has: {'; '.join(said)}."


if __name__ == "__main__":
    sys.exit(main())
