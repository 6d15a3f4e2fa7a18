"""Bring the features of days online: what changed since they were last certified, and nothing else; then prove it.

With --start and --end: these days. With --changed: every day that is online, brought up to date. With --whole: the
whole online table is compared with Delta, and mended; after the days, or without any.

Days that validation holds back are left out: what is online of them stays as it is. Nothing here needs Spark.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from feature_store import cost
from feature_store.calendar import DayRange, named
from feature_store.endpoint import Endpoint, OnlineError
from feature_store.metrics import Synced
from feature_store.sync import certificates
from feature_store.sync.budget import Budget, BudgetError
from feature_store.sync.certificates import Certificate, RecordsError
from feature_store.sync.changes import Features, FeaturesError
from feature_store.sync.online_table import OnlineTable, open_table
from feature_store.sync.plan import Plan, plan
from feature_store.sync.synchronise import CertificateError, Outcome, Sync, SyncError
from feature_store.sync.whole import Found
from feature_store.validation import records
from feature_store.view import FeatureView
from spark_jobs import command, storage, tables, view_metrics
from spark_jobs.errors import JobError, Summary, VerdictError

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; the exit status: 1 also if what is online afterwards is not what Delta has."""
    arguments = command.parser("sync", __doc__ or "", days_required=False)
    arguments.add_argument("--features", required=True, metavar="URI", help="Delta table of features")
    command.add_version(arguments, "features")
    arguments.add_argument("--keyspace", required=True, help="keyspace of the online table")
    arguments.add_argument("--table", required=True, help="name of the online table")
    arguments.add_argument("--changed", action="store_true", help="bring all days up to date that are online")
    arguments.add_argument(
        "--whole",
        nargs="?",
        choices=("yes", "no"),
        const="yes",
        default="no",
        help="compare the whole table with Delta, and mend it",
    )
    arguments.add_argument(
        "--budget", type=_dollars, metavar="DOLLARS", help="write nothing if writing would cost more, on demand"
    )
    arguments.add_argument("--certificate", metavar="URI", help="write what was proven to this file as JSON")
    command.add_metrics(arguments)
    command.add_view(arguments)
    return command.execute(arguments, None, argv, refuse=_refuse, alone=run)


def run(args: argparse.Namespace) -> Summary:
    """Write what differs, read it back, compare, certify.

    Raises:
        JobError: there is nothing to bring online, no table to write to, or it would cost too much.
        VerdictError: what is online differs from Delta, or not all of it could be compared.
    """
    view: FeatureView = args.view
    version = tables.pinned(args.features, args.features_version)
    with _explained():
        endpoint = Endpoint.here()
        features = Features(args.features, view, version)
        with open_table(endpoint, view, args.keyspace, args.table) as online:
            known = certificates.known(args.features, online.name)
            held = _held_back(args, known)
            made = None
            if args.days or args.changed:
                made = plan(features, known, args.days, held)
                _check(made, args, held, features)
            summary: Summary = {
                "table": online.name,
                "features_version": version,
                "days_held_back": [str(day) for day in held],
            }
            doing = Sync(features, online, known, Budget(endpoint.region, args.budget), changed_only=args.changed)
            error = None
            with _metrics_kept(args, doing):
                try:
                    if made:
                        doing.run(made)
                    if args.whole == "yes":
                        summary["whole"], error = _whole(online.name, *doing.whole(held))
                except CertificateError as failed:
                    error = str(failed)
            if made:
                summary |= _said(made, doing.outcome, view)
            summary |= _used(online, endpoint.region)
    if args.certificate:
        about = {"view": view.name, "passed": error is None, "error": error}
        about["days"] = [str(day) for day in sorted(doing.outcome.certified)]
        about["certified_at"] = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        storage.write_text(args.certificate, json.dumps({**about, **summary}, indent=2) + "\n")
    if error:
        raise VerdictError(error, summary)
    return summary


@contextmanager
def _metrics_kept(args: argparse.Namespace, doing: Sync) -> Iterator[None]:
    """Put what was done and used into the view's metrics, also of a run that fails: its error counts for more."""
    try:
        yield
    except BaseException:
        try:
            _keep_metrics(args, doing)
        except (JobError, RecordsError) as error:
            log.warning("What this run has used is not in %s: %s", args.metrics, error)
        raise
    _keep_metrics(args, doing)


def _keep_metrics(args: argparse.Namespace, doing: Sync) -> None:
    used = _used(doing.online, doing.budget.region)
    names = ("rows_written", "rows_deleted", "write_units", "read_units", "dollars")
    done = Synced(dt.datetime.now(dt.UTC), len(doing.outcome.certified), **{name: used[name] for name in names})
    view_metrics.keep_synced(args, doing.online.name, done)


def _refuse(args: argparse.Namespace) -> str | None:
    if args.days and args.changed:
        return "--changed is of all days that are online: leave --start and --end out"
    if not (args.days or args.changed or args.whole == "yes"):
        return "give --start and --end, or --changed, or --whole"
    return None


def _dollars(text: str) -> float | None:
    if not text:  # of a template: no budget
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of dollars")
    return value


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what is understood into the job's own errors."""
    try:
        yield
    except (OnlineError, SyncError, BudgetError, FeaturesError, RecordsError) as error:
        raise JobError(str(error) if str(error).endswith(".") else f"{error}.") from error


def _held_back(args: argparse.Namespace, known: Mapping[dt.date, Certificate]) -> list[dt.date]:
    """The days that validation holds back; RecordsError if that can't be told, as one of them might go online."""
    days = args.days or (DayRange(min(known), max(known)) if known else None)
    found = records.held_back(args.features, args.view, days) if days else {}
    for day, judged in sorted(found.items()):
        log.warning("%s is left out, as validation holds it back: %s.", day, ", ".join(judged.failed))
    return sorted(found)


def _check(made: Plan, args: argparse.Namespace, held: Sequence[dt.date], features: Features) -> None:
    """Say what is not brought online; JobError if that is everything that there is of the days that were asked for."""
    if made.unfinished:
        raise JobError(
            f"A run that was to bring later features of {named(made.unfinished)} online than version "
            f"{features.version} has not ended: what is online of them is a mixture. Nothing was written. Next: let it "
            "end, or bring the newest version online."
        )
    if made.newer:
        log.warning("Another run has brought later features of %s online: left as they are.", named(made.newer))
    if made.too_old:
        log.warning(
            "%s: older than the newest %s days, which the online table holds: nothing is written of them.",
            *(named(made.too_old), args.view.retention),
        )
    if args.days and not (any(not each.leaves for each in made.chunks) or made.too_old or made.newer):
        but = ""
        if held:
            report = "see its report: recompute them, or release them"
            but = f" but those that validation holds back ({named(held)}; {report})"
        raise JobError(f"{features.uri} has no features of {args.days}{but}: there is nothing to bring online.")


def _said(made: Plan, outcome: Outcome, view: FeatureView) -> Summary:
    return {
        "days_online": len(outcome.certified),
        "rows_online": outcome.rows_online,
        "rows_planned": outcome.planned,
        "write_units_planned": outcome.planned_units,
        "rows_compared": outcome.compared,
        "differences": outcome.differences,
        "repaired": outcome.repaired,
        "days_too_old": len(made.too_old),
        "days_newer": [str(day) for day in made.newer],
        "days_left": len(outcome.left),
        "retention": view.retention,
    }


def _whole(table: str, found: Found, unsure: Sequence[dt.date]) -> tuple[Summary, str | None]:
    """Say what was found of the whole table, and what is wrong if not all of it could be compared."""
    if found.days:
        log.warning(
            "%s: %d row(s) missing, %d different, %d that should not be there (of %s): mended.",
            *(table, found.missing, found.different, found.left_over, named(sorted(found.days))),
        )
    said = {
        "rows": found.rows.total(),
        "missing": found.missing,
        "different": found.different,
        "left_over": found.left_over,
        "days_not_compared": [str(day) for day in unsure],
    }
    if not unsure:
        return said, None
    return said, (
        f"{len(unsure)} day(s) of {table} could not be compared ({named(unsure)}): what was certified of them is not "
        "known any more, and validation holds back what Delta has now. Next: recompute or release them, and bring "
        "them online."
    )


def _used(online: OnlineTable, region: str) -> Summary:
    """What was written and read, and what that costs."""
    used = online.usage
    price = cost.dollars(region, writes=used.write_units, reads=used.read_units)
    return {
        "rows_written": used.rows_written,
        "rows_deleted": used.rows_deleted,
        "write_units": used.write_units,
        "read_units": used.read_units,
        "requests_refused": used.refused,
        "seconds_writing": round(used.seconds["write"], 2),
        "seconds_reading": round(used.seconds["read"], 2),
        "dollars": None if price is None else round(price, 6),
        "prices": f"{region} on demand, {cost.PRICES_AS_OF}",
    }


if __name__ == "__main__":
    sys.exit(main())
