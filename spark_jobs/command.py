"""What every job's command line has in common: arguments, session, the summary, and how it ends."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyspark.sql import SparkSession

from feature_store import layout, registry
from feature_store.calendar import DayRange, parse_day
from feature_store.energy import ENERGY
from feature_store.view import FeatureView, ViewError
from spark_jobs import storage
from spark_jobs.errors import JobError, Summary, VerdictError, first_cause

Work = Callable[[SparkSession, argparse.Namespace], Summary]
Alone = Callable[[argparse.Namespace], Summary | None]

OF_A_VIEW = (
    "features",
    "report",
    "table",
    "certificate",
    "metrics",
)  # arguments that name what each view has of its own

DONE, FAILED = 0, 1  # argparse ends the process with 2 when the arguments are bad

log = logging.getLogger(__name__)


def parser(job: str, description: str, *, days: bool = True, days_required: bool = True) -> argparse.ArgumentParser:
    """Make a parser with what all jobs take: --summary, and --start and --end unless a job is of no days."""
    made = argparse.ArgumentParser(prog=job, description=description, allow_abbrev=False)
    made.set_defaults(start=None, end=None)
    for name, what in (("--start", "first"), ("--end", "last")) if days else ():
        made.add_argument(name, type=day, required=days_required, metavar="YYYY-MM-DD", help=f"{what} day, included")
    made.add_argument("--summary", metavar="URI", help="also write the summary, or the error, to this file as JSON")
    return made


def add_view(arguments: argparse.ArgumentParser) -> None:
    """Let a job work for any feature view that is declared, or for several of them one after the other."""
    arguments.add_argument(
        "--view",
        type=_view,
        action="append",
        metavar="NAME",
        help=f"a feature view (default: {ENERGY.name}); of several, {layout.VIEW} stands for each in other arguments",
    )


def add_version(arguments: argparse.ArgumentParser, table: str) -> None:
    """Let a job read a table as an earlier step of its run has left it, whatever was written since."""
    arguments.add_argument(
        f"--{table}-version",
        type=int,
        action="append",
        metavar="N",
        help=f"Delta version of the {table} (default: the newest); of several views, one for each, in their order",
    )


def add_metrics(arguments: argparse.ArgumentParser) -> None:
    """Let a job put what it has done into what the page in Airflow shows."""
    arguments.add_argument(
        "--metrics", metavar="URI", help="also put what was done into this JSON of the view's metrics"
    )


def text(day: dt.date | None) -> str | None:
    """A day as summaries and reports have it; null where there is none."""
    return None if day is None else str(day)


def execute(
    arguments: argparse.ArgumentParser,
    work: Work | None,
    argv: Sequence[str] | None = None,
    refuse: Callable[[argparse.Namespace], str | None] = lambda _: None,
    alone: Alone = lambda _: None,
) -> int:
    """Run a job from its command line to its exit status; the last line on stdout is its summary as JSON.

    Bad arguments, and those of which `refuse` says what is wrong with them together, end the process with status 2
    before there is a JVM. Nor is there one if `alone` does the work without it: it returns the summary, or None where
    that is for `work`; a job that never needs Spark has no `work`.

    A job that has views does its work for one after the other, also after one that failed. Its summary has under
    `views` what it did for each, and, if there is but one, the same beside it.
    """
    args = arguments.parse_args(argv)
    if (args.start is None) != (args.end is None):
        arguments.error("--start and --end go together")
    try:
        args.days = DayRange(args.start, args.end) if args.start else None
        if wrong := refuse(args):
            arguments.error(wrong)
        parts = _of_views(args)
    except ValueError as error:
        arguments.error(str(error))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    return _run(arguments.prog, args, parts, work, alone)


def _of_views(args: argparse.Namespace) -> dict[str, argparse.Namespace]:
    """Take the arguments apart by view, under its name; ValueError if they do not go together."""
    given = vars(args)
    if "view" not in given:
        return {"": args}
    views: list[FeatureView] = args.view or [ENERGY]
    if len({view.name for view in views}) < len(views):
        raise ValueError("--view names a view twice")
    for name in OF_A_VIEW if len(views) > 1 else ():
        if given.get(name) and layout.VIEW not in given[name]:
            raise ValueError(f"--{name} takes {layout.VIEW} in it where there are several views, as each has its own")
    for name in given:
        if name.endswith("_version") and len(given[name] or views) != len(views):
            raise ValueError(f"--{name.replace('_', '-')} is given once for each --view, or not at all")
    parts = {}
    for place, view in enumerate(views):
        part = argparse.Namespace(**given)
        part.view = view
        for name, value in given.items():
            if name in OF_A_VIEW and value is not None:
                setattr(part, name, value.replace(layout.VIEW, view.name))
            elif name.endswith("_version"):
                setattr(part, name, value[place] if value else None)
        parts[view.name] = part
    return parts


def _run(
    job: str, args: argparse.Namespace, parts: Mapping[str, argparse.Namespace], work: Work | None, alone: Alone
) -> int:
    began = time.monotonic()
    session: list[SparkSession] = []
    done: dict[str, Summary] = {}
    errors = []
    for name, part in parts.items():
        done[name], error = _attempt(job, part, session, work, alone)
        if error:
            errors.append(f"{name}: {error}" if len(parts) > 1 else error)
            done[name]["error"] = error
    seconds = round(time.monotonic() - began, 1)
    summary: Summary = {"job": job, "start": text(args.start), "end": text(args.end), "seconds": seconds}
    if len(parts) == 1:
        summary |= next(iter(done.values()))
    if "view" in vars(args):
        summary["views"] = done
    if errors:
        summary["error"] = " ".join(errors)
    said = _publish(args.summary, summary) or summary.get("error")
    for spark in session:
        spark.stop()
    if said:
        print(f"{job}: {said}", file=sys.stderr)  # noqa: T201 - the sentence that a person looks for
    print(json.dumps(summary), flush=True)  # noqa: T201 - the contract with whoever started the job
    return FAILED if said else DONE


def _attempt(
    job: str, args: argparse.Namespace, session: list[SparkSession], work: Work | None, alone: Alone
) -> tuple[Summary, str | None]:
    """Do a job's work once; its summary, and why it failed if it did. The session is made by who first needs it."""
    try:
        done = alone(args)
        if done is None and work is not None:
            if not session:
                session.append(_session(job))
            done = work(session[0], args)
    except JobError as known:
        return dict(known.summary) if isinstance(known, VerdictError) else {}, str(known)
    except Exception as unexpected:
        # The process ends here: whatever it was, its whole trace goes to the log and one sentence below it.
        log.exception("%s failed", job)
        return {}, f"unexpected error: {first_cause(unexpected)}"
    return dict(done or {}), None


def _publish(uri: str | None, summary: Summary) -> str | None:
    """Write the summary where --summary says, and what to say if that fails."""
    if not uri:
        return None
    try:
        storage.write_text(uri, json.dumps(summary) + "\n")
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


def day(text: str) -> Any:  # noqa: ANN401 - argparse's types are untyped
    """Read an argument as a day."""
    try:
        return parse_day(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
