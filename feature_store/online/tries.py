"""How long a read is tried: until its call's deadline, after pauses, as long as what goes wrong may pass."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

# The driver ships no types.
from cassandra import (  # type: ignore[import-untyped]
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    Unavailable,
)
from cassandra.cluster import NoHostAvailable  # type: ignore[import-untyped]
from cassandra.connection import ConnectionException  # type: ignore[import-untyped]
from cassandra.pool import NoConnectionsAvailable  # type: ignore[import-untyped]
from cassandra.protocol import (  # type: ignore[import-untyped]
    IsBootstrappingErrorMessage,
    OverloadedErrorMessage,
    ServerError,
)

from feature_store.online.answers import DeadlineError, ReadError, ThrottledError, UnreachableError

# Pauses before another try are random, up to a bound that doubles ("full jitter": AWS Architecture Blog, "Exponential
# Backoff And Jitter"): those who were refused together do not come back together.
FIRST_PAUSE, LONGEST_PAUSE, DOUBLINGS = 0.005, 0.1, 5  # seconds; and as often as it takes from one to the other
# What passes, and what it is if it does not until the deadline. Keyspaces says that it has no capacity left by the
# error that Cassandra has for replicas that did not answer; to a client both are the same.
PASSING: Mapping[type[Exception], type[ReadError]] = {
    ReadTimeout: ThrottledError,
    OverloadedErrorMessage: ThrottledError,
    OperationTimedOut: DeadlineError,
    Unavailable: UnreachableError,
    ReadFailure: UnreachableError,
    ServerError: UnreachableError,
    IsBootstrappingErrorMessage: UnreachableError,
    NoHostAvailable: UnreachableError,
    NoConnectionsAvailable: UnreachableError,
    ConnectionException: UnreachableError,
}


class Tries:
    """The time of a call, and the tries of one read in it."""

    __slots__ = ("_call", "_ends", "_failed", "count")

    def __init__(self, ends: float, count: int = 0) -> None:
        """Begin a call that ends then, by time.monotonic; so many tries of its read were made already."""
        self.count = count
        self._failed: type[ReadError] | None = None  # how the last one has, of this read or of all in the call
        self._call = self
        self._ends = ends

    @classmethod
    def within(cls, deadline: float) -> Tries:
        """Begin a call that has so many seconds."""
        return cls(time.monotonic() + deadline)

    def again(self) -> Tries:
        """Another read in the same call."""
        made = Tries(self._ends)
        made._call = self
        return made

    def told(self, kind: type[ReadError]) -> type[ReadError]:
        """Say what the read fails with, given what its last try has.

        That one may have had no time to speak of: then the tries before it say; and of a read that was never asked
        for, those of the call's others.
        """
        before = self._failed if self.count else self._call._failed
        self._failed = before if before and kind is DeadlineError else kind
        if self._failed is not DeadlineError:
            self._call._failed = self._failed
        return self._failed

    @property
    def over(self) -> bool:
        """Whether there is no time left."""
        return time.monotonic() >= self._ends

    def begin(self) -> float:
        """Begin a try; seconds that it has, or OperationTimedOut if there are none left."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise OperationTimedOut("the deadline was over before it could be asked for")
        self.count += 1
        return left

    def pause(self) -> float | None:
        """Seconds until the next try; None if the call is over by then."""
        bound = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.count - 1, DOUBLINGS))
        pause = random.uniform(0, bound)  # noqa: S311 - no secret
        return pause if time.monotonic() + pause < self._ends else None


def kind_of(error: Exception) -> type[ReadError] | None:
    """What it is if it does not pass until the deadline; None if it will not pass."""
    if isinstance(error, NoHostAvailable):
        # Of the endpoints that were asked one after the other: what the one has said that knew most.
        kinds = {kind_of(cause) for cause in error.errors.values() if isinstance(cause, Exception)}
        return next((kind for kind in (ThrottledError, DeadlineError) if kind in kinds), UnreachableError)
    return next((kind for of, kind in PASSING.items() if isinstance(error, of)), None)
