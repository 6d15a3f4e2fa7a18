"""What every job's command line has in common: arguments, session, the summary, and how it ends."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from pyspark.sql import SparkSession

from feature_store import registry
from feature_store.calendar import DayRange, parse_day
from feature_store.energy import ENERGY
from feature_store.view import FeatureView, ViewError
from spark_jobs import storage
from spark_jobs.errors import JobError, Summary, VerdictError, first_cause

Work = Callable[[SparkSession, argparse.Namespace], Summary]

DONE, FAILED = 0, 1  # argparse ends the process with 2 when the arguments are bad

log = logging.getLogger(__name__)


def parser(job: str, description: str, *, days: bool = True, days_required: bool = True) -> argparse.ArgumentParser:
    """Make a parser with what all jobs take: --summary, and --start and --end unless a job is of no days."""
    made = argparse.ArgumentParser(prog=job, description=description, allow_abbrev=False)
    made.set_defaults(start=None, end=None)
    for name, what in (("--start", "first"), ("--end", "last")) if days else ():
        made.add_argument(name, type=_day, required=days_required, metavar="YYYY-MM-DD", help=f"{what} day, included")
    made.add_argument("--summary", metavar="URI", help="also write the summary, or the error, to this file as JSON")
    return made


def add_version(arguments: argparse.ArgumentParser, table: str) -> None:
    """Let a job read a table as an earlier step of its run has left it, whatever was written since."""
    name = f"--{table}-version"
    arguments.add_argument(name, type=int, metavar="N", help=f"Delta version of the {table} (default: the newest)")


def add_view(arguments: argparse.ArgumentParser) -> None:
    """Let a job work for any feature view that is declared."""
    arguments.add_argument(
        "--view", type=_view, default=ENERGY, metavar="NAME", help=f"the feature view (default: {ENERGY.name})"
    )


def text(day: dt.date | None) -> str | None:
    """A day as summaries and reports have it; null where there is none."""
    return None if day is None else str(day)


def execute(
    arguments: argparse.ArgumentParser,
    work: Work,
    argv: Sequence[str] | None = None,
    refuse: Callable[[argparse.Namespace], str | None] = lambda _: None,
) -> int:
    """Run a job from its command line to its exit status; the last line on stdout is its summary as JSON.

    Bad arguments, and those of which `refuse` says what is wrong with them together, end the process with status 2
    before there is a JVM.
    """
    args = arguments.parse_args(argv)
    if (args.start is None) != (args.end is None):
        arguments.error("--start and --end go together")
    try:
        args.days = DayRange(args.start, args.end) if args.start else None
    except ValueError as error:
        arguments.error(str(error))
    if wrong := refuse(args):
        arguments.error(wrong)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    return _run(arguments.prog, work, args)


def _run(job: str, work: Work, args: argparse.Namespace) -> int:
    began = time.monotonic()
    summary: Summary
    spark = None
    try:
        spark = _session(job)
        summary = work(spark, args)
        error = None
    except JobError as known:
        error = str(known)
        summary = known.summary if isinstance(known, VerdictError) else {}
    except Exception as unexpected:
        # The process ends here: whatever it was, its whole trace goes to the log and one sentence below it.
        log.exception("%s failed", job)
        error = f"unexpected error: {first_cause(unexpected)}"
        summary = {}
    seconds = round(time.monotonic() - began, 1)
    days = {"start": text(args.start), "end": text(args.end)}
    summary = {"job": job, **days, "seconds": seconds, **summary, **({"error": error} if error else {})}
    error = _publish(spark, args.summary, summary) or error
    if spark:
        spark.stop()
    if error:
        print(f"{job}: {error}", file=sys.stderr)  # noqa: T201 - the sentence that a person looks for
    print(json.dumps(summary), flush=True)  # noqa: T201 - the contract with whoever started the job
    return FAILED if error else DONE


def _publish(spark: SparkSession | None, uri: str | None, summary: Summary) -> str | None:
    """Write the summary where --summary says, and what to say if that fails."""
    if not (spark and uri):
        return None
    try:
        storage.write_text(spark, uri, json.dumps(summary) + "\n")
    except JobError as error:
        summary.setdefault("error", str(error))
        return str(error)
    return None


def _session(job: str) -> SparkSession:
    """The session; what it runs on and with comes from spark-defaults.conf or spark-submit."""
    # The tasks' Python is the job's own, unless whoever started it says otherwise: PySpark's default is any python3.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    return SparkSession.builder.appName(job).getOrCreate()


def _view(name: str) -> FeatureView:
    try:
        return registry.view(name)
    except (registry.UnknownViewError, ViewError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _day(text: str) -> Any:  # noqa: ANN401 - argparse's types are untyped
    try:
        return parse_day(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
