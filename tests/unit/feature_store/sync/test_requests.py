"""Requests are sent until they are taken: against a server that is played, which refuses, loses and answers late."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut, WriteTimeout
from cassandra.cluster import NoHostAvailable
from cassandra.query import PreparedStatement

from feature_store.sync import requests
from feature_store.sync.pace import Pace
from feature_store.sync.requests import Request, RequestError, Requests

pytestmark = pytest.mark.unit

STATEMENT = PreparedStatement([], b"id", [], "INSERT", "k", 4, [], b"meta", None)


class Future:
    _paging_state: bytes | None = None

    def __init__(self, rows: list[Any], page: bytes | None, error: Exception | None) -> None:
        self.rows, self._paging_state, self.error = rows, page, error

    def add_callbacks(self, taken: Callable[[list[Any]], None], failed: Callable[[Exception], None]) -> None:
        def answer() -> None:
            if self.error:
                failed(self.error)
            else:
                taken(self.rows)

        threading.Timer(random.uniform(0, 0.01), answer).start()


class Played:
    """A session; `answer` says what becomes of a request, by its values and page."""

    def __init__(self, answer: Callable[[Any, bytes | None], Future]) -> None:
        self.answer = answer
        self.seen: Counter[Any] = Counter()

    def execute_async(self, bound: Any, paging_state: bytes | None = None) -> Future:
        self.seen[bound.values[0]] += 1
        return self.answer(bound.values[0], paging_state)


def send(session: Played, count: int, patience: float = 20.0) -> list[tuple[int, list[Any], bool]]:
    taken: list[tuple[int, list[Any], bool]] = []
    sending = Requests(session, Pace(), "rows written", patience)
    sending.send(
        (Request(STATEMENT, [number], number) for number in range(count)),
        lambda request, rows, last: taken.append((request.about, rows, last)),
        count,
    )
    return taken


@pytest.mark.parametrize(
    "error",
    [
        WriteTimeout("refused", write_type=0),
        OperationTimedOut(),
        NoHostAvailable("none", {}),
    ],
)
def test_what_is_refused_or_lost_is_sent_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "PAUSE_SECONDS", (0.01, 0.05))
    chances = random.Random(1)
    session = Played(lambda *_: Future([], None, error if chances.random() < 0.2 else None))
    taken = send(session, 150)
    assert sorted(number for number, *_ in taken) == list(range(150)), "each is taken once"
    assert max(session.seen.values()) > 1


def test_pages_are_taken_one_after_the_other() -> None:
    session = Played(
        lambda number, page: Future([(number, page)], None if page == b"2" else (b"2" if page else b"1"), None)
    )
    taken = send(session, 10)
    for number in range(10):
        mine = [(rows, last) for about, rows, last in taken if about == number]
        assert mine == [([(number, None)], False), ([(number, b"1")], False), ([(number, b"2")], True)]


def test_a_request_that_is_no_good_ends_it_and_is_named() -> None:
    session = Played(lambda number, _: Future([], None, InvalidRequest("too long") if number == 7 else None))
    with pytest.raises(RequestError, match=r"^InvalidRequest: .*too long") as caught:
        send(session, 1000)
    assert caught.value.about == 7
    assert sum(session.seen.values()) < 1000


def test_nothing_taken_for_too_long_ends_it() -> None:
    with pytest.raises(RequestError, match=r"no request was taken for 0 s: OperationTimedOut"):
        send(Played(lambda *_: Future([], None, OperationTimedOut())), 3, patience=0.4)
    with pytest.raises(RequestError, match="every request was refused"):
        send(Played(lambda *_: Future([], None, WriteTimeout("refused", write_type=0))), 3, patience=0.4)


def test_one_that_is_always_lost_stops_no_other_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that the server fails at, again and again, is not an outage."""
    monkeypatch.setattr(requests, "PAUSE_SECONDS", (0.01, 0.05))
    paused = []
    monkeypatch.setattr(requests.log, "warning", lambda *said: paused.append(said))
    session = Played(lambda number, _: Future([], None, OperationTimedOut() if number == 7 else None))
    with pytest.raises(RequestError, match=f"^{requests.LOST_TRIES} times in a row: OperationTimedOut") as caught:
        send(session, 20_000)
    assert caught.value.about == 7
    assert session.seen[7] == requests.LOST_TRIES
    assert paused == []


def test_the_last_one_that_is_always_lost_is_named() -> None:
    session = Played(lambda number, _: Future([], None, OperationTimedOut() if number == 7 else None))
    with pytest.raises(RequestError, match="no request was taken for 1 s: OperationTimedOut") as caught:
        send(session, 8, patience=1.0)
    assert caught.value.about == 7


def test_none_is_no_work() -> None:
    assert send(Played(lambda *_: Future([], None, None)), 0) == []
