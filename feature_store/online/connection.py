"""Connections to the online store, and what is read by them."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

# The driver ships no types.
from cassandra.cluster import Cluster, Session  # type: ignore[import-untyped]

from feature_store import cql
from feature_store.endpoint import REQUEST_TIMEOUT, Endpoint, Login, open_session, reconnection
from feature_store.energy import ENERGY
from feature_store.online.answers import Value
from feature_store.online.reader import Options, Reader
from feature_store.view import FeatureView

KEYSPACE = cql.KEYSPACE
READ_ALL = Options()
LOOK_UP = Options(deadline=REQUEST_TIMEOUT)  # someone waits for it, and no service
# Whoever reads is back soon after a server is, and does not wait long for one that is gone without a word: a connection
# is asked for a sign of life after so many seconds without one, and given up after as many more.
RECONNECT_SECONDS = 0.25, 2.0
HEARTBEAT_SECONDS = 5


class Connection:
    """A session with the online store. Thread-safe, made once for all reads. Close it, or use it in `with`."""

    def __init__(self, session: Session, keyspace: str = KEYSPACE) -> None:
        """Wrap a driver's session whose rows are dicts; the tables are those of the keyspace."""
        self.session = session
        self._keyspace = keyspace
        self._readers: dict[str, Reader] = {}

    def __enter__(self) -> Self:
        """Use until the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    @classmethod
    def from_environment(cls) -> Connection:
        """Connect as KEYSPACES_HOST, _PORT (9142 without it), _USERNAME, _PASSWORD and _CA say.

        Without a user name it signs in by SigV4, as the AWS identity of this process.

        Raises:
            OnlineError: a variable is missing or wrong, or there is no connection to be had.
        """
        return cls(open_session(Endpoint.from_environment(), _for_reads))

    def reader(
        self,
        view: FeatureView = ENERGY,
        options: Options = READ_ALL,
    ) -> Reader:
        """Make what reads a view's newest features; one is made for all reads of its kind.

        Args:
            view: whose features.
            options: how to read them.

        Raises:
            UnknownFeatureError: the view lacks a feature that is asked for.
            ValueError: an option is out of its bounds.
            OnlineError: the view's table is not there, or can't be asked.
        """
        return Reader(self.session, view, self._keyspace, options)

    def latest(self, entity: str, view: FeatureView = ENERGY) -> dict[str, Value] | None:
        """Read the newest row of an entity: column name to value, in the view's order; None if it has none.

        Raises:
            OnlineError: as Reader.get.
        """
        if view.name not in self._readers:
            self._readers[view.name] = self.reader(view, LOOK_UP)
        answer = self._readers[view.name].get(entity)
        return None if answer.day is None else {view.entity: entity, view.day: answer.day, **answer.features}

    def close(self) -> None:
        """End the session and its connections."""
        self.session.cluster.shutdown()


def connect(  # noqa: PLR0913 - all by name, and each from another place
    *, host: str, port: int, username: str, password: str, ca: Path, region: str, keyspace: str = KEYSPACE
) -> Connection:
    """Connect with a name and a password, over TLS, the server's certificate and name checked.

    Args:
        host: of the endpoint; the certificate must be for it.
        port: 9142 on Keyspaces.
        username: of the service-specific credentials.
        password: of the same.
        ca: a PEM file with the certificate authorities to trust.
        region: the AWS region, which is the name of Keyspaces' data centre.
        keyspace: where the views' tables are.

    Raises:
        OnlineError: no connection; the message says why.
    """
    return Connection(open_session(Endpoint(host, port, ca, region, Login(username, password)), _for_reads), keyspace)


def _for_reads(cluster: Cluster) -> None:
    cluster.reconnection_policy = reconnection(*RECONNECT_SECONDS)
    cluster.idle_heartbeat_interval = cluster.idle_heartbeat_timeout = HEARTBEAT_SECONDS
