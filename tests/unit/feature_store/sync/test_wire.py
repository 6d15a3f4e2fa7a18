"""Frames as the driver's own, and answers however they come: over a connection that is played."""

from __future__ import annotations

import struct
import zlib
from threading import Lock
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra import ConsistencyLevel, DriverException, OperationTimedOut, WriteTimeout
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.cqltypes import UTF8Type
from cassandra.protocol import ExecuteMessage, ProtocolHandler
from cassandra.query import PreparedStatement

from feature_store.sync import cells, requests, wire
from feature_store.sync.wire import Answer, Request, Wire

pytestmark = pytest.mark.unit

COLUMN = ("k", "t", "entity", UTF8Type)
INSERT = PreparedStatement([COLUMN] * 2, b"i" * 16, [], "INSERT ...", "k", 4, [], None, None)
SELECT = PreparedStatement([COLUMN], b"s" * 16, [], "SELECT ...", "k", 4, [COLUMN], None, None)
SELECT.fetch_size = 2000
ERROR_OPCODE = 0


class Connection:
    def __init__(self) -> None:
        self.is_defunct = self.is_closed = self.orphaned_threshold_reached = False
        self.endpoint, self.lock = "host:9142", Lock()
        self.orphaned_request_ids: set[int] = set()
        self.orphaned_threshold = 2
        self._requests: dict[int, Any] = {}
        self.sent: list[bytes] = []
        self.numbers = iter(range(100))

    def push(self, data: bytes) -> None:
        self.sent.append(data)

    def hear(self, stream: int, opcode: int, body: bytes, flags: int = 0) -> None:
        callback, decoder, metadata = self._requests.pop(stream)
        callback(decoder(4, {}, stream, flags, opcode, body, zlib.decompress, metadata))


class Pool:
    def __init__(self) -> None:
        self.connection, self.is_shutdown, self.open_count = Connection(), False, 1
        self.borrowed = 0
        self.broken = False

    def borrow_connection(self, timeout: float) -> tuple[Connection, int]:
        assert timeout > 0
        self.borrowed += 1
        return self.connection, next(self.connection.numbers)

    def return_connection(self, connection: Connection, *, stream_was_orphaned: bool = False) -> None:
        assert connection is self.connection
        self.borrowed -= not stream_was_orphaned
        if self.broken:
            raise RuntimeError("can't start new thread")


@pytest.fixture
def pools() -> dict[str, Pool]:
    return {"one": Pool()}


@pytest.fixture
def line(pools: dict[str, Pool]) -> Wire:
    policy = SimpleNamespace(make_query_plan=lambda: iter(["gone", *pools]))
    profile = SimpleNamespace(load_balancing_policy=policy, consistency_level=ConsistencyLevel.LOCAL_QUORUM)
    cluster = SimpleNamespace(profile_manager=SimpleNamespace(default=profile))
    return Wire(SimpleNamespace(_pools=pools, cluster=cluster))


def drivers(statement: PreparedStatement, values: list[bytes | None], stream: int, page: bytes | None = None) -> bytes:
    size = statement.fetch_size if statement.result_metadata else None
    message = ExecuteMessage(
        statement.query_id, values, ConsistencyLevel.LOCAL_QUORUM, fetch_size=size, paging_state=page
    )
    return bytes(ProtocolHandler.encode_message(message, stream, 4, None, False))


def test_frames_are_those_of_the_driver_in_one_write(line: Wire, pools: dict[str, Pool]) -> None:
    line.send([Request(INSERT, cells.values(b"MAC000002", None), 0), Request(INSERT, cells.values(b"", b"x"), 1)])
    line.send([Request(SELECT, cells.values(b"a"), 2), Request(SELECT, cells.values(b"a"), 2, page=b"next")])
    writes, reads = pools["one"].connection.sent
    assert writes == drivers(INSERT, [b"MAC000002", None], 0) + drivers(INSERT, [b"", b"x"], 1)
    wanted = []
    for frame in (drivers(SELECT, [b"a"], 2), drivers(SELECT, [b"a"], 3, b"next")):
        flags = 9 + 2 + 16 + 2  # after the header, the statement's id and the consistency
        wanted.append(frame[:flags] + bytes([frame[flags] | wire.SKIP_METADATA]) + frame[flags + 1 :])
    assert reads == b"".join(wanted), "the driver asks for the columns' names and types too"
    assert line.in_flight == 4


def test_an_answer_is_of_its_request(line: Wire, pools: dict[str, Pool]) -> None:
    write, read, refused = Request(INSERT, b"", 0), Request(SELECT, b"", 1), Request(INSERT, b"", 2)
    line.send([write, read, refused])
    connection = pools["one"].connection
    timeout = struct.pack(">i", 0x1100) + b"\0\4slow" + struct.pack(">Hii", ConsistencyLevel.LOCAL_QUORUM, 0, 2)
    connection.hear(2, ERROR_OPCODE, timeout + b"\0\6SIMPLE")
    rows = cells.values(b"a", b"b") + cells.values(b"c", None)
    more = struct.pack(">iii", 2, 0x02 | 0x04, 2) + struct.pack(">i", 4) + b"next" + struct.pack(">i", 2)
    connection.hear(1, wire.RESULT, more + rows)
    connection.hear(0, wire.RESULT, wire.VOID)
    line.wait(0)
    first, second, third = line.answers()
    assert (first.request, type(first.error)) == (refused, WriteTimeout)
    assert second == Answer(read, cells.Page(2, rows), b"next")
    assert third == Answer(write)
    assert line.in_flight == pools["one"].borrowed == 0


def test_a_warning_is_logged_and_the_rest_is_as_ever(
    line: Wire, pools: dict[str, Pool], caplog: pytest.LogCaptureFixture
) -> None:
    line.send([Request(INSERT, b"", 0)])
    pools["one"].connection.hear(0, wire.RESULT, b"\0\1\0\5watch" + wire.VOID, flags=0x08)
    assert [answer.error for answer in line.answers()] == [None]
    assert caplog.messages == ["The server warns: watch"]


def test_what_is_not_answered_is_given_up_and_its_number_with_it(
    line: Wire, pools: dict[str, Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "REQUEST_TIMEOUT", 1e-9)
    late, last = Request(INSERT, b"", 0), Request(INSERT, b"", 1)
    line.send([late, last])
    connection = pools["one"].connection
    answers = list(line.answers())
    assert [(each.request, type(each.error)) for each in answers] == [
        (late, OperationTimedOut),
        (last, OperationTimedOut),
    ]
    assert connection.orphaned_request_ids == {0, 1}
    assert connection.orphaned_threshold_reached
    assert not connection._requests
    assert line.in_flight == 0


def test_an_answer_that_comes_just_before_it_is_given_up_counts(
    line: Wire, pools: dict[str, Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "REQUEST_TIMEOUT", 1e-9)
    line.send([Request(INSERT, b"", 0)])
    sent, _, __ = pools["one"].connection._requests.pop(0)  # as the driver does, before it calls
    assert list(line.answers()) == []
    sent(wire.VOID)
    assert [answer.error for answer in line.answers()] == [None]


def test_a_connection_that_is_lost_and_none_at_all(line: Wire, pools: dict[str, Pool]) -> None:
    line.send([Request(INSERT, b"", 0)])
    connection = pools["one"].connection
    callback, *_ = connection._requests.pop(0)
    callback(ConnectionShutdown("gone"))  # as the driver tells all that wait
    connection.is_closed = True
    line.send([Request(INSERT, b"", 1)])
    pools.clear()
    line.send([Request(INSERT, b"", 2)])
    kinds = [(answer.request.about, type(answer.error)) for answer in line.answers()]
    assert kinds == [(0, ConnectionShutdown), (1, ConnectionShutdown), (2, NoHostAvailable)]
    assert line.in_flight == 0


def test_a_compressed_answer(line: Wire, pools: dict[str, Pool]) -> None:
    """Whether answers are compressed is between the driver and the server: where both can, they are."""
    line.send([Request(INSERT, b"", 0), Request(INSERT, b"", 1)])
    connection = pools["one"].connection
    connection.hear(0, wire.RESULT, zlib.compress(wire.VOID), flags=0x01)
    connection.hear(1, wire.RESULT, zlib.compress(b"\0\1\0\5watch" + wire.VOID), flags=0x09)
    assert [(each.request.about, each.error) for each in line.answers()] == [(0, None), (1, None)]


def test_an_answer_that_is_none_to_a_statement_is_an_error(line: Wire, pools: dict[str, Pool]) -> None:
    line.send([Request(INSERT, b"", 0)])
    pools["one"].connection.hear(0, 0x02, b"")  # READY
    (answer,) = line.answers()
    assert isinstance(answer.error, DriverException)


def test_an_answer_is_heard_though_the_pool_is_in_trouble(line: Wire, pools: dict[str, Pool]) -> None:
    line.send([Request(INSERT, b"", 0)])
    pools["one"].broken = True
    with pytest.raises(RuntimeError):
        pools["one"].connection.hear(0, wire.RESULT, wire.VOID)
    assert [answer.error for answer in line.answers()] == [None]


def test_a_request_that_the_driver_has_lost_holds_up_no_other(
    line: Wire, pools: dict[str, Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "REQUEST_TIMEOUT", 1e-9)
    line.send([Request(INSERT, b"", 0), Request(INSERT, b"", 1)])
    pools["one"].connection._requests.pop(0)  # and nobody is told
    assert list(line.answers()) == []
    monkeypatch.setattr(wire, "GRACE_SECONDS", 0.0)
    assert [(each.request.about, type(each.error)) for each in line.answers()] == [
        (0, OperationTimedOut),
        (1, OperationTimedOut),
    ]
    assert line.in_flight == 0


def test_a_host_with_a_connection_goes_first(line: Wire, pools: dict[str, Pool]) -> None:
    pools["one"].open_count = 0
    pools["two"] = Pool()
    line.send([Request(INSERT, b"", 0)])
    assert pools["two"].connection.sent
    del pools["two"]
    line.send([Request(INSERT, b"", 0)])
    assert pools["one"].connection.sent, "it is asked all the same: that has its connection replaced"


def test_what_is_left_of_the_answers_is_not_lost(line: Wire, pools: dict[str, Pool]) -> None:
    pools.clear()
    line.send([Request(INSERT, b"", number) for number in range(3)])
    first = next(line.answers())
    assert (first.request.about, line.in_flight) == (0, 2)
    assert requests._said(first.error) == "NoHostAvailable: no host is up"
    assert [each.request.about for each in line.answers()] == [1, 2]


@pytest.mark.parametrize("same", [True, False])
def test_a_statement_is_prepared_again(line: Wire, same: bool) -> None:
    known: dict[bytes, PreparedStatement] = {}
    line._session.cluster.add_prepared = known.__setitem__
    new = PreparedStatement([COLUMN], INSERT.query_id if same else b"other", [], "INSERT ...", "k", 4, [], None, None)
    line._session.prepare = lambda text: new if text == INSERT.query_string else None
    if same:
        line.prepare(INSERT)
        assert known == {INSERT.query_id: INSERT}
    else:
        with pytest.raises(DriverException, match="another id"):
            line.prepare(INSERT)
