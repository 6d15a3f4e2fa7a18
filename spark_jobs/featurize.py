"""Compute the features of a range of days from the readings, and replace just those days in the features table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j ships no types
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.calendar import DayRange
from feature_store.view import FeatureView
from spark_jobs import command, tables, windows
from spark_jobs.errors import JobError, Summary


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status."""
    arguments = command.parser("featurize", __doc__ or "")
    arguments.add_argument("--readings", required=True, metavar="URI", help="Delta table of readings")
    arguments.add_argument("--features", required=True, metavar="URI", help="Delta table of features, made if missing")
    command.add_view(arguments)
    return command.execute(arguments, run, argv)


def run(spark: SparkSession, args: argparse.Namespace) -> Summary:
    """Compute, compare with what the table has, and write if anything differs.

    Days that have no readings any more lose their features; days that have neither are an error.

    Raises:
        JobError: there is nothing to compute, or the readings are not fit: a column, a key twice, a value.
    """
    days: DayRange = args.days
    view: FeatureView = args.view
    readings_version = tables.version(spark, args.readings)
    readings = tables.read(spark, args.readings, readings_version)
    windows.check_columns(readings, args.readings, view)
    rows, of_days, entities = _totals(readings.where(tables.within(view.day, days)), view)
    if not rows and not _has_features(spark, args.features, days, view):
        has = tables.extent(readings, view.day)
        known = f"they go from {has.first_day} to {has.last_day}" if has.rows else "they are empty"
        raise JobError(f"The readings in {args.readings} have no row of {days}: {known}. Nothing was written.")
    try:
        written = tables.replace_days(windows.features(readings, view, days), args.features, view.day, days, rows)
    except (PythonException, Py4JJavaError) as error:
        if said := windows.refusal(error):
            raise JobError(f"No features can be made of {args.readings}: {said}. Nothing was written.") from error
        raise
    return {
        "rows": rows,
        "rows_written": rows if written else 0,
        "days": of_days,
        "entities": entities,
        "features_version": tables.version(spark, args.features),
        "readings_version": readings_version,
    }


def _totals(asked: DataFrame, view: FeatureView) -> tuple[int, int, int]:
    """Count the readings, and so the rows of features, their days and their entities."""
    row = asked.agg(F.count("*"), F.countDistinct(view.day), F.countDistinct(view.entity)).collect()[0]
    return int(row[0]), int(row[1]), int(row[2])


def _has_features(spark: SparkSession, features: str, days: DayRange, view: FeatureView) -> bool:
    if not tables.exists(spark, features):
        return False
    return not spark.read.format("delta").load(features).where(tables.within(view.day, days)).isEmpty()


if __name__ == "__main__":
    sys.exit(main())
