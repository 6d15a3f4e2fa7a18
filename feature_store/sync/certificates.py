"""What is online of each day, and proven to be: `sync_certificates`, a Delta table beside the features.

One row per online table and day. A day is `begun` from before its first write until what is online was compared with
Delta: a run that finds it so knows that another one ended in between, and looks at what is there before it goes on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own

from feature_store import layout, small_table
from feature_store.calendar import DayRange, named
from feature_store.small_table import DAY, RecordsError

__all__ = ["Certificate", "OvertakenError", "RecordsError", "forget", "known", "record", "update"]

TABLE = "online_table"
SCHEMA = pa.schema(
    [
        (TABLE, pa.string()),
        (DAY, pa.date32()),
        ("features_id", pa.string()),
        ("features_version", pa.int64()),
        ("begun", pa.list_(pa.int64())),
        ("attempt", pa.string()),
        ("foreign", pa.bool_()),
        ("rows", pa.int64()),
        ("differences", pa.int64()),
        ("repaired", pa.int64()),
        ("certified_at", pa.timestamp("us", "UTC")),
    ]
)
EVER = DayRange(dt.date.min, dt.date.max)


class OvertakenError(Exception):
    """Another run has been at the same days meanwhile; `days` are which."""

    def __init__(self, days: Collection[dt.date]) -> None:
        """Keep them."""
        super().__init__(f"Another run has been at {named(sorted(days))} meanwhile")
        self.days = days


@dataclass(frozen=True)
class Certificate:
    """What is known of a day online.

    Attributes:
        day: the day.
        features_id: of the Delta table that the versions are of.
        features_version: whose rows were all there, and no others, when it was last compared; None if it never was.
        begun: versions whose rows may be there too, as runs have begun to bring them and none has certified since.
        attempt: the last run that has begun; None once the day was certified.
        foreign: whether rows of another Delta table, which is gone, may be there too.
        rows: of the day, in the certified version.
        differences: rows that were not as they should be when it was last compared.
        repaired: of these, mended since.
        certified_at: when.
    """

    day: dt.date
    features_id: str
    features_version: int | None = None
    begun: tuple[int, ...] = ()
    attempt: str | None = None
    foreign: bool = False
    rows: int = 0
    differences: int = 0
    repaired: int = 0
    certified_at: dt.datetime | None = None

    @property
    def open(self) -> bool:
        """Whether a run has begun with the day and has not come to its end."""
        return self.attempt is not None

    @property
    def versions(self) -> set[int]:
        """All versions whose rows may be online."""
        certified = set() if self.features_version is None else {self.features_version}
        return certified | set(self.begun)

    def begun_by(self, features_id: str, version: int, attempt: str) -> Certificate:
        """The same, once a run has begun to bring a version of a table online."""
        if features_id == self.features_id:
            return replace(self, begun=(*(each for each in self.begun if each != version), version), attempt=attempt)
        return Certificate(self.day, features_id, None, (version,), attempt, foreign=True)


def known(features: str, table: str, days: DayRange = EVER) -> dict[dt.date, Certificate]:
    """Read what is known of an online table's days; RecordsError if that is not possible.

    Args:
        features: URI or path of the view's features, which the certificates lie beside.
        table: the online table, KEYSPACE.TABLE.
        days: which.
    """
    rows = small_table.read(layout.beside(features, layout.CERTIFICATES), (TABLE, table), days)
    return {row[DAY]: _certificate(row) for row in rows}


def record(
    features: str,
    table: str,
    certificates: Iterable[Certificate],
    expected: Mapping[dt.date, Certificate],
) -> None:
    """Replace what is known of some days, all at once, if it still is what is expected.

    Raises:
        OvertakenError: it is not.
        RecordsError: it can't be read or written.
    """
    new = {each.day: each for each in certificates}

    def change(there: Mapping[dt.date, Certificate]) -> Iterable[Certificate]:
        if others := [day for day in new if there.get(day) != expected.get(day)]:
            raise OvertakenError(others)
        return new.values()

    update(features, table, new, change)


def forget(features: str, table: str, days: Iterable[dt.date], expected: Mapping[dt.date, Certificate]) -> None:
    """Remove what is known of some days, none of whose rows are online any more; errors as of `record`."""
    days = list(days)

    def change(there: Mapping[dt.date, Certificate]) -> Iterable[Certificate]:
        if others := [day for day in days if there.get(day) != expected.get(day)]:
            raise OvertakenError(others)
        return ()

    update(features, table, days, change)


def update(
    features: str,
    table: str,
    days: Collection[dt.date],
    change: Callable[[Mapping[dt.date, Certificate]], Iterable[Certificate]],
) -> None:
    """Replace what is known of some days by what follows from it, as if nobody else was writing; RecordsError."""

    def rows(there: list[dict[str, Any]]) -> pa.Table:
        made = change({row[DAY]: _certificate(row) for row in there})
        return pa.Table.from_pylist([{TABLE: table, **_row(each)} for each in made], SCHEMA)

    if days:
        uri = layout.beside(features, layout.CERTIFICATES)
        small_table.update(uri, SCHEMA, (TABLE, table), days, rows)


def _row(certificate: Certificate) -> dict[str, Any]:
    return {DAY: certificate.day, **{name: value for name, value in vars(certificate).items() if name != "day"}}


def _certificate(row: Mapping[str, Any]) -> Certificate:
    fields = {name: row[name] for name in SCHEMA.names if name not in {TABLE, DAY, "begun"}}
    return Certificate(day=row[DAY], begun=tuple(row["begun"]), **fields)
