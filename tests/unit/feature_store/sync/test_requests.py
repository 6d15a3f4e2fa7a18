"""Requests are sent until they are taken: against a server that is played, which refuses, loses and answers late."""

from __future__ import annotations

import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import pytest
from cassandra import InvalidRequest, OperationTimedOut, WriteTimeout
from cassandra.cluster import NoHostAvailable
from cassandra.protocol import PreparedQueryNotFound
from cassandra.query import PreparedStatement

from feature_store.sync import requests
from feature_store.sync.cells import Page
from feature_store.sync.pace import Pace
from feature_store.sync.requests import RequestError, Requests
from feature_store.sync.wire import Answer, Request, Wire

pytestmark = pytest.mark.unit

STATEMENT = PreparedStatement([], b"id", [], "INSERT", "k", 4, [], b"meta", None)
Answered = tuple[Page | None, bytes | None] | Exception
DONE: Answered = (None, None)


def page(*texts: str) -> Page:
    return Page(len(texts), " ".join(texts).encode())


class Played:
    """A wire; `answer` says what becomes of a request, by its number and page: a page and the next, or an error."""

    def __init__(self, answer: Callable[[int, bytes | None], Answered]) -> None:
        self.answer = answer
        self.seen: Counter[int] = Counter()
        self.in_flight = 0
        self.prepared = 0
        self._answers: deque[Answer] = deque()

    def send(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.in_flight += 1
            self.seen[request.about] += 1
            what = self.answer(request.about, request.page)
            answer = Answer(request, error=what) if isinstance(what, Exception) else Answer(request, *what)
            threading.Timer(random.uniform(0, 0.01), self._answers.append, [answer]).start()

    def answers(self) -> Iterator[Answer]:
        while self._answers:
            answer = self._answers.popleft()
            self.in_flight -= 1
            yield answer

    def wait(self, seconds: float) -> None:
        threading.Event().wait(min(seconds, 0.01))

    def prepare(self, statement: PreparedStatement) -> None:
        assert statement is STATEMENT
        self.prepared += 1


def send(wire: Played, count: int, patience: float = 20.0) -> list[tuple[int, Page | None, bool]]:
    taken: list[tuple[int, Page | None, bool]] = []
    sending = Requests(cast(Wire, wire), Pace(), "rows written", patience)
    sending.send(
        (Request(STATEMENT, b"", number) for number in range(count)),
        lambda request, page, last: taken.append((request.about, page, last)),
        count,
    )
    assert not wire.in_flight
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
    wire = Played(lambda *_: error if chances.random() < 0.2 else DONE)
    taken = send(wire, 150)
    assert sorted(number for number, *_ in taken) == list(range(150)), "each is taken once"
    assert max(wire.seen.values()) > 1


def test_pages_are_taken_one_after_the_other() -> None:
    then = {None: b"1", b"1": b"2", b"2": None}
    taken = send(Played(lambda number, at: (page(str(number), str(at)), then[at])), 10)
    for number in range(10):
        mine = [(rows, last) for about, rows, last in taken if about == number]
        assert mine == [(page(str(number), str(at)), at == b"2") for at in then]


def test_a_statement_that_the_server_has_forgotten_is_prepared_again() -> None:
    wire = Played(lambda *_: DONE if wire.prepared else PreparedQueryNotFound(0x2500, "unknown", b"id"))
    taken = send(wire, 50)
    assert sorted(number for number, *_ in taken) == list(range(50))
    assert 0 < wire.prepared < 20, "not once for each"


def test_a_statement_that_can_not_be_prepared_ends_it() -> None:
    wire = Played(lambda *_: PreparedQueryNotFound(0x2500, "unknown", b"id"))

    def prepare(_: PreparedStatement) -> None:
        raise InvalidRequest("no such table")

    wire.prepare = prepare  # type: ignore[method-assign]
    with pytest.raises(RequestError, match=r"^InvalidRequest: .*no such table"):
        send(wire, 3)
    wire.prepare = lambda _: None  # type: ignore[method-assign]
    with pytest.raises(RequestError, match="no request was taken for 0 s: PreparedQueryNotFound"):
        send(wire, 3, patience=0.4)


def test_a_request_that_is_no_good_ends_it_and_is_named() -> None:
    wire = Played(lambda number, _: InvalidRequest("too long") if number == 7 else DONE)
    with pytest.raises(RequestError, match=r"^InvalidRequest: .*too long") as caught:
        send(wire, 1000)
    assert caught.value.about == 7
    assert sum(wire.seen.values()) < 1000


def test_nothing_taken_for_too_long_ends_it() -> None:
    with pytest.raises(RequestError, match=r"no request was taken for 0 s: OperationTimedOut"):
        send(Played(lambda *_: OperationTimedOut()), 3, patience=0.4)
    with pytest.raises(RequestError, match="every request was refused"):
        send(Played(lambda *_: WriteTimeout("refused", write_type=0)), 3, patience=0.4)


def test_one_that_is_always_lost_stops_no_other_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that the server fails at, again and again, is not an outage."""
    monkeypatch.setattr(requests, "PAUSE_SECONDS", (0.01, 0.05))
    paused = []
    monkeypatch.setattr(requests.log, "warning", lambda *said: paused.append(said))
    wire = Played(lambda number, _: OperationTimedOut() if number == 7 else DONE)
    with pytest.raises(RequestError, match=f"^{requests.LOST_TRIES} times in a row: OperationTimedOut") as caught:
        send(wire, 20_000)
    assert caught.value.about == 7
    assert wire.seen[7] == requests.LOST_TRIES
    assert paused == []


def test_the_last_one_that_is_always_lost_is_named() -> None:
    wire = Played(lambda number, _: OperationTimedOut() if number == 7 else DONE)
    with pytest.raises(RequestError, match="no request was taken for 1 s: OperationTimedOut") as caught:
        send(wire, 8, patience=1.0)
    assert caught.value.about == 7


def test_none_is_no_work() -> None:
    assert send(Played(lambda *_: DONE), 0) == []
