"""Links of tasks to pages of this plugin."""

from __future__ import annotations

from urllib.parse import quote

import attrs
from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.configuration import conf
from airflow.sdk.types import TaskInstanceKey

# Where the plugin's pages are, below Airflow's base URL.
PAGES = "feature-store"
# The XCom in which a task leaves its step: {"cluster_id", "step_id", "logs": folder on S3 or None}.
STEP = "step"
STREAMS = ("stderr", "stdout")


# Airflow keeps a link when the task ends, as it is: one that S3 has signed would work for hours at most. So these lead
# to pages of Airflow's own server (app.py), which fetch what they show with that server's credentials.
@attrs.define()
class ValidationReportLink(BaseOperatorLink):
    """One click from a task to the validation reports of its run."""

    name = "Validation report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - the interface
        """Return the page of the run's reports."""
        return _page(reports_path(ti_key.dag_id, ti_key.run_id))


@attrs.define()
class SimulationReportLink(BaseOperatorLink):
    """One click from a task of a simulation to the report of its run."""

    name = "Simulation report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - the interface
        """Return the page of the report."""
        return _page(_path("simulations", ti_key.dag_id, ti_key.run_id))


@attrs.define()
class StepStderrLink(BaseOperatorLink):
    """One click from a task to what its step has written to stderr: the JVM's log."""

    name = "Step log (stderr)"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - the interface
        """Return the page with all of it."""
        return _page(log_path(ti_key, "stderr"))


@attrs.define()
class StepStdoutLink(BaseOperatorLink):
    """One click from a task to what its step has written to stdout: what the Python program says, and its traceback."""

    name = "Step log (stdout)"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - the interface
        """Return the page with all of it."""
        return _page(log_path(ti_key, "stdout"))


def reports_path(dag_id: str, run_id: str) -> str:
    """Return the path, below the plugin's pages, of the reports of a run; a run's id has `:` and `+` in it."""
    return _path("reports", dag_id, run_id)


def log_path(ti_key: TaskInstanceKey, stream: str) -> str:
    """Return the path, below the plugin's pages, of one stream (STREAMS) of the step of a task."""
    path = _path("logs", ti_key.dag_id, ti_key.run_id, ti_key.task_id, stream)
    return path if ti_key.map_index < 0 else f"{path}?map_index={ti_key.map_index}"


def _path(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)


def _page(path: str) -> str:
    base = conf.get("api", "base_url", fallback="/").rstrip("/")
    return f"{base}/{PAGES}/{path}"
