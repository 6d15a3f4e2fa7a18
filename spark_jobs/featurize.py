"""Compute features from the readings.

With --start and --end: those of these days, and just those days are replaced in the features table.
With --changed: of all days that were computed, the rows in whose windows readings came late, were corrected or
withdrawn since the features were last brought up to date; exactly those.
"""

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
from spark_jobs import command, late, tables, watermark, windows
from spark_jobs.errors import JobError, Summary
from spark_jobs.watermark import Watermark


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status."""
    arguments = command.parser("featurize", __doc__ or "", days_required=False)
    arguments.add_argument("--readings", required=True, metavar="URI", help="Delta table of readings")
    arguments.add_argument("--features", required=True, metavar="URI", help="Delta table of features, made if missing")
    arguments.add_argument("--changed", action="store_true", help="recompute what changed readings are in")
    command.add_view(arguments)
    return command.execute(arguments, run, argv, refuse=_refuse)


def run(spark: SparkSession, args: argparse.Namespace) -> Summary:
    """Compute, compare with what the table has, and write if anything differs.

    Raises:
        JobError: there is nothing to compute, the readings are not fit (a column, a key twice, a value), or another
            run wrote to the features while this one followed late readings.
    """
    version = tables.version(spark, args.readings)
    readings = tables.read(spark, args.readings, version)
    windows.check_columns(readings, args.readings, args.view)
    summary: Summary = {}
    try:
        # First, so that late readings are followed also where those of the days themselves are missing.
        if args.changed and tables.exists(spark, args.features):
            at = late.Readings(args.readings, tables.identity(spark, args.readings), version)
            summary["changed"] = late.recompute(spark, at, args.features, args.view)
        elif not args.days:
            raise JobError(f"{args.features} has no features yet: compute some days first, with --start and --end.")
        if args.days:
            summary |= _replace(spark, readings, version, args)
    except (PythonException, Py4JJavaError) as error:
        if said := windows.refusal(error):
            raise JobError(f"No features can be made of {args.readings}: {said}. Nothing was written.") from error
        raise
    return {**summary, "features_version": tables.version(spark, args.features), "readings_version": version}


def _refuse(args: argparse.Namespace) -> str | None:
    return None if args.days or args.changed else "give --start and --end, or --changed, or all of them"


def _replace(spark: SparkSession, readings: DataFrame, version: int, args: argparse.Namespace) -> Summary:
    """Replace the features of the days; those that have no readings any more lose theirs, and neither is an error."""
    view: FeatureView = args.view
    days: DayRange = args.days
    there = tables.exists(spark, args.features)
    rows, of_days, entities = _totals(readings.where(tables.within(view.day, days)), view)
    if not rows and not (there and _has_features(spark, args.features, days, view)):
        has = tables.extent(readings, view.day)
        known = f"they go from {has.first_day} to {has.last_day}" if has.rows else "they are empty"
        raise JobError(f"The readings in {args.readings} have no row of {days}: {known}. Nothing was written.")
    if there:
        _record(spark, version, args)
    else:
        watermark.remove(spark, args.features)  # of a table that was here before
    written = tables.replace_days(windows.features(readings, view, days), args.features, view.day, days, rows)
    _record(spark, version, args, days, made=not there)
    return {"rows": rows, "rows_written": rows if written else 0, "days": of_days, "entities": entities}


def _record(
    spark: SparkSession, version: int, args: argparse.Namespace, days: DayRange | None = None, *, made: bool = False
) -> None:
    """Let the watermark be no newer than the readings of this run, and hold the days that were computed.

    A run that is overtaken by another computes from readings that the watermark is past: what changed in between has
    to be looked at again.
    """
    known = watermark.read(spark, args.features)
    wanted = known
    if known is None and made and days:  # the first days of a table are all that it holds
        wanted = Watermark(tables.identity(spark, args.readings), version, (days,))
    elif known is not None:
        computed = watermark.merged([*known.computed, *([days] if days else [])])
        # The versions of another table say nothing about this one's: its id stays, so that every row is looked at.
        overtaken = known.version > version and known.readings_id == tables.identity(spark, args.readings)
        wanted = Watermark(known.readings_id, version if overtaken else known.version, computed)
    if wanted is not None and wanted != known:
        watermark.write(spark, args.features, wanted)


def _totals(asked: DataFrame, view: FeatureView) -> tuple[int, int, int]:
    """Count the readings, and so the rows of features, their days and their entities."""
    row = asked.agg(F.count("*"), F.countDistinct(view.day), F.countDistinct(view.entity)).collect()[0]
    return int(row[0]), int(row[1]), int(row[2])


def _has_features(spark: SparkSession, features: str, days: DayRange, view: FeatureView) -> bool:
    return not spark.read.format("delta").load(features).where(tables.within(view.day, days)).isEmpty()


if __name__ == "__main__":
    sys.exit(main())
