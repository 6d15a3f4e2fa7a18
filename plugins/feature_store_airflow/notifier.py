"""Tells people of a task that has failed, by mail or in a Slack channel: what its log ends with, and links.

Off unless the Variable `feature_store` has an entry `notify`, with one or both of

    {"email": ["on-call@example.com"], "smtp": "CONNECTION"}
    {"slack": "CONNECTION"}

`smtp` is a connection of type SMTP (`smtp_default` if it is left out); its `from_email` is the sender. `slack` is one
of type HTTP: host `https://hooks.slack.com`, and as password the path of the channel's incoming webhook,
`services/...`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk import Context, Variable

from feature_store_airflow.failures import failure_of
from feature_store_airflow.measures import FAILED_TASKS, SETTING, publish, value

KNOWN = {"email", "smtp", "slack"}
SLACK_HALF = 6_000  # characters that are kept of the beginning and of the end: Slack cuts a message at 40,000
ANSWER_WITHIN = 30  # seconds

log = logging.getLogger(__name__)


class NotifyError(Exception):
    """The settings of the notifier are not fit; the message says what is wrong."""


def notify_failure(context: Context) -> None:
    """Tell of the failure of a task, and count it: once, when no retry follows. An `on_failure_callback`.

    Airflow calls it in the task's own process or, for a task whose worker was lost, in its DAG processor. What it
    raises Airflow logs; the task has failed already, with its own reason.

    Raises:
        NotifyError: the settings are not fit.
    """
    variable: Mapping[str, Any] = Variable.get("feature_store", deserialize_json=True)
    publish(variable.get(SETTING), [value(FAILED_TASKS, 1)])
    settings: Mapping[str, Any] = variable.get("notify") or {}
    if not settings:
        return
    if unknown := sorted(settings.keys() - KNOWN):
        raise NotifyError(
            f"`notify` of the Variable feature_store has {', '.join(unknown)}, which says nothing here. "
            f"Next: leave of it only {', '.join(sorted(KNOWN))}."
        )
    subject, text = subject_of(context), text_of(context)
    if "slack" in settings:
        _post(settings["slack"], f"*{subject}*\n{text}")
    if "email" in settings:
        _mail(settings["email"], settings.get("smtp", SmtpHook.default_conn_name), subject, text)


def subject_of(context: Context) -> str:
    """Say in one line what has failed."""
    ti = context["ti"]
    chunk = "" if ti.map_index in {None, -1} else f", chunk {ti.map_index}"
    return f"{ti.dag_id}: {ti.task_id}{chunk} failed ({ti.run_id})"


def text_of(context: Context) -> str:
    """Say why: the text with which the task's log ends, and where to look."""
    ti = context["ti"]
    error = context.get("exception")
    reason = f"{error}" if error else failure_of(ti, ti.task_id, -1 if ti.map_index is None else ti.map_index)
    said = reason or "It could not say why: its worker was lost, or it was ended from outside. Next: see its log."
    return "\n".join([said, "", *(f"{name}: {url}" for name, url in _links(context))])


def _links(context: Context) -> Iterator[tuple[str, str]]:
    ti: Any = context["ti"]
    yield "Task", ti.log_url
    task: Any = ti.task
    for link in task.operator_extra_links:
        if url := link.get_link(task, ti_key=ti):
            yield link.name, url


def _mail(to: list[str], connection: str, subject: str, text: str) -> None:
    # The text as it is, line by line: it has log lines and commands in it.
    with SmtpHook(smtp_conn_id=connection) as smtp:
        smtp.send_email_smtp(to=to, subject=subject, html_content=f"<pre>{escape(text)}</pre>")
    log.info("Told %s by mail.", ", ".join(to))


def _post(connection: str, text: str) -> None:
    # A fifth of a second to import, which each parse of a DAG and each task would spend for nothing.
    from airflow.providers.http.hooks.http import HttpHook  # noqa: PLC0415

    hook = HttpHook(method="POST", http_conn_id=connection)
    # Whoever knows the path can post: it is the connection's secret, which Airflow keeps out of logs.
    path = hook.get_connection(connection).password
    short = text if len(text) <= 2 * SLACK_HALF else f"{text[:SLACK_HALF]}\n(...)\n{text[-SLACK_HALF:]}"
    # As Slack asks for it: these three, and no other entities.
    hook.run(endpoint=path, json={"text": escape(short, quote=False)}, extra_options={"timeout": ANSWER_WITHIN})
    log.info("Told Slack, by the connection %s.", connection)
