"""The features of days by the kernel in this process, without Spark, where what they are made of fits into it.

Kernel, rules and tables are those of the job on Spark, and so are the rows, bit for bit; delta-rs reads and writes.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own

from feature_store import compute, live_table
from feature_store.arrow_readings import ReadingsError
from feature_store.calendar import DayRange
from feature_store.view import FeatureView
from spark_jobs import delta_rs, tables, watermark, windows
from spark_jobs.delta_rs import NotHereError, Recorded
from spark_jobs.errors import JobError, Summary

if TYPE_CHECKING:
    from deltalake import DeltaTable

AUTO, PROCESS, SPARK = "auto", "process", "spark"  # who computes: by what fits, or one of the two in any case
# Values that are held at a time, of the readings that the days' windows see, the features and those that they replace.
# 20 bytes of memory each were measured, copies included: some 5 GB. All 3.5 million rows of London are 200 million.
MOST_VALUES = 250_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Tables:
    """What is read and written, and what the readings' log says of the days; no features where there are none yet."""

    readings: DeltaTable
    features: DeltaTable | None
    recorded: Recorded


def featurize(args: argparse.Namespace) -> Summary | None:
    """Do the work of `featurize` for a range of days; None if it is for Spark, and then nothing was done.

    Raises:
        JobError: as featurize.run does; or this process is asked for, and can't do it.
    """
    if args.engine == SPARK:
        return None
    try:
        here = _look(args)
    except NotHereError as why:
        if args.engine == PROCESS:
            raise JobError(
                f"The features can't be computed in this process: {why}. Next: run it with --engine {SPARK}."
            ) from why
        log.info("Spark computes the features: %s.", why)
        return None
    return _replace(here, args)


def readings_version(args: argparse.Namespace) -> int:
    """The version of the readings that features are computed from.

    Raises:
        JobError: there is no table of readings, or none of the day that is asked for.
    """
    newest = tables.version(args.readings)
    if args.known_on is None:
        return newest
    try:
        return live_table.version_known_on(args.readings, args.known_on)
    except live_table.LiveTableError as error:
        raise JobError(str(error)) from error


def _look(args: argparse.Namespace) -> _Tables:
    """Open the tables, if all of it is for this process."""
    if args.changed:
        raise NotHereError("late readings are followed by Delta's change feed")
    view: FeatureView = args.view
    delta_rs.place(args.features)  # also where there is no table yet
    readings = delta_rs.open_table(args.readings, view.day, readings_version(args))
    seen = delta_rs.recorded(readings, args.readings, view.day, view.longest.seen(args.days))
    made = delta_rs.recorded(readings, args.readings, view.day, args.days).rows
    features, replaced = None, 0
    if tables.exists(args.features):
        features = delta_rs.open_table(args.features, view.day)
        delta_rs.check_writable(features, args.features)
        windows.check_features(delta_rs.columns(features), args.features, view)
        replaced = delta_rs.recorded(features, args.features, view.day, args.days).rows
    values = seen.rows * len(view.readings) + (made + replaced) * len(view.columns)
    if values > MOST_VALUES:
        raise NotHereError(f"the {seen.rows:,} readings that {args.days} sees, and its features, do not fit")
    log.info("Up to %s readings are computed in this process.", f"{seen.rows:,}")
    return _Tables(readings, features, seen)


def _replace(here: _Tables, args: argparse.Namespace) -> Summary:
    view: FeatureView = args.view
    days: DayRange = args.days
    windows.check_columns(delta_rs.columns(here.readings), args.readings, view)
    try:
        rows = compute.features(view, here.readings, days)
    except ReadingsError as error:
        said = f"{error}{windows.VACUUMED if args.known_on else ''}"
        raise JobError(f"No features can be made of {args.readings}: {said}. Nothing was written.") from error
    held = None if here.features is None else delta_rs.held(here.features, args.features, view, days)
    if not rows.num_rows and not (held and held.num_rows):
        there = here.recorded
        raise JobError(windows.no_readings(args.readings, days, there.first_day, there.last_day))
    version = here.readings.version()

    def readings_id() -> str:
        return delta_rs.identity(here.readings)

    if here.features is None or held is None:
        watermark.remove(args.features)  # of a table that was here before
        written, differs = delta_rs.make(rows, args.features, view, days), True
    else:
        watermark.record(args.features, readings_id, version)
        written, differs = here.features, not rows.equals(held)
        if differs:
            written = delta_rs.replace_days(rows, held, written, args.features, view, days)
    watermark.record(args.features, readings_id, version, days, made=here.features is None)
    return {
        "engine": PROCESS,
        "rows": rows.num_rows,
        "rows_written": rows.num_rows if differs else 0,
        "days": len(pc.unique(rows[view.day])),
        "entities": len(pc.unique(rows[view.entity])),
        "features_version": written.version(),
        "readings_version": version,
    }
