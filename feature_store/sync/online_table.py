"""A view's online table: rows in, rows out, and what is there compared with what should be."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from types import TracebackType
from typing import Self

import numpy as np

# The driver ships no types.
from cassandra.cluster import Cluster, Session  # type: ignore[import-untyped]
from cassandra.metadata import Murmur3Token  # type: ignore[import-untyped]
from cassandra.query import PreparedStatement  # type: ignore[import-untyped]

from feature_store import cost, cql, cql_lint
from feature_store.endpoint import DRIVER_ERRORS, Endpoint, OnlineError, open_session
from feature_store.sync import cells
from feature_store.sync.cells import Key, Page, Row
from feature_store.sync.pace import Pace
from feature_store.sync.requests import PATIENCE_SECONDS, RequestError, Requests, Take
from feature_store.sync.wire import Request, Wire
from feature_store.view import FeatureView

PAGE_ROWS = 2000  # of at most 0.5 KB: one page of Keyspaces, which ends at 1 MB
RANGES = 64  # that the whole table is read in: each of them is soon read again if it fails


@dataclass(frozen=True)
class Upsert:
    """A row to be written, and the one that is known to be in its place, if one is."""

    row: Row
    there: Row | None

    @property
    def key(self) -> Key:
        """Of which entity and day it is."""
        return cells.key(self.row)


@dataclass
class Compared:
    """How what is online differs from what should be.

    Attributes:
        rows: that should be there and were looked for, by day (encoded).
        upserts: what has to be written: missing rows, and those with another value.
        missing: how many of these were not there at all.
        left_over: keys of rows that should not be there.
    """

    rows: Counter[bytes] = field(default_factory=Counter)
    missing: int = 0
    upserts: list[Upsert] = field(default_factory=list)
    left_over: list[Key] = field(default_factory=list)

    @property
    def differences(self) -> int:
        """How many rows are not as they should be."""
        return len(self.upserts) + len(self.left_over)

    def by_day(self) -> Counter[dt.date]:
        """How many rows of each day are not as they should be."""
        days = Counter(day for _, day in self._keys())
        return Counter({cells.day_of(day): count for day, count in days.items()})

    def only(self, days: Collection[dt.date]) -> Compared:
        """What differs of some days."""
        wanted = {cells.day_bytes(day) for day in days}
        return Compared(
            upserts=[each for each in self.upserts if each.key[1] in wanted],
            left_over=[key for key in self.left_over if key[1] in wanted],
        )

    def entities(self) -> set[bytes]:
        """Whose rows are not as they should be."""
        return {entity for entity, _ in self._keys()}

    def _keys(self) -> Iterator[Key]:
        yield from (each.key for each in self.upserts)
        yield from self.left_over


@dataclass
class Usage:
    """What was taken: rows, and units of Keyspaces' capacity, at most; and requests that were refused and taken."""

    rows_written: int = 0
    rows_deleted: int = 0
    write_units: int = 0
    read_units: int = 0
    refused: int = 0
    accepted: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"write": 0.0, "read": 0.0})


class OnlineTable:
    """A table of a view, of one process. Close it, or use it in `with`."""

    def __init__(self, session: Session, view: FeatureView, keyspace: str, table: str) -> None:
        """Take a session, as open_table makes it."""
        self.name = f"{keyspace}.{table}"
        self.usage = Usage()
        self.patience = PATIENCE_SECONDS
        self._session = session
        self._view = view
        self._row_bytes = cache(partial(cost.row_bytes, view))  # of a few lengths, for each of millions of rows
        self._keyspace = keyspace
        self._table = table
        self._statements: dict[str, PreparedStatement] = {}
        self._paces = {"write": Pace(), "read": Pace()}  # a table's capacities, which are known after the first rows

    def __enter__(self) -> Self:
        """Use until the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self._session.cluster.shutdown()

    def write(self, upserts: Iterable[Upsert], total: int) -> None:
        """Write whole rows, in their order: shuffle them before, or they all meet at one partition.

        Raises:
            OnlineError: a row can't be written; others may be.
        """
        insert = self._prepared(cql.insert(self._view, self._keyspace, self._table))
        requests = (Request(insert, cells.to_send(each.row, each.there), each.key) for each in upserts)

        def take(request: Request, _: Page | None, __: bool) -> None:
            self.usage.rows_written += 1
            self.usage.write_units += self.units_a_row(len(request.about[0]))

        self._send("write", "rows written", requests, take, total)

    def mend(self, compared: Compared) -> None:
        """Write what is missing or different, and delete what is left over; OnlineError as of `write`."""
        order = np.random.default_rng().permutation(len(compared.upserts))  # or they all meet at one partition
        if compared.upserts:
            self.write((compared.upserts[at] for at in order), len(compared.upserts))
        if compared.left_over:
            self.delete(iter(compared.left_over), len(compared.left_over))

    def units_a_row(self, entity_bytes: int) -> int:
        """What writing a row takes, at most, by the bytes of its entity's name."""
        return cost.write_units(self._row_bytes(entity_bytes))

    def delete(self, keys: Iterable[Key], total: int) -> None:
        """Delete rows; one that is not there is no error. OnlineError if one can't be deleted; others may be."""
        delete = self._prepared(cql.delete(self._view, self._keyspace, self._table))

        def take(_: Request, __: Page | None, ___: bool) -> None:
            self.usage.rows_deleted += 1
            self.usage.write_units += 1

        requests = (Request(delete, cells.values(*key), key) for key in keys)
        self._send("write", "rows deleted", requests, take, total)

    def compare(self, wanted: Iterable[tuple[bytes, list[Row]]], entities: int, days: Sequence[dt.date]) -> Compared:
        """Read the rows that entities have of some days, and compare them with what should be there.

        Args:
            wanted: each entity with the rows that it should have of these days; none of them for an entity that should
                have none.
            entities: how many these are.
            days: which; days between them that are not named are passed over.

        Raises:
            OnlineError: they can't be read.
        """
        found = Compared()
        first, last = cells.day_bytes(min(days)), cells.day_bytes(max(days))
        among = None if len(days) > (max(days) - min(days)).days else {cells.day_bytes(day) for day in days}
        select = self._prepared(cql.select_days(self._view, self._keyspace, self._table))
        select.fetch_size = PAGE_ROWS
        span = cells.values(first, last)
        open_: dict[bytes, dict[bytes, Row]] = {}

        def ask() -> Iterator[Request]:
            for entity, rows in wanted:
                open_[entity] = {cells.key(row)[1]: row for row in rows}
                found.rows.update(open_[entity].keys())
                yield Request(select, cells.values(entity) + span, entity)

        def take(request: Request, page: Page | None, last: bool) -> None:
            expected = open_[request.about]
            for _, day, row, right in self._rows(page, lambda _, day: expected.pop(day, None)):
                if among is None or day in among:
                    self._note(found, right, row)
            if last:
                self._note_missing(found, open_.pop(request.about))

        self._send("read", "entities compared", ask(), take, entities)
        return found

    def compare_all(
        self, wanted: Mapping[bytes, list[Row]], part: int, parts: int, passed_over: Callable[[bytes], bool]
    ) -> Compared:
        """Read a part of the whole table, and compare it with what should be there.

        Args:
            wanted: each entity of the part with the rows that it should have.
            part: which, from 0.
            parts: into how many the table is cut, by its entities' tokens.
            passed_over: tells by its day (encoded) whether a row that is online is nobody's matter.

        Raises:
            OnlineError: they can't be read.
        """
        open_ = {entity: {cells.key(row)[1]: row for row in rows} for entity, rows in wanted.items()}
        found = Compared(Counter(day for rows in open_.values() for day in rows))
        select = self._prepared(cql.select_tokens(self._view, self._keyspace, self._table))
        select.fetch_size = PAGE_ROWS
        nothing: dict[bytes, Row] = {}

        def expected(entity: bytes, day: bytes) -> Row | None:
            return open_.get(entity, nothing).pop(day, None)

        def take(_: Request, page: Page | None, __: bool) -> None:
            for _entity, day, row, right in self._rows(page, expected):
                if right is not None or not passed_over(day):
                    self._note(found, right, row)

        steps = token_ranges(part, parts, RANGES)
        asked = [
            Request(select, cells.values(*(edge.to_bytes(8, signed=True) for edge in step)), step) for step in steps
        ]
        self._send("read", "ranges compared", iter(asked), take, len(asked))
        for left in open_.values():
            self._note_missing(found, left)
        return found

    @staticmethod
    def _note(found: Compared, expected: Row | None, row: Row) -> None:
        if expected is None:
            found.left_over.append(cells.key(row))
        elif expected != row:
            found.upserts.append(Upsert(expected, row))

    @staticmethod
    def _note_missing(found: Compared, expected: Mapping[bytes, Row]) -> None:
        found.missing += len(expected)
        found.upserts.extend(Upsert(row, None) for row in expected.values())

    def _rows(
        self, page: Page | None, expected: Callable[[bytes, bytes], Row | None]
    ) -> Iterator[tuple[bytes, bytes, Row, Row | None]]:
        """The rows of a page, as `Page.rows`; what reading it took is noted."""
        size = 0
        for entity, day, row, wanted in page.rows(len(self._view.columns), expected) if page else ():
            size += self._row_bytes(len(entity))
            yield entity, day, row, wanted
        self.usage.read_units += cost.read_units(size)

    def _send(self, kind: str, what: str, requests: Iterator[Request], take: Take, total: int) -> None:
        pace, began = self._paces[kind], time.monotonic()
        try:
            Requests(Wire(self._session), pace, what, self.patience).send(requests, take, total)
        except RequestError as error:
            key = error.about
            which = f" at {cells.named(key)}" if kind == "write" and key else ""
            what_now = "What was written stays; run this again, and it goes on from there." if kind == "write" else ""
            raise OnlineError(f"{self.name}{which}: {error}. {what_now}".rstrip()) from error
        finally:
            self.usage.seconds[kind] += time.monotonic() - began
            self.usage.accepted = sum(each.accepted for each in self._paces.values())
            self.usage.refused = sum(each.refused for each in self._paces.values())

    def _prepared(self, statement: str) -> PreparedStatement:
        if statement not in self._statements:
            try:
                self._statements[statement] = self._session.prepare(cql_lint.checked(statement))
            except DRIVER_ERRORS as error:
                raise OnlineError(f"{self.name} can't be used: {error}") from error
        return self._statements[statement]


def open_table(endpoint: Endpoint, view: FeatureView, keyspace: str, table: str) -> OnlineTable:
    """Connect, and look whether the table is the view's.

    Raises:
        OnlineError: there is no connection, no such table, or it has other columns.
    """
    session = open_session(endpoint)
    try:
        _check(session.cluster, view, keyspace, table)
    except OnlineError:
        session.cluster.shutdown()
        raise
    return OnlineTable(session, view, keyspace, table)


def token(entity: bytes) -> int:
    """The place of an entity in the ring of Murmur3Partitioner, which cuts the table into parts."""
    return int(Murmur3Token.hash_fn(entity))


def part_of(entity: bytes, parts: int) -> int:
    """Which part of a table, cut into so many, an entity is in."""
    return min(parts - 1, (token(entity) + 2**63) * parts >> 64)


def token_ranges(part: int, parts: int, steps: int) -> list[tuple[int, int]]:
    """Cut a part of the ring into steps: (token above, token up to). The lowest token of all is none's."""

    def bound(step: int) -> int:
        return -(2**63) + ((part * steps + step) * 2**64 + parts * steps - 1) // (parts * steps)

    # Above the last of the token before it, and up to the one before the next step's first.
    edges = [max(-(2**63), bound(step) - 1) for step in range(steps)] + [min(2**63 - 1, bound(steps) - 1)]
    return [(low, high) for low, high in pairwise(edges) if low < high]


def _check(cluster: Cluster, view: FeatureView, keyspace: str, table: str) -> None:
    known = cluster.metadata.keyspaces.get(keyspace)
    there = known.tables.get(table) if known else None
    if there is None:
        raise OnlineError(f"There is no online table {keyspace}.{table}: run spark_jobs.schema first.")
    found = {name: str(column.cql_type) for name, column in there.columns.items()}
    wanted = {column.name: column.type.cql for column in view.columns}
    keys = [column.name for column in there.primary_key]
    wrong = sorted({name for name, _ in found.items() ^ wanted.items()})
    if keys != [column.name for column in view.keys]:
        wrong.insert(0, f"its key ({', '.join(keys)})")
    if wrong:
        raise OnlineError(
            f"The online table {keyspace}.{table} differs from the view in {', '.join(wrong)}: run spark_jobs.schema."
        )
