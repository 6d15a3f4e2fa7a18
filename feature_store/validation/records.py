"""What validation remembers of each day, for all views, in two Delta tables beside the features.

`validation_verdicts`: one row per view and day, whether it may go online. `validation_metrics`: one row per view, day
and metric, by which later days are judged. Both are read and written without Spark.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own

from feature_store import layout, small_table
from feature_store.calendar import DayRange
from feature_store.small_table import DAY, RecordsError
from feature_store.validation.verdict import Verdict
from feature_store.view import FeatureView

__all__ = [
    "Judged",
    "RecordsError",
    "Release",
    "Source",
    "Verdict",
    "held_back",
    "metrics",
    "record",
    "sources",
    "verdicts",
]


@dataclass(frozen=True)
class Release:
    """Who lets days that were held back go online, and why."""

    by: str
    reason: str


@dataclass(frozen=True)
class Judged:
    """A day's verdict.

    Attributes:
        day: the day.
        verdict: what becomes of it.
        rows: of features.
        fingerprint: of these rows, whatever their order.
        failed: the checks that hold it back, or would if it were not released.
        warned: the checks that are only reported.
        release: who has released it, and why.
    """

    day: dt.date
    verdict: Verdict
    rows: int
    fingerprint: str
    failed: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    release: Release | None = None

    @property
    def held_back(self) -> bool:
        """Whether its features must not go online."""
        return self.verdict is Verdict.QUARANTINED


Metrics = dict[str, float]  # by name: of the day, or COLUMN.NAME; one that can't be told is not there

VIEW = "view"
METRICS = pa.schema([(VIEW, pa.string()), (DAY, pa.date32()), ("metric", pa.string()), ("value", pa.float64())])
VERDICTS = pa.schema(
    [
        (VIEW, pa.string()),
        (DAY, pa.date32()),
        ("verdict", pa.string()),
        ("rows", pa.int64()),
        ("failed", pa.list_(pa.string())),
        ("warned", pa.list_(pa.string())),
        ("released_by", pa.string()),
        ("release_reason", pa.string()),
        ("fingerprint", pa.string()),
        ("readings_version", pa.int64()),
        ("features_id", pa.string()),
        ("features_version", pa.int64()),
        ("judged_at", pa.timestamp("us", "UTC")),
        ("report", pa.string()),
    ]
)


@dataclass(frozen=True)
class Source:
    """What a verdict is about: the table and versions that were looked at, when, and where the report is."""

    readings_version: int
    features_id: str
    features_version: int
    judged_at: dt.datetime
    report: str


def verdicts(features: str, view: FeatureView, days: DayRange) -> dict[dt.date, Judged]:
    """Read the newest verdict of each of a view's days that was ever judged; RecordsError if that is not possible.

    Args:
        features: URI or path of the view's features, which the tables lie beside.
        view: the declaration.
        days: whose verdicts are wanted.
    """
    return {day: judged for day, (judged, _) in sources(features, view, days).items()}


def sources(features: str, view: FeatureView, days: DayRange) -> dict[dt.date, tuple[Judged, Source]]:
    """Read the newest verdicts as `verdicts` does, each with what it is about."""
    rows = small_table.read(layout.beside(features, layout.VERDICTS), (VIEW, view.name), days)
    return {row[DAY]: (_judged(row), _source(row)) for row in rows}


def held_back(features: str, view: FeatureView, days: DayRange) -> dict[dt.date, Judged]:
    """Name the days that must not go online, nor into training, until they are recomputed and pass, or are released.

    Days that were never judged are not among them. RecordsError if this can't be told.
    """
    return {day: judged for day, judged in verdicts(features, view, days).items() if judged.held_back}


def metrics(features: str, view: FeatureView, days: DayRange) -> dict[dt.date, Metrics]:
    """Read what was measured of some days, held back or not; RecordsError if that is not possible."""
    found: dict[dt.date, Metrics] = {}
    for row in small_table.read(layout.beside(features, layout.METRICS), (VIEW, view.name), days):
        found.setdefault(row[DAY], {})[row["metric"]] = row["value"]
    return found


def record(  # noqa: PLR0913, PLR0917 - what is remembered of which days, and where it is from
    features: str,
    view: FeatureView,
    days: DayRange,
    measured: Mapping[dt.date, Metrics],
    judged: Iterable[Judged],
    source: Source,
) -> None:
    """Replace what is remembered of some days; again is the same as once.

    A day that was judged as a later version of the features has it keeps that verdict: what this one is about is no
    longer there, and must not let the later rows go online.

    Raises:
        RecordsError: a table can't be written. The verdicts come last: until then the days have those from before.
    """
    values = [(view.name, day, name, value) for day, of in measured.items() for name, value in of.items()]
    columns = zip(*values, strict=True) if values else [[], [], [], []]
    table = pa.table([pa.array(column, field.type) for column, field in zip(columns, METRICS, strict=True)], METRICS)
    small_table.replace(layout.beside(features, layout.METRICS), table, (VIEW, view.name), days)
    rows = [_row(each, view, source) for each in judged]

    def later(there: list[dict[str, Any]]) -> pa.Table:
        kept = {
            row[DAY]: row
            for row in there
            if row.get("features_id") == source.features_id and row["features_version"] > source.features_version
        }
        return pa.Table.from_pylist([*kept.values(), *(row for row in rows if row[DAY] not in kept)], VERDICTS)

    small_table.update(layout.beside(features, layout.VERDICTS), VERDICTS, (VIEW, view.name), days, later)


def _row(judged: Judged, view: FeatureView, source: Source) -> dict[str, Any]:
    release = judged.release
    return {
        VIEW: view.name,
        DAY: judged.day,
        "verdict": judged.verdict.value,
        "rows": judged.rows,
        "failed": list(judged.failed),
        "warned": list(judged.warned),
        "released_by": release and release.by,
        "release_reason": release and release.reason,
        "fingerprint": judged.fingerprint,
        **vars(source),
    }


def _judged(row: Mapping[str, Any]) -> Judged:
    release = Release(row["released_by"], row["release_reason"] or "") if row["released_by"] else None
    failed, warned = tuple(row["failed"]), tuple(row["warned"])
    return Judged(row[DAY], Verdict(row["verdict"]), row["rows"], row["fingerprint"], failed, warned, release)


def _source(row: Mapping[str, Any]) -> Source:
    return Source(**{name: row[name] for name in Source.__dataclass_fields__})
