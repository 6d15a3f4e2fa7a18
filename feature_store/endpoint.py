"""Where the online store is, who connects, and how: always over TLS, the server's certificate and name checked."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The driver ships no types.
from cassandra import (  # type: ignore[import-untyped]
    AuthenticationFailed,
    ConsistencyLevel,
    DriverException,
    UnresolvableContactPoints,
)
from cassandra.auth import AuthProvider, PlainTextAuthProvider  # type: ignore[import-untyped]
from cassandra.cluster import (  # type: ignore[import-untyped]
    EXEC_PROFILE_DEFAULT,
    Cluster,
    DefaultConnection,
    ExecutionProfile,
    NoHostAvailable,
    Session,
)
from cassandra.connection import ConnectionException  # type: ignore[import-untyped]
from cassandra.policies import DCAwareRoundRobinPolicy, ExponentialReconnectionPolicy  # type: ignore[import-untyped]
from cassandra.pool import NoConnectionsAvailable  # type: ignore[import-untyped]
from cassandra.protocol import ErrorMessage, ProtocolHandler  # type: ignore[import-untyped]
from cassandra.query import dict_factory  # type: ignore[import-untyped]

PORT = 9142
REQUEST_TIMEOUT = 10.0  # seconds, for a query as for a connection and for what is asked of the schema on it
# A load balancer closes connections now and then: back within a second, and never in step with all other clients.
RECONNECT_SECONDS = 0.5, 8.0
# What the bootstrap script leaves on a node: host, port, region, ca, and a secret's name or none. No secret is in it.
NODE_FILE = Path("feature-store") / "keyspaces.json"


# All that the driver raises, for which it has no one class: errors of the server come as one or the other.
DRIVER_ERRORS = (DriverException, ErrorMessage, ConnectionException, NoConnectionsAvailable, NoHostAvailable)


class UndecodableError(DriverException):  # type: ignore[misc] # as the driver has no types
    """What a server has answered is no row of the types that it has said."""


class OnlineError(Exception):
    """The online store can't be reached or read; the message says where and why."""


@dataclass(frozen=True)
class Login:
    """A name and a password: service-specific credentials of Keyspaces."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Endpoint:
    """An online store and how to sign in.

    Attributes:
        host: of the endpoint; the certificate must be for it.
        port: 9142 on Keyspaces.
        ca: a PEM file with the certificate authorities to trust.
        region: the AWS region, which is the name of Keyspaces' data centre.
        login: whom to sign in as; None signs in as the AWS identity of this process (SigV4).
    """

    host: str
    port: int
    ca: Path
    region: str
    login: Login | None

    def __str__(self) -> str:
        """Name it as messages do."""
        return f"{self.host}:{self.port}"

    @classmethod
    def from_environment(cls) -> Endpoint:
        """Take KEYSPACES_HOST, _PORT (9142 without it), _USERNAME, _PASSWORD and _CA, and the AWS region's variable.

        Without a user name it signs in by SigV4.

        Raises:
            OnlineError: a variable is missing or wrong.
        """
        username = os.environ.get("KEYSPACES_USERNAME")
        return cls(
            host=_variable("KEYSPACES_HOST"),
            port=_port("KEYSPACES_PORT", os.environ.get("KEYSPACES_PORT") or str(PORT)),
            ca=Path(_variable("KEYSPACES_CA")),
            region=os.environ.get("AWS_REGION") or _variable("AWS_DEFAULT_REGION"),
            login=Login(username, _variable("KEYSPACES_PASSWORD")) if username else None,
        )

    @classmethod
    def of_node(cls, file: Path) -> Endpoint:
        """Take a node's file: host, port, region, ca, and `secret`: its name in Secrets Manager, or null for SigV4.

        Raises:
            OnlineError: the file or the secret can't be read, or is not what it should be.
        """
        try:
            said = json.loads(file.read_text())
            secret, region = said["secret"], str(said["region"])
            host, port, ca = str(said["host"]), _port("port", str(said["port"])), Path(said["ca"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OnlineError(f"{file} does not say where the online store is: {error!r}") from error
        return cls(host, port, ca, region, _of_secret(str(secret), region) if secret else None)

    @classmethod
    def here(cls) -> Endpoint:
        """Take the environment's where it names a host, else that of the node's file, ~/feature-store/keyspaces.json.

        Raises:
            OnlineError: neither is there, or it is wrong.
        """
        file = Path.home() / NODE_FILE
        if os.environ.get("KEYSPACES_HOST") or not file.exists():
            return cls.from_environment()
        return cls.of_node(file)


def open_session(endpoint: Endpoint, prepare: Callable[[Cluster], None] = lambda _: None) -> Session:
    """Connect; whoever has the session ends it by `session.cluster.shutdown()`.

    Args:
        endpoint: whom to connect to.
        prepare: what else to set before the first connection.

    Raises:
        OnlineError: no connection; the message says why.
    """
    try:
        cluster = _cluster(endpoint)
    except UnresolvableContactPoints as error:
        raise OnlineError(f"No connection to Keyspaces at {endpoint}: no address is known for that name") from error
    prepare(cluster)
    try:
        session = cluster.connect()
    except DRIVER_ERRORS as error:
        cluster.shutdown()
        raise OnlineError(f"No connection to Keyspaces at {endpoint}: {_why(error, endpoint)}") from error
    # The server's clock, not ours: of two writes of a row the later one must win, and clocks of clients differ.
    session.use_client_timestamp = False
    session.client_protocol_handler = _Decoding
    return session


def _why(error: Exception, endpoint: Endpoint) -> str:
    causes = getattr(error, "errors", None)
    if isinstance(causes, list):  # the addresses that have answered, none of which the driver has a use for
        return (
            f"none of {', '.join(map(str, causes))} is of the data centre {endpoint.region}, or takes a connection more"
        )
    return "; ".join(map(str, causes.values())) if causes else str(error)


def reconnection(first: float, longest: float) -> ExponentialReconnectionPolicy:
    """Come back after so many seconds, and then after twice as many up to the longest pause, for as long as it takes.

    The driver's default ends after 64 times, and a process that reads would never see its server again.
    """
    return ExponentialReconnectionPolicy(first, longest, max_attempts=None)


class _Decoding(ProtocolHandler):  # type: ignore[misc] # as the driver has no types
    """Gives a row that can't be decoded to whoever has asked for it.

    The driver would end the connection too, and with it the requests of all others on it.
    """

    @classmethod
    def decode_message(cls, *message: Any) -> Any:  # noqa: ANN401 - of many kinds
        try:
            return super().decode_message(*message)
        except DriverException as error:
            return UndecodableError(str(error))


class _Connection(DefaultConnection):  # type: ignore[misc] # as the driver has no types
    """Lets the driver come back after a login that was refused.

    It would give the host up for good; but a server refuses logins that are right while it starts, or is busy.
    """

    @classmethod
    def factory(cls, endpoint: Any, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the driver's
        try:
            return super().factory(endpoint, *arguments, **named)
        except AuthenticationFailed as error:
            raise ConnectionException(str(error), endpoint) from error


def _cluster(endpoint: Endpoint) -> Cluster:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and name
    try:
        context.load_verify_locations(endpoint.ca)
    except (OSError, ssl.SSLError) as error:
        raise OnlineError(f"{endpoint.ca} can't be read as a PEM file of certificate authorities: {error}") from error
    profile = ExecutionProfile(
        # In turn, and not by tokens: each endpoint of Keyspaces that system.peers lists leads to all rows.
        load_balancing_policy=DCAwareRoundRobinPolicy(local_dc=endpoint.region),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=REQUEST_TIMEOUT,
        row_factory=dict_factory,
    )
    return Cluster(
        [endpoint.host],
        port=endpoint.port,
        protocol_version=4,  # the newest of Keyspaces
        auth_provider=_auth(endpoint),
        ssl_context=context,
        # The peers that Keyspaces lists are bare addresses, with the certificate of the endpoint.
        ssl_options={"server_hostname": endpoint.host},
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=reconnection(*RECONNECT_SECONDS),
        connection_class=_Connection,
        connect_timeout=REQUEST_TIMEOUT,
        # The driver gives its questions about the schema 2 seconds: too few for a busy server, or one of many tables.
        control_connection_timeout=REQUEST_TIMEOUT,
    )


def _auth(endpoint: Endpoint) -> AuthProvider:
    if endpoint.login:
        return PlainTextAuthProvider(endpoint.login.username, endpoint.login.password)
    # Not at import: whoever signs in by a password needs no AWS.
    import boto3  # noqa: PLC0415
    from cassandra_sigv4.auth import SigV4AuthProvider  # type: ignore[import-untyped]  # noqa: PLC0415

    session = boto3.Session(region_name=endpoint.region)
    if session.get_credentials() is None:
        raise OnlineError(
            f"Nobody to sign in to Keyspaces at {endpoint} as: set KEYSPACES_USERNAME and KEYSPACES_PASSWORD, or give "
            "this process an AWS identity (a role, a profile or AWS_ACCESS_KEY_ID)."
        )
    return SigV4AuthProvider(session)


def login_of(said: str | bytes, secret: str) -> Login:
    """Read a login from what a secret holds, a JSON object with `username` and `password`; OnlineError if it is none.

    Args:
        said: what it holds.
        secret: its name, for the message: what is in it is in none.
    """
    try:
        of = json.loads(said)
        return Login(str(of["username"]), str(of["password"]))
    except (ValueError, KeyError, TypeError):
        # Not the error itself: it may quote what is in the secret.
        raise OnlineError(f"The secret {secret} is no JSON object with username and password") from None


def _of_secret(name: str, region: str) -> Login:
    import boto3  # noqa: PLC0415 - as in _auth
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        client: Any = boto3.client("secretsmanager", region_name=region)
        said = client.get_secret_value(SecretId=name).get("SecretString", "")
    except (BotoCoreError, ClientError) as error:
        raise OnlineError(f"The secret {name} in {region} can't be read: {error}") from error
    return login_of(str(said), f"{name} in {region}")


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise OnlineError(f"{name} is not set: the environment must name the online store")
    return value


def _port(name: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise OnlineError(f"{name}={text!r} is not a port")
    return int(text)
