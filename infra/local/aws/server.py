"""The HTTP server of the local AWS: moto behind a door that only this stack's own key opens."""

from __future__ import annotations

import hmac
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.secretsmanager.models import secretsmanager_backends
from werkzeug.serving import make_server

from infra.local.aws.calls import CallLog
from infra.local.aws.emr import LocalEmr, install
from infra.local.aws.faults import ACTION, Faults, FaultyApp
from infra.local.settings import RECORD, REGION, SECRET_NAME, Stack, StackError

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from infra.local.aws.ecs import LocalEcs

log = logging.getLogger(__name__)

Write = Callable[[bytes], object]

CREDENTIAL = re.compile(r"Credential=(?P<key>[^/,\s]+)/\d+/[\w-]+/(?P<service>[\w-]+)/aws4_request")
ACTION_NAME = re.compile(r"[A-Za-z0-9_.]{1,80}")
FORM = "application/x-www-form-urlencoded"
# A step gets this long to end by itself when the stack stops; the whole stop is to be done within 8 s.
STOP_GRACE_SECONDS = 3.0
STOP_SECONDS = 7.0
WITH_TASKS = {"ecs", "logs"}  # what of moto the local ECS has a part in


class Door:
    """Answers only requests that are signed with one access key id; logs each by method, action and status."""

    def __init__(self, app: WSGIApplication, access_key_id: str) -> None:
        """Stand before a WSGI application; it finds a request's action in its environment, as ACTION."""
        self._app = app
        self._key = access_key_id

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        began = time.monotonic()
        ours = self._is_ours(environ)
        action = _action(environ) if ours else "refused"

        def logged(status: str, headers: list[tuple[str, str]], failure: OptExcInfo | None = None) -> Write:
            # Neither headers nor bodies nor paths: those hold credentials and data.
            milliseconds = round(1000 * (time.monotonic() - began))
            log.info("%s %s %s %d ms", environ["REQUEST_METHOD"], action, status[:3], milliseconds)
            return start_response(status, headers, failure)

        if ours:
            environ[ACTION] = action
            return self._app(environ, logged)
        return _refuse(environ, logged)

    def _is_ours(self, environ: WSGIEnvironment) -> bool:
        if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"] == "/moto-api/":
            return True  # moto's page about itself: how the supervisor sees that we are up
        found = CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        return found is not None and hmac.compare_digest(found["key"].encode(), self._key.encode())


def _action(environ: WSGIEnvironment) -> str:
    """Name a request's action, as service.Action; of a REST request the service alone."""
    signed = CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    service = signed["service"] if signed else "unsigned"
    action = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
    if not action and environ.get("CONTENT_TYPE", "").startswith(FORM):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        named = re.search(rb"(?:^|&)Action=(\w+)", body)
        action = named[1].decode() if named else ""
    return f"{service}.{action}" if ACTION_NAME.fullmatch(action) else service


def _refuse(environ: WSGIEnvironment, start_response: Callable[..., object]) -> Iterable[bytes]:
    message = "This local AWS answers its own stack only: use the credentials that `make -s env` prints."
    if "HTTP_X_AMZ_TARGET" in environ:
        kind = "application/x-amz-json-1.1"
        body = json.dumps({"__type": "AccessDeniedException", "message": message})
    else:
        kind = "text/xml"
        body = f"<ErrorResponse><Error><Code>AccessDenied</Code><Message>{message}</Message></Error></ErrorResponse>"
    start_response("403 Forbidden", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body.encode()]


class _Handler(MotoRequestHandler):
    def log_request(self, *_: object) -> None:
        """Nothing: the door has logged it, without the path."""


class LocalAws:
    """A local AWS that can be started and stopped."""

    def __init__(self, stack: Stack, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the port (StackError if another program has it) and the secrets; nothing is answered yet."""
        host, port = stack.hosts.aws_host, stack.ports.aws_port
        self._socket = _listen(host, port)
        faults = Faults()
        self._stack = stack
        self._emr = LocalEmr(stack, faults, clock)
        install(self._emr)
        self._ecs: LocalEcs | None = None
        seed_secrets(stack)
        app: WSGIApplication = FaultyApp(DomainDispatcherApplication(self._make_app), faults, self._emr.lose_instances)
        if RECORD in os.environ:
            app = CallLog(app, stack.calls)
        door = Door(app, stack.secrets.aws_access_key_id)
        self._server = make_server(host, port, door, threaded=True, request_handler=_Handler, fd=self._socket.fileno())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)

    def start(self) -> None:
        """Answer requests, in threads."""
        self._thread.start()

    def stop(self) -> None:
        """End every cluster and every task with all that runs in it, then the server."""
        deadline = time.monotonic() + STOP_SECONDS
        if self._ecs:
            self._ecs.close(STOP_GRACE_SECONDS)
        self._emr.close(STOP_GRACE_SECONDS, STOP_SECONDS)
        if self._ecs:
            self._ecs.join(max(0.0, deadline - time.monotonic()))
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._socket.close()

    def _make_app(self, service: Any) -> Any:  # noqa: ANN401 - moto's name of a service, and a Flask
        """Make moto's application of a service at the first request for it; one thread at a time comes by here."""
        if service in WITH_TASKS and self._ecs is None:
            # A second of imports, which a stack is not to wait for that runs no simulation.
            from infra.local.aws import ecs  # noqa: PLC0415

            self._ecs = ecs.LocalEcs(self._stack)
            ecs.install(self._ecs)
        return create_backend_app(service)


def seed_secrets(stack: Stack) -> None:
    """Put the secret of Keyspaces where the nodes look for it; moto keeps all in memory."""
    secret = {"username": stack.secrets.keyspaces_username, "password": stack.secrets.keyspaces_password}
    backend = secretsmanager_backends[DEFAULT_ACCOUNT_ID][REGION]
    if SECRET_NAME not in backend.secrets:
        backend.create_secret(
            name=SECRET_NAME,
            secret_string=json.dumps(secret),
            secret_binary=None,
            description="Service-specific credentials of the Keyspaces stand-in",
            tags=[],
            kms_key_id=None,
            client_request_token=None,
            replica_regions=[],
            force_overwrite=False,
        )


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StackError(f"Port {port} on {host} can't be had ({error.strerror}): set AWS_PORT to another.") from error
    listener.listen(128)
    return listener
