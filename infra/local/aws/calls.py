"""A record of what is asked of the local AWS: for the test of what the roles on AWS have to be allowed.

With FEATURE_STORE_RECORD_CALLS set when the stack is started, a line of JSON for each request: who asks (the app that
the user agent names), the service and its action, and of the parameters those that name a resource. S3 keeps one of its
own, beside it: s3proxy-logback-calls.xml.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.local.aws.faults import ACTION

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

APP = re.compile(r"\bapp/([\w.-]+)")
# Nothing else of a request is recorded: other parameters may be data, or secret.
NAMES = ("ClusterId", "JobFlowId", "JobFlowIds", "JobFlowRole", "ServiceRole", "SecretId", "Tags", "cluster", "taskDefinition")
JSON_TYPE = "application/x-amz-json"


class CallLog:
    """A WSGI application before another one, that writes down each request of an action, and lets it through."""

    def __init__(self, app: WSGIApplication, file: Path) -> None:
        """Stand before `app`; `file` gets the lines."""
        self._app = app
        self._lock = threading.Lock()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Record one request, whose environment has its ACTION."""
        service, dot, action = str(environ.get(ACTION, "")).partition(".")
        if dot:
            line = json.dumps(
                {"app": app_of(environ), "service": service, "action": action, "names": _names(environ)}, sort_keys=True
            )
            with self._lock, self._file.open("a") as out:
                out.write(f"{line}\n")
        return self._app(environ, start_response)


def app_of(environ: WSGIEnvironment) -> str:
    """Say which app asks, by its user agent; empty if it does not tell."""
    found = APP.search(environ.get("HTTP_USER_AGENT", ""))
    return found[1] if found else ""


def _names(environ: WSGIEnvironment) -> dict[str, Any]:
    if not environ.get("CONTENT_TYPE", "").startswith(JSON_TYPE):
        return {}
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = BytesIO(body)
    parameters = json.loads(body or b"{}")
    return {name: parameters[name] for name in NAMES if name in parameters}
