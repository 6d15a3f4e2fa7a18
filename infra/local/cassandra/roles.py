"""Reach the Keyspaces stand-in: connect as its clients do, wait until it answers, set up its roles."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cassandra import AuthenticationFailed, ConsistencyLevel, DriverException  # type: ignore[import-untyped]  # the driver ships no types
from cassandra.auth import PlainTextAuthProvider  # type: ignore[import-untyped]
from cassandra.cluster import (  # type: ignore[import-untyped]
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    Session,
)
from cassandra.policies import RoundRobinPolicy  # type: ignore[import-untyped]

from infra.local.settings import Stack, StackError

# pragma: allowlist nextline secret
FIRST_SUPERUSER = FIRST_PASSWORD = "cassandra"  # noqa: S105 - what every new Cassandra has, until prepare_roles
POLL_SECONDS = 0.2


@contextmanager
def session(stack: Stack, username: str, password: str) -> Iterator[Session]:
    """A session of the driver over TLS with the server's name checked; raises NoHostAvailable if it can't be had."""
    with _cluster(stack, username, password) as cluster:
        yield cluster.connect()


def is_ready(stack: Stack) -> bool:
    """Whether the server answers an authenticated query; the first time it does, its roles are set up.

    An open port is no sign: it opens up to a second before the first role exists, and logins are refused till then.
    """
    if not _is_open(
        stack.hosts.keyspaces_host, stack.ports.keyspaces_port
    ):  # a hundred times cheaper to ask than by the driver
        return False
    log = logging.getLogger("cassandra")
    level = log.level
    log.setLevel(logging.CRITICAL)  # a refusal by a server that is only starting is no news
    try:
        prepare_roles(stack)
    except (NoHostAvailable, DriverException, FileNotFoundError):  # the last: it has not yet made its certificate
        return False
    finally:
        log.setLevel(level)
    return True


def wait_until_ready(stack: Stack, seconds: float) -> None:
    """Return when the server answers; StackError if it does not within these seconds."""
    deadline = time.monotonic() + seconds
    while not is_ready(stack):
        if time.monotonic() > deadline:
            raise StackError(f"Cassandra on port {stack.ports.keyspaces_port} gave no answer within {seconds:.0f} s.")
        time.sleep(POLL_SECONDS)


def prepare_roles(stack: Stack) -> None:
    """Give the superuser a password of this stack, and make the ordinary role that everything else logs in as.

    Does nothing where that role can log in. A server killed halfway is completed by the next call: the ordinary role is
    granted its rights before it can log in. Raises NoHostAvailable where the server does not take the role's login yet,
    as it remembers a refusal for some seconds.
    """
    secrets = stack.secrets
    try:
        with session(stack, secrets.keyspaces_username, secrets.keyspaces_password) as ready:
            ready.execute("SELECT key FROM system.local")
            return
    except NoHostAvailable as refused:
        if not is_login_refused(refused):
            raise
    _take_over_superuser(stack)
    with session(stack, FIRST_SUPERUSER, secrets.cassandra_superuser_password) as root:
        role = f'"{secrets.keyspaces_username}"'
        root.execute(f"CREATE ROLE IF NOT EXISTS {role} WITH SUPERUSER = false AND LOGIN = false")
        # Who creates a keyspace or a table may do everything with it: the role needs no more than this.
        root.execute(f"GRANT CREATE ON ALL KEYSPACES TO {role}")
        root.execute(f"ALTER ROLE {role} WITH PASSWORD = %s AND LOGIN = true", [secrets.keyspaces_password])
    with session(stack, secrets.keyspaces_username, secrets.keyspaces_password):
        pass


def is_login_refused(error: NoHostAvailable) -> bool:
    """Whether the server was reached and did not take the name and password."""
    return any(isinstance(cause, AuthenticationFailed) for cause in _causes(error))


def _is_open(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            return probe.connect_ex((host, port)) == 0
        except socket.gaierror:  # a container has no name before it is started
            return False


def _causes(error: NoHostAvailable) -> list[Exception]:
    # The driver gives a dictionary, or a bare list of hosts where it lost them after its first connection.
    return list(error.errors.values()) if isinstance(error.errors, dict) else []


def _take_over_superuser(stack: Stack) -> None:
    """Replace the password that everyone knows; raises NoHostAvailable while the server has no roles yet."""
    own = stack.secrets.cassandra_superuser_password
    try:
        with session(stack, FIRST_SUPERUSER, FIRST_PASSWORD) as root:
            root.execute(f"ALTER ROLE {FIRST_SUPERUSER} WITH PASSWORD = %s", [own])
    except NoHostAvailable as refused:
        if not is_login_refused(refused):
            raise
        with session(stack, FIRST_SUPERUSER, own):
            pass  # an earlier start got this far


def _cluster(stack: Stack, username: str, password: str) -> Cluster:
    profile = ExecutionProfile(
        load_balancing_policy=RoundRobinPolicy(),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,  # the one that Keyspaces writes with
        request_timeout=20,
    )
    return Cluster(
        [stack.hosts.keyspaces_host],
        port=stack.ports.keyspaces_port,
        protocol_version=4,  # the newest of Keyspaces
        auth_provider=PlainTextAuthProvider(username, password),
        ssl_context=ssl.create_default_context(cafile=str(stack.ca)),
        # The driver connects to the address behind a name, which the certificate is not for.
        ssl_options={"server_hostname": stack.hosts.keyspaces_host},
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=10,
    )
