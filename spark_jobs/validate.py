"""Check the features of a range of days against the readings: the run goes on to sync only if all checks pass."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.view import FeatureView
from spark_jobs import checks, command, storage, tables
from spark_jobs.errors import Summary, VerdictError

EXAMPLES = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status: 1 if a check fails."""
    arguments = command.parser("validate", __doc__ or "")
    arguments.add_argument("--readings", required=True, metavar="URI", help="Delta table of readings")
    arguments.add_argument("--features", required=True, metavar="URI", help="Delta table of features")
    command.add_version(arguments, "readings")
    command.add_version(arguments, "features")
    arguments.add_argument("--report", required=True, metavar="URI", help="file for the report, JSON")
    command.add_view(arguments)
    return command.execute(arguments, run, argv)


def run(spark: SparkSession, args: argparse.Namespace) -> Summary:
    """Check, write the report, and judge.

    Raises:
        JobError: a table is missing, or the report can't be written.
        VerdictError: a check failed.
    """
    view: FeatureView = args.view
    readings_version = tables.pinned(args.readings, args.readings_version)
    features_version = tables.pinned(args.features, args.features_version)
    readings = tables.read(spark, args.readings, readings_version)
    features = tables.read(spark, args.features, features_version)
    described = checks.descriptions(view)
    rows = 0
    if wrong := checks.wrong_columns(features, view):
        failed = [_failure("columns", described["columns"], None, len(wrong), wrong[:EXAMPLES])]
    else:
        chosen = features.where(tables.within(view.day, args.days) | F.col(view.day).isNull()).persist()
        rows = chosen.count()
        seen = readings.where(tables.within(view.day, view.longest.seen(args.days)))
        found = checks.violations(chosen, seen, args.days, view, rows).persist()
        failed = _failures(found, described, view)
        if not rows:
            failed.insert(0, _failure("rows_present", described["rows_present"], str(args.days.start), 1, []))
    verdict = {
        "verdict": "failed" if failed else "passed",
        "checks": len(described),
        "failed": failed,
        "rows": rows,
        "report": args.report,
    }
    details = {
        "start": str(args.days.start),
        "end": str(args.days.end),
        "names": list(described),
        "rows_recomputed": min(rows, checks.SAMPLE),
        "readings_version": readings_version,
        "features_version": features_version,
    }
    storage.write_text(args.report, json.dumps({**verdict, **details}, indent=1) + "\n")
    if failed:
        raise VerdictError(f"Validation failed: {'; '.join(each['message'] for each in failed)}.", verdict)
    return verdict


def _failures(found: DataFrame, described: dict[str, str], view: FeatureView) -> list[dict[str, Any]]:
    """One entry for each check that has violations, in the order of the checks."""
    counted = found.groupBy(checks.CHECK).agg(F.count("*").alias("rows"), F.min(view.day).alias("day")).collect()
    if not counted:
        return []
    place = F.expr(f"row_number() OVER (PARTITION BY {checks.CHECK} ORDER BY {view.day}, {view.entity})")
    some = found.withColumn("place", place).where(F.col("place") <= EXAMPLES).orderBy(checks.CHECK, "place").collect()
    totals = {row[checks.CHECK]: row for row in counted}
    return [
        _failure(
            check,
            message,
            command.text(totals[check]["day"]),
            totals[check]["rows"],
            [
                _example(row[view.entity], row[view.day], row[checks.DETAIL])
                for row in some
                if row[checks.CHECK] == check
            ],
        )
        for check, message in described.items()
        if check in totals
    ]


def _example(entity: object, day: object, detail: str | None) -> str:
    return f"{entity} {day}" + (f" ({detail})" if detail else "")


def _failure(check: str, what: str, day: str | None, count: int, examples: list[str]) -> dict[str, Any]:
    since = f", the first on {day}" if day else ""
    such = f", such as {', '.join(examples)}" if examples else ""
    message = f"{check}: {what} ({count}{since}{such})"
    return {"check": check, "severity": "error", "day": day, "count": count, "examples": examples, "message": message}


if __name__ == "__main__":
    sys.exit(main())
