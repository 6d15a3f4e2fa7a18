"""Read features online, from Amazon Keyspaces or anything that speaks its protocol."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

# The driver ships no types.
from cassandra import ConsistencyLevel, DriverException  # type: ignore[import-untyped]
from cassandra.auth import PlainTextAuthProvider  # type: ignore[import-untyped]
from cassandra.cluster import (  # type: ignore[import-untyped]
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    Session,
)
from cassandra.policies import DCAwareRoundRobinPolicy  # type: ignore[import-untyped]
from cassandra.query import dict_factory  # type: ignore[import-untyped]
from cassandra.util import Date  # type: ignore[import-untyped]

from feature_store import cql
from feature_store.energy import ENERGY
from feature_store.view import FeatureView

PORT = 9142
KEYSPACE = cql.KEYSPACE
REQUEST_TIMEOUT = 10.0  # seconds, for a query as for a connection

Value = str | dt.date | int | float | None


class OnlineError(Exception):
    """The online store can't be reached or read; the message says where and why."""


class Connection:
    """A session with the online store. Thread-safe, made once for all reads. Close it, or use it in `with`."""

    def __init__(self, session: Session, keyspace: str = KEYSPACE) -> None:
        """Wrap a driver's session whose rows are dicts; the tables are those of the keyspace."""
        self.session = session
        self._keyspace = keyspace
        self._latest: dict[str, object] = {}

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

        Raises:
            OnlineError: a variable is missing or wrong, or there is no connection to be had.
        """
        return connect(
            host=_variable("KEYSPACES_HOST"),
            port=_port(os.environ.get("KEYSPACES_PORT") or str(PORT)),
            username=_variable("KEYSPACES_USERNAME"),
            password=_variable("KEYSPACES_PASSWORD"),
            ca=Path(_variable("KEYSPACES_CA")),
            region=os.environ.get("AWS_REGION") or _variable("AWS_DEFAULT_REGION"),
        )

    def latest(self, entity: str, view: FeatureView = ENERGY) -> dict[str, Value] | None:
        """Read the newest row of an entity: column name to value, in the view's order; None if it has none.

        One row is asked for and one row is a page: without the page size Keyspaces reads, and bills, up to a megabyte.

        Raises:
            OnlineError: the read failed or timed out.
        """
        try:
            if view.name not in self._latest:
                prepared = self.session.prepare(cql.latest(view, self._keyspace))
                prepared.fetch_size = 1
                self._latest[view.name] = prepared
            row = self.session.execute(self._latest[view.name], (entity,)).one()
        except (DriverException, NoHostAvailable) as error:
            raise OnlineError(f"The latest {view.name} of {entity!r} can't be read: {error}") from error
        return _typed(row) if row else None

    def close(self) -> None:
        """End the session and its connections."""
        self.session.cluster.shutdown()


def connect(  # noqa: PLR0913 - all by name, and each from another place
    *, host: str, port: int, username: str, password: str, ca: Path, region: str, keyspace: str = KEYSPACE
) -> Connection:
    """Connect over TLS, the server's certificate and name checked.

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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and name
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise OnlineError(f"{ca} can't be read as a PEM file of certificate authorities: {error}") from error
    profile = ExecutionProfile(
        load_balancing_policy=DCAwareRoundRobinPolicy(local_dc=region),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=REQUEST_TIMEOUT,
        row_factory=dict_factory,
    )
    cluster = Cluster(
        [host],
        port=port,
        protocol_version=4,  # the newest of Keyspaces
        auth_provider=PlainTextAuthProvider(username, password),
        ssl_context=context,
        # The peers that Keyspaces lists are bare addresses, with the certificate of the endpoint.
        ssl_options={"server_hostname": host},
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=REQUEST_TIMEOUT,
    )
    try:
        return Connection(cluster.connect(), keyspace)
    except (DriverException, NoHostAvailable) as error:
        cluster.shutdown()
        causes = "; ".join(str(cause) for cause in getattr(error, "errors", {}).values()) or str(error)
        raise OnlineError(f"No connection to Keyspaces at {host}:{port}: {causes}") from error


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise OnlineError(f"{name} is not set: the environment must name the online store")
    return value


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise OnlineError(f"KEYSPACES_PORT={text!r} is not a port")
    return int(text)


def _typed(row: Mapping[str, object]) -> dict[str, Value]:
    """The driver's own date class becomes Python's."""
    return {name: value.date() if isinstance(value, Date) else value for name, value in row.items()}  # type: ignore[misc]  # the driver's values are untyped
