"""Bring landed CSV files into the table of readings; malformed rows go to its quarantine.

Without days: the files that are new or changed since the last time are merged in, the newer file's row winning. A
file that comes again without some of its readings withdraws them.
With --start and --end: exactly those days are rebuilt from all landed files.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from spark_jobs import command, lake, landing, nothing_new, storage, tables
from spark_jobs.errors import JobError, Summary
from spark_jobs.landing import Batch, Count
from spark_jobs.storage import File
from spark_jobs.tables import Extent

VIEW = ENERGY

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status."""
    arguments = command.parser("ingest", __doc__ or "", days_required=False)
    arguments.add_argument("--source", required=True, metavar="URI", help="a .csv, a .csv.gz, or a folder of them")
    arguments.add_argument("--readings", required=True, metavar="URI", help="Delta table of readings, made if missing")
    return command.execute(arguments, run, argv, alone=alone)


def alone(args: argparse.Namespace) -> Summary | None:
    """Tell without Spark that there is nothing to ingest; None if there is, or may be."""
    found = None if args.days else nothing_new.look(args.source, args.readings, VIEW.day)
    return _summary({}, _days_changed(None), *found) if found else None


def run(spark: SparkSession, args: argparse.Namespace) -> Summary:
    """Ingest; JobError if nothing has landed, or nothing in it is a reading."""
    days: DayRange | None = args.days
    landed = storage.csv_files(spark, args.source)
    batch = landing.read(spark, landed if days else lake.not_ingested(spark, args.readings, landed), VIEW)
    for each in batch.files:
        if each.refusal:
            log.warning("%s goes to quarantine as a whole: %s", each.file.path, each.refusal)
    # In this order a crash between any two of them is made good by the next run: it does the same again.
    if batch.files:
        lake.quarantine(spark, args.readings, batch, VIEW)
    changed = _days_changed(_write(batch, landed, args.readings, days))
    if not tables.exists(args.readings):
        raise JobError(
            f"No file under {args.source} has a single valid reading: see {lake.quarantine_uri(args.readings)}."
        )
    if batch.files and days is None:
        lake.record(spark, args.readings, batch)
    version = tables.version(args.readings)
    # The newest version is at hand after a commit; asked for by number, Delta would put its state together anew.
    extent = tables.extent(spark.read.format("delta").load(args.readings), VIEW.day)
    return _summary(batch.counts, changed, version, extent)


def _summary(counts: Mapping[str, Count], changed: Summary, version: int, extent: Extent) -> Summary:
    return {
        "files": len(counts),
        "rows_in": sum(count.rows for count in counts.values()),
        "rows_valid": sum(count.valid for count in counts.values()),
        "rows_quarantined": sum(count.quarantined for count in counts.values()),
        "readings_rows": extent.rows,
        "first_day": command.text(extent.first_day),
        "last_day": command.text(extent.last_day),
        **changed,
        "readings_version": version,
    }


def _write(batch: Batch, landed: Sequence[File], readings: str, days: DayRange | None) -> DataFrame | None:
    """Merge what is new, or rebuild days; returns the days of the readings that have other values than before."""
    if batch.rows is None:
        return None
    newest = landing.newest(batch.rows, VIEW)
    if days is None:
        return _merge(batch, newest, landed, readings)
    wanted = newest.where(tables.within(VIEW.day, days)).persist()
    if wanted.isEmpty():
        raise JobError(f"No landed file has a valid reading of {days}: the readings in {readings} stay as they are.")
    return lake.rebuild(wanted, readings, days, VIEW)


def _merge(batch: Batch, newest: DataFrame, landed: Sequence[File], readings: str) -> DataFrame:
    spark = newest.sparkSession
    withdrawn = lake.withdrawn(batch, readings, VIEW) if tables.exists(readings) else None
    if withdrawn is None:
        return lake.merge(newest, readings, VIEW)
    # Another file may have a withdrawn reading too, which counted for nothing as long as the newer one had it.
    log.info("Some readings are withdrawn by another version of their file: looking for them in all landed files.")
    keys = [VIEW.entity, VIEW.day]
    looked = [landing.look(spark, file, VIEW) for file in landed]
    # Cached, as a filter on a key that Spark pushes into the parsing makes it as slow again as it is.
    everywhere = landing.keyed(landing.parsed(spark, looked, VIEW), VIEW).persist()
    again = withdrawn.join(landing.newest(everywhere, VIEW), on=keys, how="left").persist()
    return lake.merge(newest.join(withdrawn, on=keys, how="left_anti"), readings, VIEW, again)


def _days_changed(days: DataFrame | None) -> Summary:
    names = ("days_changed", "first_day_changed", "last_day_changed")
    if days is None:
        return dict(zip(names, (0, None, None), strict=True))
    number, first, last = days.agg(F.countDistinct(VIEW.day), F.min(VIEW.day), F.max(VIEW.day)).collect()[0]
    return dict(zip(names, (number, command.text(first), command.text(last)), strict=True))


if __name__ == "__main__":
    sys.exit(main())
