"""Prepared statements over the driver's connections, many at a time, without a future of the driver's for each.

The driver connects, signs in, watches its connections and opens new ones. What is here is what a million rows need a
million times: their frames go out in one write for many, and what comes back is left in a queue, as it came. By the
protocol's version 4 (github.com/apache/cassandra/blob/trunk/doc/native_protocol_v4.spec, sections 2, 4.1.4 and 4.2.5).
"""

from __future__ import annotations

import logging
import struct
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from threading import Event
from typing import Any

# The driver ships no types.
from cassandra import DriverException, OperationTimedOut  # type: ignore[import-untyped]
from cassandra.cluster import NoHostAvailable, Session  # type: ignore[import-untyped]
from cassandra.connection import ConnectionException, ConnectionShutdown  # type: ignore[import-untyped]
from cassandra.pool import NoConnectionsAvailable  # type: ignore[import-untyped]
from cassandra.protocol import (  # type: ignore[import-untyped]
    COMPRESSED_FLAG,
    WARNING_FLAG,
    ProtocolHandler,
    ResultMessage,
    read_int,
    read_stringlist,
)
from cassandra.query import PreparedStatement  # type: ignore[import-untyped]

from feature_store.endpoint import REQUEST_TIMEOUT
from feature_store.sync.cells import Page

VERSION, EXECUTE, RESULT = 4, 0x0A, 0x08
HEADER = struct.Struct(">BBhBi")  # version, flags, stream, opcode, length of the body
VALUES, SKIP_METADATA, PAGE_SIZE, PAGING_STATE = 0x01, 0x02, 0x04, 0x08
VOID = (1).to_bytes(4)  # the whole answer to a write
BUFFER_BYTES = 16 * 1024  # of one write, or read: as much as TLS has in a record
ENOUGH = 32  # answers that are worth to wake for, if more are to come
GRACE_SECONDS = 1.0  # for the driver's thread to leave an answer here that it has taken out of its own books

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Request:
    """A statement with its values, encoded; `about` says what it is about, for whoever takes the answer."""

    statement: PreparedStatement
    values: bytes
    about: Any
    page: bytes | None = field(default=None, repr=False)
    lost: int = 0  # times in a row, and of these, those between which others were taken
    lost_alone: int = 0
    seen: int = 0  # how many others were taken by the last time


@dataclass(frozen=True)
class Answer:
    """What came of a request: an error, or a page of rows, which a write has none of, and which page is next."""

    request: Request
    page: Page | None = None
    next_page: bytes | None = None
    error: BaseException | None = None


class Wire:
    """What one thread sends and hears. The driver's own thread only leaves the answers here."""

    def __init__(self, session: Session) -> None:
        """Send by the connections of a session, at its consistency level."""
        self._session = session
        self._profile = session.cluster.profile_manager.default
        self._heads: dict[tuple[bytes, bool], bytes] = {}
        self._pending: dict[_Sent, float] = {}  # when they are given up; the first is the oldest
        self._unsent: deque[Answer] = deque()
        self._answers: deque[tuple[_Sent, Any]] = deque()
        self._woken = Event()

    @property
    def in_flight(self) -> int:
        """How many requests were given to `send` and have not come back from `answers`."""
        return len(self._pending) + len(self._unsent)

    def send(self, requests: Iterable[Request]) -> None:
        """Send them to one host, the next that the session's policy names; what goes wrong is among the answers."""
        hosts = self._profile.load_balancing_policy.make_query_plan()
        pools = [pool for host in hosts if (pool := self._session._pools.get(host)) and not pool.is_shutdown]
        # One without a connection has it replaced when it is asked for one; others go first.
        pool = next((pool for pool in pools if pool.open_count), pools[0] if pools else None)
        if pool is None:
            error = NoHostAvailable("", {"all": "no host is up"})
            self._unsent.extend(Answer(request, error=error) for request in requests)
            return
        frames: dict[Any, list[bytes]] = defaultdict(list)
        deadline = time.monotonic() + REQUEST_TIMEOUT
        for request in requests:
            try:
                sent = _Sent(self, request, pool)
            except (ConnectionException, NoConnectionsAvailable) as error:
                self._unsent.append(Answer(request, error=error))
                continue
            self._pending[sent] = deadline
            frames[sent.connection].append(self._frame(sent))
        for connection, many in frames.items():
            connection.in_buffer_size = connection.out_buffer_size = BUFFER_BYTES
            connection.push(b"".join(many))

    def answers(self) -> Iterator[Answer]:
        """Give what has come, and a timeout for what has not come for too long."""
        for _ in range(len(self._answers)):
            sent, response = self._answers.popleft()
            if self._pending.pop(sent, None) is not None:
                yield _answer(sent.request, response)
        while self._unsent:
            yield self._unsent.popleft()
        now = time.monotonic()
        while self._pending and (due := next(iter(self._pending.values()))) <= now:
            sent = next(iter(self._pending))
            if not sent.give_up() and now < due + GRACE_SECONDS:
                break
            del self._pending[sent]
            yield Answer(sent.request, error=OperationTimedOut({str(sent.connection.endpoint): "no answer"}))

    def wait(self, seconds: float) -> None:
        """Wait for so long at most, and no longer than until many answers, or all, have come."""
        if not self._unsent:
            self._woken.wait(seconds)
        self._woken.clear()

    def prepare(self, statement: PreparedStatement) -> None:
        """Make a statement known again to servers that have forgotten it; an error of the driver's if that fails."""
        again = self._session.prepare(statement.query_string)
        if again.query_id != statement.query_id:
            raise DriverException("the server has another id for the statement now")
        # The driver has put the new one in the old one's place, and holds none of them by itself.
        self._session.cluster.add_prepared(statement.query_id, statement)

    def hear(self, sent: _Sent, response: object) -> None:
        """Take a response, on the driver's thread."""
        self._answers.append((sent, response))
        if len(self._answers) >= min(ENOUGH, len(self._pending)):
            self._woken.set()

    def _frame(self, sent: _Sent) -> bytes:
        statement, page = sent.request.statement, sent.request.page
        body = [self._head(statement, continued=page is not None), sent.request.values]
        if statement.result_metadata:
            body.append(struct.pack(">i", statement.fetch_size))
        if page is not None:
            body.append(struct.pack(">i", len(page)) + page)
        whole = b"".join(body)
        return HEADER.pack(VERSION, 0, sent.stream, EXECUTE, len(whole)) + whole

    def _head(self, statement: PreparedStatement, *, continued: bool) -> bytes:
        """What comes before the values of a statement, the same for all of its requests, or all for a next page."""
        head = self._heads.get((statement.query_id, continued))
        if head is None:
            flags = VALUES | (SKIP_METADATA | PAGE_SIZE if statement.result_metadata else 0)
            flags |= PAGING_STATE if continued else 0
            level, columns = self._profile.consistency_level, len(statement.column_metadata)
            named = struct.pack(">h", len(statement.query_id)) + statement.query_id
            head = self._heads[statement.query_id, continued] = named + struct.pack(">hBh", level, flags, columns)
        return head


class _Sent:
    """A request that has a connection and a number there. It is the callback of the driver's connection too."""

    __slots__ = ("_pool", "_wire", "connection", "request", "stream")

    def __init__(self, wire: Wire, request: Request, pool: Any) -> None:  # noqa: ANN401 - the driver is untyped
        self.request = request
        self._wire, self._pool = wire, pool
        self.connection, self.stream = pool.borrow_connection(timeout=REQUEST_TIMEOUT)
        with self.connection.lock:  # or it is lost between the look and the entry, and nobody is told
            lost = self.connection.is_defunct or self.connection.is_closed
            if not lost:
                self.connection._requests[self.stream] = self, _undecoded, None  # no public way to it
        if lost:
            pool.return_connection(self.connection)  # which has it replaced
            raise ConnectionShutdown(f"The connection to {self.connection.endpoint} is closed")

    def __call__(self, response: object) -> None:
        """Be answered: with the body of a result, an error message, or the error of a connection that is lost."""
        try:
            self._pool.return_connection(self.connection)
        finally:
            self._wire.hear(self, response)

    def give_up(self) -> bool:
        """Expect no answer any more; False if the driver does not either: one has come, or the connection is lost.

        Its number is not used again before the answer comes after all.
        """
        if self.connection._requests.pop(self.stream, None) is None:
            return False
        with self.connection.lock:  # as the driver's own requests do
            self.connection.orphaned_request_ids.add(self.stream)
            if len(self.connection.orphaned_request_ids) >= self.connection.orphaned_threshold:
                self.connection.orphaned_threshold_reached = True
        self._pool.return_connection(self.connection, stream_was_orphaned=True)
        return True


def _undecoded(*frame: Any) -> object:  # noqa: ANN401 - as the driver calls its decoders
    """Leave the body of a result as it is; anything else is the driver's to read."""
    flags, opcode, body, decompress = frame[3:7]
    if opcode != RESULT or flags & ~(WARNING_FLAG | COMPRESSED_FLAG):
        return ProtocolHandler.decode_message(*frame)
    if flags & COMPRESSED_FLAG:
        body = decompress(body)
    if flags & WARNING_FLAG:
        after = BytesIO(body)
        for warning in read_stringlist(after):
            log.warning("The server warns: %s", warning)
        return after.read()
    return body


def _answer(request: Request, response: Any) -> Answer:  # noqa: ANN401 - a body, or something of the driver's
    if response == VOID:
        return Answer(request)
    if not isinstance(response, bytes):
        error = response.to_exception() if hasattr(response, "to_exception") else response
        if not isinstance(error, BaseException):
            error = DriverException(f"no answer to a statement: {error!r}")
        return Answer(request, error=error)
    body = BytesIO(response)
    message = ResultMessage(read_int(body))
    message.recv_results_metadata(body, {})
    return Answer(request, Page(read_int(body), response[body.tell() :]), message.paging_state or None)
