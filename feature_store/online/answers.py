"""What a read of features gives: an answer that says of which day it is, or an error that says what to do about it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from feature_store.endpoint import OnlineError

Value = str | dt.date | int | float | None


class State(Enum):
    """How an answer is to be taken."""

    FOUND = "found"
    STALE = "stale"  # older than the reader's `max_age`
    MISSING = "missing"  # the entity has no row online


@dataclass(slots=True)  # and not frozen, which would make one three times as long
class Answer:
    """The newest features of one entity.

    Attributes:
        entity: who was asked for.
        state: whether they are there, and fresh.
        day: the day that they are of, which they see as their last one; None if there are none.
        age: days from that day to today, in the reader's zone; None if there are none. Yesterday's are of age 1.
        names: of the features, in the order that was asked for. Empty if there are none.
        values: of the features, in that order; a null is None.
    """

    entity: str
    state: State
    day: dt.date | None = None
    age: int | None = None
    names: Sequence[str] = ()
    values: Sequence[Value] = ()

    @property
    def features(self) -> dict[str, Value]:
        """The features by name, in the order that was asked for; made anew each time. Empty if there are none."""
        return dict(zip(self.names, self.values, strict=True))

    def __getitem__(self, name: str) -> Value:
        """Give one feature; KeyError if it was not asked for, or is not there."""
        try:
            return self.values[self.names.index(name)]
        except ValueError:
            raise KeyError(name) from None


class UnknownFeatureError(OnlineError):
    """The view has no feature of that name."""


class ReadError(OnlineError):
    """A read that has no answer; each of the classes below is one.

    Attributes:
        answers: of a call for many entities, those that had an answer all the same, by entity.
    """

    answers: Mapping[str, Answer] = MappingProxyType({})


class StaleError(ReadError):
    """The newest features are older than the reader takes."""


class ThrottledError(ReadError):
    """The table refused the read for want of capacity, until the deadline: ask less often, or give it more."""


class UnreachableError(ReadError):
    """No server could be asked until the deadline, or each had an error of its own.

    Why one can't be asked, the driver says in its log (`cassandra`).
    """


class DeadlineError(ReadError):
    """A server was asked, and did not answer until the deadline."""


class PoisonedRowError(ReadError):
    """What is in the row is no row of the view: of another type, no finite number, or of a day that has not begun."""


class EntityError(ReadError):
    """No row can be of such an entity: it has no bytes, more than Keyspaces takes in a key, or is no UTF-8."""


class RefusedError(ReadError):
    """The server refuses the read, and would again: there is no such table or column, or no right to read it."""
