"""What goes wrong between a reader and its server: what reads end with, and that they are answered when it is over."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cassandra.auth import PlainTextAuthenticator

from benchmarks import open_loop
from feature_store import cql, online
from feature_store.energy import ENERGY
from feature_store.online import Options, State
from infra.local.cassandra.faults import Authority, Way, add_endpoint
from tests.integration.capacity import Capacity
from tests.integration.online.conftest import IDS, INSERT, KEYSPACE, PATIENT, YESTERDAY, Table, connect, until
from tests.integration.sync.conftest import server
from tests.support import serving

pytestmark = pytest.mark.integration


@contextmanager
def way(table: Table, **other: Authority | str | int) -> Iterator[Way]:
    with Way(table.cassandra.stack, **other) as made:  # type: ignore[arg-type]
        yield made


def impatient(connection: online.Connection, seconds: float) -> online.Reader:
    return connection.reader(ENERGY, Options(deadline=seconds))


class TestThrottled:
    def test_what_is_refused_is_read_later(self, table: Table, capacity: Capacity) -> None:
        """A second's worth is there at once; twice as much takes a second more."""
        capacity.set(rcu=100)
        refused = table.counted()[1]
        answers = table.reader().get_many(IDS)
        assert {answer.state for answer in answers} == {State.FOUND}
        assert table.counted()[1] > refused

    @pytest.mark.parametrize("awaited", [False, True])
    def test_until_the_deadline(self, table: Table, capacity: Capacity, awaited: bool) -> None:
        capacity.set(rcu=1)
        reader = table.reader(deadline=1.0)
        with pytest.raises(online.ThrottledError, match=r"can't be read within 1 s"):
            asyncio.run(reader.aget_many(IDS)) if awaited else reader.get_many(IDS)


class TestStandsStill:
    def test_for_a_while(self, table: Table) -> None:
        reader = table.reader()
        reader.get("H001")
        table.process.send_signal(signal.SIGSTOP)
        threading.Timer(1.0, table.process.send_signal, [signal.SIGCONT]).start()
        assert reader.get("H001").state is State.FOUND

    @pytest.mark.parametrize("awaited", [False, True])
    def test_longer_than_the_deadline(self, table: Table, awaited: bool) -> None:
        """Which is kept to: a caller that waits for half a second can count on it."""
        reader = table.reader(deadline=0.5)
        reader.get_many(IDS)
        table.process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(online.DeadlineError, match=r"within 0.5 s, in 1 tries"):
                asyncio.run(reader.aget("H001")) if awaited else reader.get("H001")
            assert 0.5 <= time.monotonic() - began < 1.5
        finally:
            table.process.send_signal(signal.SIGCONT)

    def test_what_is_cancelled_meanwhile_is_over_at_once(self, table: Table) -> None:
        reader = table.reader()

        async def cancelled() -> float:
            await reader.aget("H001")
            table.process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            try:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reader.aget_many(IDS), 0.2)
                return time.monotonic() - began
            finally:
                table.process.send_signal(signal.SIGCONT)

        assert asyncio.run(cancelled()) < PATIENT / 2
        assert asyncio.run(reader.aget("H001")).state is State.FOUND


class TestSlow:
    def test_within_the_deadline_it_is_an_answer(self, table: Table) -> None:
        """Also later than after half of it."""
        with way(table) as slow, table.by(slow) as connection:
            reader = impatient(connection, 2.0)
            reader.get("H001")
            slow.delay = 0.6
            began = time.monotonic()
            assert reader.get("H001").state is State.FOUND
            assert time.monotonic() - began > 1.2

    def test_of_two_endpoints_the_other_one_answers(self, table: Table) -> None:
        """Both are asked in turn: of the reads that the slow one gets, each is answered by the other."""
        with way(table) as fast, way(table, host="127.0.0.2", port=fast.port) as slow, table.by(fast) as connection:
            add_endpoint(connection.session, slow.host, slow.port)
            reader = impatient(connection, 2.0)
            _until_answered(reader)
            slow.delay = 5.0
            answers = open_loop.run(20, 1.0, lambda: reader.get("H001"), 20)
            assert not answers.errors
            late = [call for call in answers.calls if call.latency > 1.0]
            assert 5 <= len(late) <= 15


class TestGone:
    """Connections that are dead without a word, as behind a balancer that has forgotten them."""

    def test_a_sign_of_life_is_asked_for(self, table: Table) -> None:
        with way(table) as lost, table.by(lost) as connection:
            reader = impatient(connection, 0.3)
            _until_answered(reader)
            lost.lose()
            with pytest.raises(online.DeadlineError):
                reader.get("H001")
            lost.find()
            began = time.monotonic()
            _until_answered(reader)
            assert time.monotonic() - began < 30  # and not a minute, as the driver takes

    def test_connections_are_cut(self, table: Table) -> None:
        with way(table) as cut, table.by(cut) as connection:
            reader = impatient(connection, PATIENT)
            for _ in range(3):
                assert reader.get("H001").state is State.FOUND
                cut.cut()


class TestWhereNobodyConnects:
    def test_a_certificate_of_another_name(self, table: Table) -> None:
        """As a stranger has it who is trusted by the same authority."""
        with way(table, host="127.0.0.2") as other, pytest.raises(online.OnlineError, match="IP address mismatch"):
            connect(table.cassandra, host=other.host, port=other.port)

    def test_a_certificate_of_another_authority(self, table: Table, tmp_path: Path) -> None:
        authority = Authority(table.cassandra.stack, tmp_path)
        with pytest.raises(online.OnlineError, match="certificate verify failed"):
            connect(table.cassandra, ca=authority.ca)

    def test_a_password_that_is_wrong_is_in_no_message(self, table: Table) -> None:
        with pytest.raises(online.OnlineError, match=r"No connection .* incorrect") as caught:
            connect(table.cassandra, password="wrong-1")  # pragma: allowlist secret
        assert "wrong-1" not in f"{caught.value!r} {caught.value.__cause__!r}"

    def test_another_region(self, table: Table) -> None:
        with pytest.raises(online.OnlineError, match=r"none of .* is of the data centre us-east-1"):
            connect(table.cassandra, region="us-east-1")


def test_an_expired_certificate(table: Table, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is connected stays so. New connections are refused by the client, whose log says why, until it is mended."""
    authority = Authority(table.cassandra.stack, tmp_path)
    with way(table, authority=authority) as passed, table.by(passed, authority) as connection:
        reader = impatient(connection, 0.5)
        _until_answered(reader)
        authority.sign(expired=True)
        _until_answered(reader)
        with caplog.at_level(logging.WARNING, "cassandra"):
            passed.cut()
            until(lambda: "certificate has expired" in caplog.text)
            with pytest.raises(online.UnreachableError, match=r"can't be read within 0\.5 s"):
                reader.get("H001")
        with pytest.raises(online.OnlineError, match="certificate has expired"), table.by(passed, authority):
            pass
        authority.sign(expired=False)
        _until_answered(reader)


def test_a_login_that_is_refused_for_a_while(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a server that has just started."""
    with way(table) as cut, table.by(cut) as connection:
        reader = impatient(connection, 0.5)
        _until_answered(reader)
        refused = threading.Event()

        def wrong(self: PlainTextAuthenticator, challenge: bytes) -> bytes:
            refused.set()
            return b"\0someone\0wrong"

        with monkeypatch.context() as patched:
            patched.setattr(PlainTextAuthenticator, "evaluate_challenge", wrong)
            cut.cut()
            until(refused.is_set)
            time.sleep(1)
        _until_answered(reader)


def test_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    """Under a load of reads: they fail as what they are, and all is as before after it."""
    with server(tmp_path / "stack") as (first, process), connect(first) as connection:
        cql.apply(connection.session, cql.keyspace(KEYSPACE) + cql.table(ENERGY, KEYSPACE))
        connection.session.execute(INSERT, ("H001", YESTERDAY, 1.0, 48))
        reader = impatient(connection, 0.5)
        _until_answered(reader)
        killed = threading.Timer(2.0, process.kill)
        killed.start()
        loads = open_loop.run(50, 5.0, lambda: reader.get("H001"), 50)
        assert loads.answers > 0
        assert set(loads.errors) <= {"UnreachableError", "DeadlineError"}
        assert loads.errors["UnreachableError"] > 0
        process.wait()
        with serving(first.stack, "cassandra"):
            _until_answered(reader)
            after = open_loop.run(20, 1.0, lambda: reader.get("H001"), 20)
            assert Counter(call.error for call in after.calls) == {None: 20}


def _until_answered(reader: online.Reader, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            reader.get("H001")
        except online.OnlineError:
            assert time.monotonic() < deadline
        else:
            return
