"""What the jobs put into a view's metrics, which the page in Airflow shows: see feature_store/metrics.py."""

from __future__ import annotations

import argparse
import datetime as dt
import logging
from collections.abc import Callable, Iterable, Mapping

from feature_store import metrics
from feature_store.calendar import DayRange
from feature_store.expectations import Severity
from feature_store.metrics import Certified, Synced, Validated, ViewMetrics
from feature_store.sync import certificates
from feature_store.sync.certificates import Certificate
from feature_store.validation import records, report
from feature_store.validation.judge import Judgement
from feature_store.validation.records import Judged, Metrics, Source
from feature_store.view import FeatureView
from spark_jobs import storage

NULLS = ".nulls"  # after a column's name, in what validation measures

log = logging.getLogger(__name__)


def keep_validated(
    args: argparse.Namespace, found: Judgement, measured: Mapping[dt.date, Metrics], source: Source
) -> None:
    """Put in what validate has found of its days; what it found of others, if that is lost, by the tables of records.

    Raises:
        JobError: the file can't be changed.
        RecordsError: the tables can't be read.
    """
    if not args.metrics:
        return
    view: FeatureView = args.view
    days: DayRange = args.days
    made = {
        day: _validated(
            judged,
            measured.get(day, {}),
            source,
            {each: report.messages(found, view, day, each) for each in Severity},
        )
        for day, judged in found.days.items()
    }

    def put(known: ViewMetrics) -> ViewMetrics:
        if not known.validated:
            known = known.with_validated(days, _remembered(args.features, view, days))
        return known.with_validated(days, made)

    _update(args.metrics, view, put)


def keep_synced(args: argparse.Namespace, table: str, used: Synced) -> None:
    """Put in which days are certified, as the table of certificates has it, and what the sync has used.

    Args:
        args: of the job.
        table: the online table, KEYSPACE.TABLE.
        used: by this run.

    Raises:
        JobError: the file can't be changed.
        RecordsError: the table can't be read.
    """
    if not args.metrics:
        return

    def put(known: ViewMetrics) -> ViewMetrics:
        # Read after what is to be replaced: so of two runs at once the later file has the certificates of both.
        there = certificates.known(args.features, table)
        proven = {day: made for day, each in there.items() if (made := _certified(each))}
        return known.with_certified(proven).with_sync(used)

    _update(args.metrics, args.view, put)


def _certified(each: Certificate) -> Certified | None:
    """What is proven of a day; None while a run is at it, or has died at it, as nobody knows what is online then."""
    if each.open or each.features_version is None or each.certified_at is None:
        return None
    return Certified(each.rows, each.features_version, each.certified_at)


def _update(uri: str, view: FeatureView, change: Callable[[ViewMetrics], ViewMetrics]) -> None:
    def of_text(text: str | None) -> str:
        known = ViewMetrics(view.name)
        try:
            known = metrics.load(text, view.name) if text is not None else known
        except metrics.MetricsError as error:
            log.warning("%s is made anew: %s.", uri, error)
        return change(known).dump()

    storage.update_text(uri, of_text)


def _remembered(features: str, view: FeatureView, days: DayRange) -> dict[dt.date, Validated]:
    """What the tables of records know of the days up to these: of each check that failed, no more than its name."""
    first = dt.date.fromordinal(max(days.end.toordinal() - metrics.KEPT_DAYS, 0) + 1)
    span = DayRange(first, days.end)
    measured = records.metrics(features, view, span)
    return {
        day: _validated(judged, measured.get(day, {}), source, {})
        for day, (judged, source) in records.sources(features, view, span).items()
    }


def _validated(
    judged: Judged, measured: Metrics, source: Source, said: Mapping[Severity, Mapping[str, str]]
) -> Validated:
    def of(names: Iterable[str], severity: Severity) -> dict[str, str | None]:
        return {name: said.get(severity, {}).get(name) for name in names}

    release = judged.release
    shares = {name.removesuffix(NULLS): share for name, share in measured.items() if name.endswith(NULLS)}
    return Validated(
        verdict=judged.verdict,
        rows=judged.rows,
        nulls=metrics.rounded(shares),
        failed=of(judged.failed, Severity.ERROR),
        warned=of(judged.warned, Severity.WARN),
        released_by=release.by if release else None,
        release_reason=release.reason if release else None,
        report=source.report,
        judged_at=source.judged_at,
    )
