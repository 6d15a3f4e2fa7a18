"""Check the features of a range of days against the readings: the run goes on to sync only if all checks pass."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.energy import ENERGY
from spark_jobs import checks, command, storage, tables
from spark_jobs.errors import Summary, VerdictError

VIEW = ENERGY
EXAMPLES = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status: 1 if a check fails."""
    arguments = command.parser("validate", __doc__ or "")
    arguments.add_argument("--readings", required=True, metavar="URI", help="Delta table of readings")
    arguments.add_argument("--features", required=True, metavar="URI", help="Delta table of features")
    arguments.add_argument("--report", required=True, metavar="URI", help="file for the report, JSON")
    return command.execute(arguments, run, argv)


def run(spark: SparkSession, args: argparse.Namespace) -> Summary:
    """Check, write the report, and judge.

    Raises:
        JobError: a table is missing, or the report can't be written.
        VerdictError: a check failed.
    """
    versions = {name: tables.version(spark, getattr(args, name)) for name in ("readings", "features")}
    readings = tables.read(spark, args.readings, versions["readings"])
    features = tables.read(spark, args.features, versions["features"])
    described = checks.descriptions(VIEW)
    rows = 0
    if wrong := checks.wrong_columns(features, VIEW):
        failed = [_failure("columns", described["columns"], None, len(wrong), wrong[:EXAMPLES])]
    else:
        chosen = features.where(tables.within(VIEW.day, args.days) | F.col(VIEW.day).isNull()).persist()
        rows = chosen.count()
        seen = readings.where(tables.within(VIEW.day, args.days.widened(VIEW.longest)))
        found = checks.violations(chosen, seen, args.days, VIEW, rows).persist()
        failed = _failures(found, described)
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
        **{f"{name}_version": version for name, version in versions.items()},
    }
    storage.write_text(spark, args.report, json.dumps({**verdict, **details}, indent=1) + "\n")
    if failed:
        raise VerdictError(f"Validation failed: {'; '.join(each['message'] for each in failed)}.", verdict)
    return verdict


def _failures(found: DataFrame, described: dict[str, str]) -> list[dict[str, Any]]:
    """One entry for each check that has violations, in the order of the checks."""
    counted = found.groupBy(checks.CHECK).agg(F.count("*").alias("rows"), F.min(VIEW.day).alias("day")).collect()
    if not counted:
        return []
    place = F.expr(f"row_number() OVER (PARTITION BY {checks.CHECK} ORDER BY {VIEW.day}, {VIEW.entity})")
    some = found.withColumn("place", place).where(F.col("place") <= EXAMPLES).orderBy(checks.CHECK, "place").collect()
    totals = {row[checks.CHECK]: row for row in counted}
    return [
        _failure(
            check,
            message,
            _text(totals[check]["day"]),
            totals[check]["rows"],
            [
                _example(row[VIEW.entity], row[VIEW.day], row[checks.DETAIL])
                for row in some
                if row[checks.CHECK] == check
            ],
        )
        for check, message in described.items()
        if check in totals
    ]


def _text(day: object) -> str | None:
    return None if day is None else str(day)


def _example(entity: object, day: object, detail: str | None) -> str:
    return f"{entity} {day}" + (f" ({detail})" if detail else "")


def _failure(check: str, what: str, day: str | None, count: int, examples: list[str]) -> dict[str, Any]:
    since = f", the first on {day}" if day else ""
    such = f", such as {', '.join(examples)}" if examples else ""
    message = f"{check}: {what} ({count}{since}{such})"
    return {"check": check, "severity": "error", "day": day, "count": count, "examples": examples, "message": message}


if __name__ == "__main__":
    sys.exit(main())
