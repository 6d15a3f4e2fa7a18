"""What is online of each day, and proven to be: `sync_certificates`, a Delta table beside the features.

One row per online table and day. A day is `begun` from before its first write until what is online was compared with
Delta: a run that finds it so knows that another one ended in between, and looks at what is there before it goes on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own

from feature_store import layout, small_table
from feature_store.calendar import DayRange
from feature_store.small_table import DAY, RecordsError

__all__ = ["Certificate", "RecordsError", "forget", "known", "record"]

TABLE = "online_table"
SCHEMA = pa.schema(
    [
        (TABLE, pa.string()),
        (DAY, pa.date32()),
        ("features_id", pa.string()),
        ("features_version", pa.int64()),
        ("begun_version", pa.int64()),
        ("attempt", pa.string()),
        ("rows", pa.int64()),
        ("written", pa.int64()),
        ("deleted", pa.int64()),
        ("compared", pa.int64()),
        ("differences", pa.int64()),
        ("repaired", pa.int64()),
        ("certified_at", pa.timestamp("us", "UTC")),
    ]
)
EVER = DayRange(dt.date.min, dt.date.max)


@dataclass(frozen=True)
class Certificate:
    """What is known of a day online.

    Attributes:
        day: the day.
        features_id: of the Delta table that the day's rows are from.
        features_version: whose rows were all there, and no others, when it was last compared; None if it never was.
        begun_version: whose rows were being written when it was last begun; None once that was certified.
        attempt: which run that is; None as above.
        rows: of the day, in that version.
        written: of these, in the run that certified it; and so on, for its chunk of days: see sync's report.
        deleted: rows taken away.
        compared: rows read back.
        differences: rows that were not as they should be after the writing.
        repaired: of these, mended since.
        certified_at: when.
    """

    day: dt.date
    features_id: str
    features_version: int | None = None
    begun_version: int | None = None
    attempt: str | None = None
    rows: int = 0
    written: int = 0
    deleted: int = 0
    compared: int = 0
    differences: int = 0
    repaired: int = 0
    certified_at: dt.datetime | None = None

    @property
    def open(self) -> bool:
        """Whether a run has begun with the day and has not come to its end."""
        return self.attempt is not None


def known(features: str, table: str, days: DayRange = EVER) -> dict[dt.date, Certificate]:
    """Read what is known of an online table's days; RecordsError if that is not possible.

    Args:
        features: URI or path of the view's features, which the certificates lie beside.
        table: the online table, KEYSPACE.TABLE.
        days: which.
    """
    rows = small_table.read(layout.beside(features, layout.CERTIFICATES), (TABLE, table), days)
    return {row[DAY]: _certificate(row) for row in rows}


def record(features: str, table: str, certificates: Iterable[Certificate]) -> None:
    """Replace what is known of some days, all at once; RecordsError if that is not possible."""
    rows = [{TABLE: table, DAY: each.day, **_fields(each)} for each in certificates]
    _replace(features, table, pa.Table.from_pylist(rows, SCHEMA), [row[DAY] for row in rows])


def forget(features: str, table: str, days: Iterable[dt.date]) -> None:
    """Remove what is known of some days, none of whose rows are online any more; RecordsError as above."""
    _replace(features, table, SCHEMA.empty_table(), list(days))


def _replace(features: str, table: str, rows: pa.Table, days: Sequence[dt.date]) -> None:
    if days:
        small_table.replace(layout.beside(features, layout.CERTIFICATES), rows, (TABLE, table), days)


def _fields(certificate: Certificate) -> dict[str, Any]:
    return {name: value for name, value in vars(certificate).items() if name != "day"}


def _certificate(row: Mapping[str, Any]) -> Certificate:
    fields = {name: value for name, value in row.items() if name not in {TABLE, DAY}}
    return Certificate(day=row[DAY], **fields)
