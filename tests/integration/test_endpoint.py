"""Signing in to a server that is busy."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from feature_store.endpoint import Endpoint, Login, open_session
from infra.local.settings import HOST, REGION
from tests.integration.conftest import RunningCassandra

pytestmark = pytest.mark.integration

SIGNED_IN_BYTES = 6_000  # TLS and signing in take fewer; what says which tables there are takes more
SECONDS = 3.0  # more than the driver waits unless told otherwise


def _late(client: socket.socket, server: socket.socket) -> None:
    """Pass bytes both ways; once as many have come back as signing in takes, hold up what follows, once."""
    answered, held = 0, False
    with client, server, selectors.DefaultSelector() as ready, suppress(OSError):
        ready.register(client, selectors.EVENT_READ, server)
        ready.register(server, selectors.EVENT_READ, client)
        while True:
            for key, _ in ready.select():
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                if key.fileobj is server:
                    answered += len(data)
                    if answered > SIGNED_IN_BYTES and not held:
                        held = True
                        time.sleep(SECONDS)  # what is tested
                key.data.sendall(data)


@contextmanager
def slow(cassandra: RunningCassandra) -> Iterator[int]:
    """Serve the stand-in on another port, answering late what tables it has."""
    with socket.create_server((HOST, 0)) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    server = socket.create_connection((cassandra.host, cassandra.port))
                    threading.Thread(target=_late, args=(client, server), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def test_a_busy_server_is_waited_for(cassandra: RunningCassandra) -> None:
    with slow(cassandra) as port:
        began = time.monotonic()
        endpoint = Endpoint(cassandra.host, port, cassandra.ca, REGION, Login(cassandra.username, cassandra.password))
        session = open_session(endpoint)
        try:
            assert time.monotonic() - began > SECONDS
            assert session.execute("SELECT key FROM system.local").one()
        finally:
            session.cluster.shutdown()
