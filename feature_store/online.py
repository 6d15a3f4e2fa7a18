"""Read features online, from Amazon Keyspaces or anything that speaks its protocol."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

# The driver ships no types.
from cassandra.cluster import Session  # type: ignore[import-untyped]
from cassandra.util import Date  # type: ignore[import-untyped]

from feature_store import cql, cql_lint
from feature_store.endpoint import DRIVER_ERRORS, Endpoint, Login, OnlineError, open_session
from feature_store.energy import ENERGY
from feature_store.view import FeatureView

__all__ = ["Connection", "Endpoint", "OnlineError", "connect"]

KEYSPACE = cql.KEYSPACE

Value = str | dt.date | int | float | None


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

        Without a user name it signs in by SigV4, as the AWS identity of this process.

        Raises:
            OnlineError: a variable is missing or wrong, or there is no connection to be had.
        """
        return cls(open_session(Endpoint.from_environment()))

    def latest(self, entity: str, view: FeatureView = ENERGY) -> dict[str, Value] | None:
        """Read the newest row of an entity: column name to value, in the view's order; None if it has none.

        One row is asked for and one row is a page: without the page size Keyspaces reads, and bills, up to a megabyte.

        Raises:
            OnlineError: the read failed or timed out.
        """
        try:
            if view.name not in self._latest:
                prepared = self.session.prepare(cql_lint.checked(cql.latest(view, self._keyspace)))
                prepared.fetch_size = 1
                self._latest[view.name] = prepared
            row = self.session.execute(self._latest[view.name], (entity,)).one()
        except DRIVER_ERRORS as error:
            raise OnlineError(f"The latest {view.name} of {entity!r} can't be read: {error}") from error
        return _typed(row) if row else None

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
    return Connection(open_session(Endpoint(host, port, ca, region, Login(username, password))), keyspace)


def _typed(row: Mapping[str, object]) -> dict[str, Value]:
    """The driver's own date class becomes Python's."""
    return {name: value.date() if isinstance(value, Date) else value for name, value in row.items()}  # type: ignore[misc]  # the driver's values are untyped
