"""Compute the features of a range of days from the readings, and replace just those days in the features table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.energy import ENERGY
from spark_jobs import command, tables, windows
from spark_jobs.errors import JobError, Summary

VIEW = ENERGY


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status."""
    arguments = command.parser("featurize", __doc__ or "")
    arguments.add_argument("--readings", required=True, metavar="URI", help="Delta table of readings")
    arguments.add_argument("--features", required=True, metavar="URI", help="Delta table of features, made if missing")
    return command.execute(arguments, run, argv)


def run(spark: SparkSession, args: argparse.Namespace) -> Summary:
    """Compute, compare with what the table has, and write if anything differs; JobError if there are no readings."""
    readings_version = tables.version(spark, args.readings)
    readings = tables.read(spark, args.readings, readings_version)
    seen = readings.where(tables.within(VIEW.day, args.days.widened(VIEW.longest)))
    asked = seen.where(tables.within(VIEW.day, args.days))
    computed = windows.features(asked, seen, VIEW).persist()
    totals = computed.agg(
        F.count("*").alias("rows"),
        F.countDistinct(VIEW.day).alias("days"),
        F.countDistinct(VIEW.entity).alias("entities"),
    ).collect()[0]
    if not totals["rows"]:
        has = tables.extent(readings, VIEW.day)
        known = f"they go from {has.first_day} to {has.last_day}" if has.rows else "they are empty"
        raise JobError(f"The readings in {args.readings} have no row of {args.days}: {known}. Nothing was written.")
    written = tables.replace_days(computed, args.features, VIEW.day, args.days)
    computed.unpersist()
    return {
        "rows": totals["rows"],
        "rows_written": totals["rows"] if written else 0,
        "days": totals["days"],
        "entities": totals["entities"],
        "features_version": tables.version(spark, args.features),
        "readings_version": readings_version,
    }


if __name__ == "__main__":
    sys.exit(main())
