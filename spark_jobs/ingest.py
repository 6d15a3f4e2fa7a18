"""Bring landed CSV files into the table of readings; malformed rows go to its quarantine.

Without days: the files that are new or changed since the last time are merged in, the newer file's row winning.
With --start and --end: exactly those days are rebuilt from all landed files.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from spark_jobs import command, lake, landing, storage, tables
from spark_jobs.errors import JobError, Summary

VIEW = ENERGY

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status."""
    arguments = command.parser("ingest", __doc__ or "", days_required=False)
    arguments.add_argument("--source", required=True, metavar="URI", help="a .csv, a .csv.gz, or a folder of them")
    arguments.add_argument("--readings", required=True, metavar="URI", help="Delta table of readings, made if missing")
    return command.execute(arguments, run, argv)


def run(spark: SparkSession, args: argparse.Namespace) -> Summary:
    """Ingest; JobError if nothing has landed, or nothing in it is a reading."""
    days: DayRange | None = args.days
    files = storage.csv_files(spark, args.source)
    if days is None:
        files = lake.not_ingested(spark, args.readings, files)
    batch = landing.read(spark, files, VIEW)
    for landed in batch.files:
        if landed.refusal:
            log.warning("%s goes to quarantine as a whole: %s", landed.file.path, landed.refusal)
    if batch.files:
        lake.quarantine(spark, args.readings, batch, VIEW)
    if batch.rows is not None:
        _write(batch.rows, args.readings, days)
    if not tables.exists(spark, args.readings):
        raise JobError(
            f"No file under {args.source} has a single valid reading: see {lake.quarantine_uri(args.readings)}."
        )
    if batch.files and days is None:
        lake.record(spark, args.readings, batch)
    version = tables.version(spark, args.readings)
    # The newest version is at hand after a commit; asked for by number, Delta would put its state together anew.
    extent = tables.extent(spark.read.format("delta").load(args.readings), VIEW.day)
    return {
        "files": len(batch.files),
        "rows_in": sum(count.rows for count in batch.counts.values()),
        "rows_valid": sum(count.valid for count in batch.counts.values()),
        "rows_quarantined": sum(count.quarantined for count in batch.counts.values()),
        "readings_rows": extent.rows,
        "first_day": extent.first_day and str(extent.first_day),
        "last_day": extent.last_day and str(extent.last_day),
        "readings_version": version,
    }


def _write(rows: DataFrame, readings: str, days: DayRange | None) -> None:
    newest = landing.newest(rows, VIEW)
    if days is not None:
        wanted = newest.where(tables.within(VIEW.day, days)).persist()
        if wanted.isEmpty():
            raise JobError(
                f"No landed file has a valid reading of {days}: the readings in {readings} stay as they are."
            )
        lake.rebuild(wanted, readings, days, VIEW)
        return
    first, last = newest.agg(F.min(VIEW.day), F.max(VIEW.day)).collect()[0]
    if first is not None:
        lake.merge(newest, readings, DayRange(first, last), VIEW)


if __name__ == "__main__":
    sys.exit(main())
