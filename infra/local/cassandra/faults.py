"""Faults on purpose, between clients and the Keyspaces stand-in, for tests and benchmarks.

They are those of a way: bytes are late or lost, connections are cut, the certificate has expired.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from cassandra.cluster import Session  # type: ignore[import-untyped]  # the driver ships no types
from cassandra.connection import DefaultEndPoint  # type: ignore[import-untyped]  # the same
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from infra.local.cassandra import tls
from infra.local.settings import HOST, REGION, Stack

BUFFER_BYTES = 64 * 1024
JOIN_SECONDS = 30.0


class Authority:
    """An authority whose key is kept, so that it can sign for the stand-in again.

    Attributes:
        ca: its certificate, a PEM file.
        context: what a server takes connections with; new ones, with the certificate that was signed last.
    """

    def __init__(self, stack: Stack, folder: Path) -> None:
        """Leave its certificate in a folder, and sign."""
        self._stack = stack
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = tls.new_authority(self._key)
        self.ca = folder / "faults-ca.pem"
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.sign(expired=False)
        self.ca.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def sign(self, *, expired: bool) -> None:
        """Sign a certificate that holds, or one that did until yesterday."""
        key = ec.generate_private_key(ec.SECP256R1())
        until = dt.datetime.now(dt.UTC) - tls.DAY if expired else None
        signed = tls.server_certificate(self._stack, key.public_key(), self._certificate, self._key, until)
        with tempfile.NamedTemporaryFile() as file:  # readable by its owner; Python takes a key from a file alone
            file.write(signed.public_bytes(Encoding.PEM))
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            self.context.load_cert_chain(file.name)


class Way:
    """A way to a stack's stand-in, at `host` and `port`, in a thread of its own. Close it, or use it in `with`.

    Attributes:
        delay: seconds that bytes are under way, in each direction.
        changed: what becomes of bytes on their way to clients; with an authority, as else they are encrypted.
    """

    def __init__(self, stack: Stack, host: str = HOST, port: int = 0, authority: Authority | None = None) -> None:
        """Begin to pass connections on.

        Args:
            stack: whose stand-in.
            host: an address of this machine.
            port: of it; 0 takes one that is free.
            authority: whose certificate is shown in place of the stand-in's.
        """
        self.delay = 0.0
        self.changed: Callable[[bytes], bytes] = bytes
        self._lost = False
        self._dead: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._target: dict[str, Any] = {"host": HOST, "port": stack.ports.keyspaces_port}
        if authority:
            self._target["ssl"] = ssl.create_default_context(cafile=str(stack.ca))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        serving = asyncio.start_server(self._pass_on, host, port, ssl=authority and authority.context)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result()
        self.host, self.port = self._server.sockets[0].getsockname()

    def __enter__(self) -> Self:
        """Use until the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Take no more connections, and cut those that there are."""

        async def close() -> None:
            self._server.close()
            passing = asyncio.all_tasks() - {asyncio.current_task()}
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)

        self.cut()
        asyncio.run_coroutine_threadsafe(close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """End all connections."""

        def cut() -> None:
            for writer in self._open:
                writer.transport.abort()

        self._run(cut)

    def lose(self) -> None:
        """Pass nothing on any more, without a word: not by these connections, nor by new ones."""

        def lost() -> None:
            self._lost = True
            self._dead |= self._open

        self._run(lost)

    def find(self) -> None:
        """Pass new connections on again. What has been lost stays so."""
        self._lost = False

    def _run(self, do: Callable[[], None]) -> None:
        async def run() -> None:
            do()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward, back = await asyncio.open_connection(**self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, back}
        self._open |= both
        if self._lost:
            self._dead |= both
        await asyncio.gather(self._pump(reader, back, to_client=False), self._pump(onward, writer, to_client=True))
        self._open -= both
        self._dead -= both

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_client: bool) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.create_task(self._send(late, writer))
        with suppress(OSError):
            while data := await reader.read(BUFFER_BYTES):
                due = self._loop.time() + self.delay
                late.put_nowait((due, self.changed(data) if to_client else data))
        late.put_nowait((0.0, b""))
        await sending

    async def _send(self, late: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        """One after the other: what came when they were fast does not pass by what came when they were slow."""
        while True:
            due, data = await late.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if not data:
                break
            if writer not in self._dead:
                writer.write(data)
        if writer not in self._dead:  # where nothing is heard any more, an end is not either
            writer.close()


def add_endpoint(session: Session, host: str, port: int) -> None:
    """Let a session know another endpoint, as if system.peers listed it; TimeoutError if it can't be connected to."""
    session.cluster.add_host(DefaultEndPoint(host, port), REGION, signal=True, refresh_nodes=False)
    deadline = time.monotonic() + JOIN_SECONDS
    while len([state for state in session.get_pool_state().values() if state["open_count"]]) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no connection to {host}:{port}")
        time.sleep(0.05)
