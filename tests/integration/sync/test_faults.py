"""What goes wrong while features are brought online: no row is lost, none is wrong, and the message says what to do."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cassandra.query import PreparedStatement
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12

from feature_store import endpoint
from feature_store.sync import cells
from feature_store.sync.wire import Request, Wire
from infra.local.cassandra import tls
from infra.local.settings import HOST, ROOT, Ports, Stack
from spark_jobs.errors import JobError
from tests.integration.conftest import RunningCassandra
from tests.integration.sync.conftest import Store, connect, day, features, server, store_of
from tests.support import serving

pytestmark = pytest.mark.integration

IDS = [f"H{number}" for number in range(2000)]
THREE = [day(0), day(1), day(2)]
DAYS = f"{day(0)}..{day(2)}"


def process(store: Store, wrapper: Sequence[str] = (), **other: str) -> subprocess.Popen[str]:
    """The job as a process of its own, as on a node."""
    arguments = store.arguments(DAYS)
    command = [*wrapper, sys.executable, "-m", "spark_jobs.sync", "--features", arguments.features]
    command += ["--keyspace", arguments.keyspace, "--table", arguments.table]
    command += ["--start", str(arguments.days.start), "--end", str(arguments.days.end)]
    out = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **other}, stdout=out, stderr=out, text=True)


def ended(running: subprocess.Popen[str]) -> tuple[int, dict, str]:
    out, err = running.communicate(timeout=300)
    return running.returncode, json.loads(out.splitlines()[-1]), err


def test_killed_at_random_moments_it_goes_on_where_it_was(store: Store) -> None:
    """Each kill is later than the one before; what was written by then is not written again."""
    store.lake.put(features(IDS, THREE))
    chances = random.Random(7)
    written = 0
    for number in range(10):
        running = process(store)
        # So many rows more than the one before has left, or, the first times, before there is a row.
        _until_online(store, written + (number > 1) * chances.randint(1, 300))
        time.sleep(chances.uniform(0, 0.1))
        running.send_signal(signal.SIGKILL)
        running.wait()
        running.communicate()
        written = len(store.online.rows())
    status, done, said = ended(process(store))
    assert status == 0, said
    assert 0 < written < 6000, "the kills came while it wrote"
    assert done["rows_written"] <= 6000 - written
    assert done["rows_online"] == 6000
    store.equal(THREE)
    assert not any(each.open for each in store.known.values())


def test_the_server_is_killed_and_started_again(
    reach: Callable[[RunningCassandra], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with server(tmp_path / "stack") as (first, running):
        reach(first)
        connection = connect(first)
        store = store_of(connection, tmp_path)
        store.lake.put(features(IDS, THREE))
        job = process(store)
        _until_online(store, 500)
        running.send_signal(signal.SIGKILL)
        running.wait()
        connection.close()
        with serving(first.stack, "cassandra"):
            status, done, said = ended(job)
            assert status == 0, said
            assert "Requests are lost" in said
            assert (done["rows_online"], done["rows_compared"]) == (6000, 6000)
            again = connect(first)
            store.online.connection = again
            store.equal(THREE)
            again.close()


def _until_online(store: Store, rows: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(store.online.connection.session.execute(f"SELECT id FROM {store.online.table}"))) < rows:
        assert time.monotonic() < deadline


class Resetting:
    """A way to a server that resets its connections, again and again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.listening = socket.create_server((HOST, 0))
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            other = socket.create_connection((HOST, self.port))
            for one in (client, other):
                # Closed with what is on its way thrown away: the other side sees a reset.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.pairs.append((client, other))
            for one, two in ((client, other), (other, client)):
                threading.Thread(target=self._pass_on, args=(one, two), daemon=True).start()

    @staticmethod
    def _pass_on(one: socket.socket, two: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                two.sendall(data)
        except OSError:
            pass
        finally:
            two.close()

    def reset(self) -> None:
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for each in pair:
                each.close()  # by the thread that passes on, too, maybe


def test_connections_are_reset(cassandra: RunningCassandra, store: Store) -> None:
    store.lake.put(features(IDS, THREE))
    way = Resetting(cassandra.port)
    running = process(store, KEYSPACES_PORT=str(way.listening.getsockname()[1]))
    _until_online(store, 300)
    for _ in range(3):
        way.reset()
        time.sleep(0.7)  # it comes back within half a second, and sends again
    status, done, said = ended(running)
    way.listening.close()
    assert status == 0, said
    assert "Requests are lost" in said
    assert done["rows_online"] == 6000
    store.equal(THREE)


def test_a_server_that_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.lake.put(features(["A"], [day(0)]))
    monkeypatch.setenv("KEYSPACES_PORT", str(Ports.free().keyspaces_port))
    with pytest.raises(JobError, match=r"No connection to Keyspaces at 127\.0\.0\.1:\d+: .*[Rr]efused"):
        store.sync(str(day(0)))
    assert store.known == {}


def test_a_wrong_password(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.lake.put(features(["A"], [day(0)]))
    monkeypatch.setenv("KEYSPACES_PASSWORD", "not-the-one")
    with pytest.raises(JobError, match=r"Keyspaces at .*username .* and/or password are incorrect") as caught:
        store.sync(str(day(0)))
    assert "not-the-one" not in str(caught.value)


def test_another_authority(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store.lake.put(features(["A"], [day(0)]))
    authority = tls.new_authority(ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "other.pem").write_bytes(authority.public_bytes(Encoding.PEM))
    monkeypatch.setenv("KEYSPACES_CA", str(tmp_path / "other.pem"))
    with pytest.raises(JobError, match="CERTIFICATE_VERIFY_FAILED"):
        store.sync(str(day(0)))


def test_another_name(cassandra: RunningCassandra, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is of an authority that is trusted, and of another server."""
    login = endpoint.Login(cassandra.username, cassandra.password)
    store.lake.put(features(["A"], [day(0)]))
    elsewhere = endpoint.Endpoint("localhost.localdomain", cassandra.port, cassandra.ca, "eu-west-2", login)
    monkeypatch.setattr(endpoint.Endpoint, "here", classmethod(lambda cls: elsewhere))
    monkeypatch.setattr(socket, "getaddrinfo", _to_this_machine(socket.getaddrinfo))
    with pytest.raises(JobError, match=r"[Hh]ostname mismatch"):
        store.sync(str(day(0)))


def _to_this_machine(real: Callable[..., list]) -> Callable[..., list]:
    def found(host: str, *more: object, **others: object) -> list:
        return real(HOST if host == "localhost.localdomain" else host, *more, **others)

    return found


def test_an_expired_certificate(reach: Callable[[RunningCassandra], None], tmp_path: Path) -> None:
    """Made two days ago, for one day."""
    with server(tmp_path / "stack") as (running, _):
        reach(running)
        connection = connect(running)
        store = store_of(connection, tmp_path)
        store.lake.put(features(["A"], [day(0)]))
        connection.close()
    _expire(running.stack)
    # Not `serving`: that waits until it answers to those who check its certificate.
    log = (running.stack.logs / "cassandra.log").open("a")
    stale = subprocess.Popen(
        [sys.executable, "-c", KEEP_CERTIFICATE],
        cwd=ROOT,
        env=running.stack.process_environment(),
        stdout=log,
        stderr=log,
    )
    try:
        _until_open(running.port)
        with pytest.raises(JobError, match="certificate has expired"):
            store.sync(str(day(0)))
    finally:
        stale.kill()
        stale.wait()


KEEP_CERTIFICATE = """
from infra.local.cassandra import server
from infra.local.settings import Stack
server.ensure_certificate = lambda stack: None
server.serve(Stack.from_environment())
"""


def _expire(stack: Stack) -> None:
    key, ca_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = tls.new_authority(ca_key)
    stale = tls.server_certificate(stack, key.public_key(), ca, ca_key, dt.datetime.now(dt.UTC) - tls.DAY)
    password = BestAvailableEncryption(stack.secrets.keystore_password.encode())
    tls.key_store(stack).write_bytes(pkcs12.serialize_key_and_certificates(b"server", key, stale, [ca], password))
    stack.ca.write_bytes(ca.public_bytes(Encoding.PEM))


def _until_open(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_row_that_the_server_refuses_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poisoned row: the others may be online, the day is not certified, and goes on when it is mended."""
    store.lake.put(features(["A", "B", "x" * 3000], [day(0)]))
    monkeypatch.setattr("feature_store.keyspaces.ENTITY_BYTES", 70_000)
    to_send = cells.to_send

    def poisoned(row: cells.Row, there: cells.Row | None) -> bytes:
        entity, of, _third, *others = cells.split(row)
        return cells.values(entity, of, b"no double", *others) if entity == b"A" else to_send(row, there)

    with monkeypatch.context() as broken:
        broken.setattr(cells, "to_send", poisoned)
        with pytest.raises(JobError, match=rf"energy_data_features at A {day(0)}: InvalidRequest: .* run this again"):
            store.sync(str(day(0)))
    assert store.known[day(0)].open
    assert store.sync(str(day(0)))["rows_online"] == 3
    store.equal([day(0)])


def test_a_table_that_is_altered_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server forgets all statements of a table that is altered: they are prepared again, and no row is lost."""
    store.lake.put(features([f"H{number:04}" for number in range(2000)], [day(0)]))
    session, table = store.online.connection.session, store.online.table
    send, prepare = Wire.send, Wire.prepare
    sent, prepared = [0], [0]

    def altered(self: Wire, requests: Sequence[Request]) -> None:
        sent[0] += len(requests)
        if sent[0] - len(requests) < 500 <= sent[0]:
            session.execute(f"ALTER TABLE {table} ADD other int")
        send(self, requests)

    def again(self: Wire, statement: PreparedStatement) -> None:
        prepared[0] += 1
        prepare(self, statement)

    monkeypatch.setattr(Wire, "send", altered)
    monkeypatch.setattr(Wire, "prepare", again)
    assert store.sync(str(day(0)))["rows_online"] == 2000
    assert prepared[0], "the server has forgotten none: this tests nothing"
    session.execute(f"ALTER TABLE {table} DROP other")
    store.equal([day(0)])


def test_a_table_without_a_column(store: Store) -> None:
    store.lake.put(features(["A"], [day(0)]))
    store.online.connection.session.execute(f"ALTER TABLE {store.online.table} DROP energy_max_1yr")
    with pytest.raises(JobError, match=r"differs from the view in energy_max_1yr: run spark_jobs\.schema"):
        store.sync(str(day(0)))
    assert store.known == {}


def test_no_table(store: Store) -> None:
    store.lake.put(features(["A"], [day(0)]))
    with pytest.raises(JobError, match=r"There is no online table .*\.nothing: run spark_jobs\.schema first"):
        store.sync(str(day(0)), table="nothing")


def test_a_disk_without_room(store: Store) -> None:
    """Not a byte can be written to any file: not the note that precedes the first row either, so there is no row."""
    store.lake.put(features(["A", "B"], THREE))
    running = process(store, ["bash", "-c", 'ulimit -f 0 && exec "$@"', "bash"])
    _, said = running.communicate(timeout=300)
    assert running.returncode == 1
    assert "sync_certificates can't be written" in said.splitlines()[-1]
    assert store.online.rows() == {}
    assert store.sync(DAYS)["rows_online"] == 6
    store.equal(THREE)


def test_a_certificate_that_can_not_be_written(store: Store) -> None:
    """As on a full disk: the rows may be online, the days are not certified, and running it again does it."""
    store.lake.put(features(["A", "B"], [day(0)]))
    in_its_way = Path(store.lake.uri).parent / "sync_certificates"
    in_its_way.write_text("a file")
    with pytest.raises(JobError, match="sync_certificates can't be"):
        store.sync(str(day(0)))
    in_its_way.unlink()
    assert store.sync(str(day(0)))["rows_online"] == 2
    store.equal([day(0)])
