"""Reads of many entities that are under way at once: who they are, what is heard of them, and what comes of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from feature_store.online.answers import Answer, ReadError, RefusedError
from feature_store.online.tries import Tries

Rows = Sequence[Sequence[Any]]


@dataclass(eq=False, slots=True)
class Read:
    """One entity of many; `heard` is the number of the last try whose outcome is known."""

    entity: str
    tries: Tries
    heard: int = 0


Outcome = tuple[Read, int, Rows | None, Exception | None]  # of which try, and its rows or how it has failed


class Heard:
    """What the driver's thread hears of many reads, for the one that waits for them.

    It is told of each: whatever is done for it there keeps it from reading the next.
    """

    def __init__(self) -> None:
        """Have heard of none."""
        self._outcomes: deque[Outcome] = deque()  # no lock: to append to it, and to take from it, is one step each
        self._enough = 0
        self._looked_for = threading.Event()

    def put(self, outcome: Outcome) -> None:
        """Tell of a read, its try, and what has come of it; who is woken too early looks, and waits again."""
        self._outcomes.append(outcome)
        if len(self._outcomes) >= self._enough or outcome[3] is not None:
            self._looked_for.set()

    def wait(self, enough: int, seconds: float | None) -> None:
        """Wait until so many are heard of, or one that has failed, or so many seconds."""
        self._enough = enough
        if len(self._outcomes) < enough:
            self._looked_for.wait(seconds)

    def take(self) -> Iterator[Outcome]:
        """Take what is heard of so far."""
        self._looked_for.clear()
        with suppress(IndexError):
            while True:
                yield self._outcomes.popleft()


class Found:
    """What has come of the reads of many entities. Rows are looked at when all are there: one after the other is quick.

    In between the driver's thread would wait, and the code be out of the processor's cache each time.
    """

    def __init__(self, answer: Callable[[str, Rows], Answer]) -> None:
        """Have found none; `answer` is made of an entity and its rows, or raises a ReadError."""
        self._answer = answer
        self._rows: dict[str, Rows] = {}
        self.failed: ReadError | None = None
        self.refused = False

    def take(self, entity: str, rows: Rows) -> None:
        """Keep what was read of an entity."""
        self._rows[entity] = rows

    def fail(self, error: ReadError) -> None:
        """Keep what the first that failed has failed with."""
        self.failed = self.failed or error
        self.refused = self.refused or isinstance(error, RefusedError)  # so would all others be

    def of(self, wanted: Sequence[str]) -> list[Answer]:
        """The answers in that order, or what was raised first."""
        answers: dict[str, Answer] = {}
        for entity, rows in self._rows.items():
            try:
                answers[entity] = self._answer(entity, rows)
            except ReadError as error:
                self.fail(error)
        if self.failed:
            self.failed.answers = answers
            raise self.failed
        return [answers[entity] for entity in wanted]
