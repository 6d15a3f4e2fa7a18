"""What validation remembers of each day, for all views, in two Delta tables beside the features.

`validation_verdicts`: one row per view and day, whether it may go online. `validation_metrics`: one row per view, day
and metric, by which later days are judged. Both are read and written without Spark.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same

from feature_store import files, layout, live_table
from feature_store.calendar import DayRange
from feature_store.view import FeatureView

if TYPE_CHECKING:
    from deltalake import DeltaTable


class Verdict(Enum):
    """What becomes of a day: all but QUARANTINED may go online."""

    PASSED = "passed"
    WARNED = "warned"
    QUARANTINED = "quarantined"
    RELEASED = "released"


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

VIEW, DAY = "view", "day_date"
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
        ("features_version", pa.int64()),
        ("judged_at", pa.timestamp("us", "UTC")),
        ("report", pa.string()),
    ]
)
TRIES = 5  # at one commit, while others write other days or views


class RecordsError(Exception):
    """One of the two tables can't be read or written; the message says which and why."""


@dataclass(frozen=True)
class Source:
    """What a verdict is about: the versions that were looked at, when, and where the report is."""

    readings_version: int
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
    rows = _read(layout.beside(features, layout.VERDICTS), view, days)
    return {row[DAY]: _judged(row) for row in rows}


def held_back(features: str, view: FeatureView, days: DayRange) -> dict[dt.date, Judged]:
    """Name the days that must not go online, nor into training, until they are recomputed and pass, or are released.

    Days that were never judged are not among them. RecordsError if this can't be told.
    """
    return {day: judged for day, judged in verdicts(features, view, days).items() if judged.held_back}


def metrics(features: str, view: FeatureView, days: DayRange) -> dict[dt.date, Metrics]:
    """Read what was measured of some days, held back or not; RecordsError if that is not possible."""
    found: dict[dt.date, Metrics] = {}
    for row in _read(layout.beside(features, layout.METRICS), view, days):
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

    Raises:
        RecordsError: a table can't be written. The verdicts come last: until then the days have those from before.
    """
    values = [(view.name, day, name, value) for day, of in measured.items() for name, value in of.items()]
    columns = zip(*values, strict=True) if values else [[], [], [], []]
    table = pa.table([pa.array(column, field.type) for column, field in zip(columns, METRICS, strict=True)], METRICS)
    _replace(layout.beside(features, layout.METRICS), table, view, days)
    rows = [_row(each, view, source) for each in judged]
    _replace(layout.beside(features, layout.VERDICTS), pa.Table.from_pylist(rows, VERDICTS), view, days)


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


def _read(uri: str, view: FeatureView, days: DayRange) -> list[dict[str, Any]]:
    table = _open(uri)
    if table is None:
        return []
    of_days = (pc.field(VIEW) == view.name) & (pc.field(DAY) >= days.start) & (pc.field(DAY) <= days.end)
    try:
        # No threads: a process that ends soon after a scan with them is aborted (github.com/apache/arrow/issues/39862).
        found = table.to_pyarrow_dataset().to_table(filter=of_days, use_threads=False)
        rows: list[dict[str, Any]] = found.to_pylist()
    except OSError as error:
        raise RecordsError(f"{uri} can't be read: {_first_line(error)}") from error
    return rows


def _replace(uri: str, rows: pa.Table, view: FeatureView, days: DayRange) -> None:
    """Replace a view's rows of some days; others may write those of other days or views meanwhile."""
    from deltalake import DeltaTable, write_deltalake  # noqa: PLC0415 - whoever only declares views needs no Delta
    from deltalake.exceptions import CommitFailedError, DeltaError  # noqa: PLC0415

    where = f"{VIEW} = '{view.name}' AND {DAY} >= '{days.start}' AND {DAY} <= '{days.end}'"
    options = live_table.storage_options(os.environ)
    for tried in range(1, TRIES + 1):
        try:
            table = _open(uri) or DeltaTable.create(
                _place(uri), rows.schema, mode="error", partition_by=[VIEW], storage_options=options
            )
            write_deltalake(table, rows, mode="overwrite", predicate=where)
        except (DeltaError, OSError) as error:
            # Another run was first: it may as well have made the table.
            lost = isinstance(error, CommitFailedError) or "already exists" in str(error)
            if not lost or tried == TRIES:
                raise RecordsError(f"{uri} can't be written: {_first_line(error)}") from error
        else:
            return


def _open(uri: str) -> DeltaTable | None:
    """Open a table; None if there is none yet."""
    from deltalake import DeltaTable  # noqa: PLC0415
    from deltalake.exceptions import DeltaError, TableNotFoundError  # noqa: PLC0415

    try:
        return DeltaTable(_place(uri), storage_options=live_table.storage_options(os.environ))
    except TableNotFoundError:
        return None
    except (DeltaError, OSError, ValueError) as error:
        raise RecordsError(f"{uri} can't be opened: {_first_line(error)}") from error


def _place(uri: str) -> str:
    if "%" in uri:
        raise RecordsError(f"{uri} can't be used: delta-rs takes the % in it for a sign that is encoded")
    return files.as_uri(uri)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
