"""Compute features from the readings.

With --start and --end: those of these days, and just those days are replaced in the features table.
With --changed: of all days that were computed, the rows in whose windows readings came late, were corrected or
withdrawn since the features were last brought up to date; exactly those.

Where the readings that the days' windows see fit into this process, no Spark is started.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections.abc import Sequence

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j ships no types
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.calendar import DayRange
from feature_store.view import FeatureView
from spark_jobs import command, in_process, late, tables, watermark, windows
from spark_jobs.errors import JobError, Summary, java_causes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status."""
    arguments = command.parser("featurize", __doc__ or "", days_required=False)
    arguments.add_argument("--readings", required=True, metavar="URI", help="Delta table of readings")
    arguments.add_argument("--features", required=True, metavar="URI", help="Delta table of features, made if missing")
    arguments.add_argument("--changed", action="store_true", help="recompute what changed readings are in")
    arguments.add_argument(
        "--known-on",
        type=command.day,
        metavar="YYYY-MM-DD",
        help="compute from the readings as the table had them at the end of that day (UTC), in a --features of its own",
    )
    arguments.add_argument(
        "--engine",
        choices=(in_process.AUTO, in_process.PROCESS, in_process.SPARK),
        default=in_process.AUTO,
        help="who computes: this process alone, Spark, or what is right for so many readings (default: %(default)s)",
    )
    command.add_view(arguments)
    return command.execute(arguments, run, argv, refuse=_refuse, alone=in_process.featurize)


def run(spark: SparkSession, args: argparse.Namespace) -> Summary:
    """Compute on Spark, compare with what the table has, and write if anything differs.

    Raises:
        JobError: there is nothing to compute, the readings are not fit (a column, a key twice, a value), or another
            run wrote to the features while this one followed late readings.
    """
    version = in_process.readings_version(args)
    readings = tables.read(spark, args.readings, version)
    columns = {field.name: field.dataType.simpleString() for field in readings.schema}
    windows.check_columns(columns, args.readings, args.view)
    if tables.exists(args.features):
        held = spark.read.format("delta").load(args.features).schema
        windows.check_features({field.name: field.dataType.simpleString() for field in held}, args.features, args.view)
    summary: Summary = {"engine": in_process.SPARK}
    try:
        # First, so that late readings are followed also where those of the days themselves are missing.
        if args.changed and tables.exists(args.features):
            at = late.Readings(args.readings, tables.identity(spark, args.readings), version)
            summary["changed"] = late.recompute(spark, at, args.features, args.view)
        elif not args.days:
            raise JobError(f"{args.features} has no features yet: compute some days first, with --start and --end.")
        if args.days:
            summary |= _replace(spark, readings, version, args)
    except (PythonException, Py4JJavaError) as error:
        if said := windows.refusal(error):
            raise JobError(f"No features can be made of {args.readings}: {said}. Nothing was written.") from error
        if args.known_on and "FileNotFound" in " ".join(java_causes(error)):
            said = f"files of its version {version} are gone{windows.VACUUMED}"
            raise JobError(f"{args.readings} can't be read: {said}. Nothing was written.") from error
        raise
    return {**summary, "features_version": tables.version(args.features), "readings_version": version}


def _refuse(args: argparse.Namespace) -> str | None:
    if args.known_on and args.known_on >= dt.datetime.now(dt.UTC).date():
        return f"--known-on {args.known_on} is not over yet (in UTC)"
    if args.changed and args.known_on:
        return "--changed brings features up to date, and --known-on is of a day before: give one of them"
    return None if args.days or args.changed else "give --start and --end, or --changed, or all of them"


def _replace(spark: SparkSession, readings: DataFrame, version: int, args: argparse.Namespace) -> Summary:
    """Replace the features of the days; those that have no readings any more lose theirs, and neither is an error."""
    view: FeatureView = args.view
    days: DayRange = args.days
    there = tables.exists(args.features)
    rows, of_days, entities = _totals(readings.where(tables.within(view.day, days)), view)
    if not rows and not (there and _has_features(spark, args.features, days, view)):
        has = tables.extent(readings, view.day)
        raise JobError(windows.no_readings(args.readings, days, has.first_day, has.last_day))

    def readings_id() -> str:
        return tables.identity(spark, args.readings)

    if there:
        watermark.record(args.features, readings_id, version)
    else:
        watermark.remove(args.features)  # of a table that was here before
    written = tables.replace_days(windows.features(readings, view, days), args.features, view.day, days, rows)
    watermark.record(args.features, readings_id, version, days, made=not there)
    return {"rows": rows, "rows_written": rows if written else 0, "days": of_days, "entities": entities}


def _totals(asked: DataFrame, view: FeatureView) -> tuple[int, int, int]:
    """Count the readings, and so the rows of features, their days and their entities."""
    row = asked.agg(F.count("*"), F.countDistinct(view.day), F.countDistinct(view.entity)).collect()[0]
    return int(row[0]), int(row[1]), int(row[2])


def _has_features(spark: SparkSession, features: str, days: DayRange, view: FeatureView) -> bool:
    return not spark.read.format("delta").load(features).where(tables.within(view.day, days)).isEmpty()


if __name__ == "__main__":
    sys.exit(main())
