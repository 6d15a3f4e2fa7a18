"""Many requests at once: paced, tried again until they are taken, none lost, none given up for being refused."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any

# The driver ships no types.
from cassandra import (  # type: ignore[import-untyped]
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    Unavailable,
    WriteFailure,
    WriteTimeout,
)
from cassandra.cluster import NoHostAvailable  # type: ignore[import-untyped]
from cassandra.connection import ConnectionException  # type: ignore[import-untyped]
from cassandra.pool import NoConnectionsAvailable  # type: ignore[import-untyped]
from cassandra.protocol import (  # type: ignore[import-untyped]
    IsBootstrappingErrorMessage,
    OverloadedErrorMessage,
    PreparedQueryNotFound,
    ServerError,
)
from cassandra.query import PreparedStatement  # type: ignore[import-untyped]

from feature_store.endpoint import DRIVER_ERRORS
from feature_store.sync.cells import Page
from feature_store.sync.pace import Pace
from feature_store.sync.wire import Answer, Request, Wire

# Throttled requests arrive as timeouts of the server (docs.aws.amazon.com/keyspaces/latest/devguide/
# troubleshooting.serverless.html): the answer is another time, and slower.
REFUSED = (WriteTimeout, ReadTimeout, OverloadedErrorMessage)
# Whether it was done nobody knows: the connection or the server is gone, or slow. All requests here can be done twice.
LOST = (
    OperationTimedOut,
    NoHostAvailable,
    NoConnectionsAvailable,
    ConnectionException,
    Unavailable,
    WriteFailure,
    ReadFailure,
    IsBootstrappingErrorMessage,
    ServerError,
)
IN_FLIGHT = 256  # hides the way there and back at 20,000 a second and 12 ms
PATIENCE_SECONDS = 120.0  # without a single request taken
PAUSE_SECONDS = 0.1, 2.0  # after a lost request, doubled up to the second
LOST_TRIES = 20  # of one request, between which others are taken: then it is this request that can't be done
IDLE_SECONDS = 0.05  # the longest sleep while answers are awaited: enough of them wake us
# The shortest while there is room: what is sent, and answered, one by one costs several times more.
BEAT_SECONDS = 0.004
PROGRESS_SECONDS = 10.0

log = logging.getLogger(__name__)


class RequestError(Exception):
    """A request can't be done, now or ever; the message says why, and `about` which it is, if it is one."""

    def __init__(self, why: str, about: Any = None) -> None:  # noqa: ANN401 - whatever the request is about
        """Keep what it is about."""
        super().__init__(why)
        self.about = about


Take = Callable[[Request, Page | None, bool], None]  # a page of rows, if it is a read, and whether it is the last


class Requests:
    """Sends the requests of one table. One thread's."""

    def __init__(self, wire: Wire, pace: Pace, name: str, patience: float = PATIENCE_SECONDS) -> None:
        """Send over a wire, at a pace; `name` is what messages call it, such as `rows written`."""
        self.pace = pace
        self._wire = wire
        self._name = name
        self._patience = patience
        self._taken_at = time.monotonic()
        self._pause, self._paused_until = PAUSE_SECONDS[0], 0.0
        self._lost: BaseException | None = None  # the last one, if nothing was taken since
        self._later: list[tuple[float, int, Request]] = []  # a heap of lost ones: when they are due, a number
        self._number = count()
        self._taken = 0

    def send(self, requests: Iterable[Request], take: Take, total: int) -> None:
        """Send all requests and return when each of them was taken, however often that took.

        Args:
            requests: in the order in which they are first sent.
            take: is given each request with its answer, page by page.
            total: how many there are, for the progress in the log.

        Raises:
            RequestError: a request is no good, or none was taken for too long. Those before it may be done.
        """
        source, again = iter(requests), deque[Request]()
        more, done, said = True, 0, 0
        self._taken_at = said_at = time.monotonic()
        try:
            while more or again or self._later or self._wire.in_flight:
                done += self._answered(again, take)
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    again.append(heappop(self._later)[2])
                if now - said_at >= PROGRESS_SECONDS:
                    log.info(*self._progress(done, total, (done - said) / (now - said_at)))
                    said_at, said = now, done
                self._check_patience(now, None if more else [*again, *(each for *_, each in self._later)])
                room = min(self.pace.credit(), IN_FLIGHT - self._wire.in_flight) if now >= self._paused_until else 0
                sending: list[Request] = []
                while len(sending) < room and (again or more):
                    request = again.popleft() if again else next(source, None)
                    if request is None:
                        more = False
                        break
                    sending.append(request)
                    self.pace.sent()
                if sending:
                    self._wire.send(sending)
                waits = bool(more or again or self._later)
                if waits or self._wire.in_flight:
                    self._wire.wait(self._idle(now, waits=waits))
        finally:
            self._settle()

    def _progress(self, done: int, total: int, rate: float) -> tuple[str, ...]:
        pace = self.pace
        refused = f", {pace.refused:,} refused so far" if pace.refused else ""
        return "%s of %s %s, %s a second%s.", f"{done:,}", f"{total:,}", self._name, f"{rate:,.0f}", refused

    def _idle(self, now: float, *, waits: bool) -> float:
        if not waits:
            return IDLE_SECONDS
        until = self._paused_until - now if now < self._paused_until else self.pace.wait()
        if self._later:
            until = min(until, self._later[0][0] - now)
        return min(IDLE_SECONDS, max(until, BEAT_SECONDS)) if self._wire.in_flight < IN_FLIGHT else IDLE_SECONDS

    def _answered(self, again: deque[Request], take: Take) -> int:
        """Deal with the answers that are there; how many requests are done by them."""
        done = 0
        forgotten: dict[bytes, PreparedStatement] = {}
        for answer in self._wire.answers():
            request, error = answer.request, answer.error
            if error is None:
                done += self._accept(answer, again, take)
            elif isinstance(error, REFUSED):
                self.pace.refuse()
                again.append(request)
            elif isinstance(error, PreparedQueryNotFound):  # the table was altered, or the server is a new one
                self.pace.lose()
                forgotten[request.statement.query_id] = request.statement
                self._lost = error
                again.append(request)
            elif isinstance(error, LOST):
                self.pace.lose()
                self._put_off(request, error)
            else:
                self.pace.lose()
                raise RequestError(f"{type(error).__name__}: {error}", request.about) from error
        for statement in forgotten.values():
            self._prepare(statement)
        return done

    def _accept(self, answer: Answer, again: deque[Request], take: Take) -> bool:
        """Take a page; whether it is the last."""
        request = answer.request
        self.pace.accept()
        self._taken_at, self._pause, self._lost = time.monotonic(), PAUSE_SECONDS[0], None
        request.lost = request.lost_alone = 0
        self._taken += 1
        take(request, answer.page, not answer.next_page)
        if answer.next_page:
            again.append(Request(request.statement, request.values, request.about, answer.next_page))
        return not answer.next_page

    def _prepare(self, statement: PreparedStatement) -> None:
        try:
            self._wire.prepare(statement)
        except (*REFUSED, *LOST) as error:  # the next one that is not known has it tried again
            self._lost = error
        except DRIVER_ERRORS as error:
            raise RequestError(f"{type(error).__name__}: {error}") from error

    def _put_off(self, request: Request, error: BaseException) -> None:
        """Send a lost request again a little later; and nothing else either, if it is not the only one.

        Raises:
            RequestError: it was lost again and again, while others were taken.
        """
        now, outage = time.monotonic(), self._lost is not None
        request.lost += 1
        request.lost_alone += self._taken > request.seen
        request.seen = self._taken
        if request.lost_alone >= LOST_TRIES:
            raise RequestError(f"{request.lost} times in a row: {_said(error)}", request.about) from error
        due = now + min(PAUSE_SECONDS[1], PAUSE_SECONDS[0] * 2.0 ** (request.lost - 1))
        heappush(self._later, (due, next(self._number), request))
        self._lost = error
        if not outage or now < self._paused_until:  # it may be the only one; or it is of the same outage
            return
        if self._pause == PAUSE_SECONDS[0]:
            log.warning("Requests are lost (%s): trying again.", _said(error))
        self._paused_until = now + self._pause
        self._pause = min(PAUSE_SECONDS[1], self._pause * 2)

    def _check_patience(self, now: float, left: Sequence[Request] | None) -> None:
        """Give up if nothing was taken for too long; `left` are those that wait, if they are all that there is."""
        if now - self._taken_at > self._patience:
            why = _said(self._lost) if self._lost else "every request was refused for want of capacity"
            about = left[0].about if left and len(left) == 1 and not self._wire.in_flight else None
            raise RequestError(f"no request was taken for {self._patience:.0f} s: {why}", about)

    def _settle(self) -> None:
        """Wait for what is in flight: nothing may be done behind the back of whoever goes on."""
        deadline = time.monotonic() + self._patience
        while self._wire.in_flight and time.monotonic() < deadline:
            for _ in self._wire.answers():
                self.pace.lose()
            if self._wire.in_flight:
                self._wire.wait(IDLE_SECONDS)
        for _ in range(self._wire.in_flight):
            self.pace.lose()
        self._later.clear()


def _said(error: BaseException) -> str:
    errors = getattr(error, "errors", None)
    causes = list(errors.values()) if isinstance(errors, dict) else []
    return f"{type(error).__name__}: {causes[0] if causes else error}".splitlines()[0]
