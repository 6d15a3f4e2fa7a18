"""Who is told of a failed task, and what: by mail, or by a POST to a server that stands for Slack's."""

from __future__ import annotations

import json
import logging
import smtplib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from feature_store_airflow.failures import FAILURE, StepFailed
from feature_store_airflow.notifier import NotifyError, notify_failure
from feature_store_airflow.pipeline import DEFAULT_ARGS
from feature_store_airflow.step import StepOperator

pytestmark = pytest.mark.unit

RUN_ID = "manual__2014-02-28T04:00:00+00:00"
REASON = "ingest of 2014-02-27: step s-1 did not complete.\nLast lines of its stderr:\na < b & c\nNext: mend it."
TASK_URL = "http://airflow/dags/daily/runs/r/tasks/ingest?try_number=1"
# The provider of Amazon MWAA's image (2.4.5) begins TLS on a plain connection without a look at the certificate, and
# looks at it on a connection that is TLS from its start: docs/guide/aws.md says so.
CHECKS_STARTTLS = int(version("apache-airflow-providers-smtp").partition(".")[0]) >= 3
PAGES = f"/feature-store/logs/daily/{RUN_ID.replace(':', '%3A').replace('+', '%2B')}/ingest"


@pytest.fixture
def failed(context_of, monkeypatch) -> Any:
    """The context of a failed task, as Airflow gives it to a callback; `notify` is that entry of the Variable."""

    def context(notify: dict[str, Any] | None = None, reason: str = REASON) -> Any:
        settings = {"bucket": "lake", **({"notify": notify} if notify is not None else {})}
        monkeypatch.setenv("AIRFLOW_VAR_FEATURE_STORE", json.dumps(settings))
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow")
        with DAG("daily"):
            task = StepOperator(task_id="ingest", job="ingest", arguments=())
        made = context_of(task)
        made["ti"].task, made["ti"].log_url = task, TASK_URL
        return {**made, **({"exception": StepFailed(reason)} if reason else {})}

    return context


@pytest.fixture
def mails(monkeypatch) -> list[tuple[str, list[str], Any]]:
    """What is handed to the mail server."""
    sent: list[tuple[str, list[str], Any]] = []

    class Server(SimpleNamespace):
        def sendmail(self, from_addr: str, to_addrs: list[str], msg: str) -> None:
            from email import message_from_string, policy

            sent.append((from_addr, to_addrs, message_from_string(msg, policy=policy.default)))

        def starttls(self, context: Any = None) -> None:
            assert context is not None or not CHECKS_STARTTLS, "the server's certificate is checked"

        def login(self, user: str, password: str) -> None:
            assert (user, password) == ("store", "secret")

        def ehlo(self) -> None: ...

        def close(self) -> None: ...

    def connect(**where: Any) -> Server:
        assert (where["host"], where["port"]) == ("mail.example.com", 587)
        return Server()

    monkeypatch.setattr(smtplib, "SMTP", connect)
    # pragma: allowlist nextline secret
    uri = "smtp://store:secret@mail.example.com:587?from_email=airflow%40example.com&disable_ssl=true"
    monkeypatch.setenv("AIRFLOW_CONN_MAIL", uri)
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", uri)
    return sent


class Webhook:
    """A server in Slack's place, on loopback."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, str]]] = []
        self.status = 200
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.posts.append((self.path, json.loads(body)))
                self.send_response(webhook.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def webhook(monkeypatch) -> Iterator[Webhook]:
    made = Webhook()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    host = f"http://127.0.0.1:{made.server.server_port}"
    connection = {"conn_type": "http", "host": host, "password": "services/T0/B0/secret"}  # pragma: allowlist secret
    monkeypatch.setenv("AIRFLOW_CONN_SLACK", json.dumps(connection))
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.mark.parametrize("notify", [None, {}])
def test_nobody_is_told_by_default(failed, mails, webhook, notify) -> None:
    notify_failure(failed(notify))
    assert (mails, webhook.posts) == ([], [])


def test_every_task_has_it(failed) -> None:
    assert DEFAULT_ARGS["on_failure_callback"] is notify_failure
    assert "on_retry_callback" not in DEFAULT_ARGS, "a failure is told once, when no retry follows"


class TestMail:
    @pytest.mark.parametrize("more", [{"smtp": "mail"}, {}], ids=["connection named", "smtp_default"])
    def test_has_the_text_of_the_log_and_the_links(self, failed, mails, more) -> None:
        notify_failure(failed({"email": ["ada@example.com", "joan@example.com"], **more}))
        ((sender, receivers, message),) = mails
        assert (sender, receivers) == ("airflow@example.com", ["ada@example.com", "joan@example.com"])
        assert message["subject"] == f"daily: ingest failed ({RUN_ID})"
        html = message.get_body(("html",)).get_content()
        assert html.startswith(f"<pre>{REASON.replace('&', '&amp;').replace('<', '&lt;')}\n\nTask: {TASK_URL}\n")
        assert f"\nStep log (stderr): http://airflow{PAGES}/stderr\n" in html
        assert f"\nStep log (stdout): http://airflow{PAGES}/stdout" in html

    def test_of_a_worker_that_was_lost(self, failed, mails) -> None:
        """Airflow's DAG processor calls, with no exception."""
        notify_failure(failed({"email": ["ada@example.com"]}, reason=""))
        assert "its worker was lost" in mails[0][2].get_body(("html",)).get_content()

    def test_of_a_task_that_has_left_its_reason_only(self, failed, mails) -> None:
        context = failed({"email": ["ada@example.com"]}, reason="")
        context["ti"].xcoms["ingest", FAILURE] = "the reason"
        notify_failure(context)
        assert "<pre>the reason\n" in mails[0][2].get_body(("html",)).get_content()


class TestSlack:
    def test_has_the_text_of_the_log_and_the_links(self, failed, webhook) -> None:
        notify_failure(failed({"slack": "slack"}))
        ((path, message),) = webhook.posts
        assert path == "/services/T0/B0/secret"
        assert message["text"].startswith(
            f"*daily: ingest failed ({RUN_ID})*\n{REASON.replace('&', '&amp;').replace('<', '&lt;')}\n\nTask: "
        )
        assert f"{PAGES}/stderr" in message["text"]

    def test_of_a_long_log_has_its_beginning_and_its_end(self, failed, webhook) -> None:
        notify_failure(failed({"slack": "slack"}, f"first\n{'x' * 50_000}\nNext: last"))
        ((_, message),) = webhook.posts
        assert len(message["text"]) < 15_000
        assert "first\n" in message["text"]
        assert "\nNext: last\n\nTask: " in message["text"]

    def test_as_well_as_by_mail(self, failed, mails, webhook) -> None:
        notify_failure(failed({"slack": "slack", "email": ["ada@example.com"], "smtp": "mail"}))
        assert (len(mails), len(webhook.posts)) == (1, 1)


class TestItsOwnFailure:
    @pytest.fixture
    def called(self, caplog) -> Any:
        """Call it as Airflow's task runner does, which has the task's failure by then."""
        from airflow.sdk.execution_time.task_runner import _run_task_state_change_callbacks

        def call(context: Any) -> str:
            task = context["task"]
            task.on_failure_callback = [notify_failure]
            context["outlet_events"] = {}
            with caplog.at_level(logging.ERROR):
                log = logging.getLogger("airflow.task")
                _run_task_state_change_callbacks(task, "on_failure_callback", context, _Structured(log))  # type: ignore[arg-type]
            return caplog.text

        return call

    def test_is_logged_and_goes_no_further(self, failed, webhook, called) -> None:
        webhook.status = 500
        assert "500" in called(failed({"slack": "slack"}))

    def test_of_a_connection_that_is_missing(self, failed, called) -> None:
        assert "nowhere" in called(failed({"slack": "nowhere"}))

    def test_of_a_setting_that_is_none(self, failed, called) -> None:
        assert "`notify` of the Variable feature_store has channel, pager" in called(
            failed({"slack": "slack", "channel": "#on-call", "pager": "x"})
        )
        with pytest.raises(NotifyError, match="Next: leave of it only email, slack, smtp"):
            notify_failure(failed({"pager": "x"}))


class _Structured:
    """Airflow's logger takes keywords."""

    def __init__(self, log: logging.Logger) -> None:
        self.log = log

    def exception(self, message: str, **_: Any) -> None:
        self.log.exception(message)
