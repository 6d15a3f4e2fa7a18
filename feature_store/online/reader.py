"""Read the newest features of entities: one row each, asked for by a prepared statement, within a deadline.

Every read goes the same way: a page of one row (Keyspaces reads, and bills, a megabyte without a page size), tried
again after a pause for as long as the deadline allows it, if what went wrong may pass.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

# The driver ships no types.
from cassandra import ConsistencyLevel, OperationTimedOut, ReadTimeout, Unavailable  # type: ignore[import-untyped]
from cassandra.cluster import (  # type: ignore[import-untyped]
    EXEC_PROFILE_DEFAULT,
    ExecutionProfile,
    NoHostAvailable,
    Session,
)
from cassandra.connection import ConnectionException  # type: ignore[import-untyped]
from cassandra.policies import FallthroughRetryPolicy  # type: ignore[import-untyped]
from cassandra.pool import NoConnectionsAvailable  # type: ignore[import-untyped]
from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage  # type: ignore[import-untyped]
from cassandra.util import Date  # type: ignore[import-untyped]

from feature_store import cql, cql_lint
from feature_store.endpoint import DRIVER_ERRORS, OnlineError
from feature_store.online.answers import (
    Answer,
    DeadlineError,
    StaleError,
    State,
    ThrottledError,
    UnknownFeatureError,
    UnreachableError,
    UnreadableError,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from feature_store.view import FeatureView

# Pauses before another try are random, up to a bound that doubles ("full jitter": AWS Architecture Blog, "Exponential
# Backoff And Jitter"): those who were refused together do not come back together.
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1  # seconds
# What passes, and what it is if it does not until the deadline. Keyspaces says that it has no capacity left by the
# error that Cassandra has for replicas that did not answer; to a client both are the same.
PASSING: Mapping[type[Exception], type[OnlineError]] = {
    ReadTimeout: ThrottledError,
    OverloadedErrorMessage: ThrottledError,
    OperationTimedOut: DeadlineError,
    Unavailable: UnreachableError,
    IsBootstrappingErrorMessage: UnreachableError,
    NoHostAvailable: UnreachableError,
    NoConnectionsAvailable: UnreachableError,
    ConnectionException: UnreachableError,
}
FAILURES = (*DRIVER_ERRORS, ConnectionException, NoConnectionsAvailable)
# A try may take so much of the deadline: one that a dead connection has swallowed leaves time for another.
SHARE_OF_A_TRY = 0.5

Rows = Sequence[Sequence[Any]]


class Observer(Protocol):
    """Who is told of reads, such as feature_store.online.prometheus. It is called for each, and has to be quick."""

    def answered(self, view: str, answer: Answer) -> None:
        """Hear of the answer of one entity."""

    def called(self, view: str, call: str, seconds: float, error: OnlineError | None) -> None:
        """Hear of a call (get or get_many), how long it took, and what it has ended with, if that was no answer."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a reader reads.

    Attributes:
        features: which, in the order of the answers; None is all of the view.
        max_age: days; features of an older day are stale. None takes them of any age.
        refuse_stale: whether stale ones are an error, and no answer.
        strong: whether a quorum has to agree (LOCAL_QUORUM: what was written is read); else one replica answers
            (LOCAL_ONE: half the read units on Keyspaces, and maybe not yet what was just written).
        deadline: seconds for a call, all tries included; of `get_many` for all of its entities.
        concurrency: how many reads of `get_many` may be under way at once.
        observer: who is told of each read.
    """

    features: Sequence[str] | None = None
    max_age: int | None = None
    refuse_stale: bool = False
    strong: bool = True
    deadline: float = 1.0
    concurrency: int = 64
    observer: Observer | None = None


class Reader:
    """Reads the newest features of one view. Thread-safe; made once, by `Connection.reader`, and used for all reads."""

    def __init__(
        self,
        session: Session,
        view: FeatureView,
        keyspace: str,
        options: Options,
        today: Callable[[], dt.date] = lambda: dt.datetime.now(dt.UTC).date(),
    ) -> None:
        """Prepare the statement.

        Raises:
            UnknownFeatureError: the view lacks a feature that is asked for.
            ValueError: an option is out of its bounds.
            OnlineError: the statement can't be prepared.
        """
        self.view = view
        self.options = options
        self.features = _features(view, options)
        self._session, self._today = session, today
        self._profile = _profile(session, strong=options.strong)
        try:
            self._statement = session.prepare(cql_lint.checked(cql.latest(view, keyspace, (view.day, *self.features))))
        except DRIVER_ERRORS as error:
            raise OnlineError(f"The latest {view.name} can't be asked for: {error}") from error
        self._statement.fetch_size = 1

    def get(self, entity: str) -> Answer:
        """Read one entity.

        Raises:
            ThrottledError, UnreachableError, DeadlineError: not until the deadline.
            StaleError: its features are too old, and the reader refuses such.
            UnreadableError: the row is none of the view.
            OnlineError: the server refuses the read for another reason.
        """
        with self._observed("get"):
            tries = _Tries(self.options.deadline)
            while True:
                try:
                    rows = self._ask(entity, tries).result().current_rows
                    break
                except FAILURES as error:
                    time.sleep(self._pause(entity, tries, error))
            return self._answer(entity, rows)

    def get_many(self, entities: Iterable[str]) -> list[Answer]:
        """Read entities, several at once; answers in their order. Raises as `get` does, for the first that fails.

        Args:
            entities: any number; one that is there twice is read once.
        """
        with self._observed("get_many"):
            wanted = list(entities)
            found = self._read_all(dict.fromkeys(wanted))
            answers = {entity: self._answer(entity, rows) for entity, rows in found.items()}
            return [answers[entity] for entity in wanted]

    async def aget(self, entity: str) -> Answer:
        """Read one entity without holding up the event loop; as `get` in all else."""
        with self._observed("get"):
            return await self._aget(entity, _Tries(self.options.deadline))

    async def aget_many(self, entities: Iterable[str]) -> list[Answer]:
        """Read entities, several at once, without holding up the event loop; as `get_many` in all else."""
        with self._observed("get_many"):
            wanted = list(entities)
            tries, free = _Tries(self.options.deadline), asyncio.Semaphore(self.options.concurrency)

            async def one(entity: str) -> Answer:
                async with free:
                    return await self._aget(entity, tries.again())

            tasks = {entity: asyncio.create_task(one(entity)) for entity in dict.fromkeys(wanted)}
            try:
                await asyncio.gather(*tasks.values())
            finally:
                for task in tasks.values():  # of those that are left when one has failed
                    task.cancel()
            return [tasks[entity].result() for entity in wanted]

    async def _aget(self, entity: str, tries: _Tries) -> Answer:
        while True:
            try:
                rows = await self._awaited(entity, tries)
                break
            except FAILURES as error:
                await asyncio.sleep(self._pause(entity, tries, error))
        return self._answer(entity, rows)

    async def _awaited(self, entity: str, tries: _Tries) -> Rows:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Rows] = loop.create_future()

        def settle(rows: Rows | None, error: Exception | None) -> None:
            if answer.done():  # cancelled
                return
            if error:
                answer.set_exception(error)
            else:
                answer.set_result(rows or ())

        self._ask(entity, tries).add_callbacks(
            lambda rows: loop.call_soon_threadsafe(settle, rows, None),
            lambda error: loop.call_soon_threadsafe(settle, None, error),
        )
        return await answer

    def _read_all(self, entities: Iterable[str]) -> dict[str, Rows]:
        shared = _Tries(self.options.deadline)
        ready = deque((entity, shared.again()) for entity in entities)
        paused: list[tuple[float, int, tuple[str, _Tries]]] = []  # when they are ready again
        heard: SimpleQueue[tuple[tuple[str, _Tries], Rows | None, Exception | None]] = SimpleQueue()
        found: dict[str, Rows] = {}
        under_way = 0
        while ready or paused or under_way:
            while ready and under_way < self.options.concurrency:
                read = ready.popleft()
                self._ask(*read).add_callbacks(
                    lambda rows, read=read: heard.put((read, rows, None)),
                    lambda error, read=read: heard.put((read, None, error)),
                )
                under_way += 1
            try:
                wait = max(0.0, paused[0][0] - time.monotonic()) if paused else None
                read, rows, error = heard.get(timeout=wait)
            except Empty:
                ready.append(heapq.heappop(paused)[2])
                continue
            under_way -= 1
            if error is None:
                found[read[0]] = rows or ()
            elif isinstance(error, FAILURES):
                heapq.heappush(paused, (time.monotonic() + self._pause(*read, error), id(read), read))
            else:
                raise error
        return found

    def _ask(self, entity: str, tries: _Tries) -> Any:  # noqa: ANN401 - the driver's ResponseFuture
        if not isinstance(entity, str):
            raise TypeError(f"An entity of {self.view.name} is a text, not {entity!r}.")
        return self._session.execute_async(
            self._statement, (entity,), execution_profile=self._profile, timeout=tries.timeout()
        )

    def _pause(self, entity: str, tries: _Tries, error: Exception) -> float:
        """Seconds until the next try; raises what the read has ended with if there is to be none."""
        kind = next((kind for of, kind in PASSING.items() if isinstance(error, of)), None)
        what = f"The latest {self.view.name} of {entity!r} can't be read"
        if kind is None:
            raise OnlineError(f"{what}: {error}") from error
        pause = tries.pause()
        if pause is None:
            raise kind(f"{what} within {self.options.deadline:g} s, in {tries.count} tries: {error}") from error
        return pause

    def _answer(self, entity: str, rows: Rows) -> Answer:
        answer = self._read_row(entity, rows[0]) if rows else Answer(entity, State.MISSING)
        if self.options.observer:
            self.options.observer.answered(self.view.name, answer)
        if answer.state is State.STALE and self.options.refuse_stale:
            raise StaleError(
                f"The latest {self.view.name} of {entity!r} are of {answer.day}, {answer.age} days ago: more than "
                f"{self.options.max_age}."
            )
        return answer

    def _read_row(self, entity: str, row: Sequence[Any]) -> Answer:
        try:
            day, *values = [value.date() if isinstance(value, Date) else value for value in row]
        except (ValueError, OverflowError) as error:
            raise UnreadableError(f"The row of {self.view.name} of {entity!r} is unreadable: {error}") from error
        age = (self._today() - day).days
        if age < 0:
            raise UnreadableError(f"The row of {self.view.name} of {entity!r} is of {day}, a day that is not over.")
        stale = self.options.max_age is not None and age > self.options.max_age
        features: dict[str, Value] = dict(zip(self.features, values, strict=True))
        return Answer(entity, State.STALE if stale else State.FOUND, day, age, features)

    @contextmanager
    def _observed(self, call: str) -> Iterator[None]:
        if self.options.observer is None:
            yield
            return
        began, failed = time.perf_counter(), None
        try:
            yield
        except OnlineError as error:
            failed = error
            raise
        finally:
            self.options.observer.called(self.view.name, call, time.perf_counter() - began, failed)


class _Tries:
    """The time of a call, and the tries of one read in it."""

    __slots__ = ("_ends", "_longest", "count")

    def __init__(self, deadline: float, ends: float | None = None) -> None:
        self.count = 0
        self._longest = deadline * SHARE_OF_A_TRY
        self._ends = time.monotonic() + deadline if ends is None else ends

    def again(self) -> _Tries:
        """Another read in the same call."""
        return _Tries(self._longest / SHARE_OF_A_TRY, self._ends)

    def timeout(self) -> float:
        """Begin a try; seconds that it has."""
        self.count += 1
        return max(0.001, min(self._longest, self._ends - time.monotonic()))

    def pause(self) -> float | None:
        """Seconds until the next try; None if the call is over by then."""
        pause = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self.count - 1)))  # noqa: S311 - no secret
        return pause if time.monotonic() + pause < self._ends else None


def _features(view: FeatureView, options: Options) -> tuple[str, ...]:
    for name in ("deadline", "concurrency"):
        if getattr(options, name) <= 0:
            raise ValueError(f"{name} is {getattr(options, name)}: it has to be more than 0.")
    if options.max_age is not None and options.max_age < 0:
        raise ValueError(f"max_age is {options.max_age}: it is a number of days, 0 or more.")
    of_view = [column.name for column in view.columns if column.name not in (view.entity, view.day)]
    if options.features is None:
        return tuple(of_view)
    unknown = [name for name in options.features if name not in of_view]
    if unknown or not options.features:
        raise UnknownFeatureError(
            f"{view.name} has no feature {', '.join(map(repr, unknown)) or 'of no name'}: it has {', '.join(of_view)}."
        )
    return tuple(options.features)


def _profile(session: Session, *, strong: bool) -> ExecutionProfile:
    """Derive how reads are executed: at the same servers, with no retries of the driver's, which know no pause."""
    return session.execution_profile_clone_update(
        EXEC_PROFILE_DEFAULT,
        consistency_level=ConsistencyLevel.LOCAL_QUORUM if strong else ConsistencyLevel.LOCAL_ONE,
        retry_policy=FallthroughRetryPolicy(),
        row_factory=lambda _, rows: rows,
    )
