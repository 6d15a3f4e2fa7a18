"""Judge the features of a range of days against the readings: only days that pass may go online.

Each day has its verdict. One that fails is held back: sync, and whoever else asks, leaves it out until it is recomputed
and passes, or a person releases it (--released-by, --release-reason). The job fails if no day may go online.

The report lies at --report, and as a page for people beside it (NAME.html of NAME.json); what was measured and found of
each day goes to the Delta tables validation_metrics and validation_verdicts beside the features, and in short to
--metrics. No Spark is started.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import duckdb

from feature_store import inputs
from feature_store.calendar import DayRange
from feature_store.validation import judge, look, records, report
from feature_store.validation.judge import Judgement, Known
from feature_store.validation.page import page
from feature_store.validation.records import Metrics, Release
from feature_store.view import FeatureView
from spark_jobs import command, delta_rs, storage, tables, view_metrics, windows
from spark_jobs.delta_rs import NotHereError
from spark_jobs.errors import JobError, Summary, VerdictError

if TYPE_CHECKING:
    from deltalake import DeltaTable

REASON_LENGTH = 500  # characters of who and why: enough for a sentence and a ticket

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status: 1 if no day may go online."""
    arguments = command.parser("validate", __doc__ or "")
    arguments.add_argument("--readings", required=True, metavar="URI", help="Delta table of readings")
    arguments.add_argument("--features", required=True, metavar="URI", help="Delta table of features")
    command.add_version(arguments, "readings")
    command.add_version(arguments, "features")
    arguments.add_argument("--report", required=True, metavar="URI", help="file for the report, JSON")
    arguments.add_argument("--released-by", default="", metavar="NAME", help="who lets days go online that fail")
    arguments.add_argument("--release-reason", default="", metavar="TEXT", help="why; recorded with the verdict")
    command.add_metrics(arguments)
    command.add_view(arguments)
    return command.execute(arguments, None, argv, refuse=_refuse, alone=run)


def run(args: argparse.Namespace) -> Summary:
    """Look, judge, record, write the report.

    Raises:
        JobError: a table is missing or can't be read, or the verdicts or the report can't be written.
        VerdictError: no day may go online.
    """
    began = time.monotonic()
    view: FeatureView = args.view
    days: DayRange = args.days
    release = Release(args.released_by.strip(), args.release_reason.strip()) if args.released_by.strip() else None
    readings = _open(args.readings, view, tables.pinned(args.readings, args.readings_version))
    features = _open(args.features, view, tables.pinned(args.features, args.features_version))
    _check_source(readings, args.readings, view)
    try:
        found, seen, past = _judge(readings, features, args, release)
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        source = records.Source(readings.version(), delta_rs.identity(features), features.version(), now, args.report)
        records.record(args.features, view, days, seen.metrics, found.days.values(), source)
    except records.RecordsError as error:
        raise JobError(f"The verdicts can't be kept: {error}. Nothing goes online without them.") from error
    summary: Summary = {
        **report.summary(found, view),
        "report": args.report,
        "page": _page_uri(args.report),
        "readings_version": readings.version(),
        "features_version": features.version(),
    }
    details = {
        **report.report(found, view, days, past, seen.metrics, seen.recomputed),
        "made_at": now.isoformat(),
        "readings_version": readings.version(),
        "features_version": features.version(),
        "seconds": round(time.monotonic() - began, 1),
    }
    storage.write_text(args.report, json.dumps(details, indent=1) + "\n")
    storage.write_text(_page_uri(args.report), page(details))
    _keep_metrics(args, found, seen, source)
    return _said(summary, found, view)


def _keep_metrics(args: argparse.Namespace, found: Judgement, seen: look.Look, source: records.Source) -> None:
    try:
        view_metrics.keep_validated(args, found, seen.metrics, source)
    except records.RecordsError as error:
        raise JobError(f"{args.metrics} can't be brought up to date: {error}. The verdicts are kept.") from error


def _said(summary: Summary, found: Judgement, view: FeatureView) -> Summary:
    """Log what a person at 04:00 needs; VerdictError if nothing may go online."""
    for entry in summary["warned"]:
        log.warning("%s %s", view.name, entry["message"])
    for judged in found.days.values():
        if judged.release:
            log.warning("%s %s is released by %s: %s", view.name, judged.day, judged.release.by, judged.release.reason)
    wrong = "; ".join(entry["message"] for entry in summary["failed"])
    held = [judged for judged in found.days.values() if judged.held_back]
    if len(held) == len(found.days):
        raise VerdictError(f"Validation failed: {wrong}. Report: {summary['page']}", summary)
    if held:
        log.error("%s: %d of %d days are held back: %s", view.name, len(held), len(found.days), wrong)
    return summary


def _refuse(args: argparse.Namespace) -> str | None:
    by, reason = args.released_by.strip(), args.release_reason.strip()
    if bool(by) != bool(reason):
        return "--released-by and --release-reason go together: who releases the days, and why"
    if max(len(by), len(reason)) > REASON_LENGTH:
        return f"--released-by and --release-reason take up to {REASON_LENGTH} characters each"
    return None


def _check_source(readings: DeltaTable, uri: str, view: FeatureView) -> None:
    """Refuse readings that lack a measure of the source, by a JobError: those that the view does not take count too."""
    there = delta_rs.columns(readings)
    windows.check_columns(there, uri, view)
    if missing := [measure.name for measure in view.source.measures if measure.name not in there]:
        raise JobError(f"The readings in {uri} have no column {missing[0]}, which source {view.source.name} declares.")


def _open(uri: str, view: FeatureView, version: int) -> DeltaTable:
    try:
        return delta_rs.open_table(uri, view.day, version)
    except NotHereError as error:
        raise JobError(f"{uri} can't be validated: {error}.") from error


def _judge(
    readings: DeltaTable, features: DeltaTable, args: argparse.Namespace, release: Release | None
) -> tuple[Judgement, look.Look, dict[dt.date, Metrics]]:
    """Look at the days and judge them; also what was seen, and the metrics of the days before."""
    view: FeatureView = args.view
    days: DayRange = args.days
    before = records.verdicts(args.features, view, days)
    trailing = judge.trailing(days, view.expects)
    # As far as the windows of the first day before reach: whether they were whole then is to be told too.
    reach = DayRange(view.longest.first_day(trailing[0] if trailing else days.start), days.end)
    try:
        with look.opened(inputs.dataset(readings, (view.day, reach))) as eye:
            there = eye.readings_rows(view, days)
            if wrong := _wrong_columns(features, view):
                return judge.hold_back("columns", "", wrong, view, there), look.Look(), {}
            try:
                seen = eye.look(inputs.dataset(features, (view.day, days)), view, days)
            except look.UnreadableError as error:
                return judge.hold_back("readable", str(error), (), view, there), look.Look(), {}
            known = Known(_past(eye, args.features, view, trailing), before, release, eye.first_day(view))
    except (duckdb.Error, OSError) as error:
        raise JobError(f"{args.readings} can't be read: {str(error).strip().splitlines()[0]}.") from error
    if not seen.rows:
        return judge.hold_back("rows_present", "", (), view, {}), seen, {}
    rows = f"{sum(seen.rows.values()):,}"
    log.info("%s rows of %d day(s) looked at, %s of them computed again.", rows, len(seen.rows), f"{seen.recomputed:,}")
    return judge.judge(seen, view, days, known), seen, dict(known.past)


def _past(eye: look.Eye, features: str, view: FeatureView, trailing: Sequence[dt.date]) -> dict[dt.date, Metrics]:
    """Metrics of the days before that were not held back; of days that were never judged, what their readings say."""
    if not trailing:
        return {}
    span = DayRange(trailing[0], trailing[-1])
    held = records.held_back(features, view, span)
    known = records.metrics(features, view, span)
    missing = [day for day in trailing if day not in known and day not in held]
    past = {**eye.readings_metrics(view, missing), **known}
    return {day: past[day] for day in sorted(past) if day not in held}


def _wrong_columns(features: DeltaTable, view: FeatureView) -> list[str]:
    """List how a table's columns differ from the view's, in names, order and types."""
    wanted = {column.name: column.type.spark for column in view.columns}
    there = delta_rs.columns(features)
    wrong = [f"{name} is missing" for name in wanted if name not in there]
    wrong += [
        f"{name} is {there[name]} instead of {kind}" for name, kind in wanted.items() if there.get(name, kind) != kind
    ]
    wrong += [f"{name} is unknown" for name in there if name not in wanted]
    return wrong or ([] if list(there) == list(wanted) else ["the columns are in another order"])


def _page_uri(uri: str) -> str:
    return f"{uri.removesuffix('.json')}.html"


if __name__ == "__main__":
    sys.exit(main())
