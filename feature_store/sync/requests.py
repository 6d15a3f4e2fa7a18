"""Many requests at once: paced, tried again until they are taken, none lost, none given up for being refused."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from threading import Event
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
from cassandra.cluster import NoHostAvailable, Session  # type: ignore[import-untyped]
from cassandra.connection import ConnectionException  # type: ignore[import-untyped]
from cassandra.protocol import (  # type: ignore[import-untyped]
    IsBootstrappingErrorMessage,
    OverloadedErrorMessage,
    ServerError,
)
from cassandra.query import BoundStatement, PreparedStatement  # type: ignore[import-untyped]

from feature_store.sync.pace import Pace

# Throttled requests arrive as timeouts of the server (docs.aws.amazon.com/keyspaces/latest/devguide/
# troubleshooting.serverless.html): the answer is another time, and slower.
REFUSED = (WriteTimeout, ReadTimeout, OverloadedErrorMessage)
# Whether it was done nobody knows: the connection or the server is gone, or slow. All requests here can be done twice.
LOST = (
    OperationTimedOut,
    NoHostAvailable,
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
IDLE_SECONDS = 0.05  # the longest sleep while answers are awaited: they wake us
PROGRESS_SECONDS = 10.0

log = logging.getLogger(__name__)


class RequestError(Exception):
    """A request can't be done, now or ever; the message says why, and `about` which it is, if it is one."""

    def __init__(self, why: str, about: Any = None) -> None:  # noqa: ANN401 - whatever the request is about
        """Keep what it is about."""
        super().__init__(why)
        self.about = about


@dataclass
class Request:
    """A statement with its values, encoded; `about` says what it is about, for whoever takes the answer."""

    statement: PreparedStatement
    values: Sequence[Any]
    about: Any
    page: bytes | None = field(default=None, repr=False)
    lost: int = 0  # times in a row, and of these, those between which others were taken
    lost_alone: int = 0
    seen: int = 0  # how many others were taken by the last time


Take = Callable[[Request, list[Any], bool], None]  # the rows of a page, and whether it is the last


class Requests:
    """Sends the requests of one table. One thread's; the driver's own thread only leaves the answers here."""

    def __init__(self, session: Session, pace: Pace, name: str, patience: float = PATIENCE_SECONDS) -> None:
        """Send by a session, at a pace; `name` is what messages call it, such as `rows written`."""
        self.pace = pace
        self._session = session
        self._name = name
        self._patience = patience
        self._answers: deque[tuple[Request, list[Any] | None, bytes | None, BaseException | None]] = deque()
        self._woken = Event()
        self._in_flight = 0
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
            take: is given each request with the rows of its answer, page by page, and whether it is the last page; on
                this thread.
            total: how many there are, for the progress in the log.

        Raises:
            RequestError: a request is no good, or none was taken for too long. Those before it may be done.
        """
        source, again = iter(requests), deque[Request]()
        more, done, said = True, 0, 0
        self._taken_at = said_at = time.monotonic()
        try:
            while more or again or self._later or self._in_flight or self._answers:
                done += self._answered(again, take)
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    again.append(heappop(self._later)[2])
                if now - said_at >= PROGRESS_SECONDS:
                    log.info(*self._progress(done, total, (done - said) / (now - said_at)))
                    said_at, said = now, done
                self._check_patience(now, None if more else [*again, *(each for *_, each in self._later)])
                room = min(self.pace.credit(), IN_FLIGHT - self._in_flight) if now >= self._paused_until else 0
                while room > 0 and (again or more):
                    request = again.popleft() if again else next(source, None)
                    if request is None:
                        more = False
                        break
                    self._send(request)
                    room -= 1
                if not self._answers and (more or again or self._later or self._in_flight):
                    self._woken.wait(self._idle(now, waits=bool(more or again or self._later)))
                self._woken.clear()
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
        return min(IDLE_SECONDS, max(until, 0.0005)) if self._in_flight < IN_FLIGHT else IDLE_SECONDS

    def _send(self, request: Request) -> None:
        bound = BoundStatement(request.statement)
        bound.values = request.values  # encoded already: binding would do it again
        self.pace.sent()
        self._in_flight += 1
        future = self._session.execute_async(bound, paging_state=request.page)

        def taken(rows: list[Any] | None) -> None:
            self._answers.append((request, rows or [], future._paging_state, None))  # no public way to it
            self._woken.set()

        def failed(error: BaseException) -> None:
            self._answers.append((request, None, None, error))
            self._woken.set()

        future.add_callbacks(taken, failed)

    def _answered(self, again: deque[Request], take: Take) -> int:
        """Deal with the answers that are there; how many requests are done by them."""
        done = 0
        while self._answers:
            request, rows, page, error = self._answers.popleft()
            self._in_flight -= 1
            if error is None:
                self.pace.accept()
                self._taken_at, self._pause, self._lost = time.monotonic(), PAUSE_SECONDS[0], None
                request.lost = request.lost_alone = 0
                self._taken += 1
                take(request, rows or [], not page)
                if page:
                    again.append(Request(request.statement, request.values, request.about, page))
                else:
                    done += 1
            elif isinstance(error, REFUSED):
                self.pace.refuse()
                again.append(request)
            elif isinstance(error, LOST):
                self.pace.lose()
                self._put_off(request, error)
            else:
                self.pace.lose()
                raise RequestError(f"{type(error).__name__}: {error}", request.about) from error
        return done

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
            about = left[0].about if left and len(left) == 1 and not self._in_flight else None
            raise RequestError(f"no request was taken for {self._patience:.0f} s: {why}", about)

    def _settle(self) -> None:
        """Wait for what is in flight: nothing may be done behind the back of whoever goes on."""
        deadline = time.monotonic() + self._patience
        while self._in_flight > len(self._answers) and time.monotonic() < deadline:
            self._woken.wait(IDLE_SECONDS)
            self._woken.clear()
        for _ in range(self._in_flight):
            self.pace.lose()
        self._in_flight = 0
        self._answers.clear()
        self._later.clear()


def _said(error: BaseException) -> str:
    errors = getattr(error, "errors", None)
    causes = list(errors.values()) if isinstance(errors, dict) else []
    return f"{type(error).__name__}: {causes[0] if causes else error}".splitlines()[0]
