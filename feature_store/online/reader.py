"""Read the newest features of entities: one row each, asked for by a prepared statement, within a deadline.

Every read goes the same way: a page of one row (Keyspaces reads, and bills, a megabyte without a page size), tried
again after a pause for as long as the deadline allows it, if what went wrong may pass. A try that has no answer when
half of the deadline is over is not given up: another endpoint is asked as well, if there is one.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import heapq
import math
import operator
import os
import time
import zoneinfo
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

# The driver ships no types.
from cassandra import (  # type: ignore[import-untyped]
    ConsistencyLevel,
    OperationTimedOut,
)
from cassandra.cluster import (  # type: ignore[import-untyped]
    EXEC_PROFILE_DEFAULT,
    ExecutionProfile,
    Session,
)
from cassandra.policies import (  # type: ignore[import-untyped]
    ConstantSpeculativeExecutionPolicy,
    FallthroughRetryPolicy,
)
from cassandra.query import tuple_factory  # type: ignore[import-untyped]
from cassandra.util import Date  # type: ignore[import-untyped]

from feature_store import cql, cql_lint
from feature_store.endpoint import DRIVER_ERRORS, OnlineError, UndecodableError
from feature_store.function import Type
from feature_store.keyspaces import ENTITY_BYTES
from feature_store.online.answers import (
    Answer,
    EntityError,
    PoisonedRowError,
    ReadError,
    RefusedError,
    StaleError,
    State,
    UnknownFeatureError,
)
from feature_store.online.many import Found, Heard, Read, Rows
from feature_store.online.tries import Tries, kind_of
from feature_store.window import EPOCH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from feature_store.view import FeatureView

# So much of the deadline is over when another endpoint is asked, too. It is a read more to pay for, which a slow
# endpoint, or a connection that is dead without a word, makes worth it.
SECOND_ASKED_AFTER = 0.5
QUARTER = 15 * 60  # seconds
# Of the reads of a call for many that are under way, the share that is answered when more are begun, so that one wakes
# for several; but if the others are slow, not after so many seconds.
REFILLED_AT, REFILLED_AFTER = 0.25, 0.002
KINDS_OF_ROWS = 1024  # kept, each by the types of a row's values; where they are null they differ
KINDS: Mapping[Type, type] = {  # as the driver has them
    Type.TEXT: str,
    Type.DATE: Date,
    Type.INT: int,
    Type.BIGINT: int,
    Type.DOUBLE: float,
}


class Observer(Protocol):
    """Who is told of reads, such as feature_store.online.prometheus.

    It is called for each, by whichever thread reads: it has to be quick, and to raise nothing.
    """

    def answered(self, view: str, answer: Answer) -> None:
        """Hear of the answer of one entity."""

    def failed(self, view: str, kind: type[ReadError]) -> None:
        """Hear of a try that has failed with what may pass, and what it is if it does not until the deadline."""

    def called(self, view: str, call: str, seconds: float, error: BaseException | None) -> None:
        """Hear of a call (get or get_many), how long it took, and what it has ended with, if that was no answer.

        That may be an asyncio.CancelledError, too.
        """


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a reader reads.

    Attributes:
        features: which, in the order of the answers; None is all of the view.
        max_age: days; features of an older day are stale. None takes them of any age.
        refuse_stale: whether stale ones are an error, and no answer.
        zone: the time zone whose days the features are of, as training sets have it: an answer's age is counted from
            its day to today there.
        strong: whether a quorum has to agree (LOCAL_QUORUM: what was written is read); else one replica answers
            (LOCAL_ONE: half the read units on Keyspaces, and maybe not yet what was just written).
        deadline: seconds for a call, all tries included; of `get_many` for all of its entities.
        concurrency: how many reads of `get_many` may be under way at once.
        observer: who is told of each read.
    """

    features: Sequence[str] | None = None
    max_age: int | None = None
    refuse_stale: bool = False
    zone: str = "UTC"
    strong: bool = True
    deadline: float = 1.0
    concurrency: int = 100  # as the driver has it for its own helper; with fewer, a hundred entities take longer
    observer: Observer | None = None


class Reader:
    """Reads the newest features of one view. Thread-safe; made once, by `Connection.reader`, and used for all reads."""

    def __init__(
        self,
        session: Session,
        view: FeatureView,
        keyspace: str,
        options: Options,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare the statement.

        Raises:
            UnknownFeatureError: the view lacks a feature that is asked for.
            ValueError, TypeError: an option is out of its bounds, or of another type.
            OnlineError: the statement can't be prepared.
        """
        self.view = view
        self.options = options
        self.features = _features(view, options)
        self._zone = _zone(options.zone)
        kinds = {column.name: KINDS[column.type] for column in view.columns}
        self._names = (view.day, *self.features)
        self._types = tuple(kinds[name] for name in self._names)
        self._dates = tuple(place for place, name in enumerate(self.features) if kinds[name] is Date)
        self._doubles_of = functools.lru_cache(KINDS_OF_ROWS)(functools.partial(_doubles, self._types))
        self._max_age = math.inf if options.max_age is None else options.max_age
        self._session, self._clock, self._process = session, clock, os.getpid()
        self._today = (-1.0, 0)  # which quarter of an hour it was looked at in, and its number
        self._profile = _profile(session, options)
        try:
            self._statement = session.prepare(cql_lint.checked(cql.latest(view, keyspace, (view.day, *self.features))))
        except DRIVER_ERRORS as error:
            raise OnlineError(f"The latest {view.name} can't be asked for: {error}") from error
        self._statement.fetch_size = 1
        self._statement.is_idempotent = True  # or the driver would ask no other endpoint

    def get(self, entity: str) -> Answer:
        """Read one entity.

        Raises:
            ThrottledError, UnreachableError, DeadlineError: not until the deadline.
            StaleError: its features are too old, and the reader refuses such.
            PoisonedRowError: the row is none of the view.
            EntityError: no row can be of such an entity.
            RefusedError: the server refuses the read.
            OnlineError: the connection is another process's, which has forked.
        """
        if self.options.observer is None:
            return self._get(entity)
        with self._observed("get"):
            return self._get(entity)

    def get_many(self, entities: Iterable[str]) -> list[Answer]:
        """Read entities, several at once; answers in their order.

        Args:
            entities: any number; one that is there twice is read once.

        Raises:
            ReadError: as `get`, for the first that failed. The answers of the others are in its `answers`.
        """
        with self._observed("get_many"):
            wanted = _several(entities)
            found = Found(self._answer)
            self._read_all(dict.fromkeys(wanted), found)
            return found.of(wanted)

    async def aget(self, entity: str) -> Answer:
        """Read one entity without holding up the event loop; as `get` in all else."""
        with self._observed("get"):
            tries = Tries.within(self.options.deadline)
            return self._answer(entity, await self._awaited(entity, tries))

    async def aget_many(self, entities: Iterable[str]) -> list[Answer]:
        """Read entities, several at once, without holding up the event loop; as `get_many` in all else."""
        with self._observed("get_many"):
            wanted = _several(entities)
            found, shared = Found(self._answer), Tries.within(self.options.deadline)
            left = iter(dict.fromkeys(wanted))

            async def read() -> None:
                for entity in left:
                    if found.refused or (found.failed and shared.over):
                        break
                    try:
                        rows = await self._awaited(entity, shared.again())
                    except ReadError as error:
                        found.fail(error)
                    else:
                        found.take(entity, rows)

            tasks = [asyncio.create_task(read()) for _ in range(min(self.options.concurrency, len(wanted)))]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:  # those that are left, when one has ended with what is no ReadError
                    task.cancel()
            return found.of(wanted)

    def _get(self, entity: str) -> Answer:
        deadline = self.options.deadline
        ends = time.monotonic() + deadline
        try:
            rows = self._send(entity, deadline).result().current_rows
        except DRIVER_ERRORS as error:  # what counts tries is made where there is more than one
            rows = self._again(entity, Tries(ends, 1), error)
        return self._answer(entity, rows)

    def _again(self, entity: str, tries: Tries, error: Exception) -> Rows:
        while True:
            time.sleep(self._pause(entity, tries, error))
            try:
                rows: Rows = self._ask(entity, tries).result().current_rows
            except DRIVER_ERRORS as another:
                error = another
            else:
                return rows

    async def _awaited(self, entity: str, tries: Tries) -> Rows:
        while True:
            try:
                return await self._asked(entity, tries)
            except DRIVER_ERRORS as error:
                await asyncio.sleep(self._pause(entity, tries, error))

    async def _asked(self, entity: str, tries: Tries) -> Rows:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Rows] = loop.create_future()

        def settle(rows: Rows | None, error: Exception | None) -> None:
            if answer.done():  # cancelled, or it is the second answer of two endpoints
                return
            if error:
                answer.set_exception(error)
            else:
                answer.set_result(rows or ())

        def heard(rows: Rows | None, error: Exception | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, rows, error)

        self._ask(entity, tries).add_callbacks(lambda rows: heard(rows, None), lambda error: heard(None, error))
        return await answer

    def _read_all(self, entities: Iterable[str], found: Found) -> None:
        shared = Tries.within(self.options.deadline)
        ready = deque(Read(entity, shared.again()) for entity in entities)
        paused: list[tuple[float, int, Read]] = []  # when they are ready again
        heard = Heard()
        under_way = 0

        def pause(read: Read, error: Exception) -> None:
            try:
                seconds = self._pause(read.entity, read.tries, error)
            except ReadError as failure:
                found.fail(failure)
            else:
                heapq.heappush(paused, (time.monotonic() + seconds, id(read), read))

        def settle(read: Read, rows: Rows | None, error: Exception | None) -> None:
            if error is None:
                found.take(read.entity, rows or ())
            elif isinstance(error, DRIVER_ERRORS):
                pause(read, error)
            else:
                raise error

        while (ready or paused or under_way) and not found.refused:
            while ready and under_way < self.options.concurrency:
                read = ready.popleft()
                try:
                    self._begin(read, heard)
                except EntityError as impossible:
                    found.fail(impossible)
                except OperationTimedOut as over:  # the deadline is, for all that have not begun
                    pause(read, over)
                    ready.clear()
                    paused.clear()
                else:
                    under_way += 1
            if under_way or paused:
                # One that wakes for each answer by itself keeps the driver's thread from reading the next.
                enough = math.ceil(under_way * REFILLED_AT) if ready else under_way
                until = min(
                    paused[0][0] - time.monotonic() if paused else math.inf, REFILLED_AFTER if ready else math.inf
                )
                heard.wait(max(1, enough), None if until == math.inf else until)
            while paused and paused[0][0] <= time.monotonic():
                ready.append(heapq.heappop(paused)[2])
            for read, count, rows, error in heard.take():
                if count <= read.heard:  # the second answer of two endpoints
                    continue
                read.heard = count
                under_way -= 1
                settle(read, rows, error)

    def _begin(self, read: Read, heard: Heard) -> None:
        asked, count = self._ask(read.entity, read.tries), read.tries.count
        asked.add_callbacks(
            lambda rows: heard.put((read, count, rows, None)), lambda error: heard.put((read, count, None, error))
        )

    def _ask(self, entity: str, tries: Tries) -> Any:  # noqa: ANN401 - the driver's ResponseFuture
        return self._send(entity, tries.begin())

    def _send(self, entity: str, seconds: float) -> Any:  # noqa: ANN401 - the driver's ResponseFuture
        if not isinstance(entity, str):
            raise TypeError(f"An entity of {self.view.name} is a text, not {entity!r}.")
        if os.getpid() != self._process:  # where the driver's thread is not: no answer would come, and no deadline
            raise OnlineError("The connection is another process's: one that forks makes its own after the fork.")
        if not _can_be(entity):
            raise EntityError(
                f"Nobody in {self.view.name} is {entity[:50]!r}: an entity has 1 to {ENTITY_BYTES} bytes of UTF-8."
            )
        return self._session.execute_async(self._statement, (entity,), execution_profile=self._profile, timeout=seconds)

    def _pause(self, entity: str, tries: Tries, error: Exception) -> float:
        """Seconds until the next try; raises what the read has ended with if there is to be none."""
        of = f"{self.view.name} of {entity!r}"
        if isinstance(error, UndecodableError):
            raise PoisonedRowError(f"The row of {of} is unreadable: {error}") from error
        kind = kind_of(error)
        if kind is None:
            raise RefusedError(f"The latest {of} can't be read: {error}") from error
        kind = tries.told(kind)
        if self.options.observer:
            self.options.observer.failed(self.view.name, kind)
        pause = tries.pause()
        if pause is None:
            within = self.options.deadline
            raise kind(f"The latest {of} can't be read within {within:g} s, in {tries.count} tries: {error}") from error
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
        """Make an answer of a row, days as Python has them; PoisonedRowError if it is none of the view.

        All reads come by here, each with its code and data gone from the processor's cache while the server was
        waited for: that nothing is wrong with a row, and no value of it null, is seen in few steps.
        """
        doubles = self._doubles_of(tuple(map(type, row)))
        # The sum of what is finite is finite, unless it is beyond all numbers: then each value is looked at.
        if doubles is None or not math.isfinite(sum(doubles(row))):
            self._look_at_each(entity, row)  # which raises if it is none of the view
        number = row[0].days_from_epoch
        age = self._days_to_today(number)
        try:
            day = dt.date.fromordinal(number + EPOCH)
            values = _with_days(row[1:], self._dates) if self._dates else row[1:]
        except (ValueError, OverflowError) as error:
            raise PoisonedRowError(f"The row of {self.view.name} of {entity!r} is unreadable: {error}") from error
        if age < 0:
            raise PoisonedRowError(f"The row of {self.view.name} of {entity!r} is of {day}, a day that has not begun.")
        return Answer(entity, State.STALE if age > self._max_age else State.FOUND, day, age, self.features, values)

    def _look_at_each(self, entity: str, row: Sequence[Any]) -> None:
        """Raise PoisonedRowError if a value is none of its column; any feature may be null."""
        if len(row) != len(self._names):
            raise PoisonedRowError(f"The row of {self.view.name} of {entity!r} has {len(row)} values.")
        for name, kind, value in zip(self._names, self._types, row, strict=True):
            unfit = type(value) is not kind or (isinstance(value, float) and not math.isfinite(value))
            if unfit and (value is not None or name == self.view.day):
                what = f"The row of {self.view.name} of {entity!r} of {row[0]}"
                raise PoisonedRowError(f"{what} has {name} {value!r}, which no row of the view has.")

    def _days_to_today(self, number: int) -> int:
        """Days from a day, by its number from 1970, to today in the zone.

        Today is looked at once in a quarter of an hour: a day begins with one, in each zone as zones are today.
        """
        now = self._clock()
        quarter, today = self._today
        if now // QUARTER != quarter:
            today = dt.datetime.fromtimestamp(now, self._zone).toordinal() - EPOCH
            self._today = (now // QUARTER, today)
        return today - number

    @contextmanager
    def _observed(self, call: str) -> Iterator[None]:
        if self.options.observer is None:
            yield
            return
        began, failed = time.perf_counter(), None
        try:
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            self.options.observer.called(self.view.name, call, time.perf_counter() - began, failed)


def _doubles(of_view: Sequence[type], of_row: Sequence[type]) -> Callable[[Sequence[Any]], Iterable[float]] | None:
    """Give what takes the doubles of a row whose values are of these types; None if it is no row of the view."""
    if len(of_row) != len(of_view):
        return None
    nulls_aside = zip(of_view[1:], of_row[1:], strict=True)
    if of_row[0] is not of_view[0] or any(kind not in (own, type(None)) for own, kind in nulls_aside):
        return None
    places = [place for place, kind in enumerate(of_row) if kind is float]
    return operator.itemgetter(*places) if len(places) > 1 else lambda row: [row[place] for place in places]


def _with_days(values: Sequence[Any], places: Iterable[int]) -> tuple[Any, ...]:
    """Give the values with those at the places as Python has days."""
    made = list(values)
    for place in places:
        if made[place] is not None:
            made[place] = dt.date.fromordinal(made[place].days_from_epoch + EPOCH)
    return tuple(made)


def _can_be(entity: str) -> bool:
    try:
        return 0 < len(entity.encode()) <= ENTITY_BYTES
    except UnicodeEncodeError:  # half of a pair of surrogates, as JSON may have it
        return False


def _several(entities: Iterable[str]) -> list[str]:
    if isinstance(entities, str):
        raise TypeError(f"Entities are a list of texts, not the text {entities!r}.")
    return list(entities)


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"zone is {name!r}: names of time zones are like Europe/London.") from error


def _features(view: FeatureView, options: Options) -> tuple[str, ...]:
    for name in ("deadline", "concurrency"):
        if not getattr(options, name) > 0:  # a NaN, too, which would be in the way of all timers of the driver
            raise ValueError(f"{name} is {getattr(options, name)}: it has to be more than 0.")
    if options.max_age is not None and options.max_age < 0:
        raise ValueError(f"max_age is {options.max_age}: it is a number of days, 0 or more.")
    if isinstance(options.features, str):
        raise TypeError(f"features is the text {options.features!r}: it is a list of names.")
    of_view = [column.name for column in view.columns if column.name not in (view.entity, view.day)]
    if options.features is None:
        return tuple(of_view)
    wanted = tuple(dict.fromkeys(options.features))  # one that is asked for twice is there once
    unknown = [name for name in wanted if name not in of_view]
    if unknown or not wanted:
        raise UnknownFeatureError(
            f"{view.name} has no feature {', '.join(map(repr, unknown)) or 'of no name'}: it has {', '.join(of_view)}."
        )
    return wanted


def _profile(session: Session, options: Options) -> ExecutionProfile:
    """Derive how reads are executed: at the same servers, with no retries of the driver's, which know no pause."""
    return session.execution_profile_clone_update(
        EXEC_PROFILE_DEFAULT,
        consistency_level=ConsistencyLevel.LOCAL_QUORUM if options.strong else ConsistencyLevel.LOCAL_ONE,
        retry_policy=FallthroughRetryPolicy(),
        speculative_execution_policy=ConstantSpeculativeExecutionPolicy(options.deadline * SECOND_ASKED_AFTER, 1),
        row_factory=tuple_factory,
    )
