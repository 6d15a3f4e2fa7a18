"""Links of tasks to pages of this plugin."""

from __future__ import annotations

from urllib.parse import quote

import attrs
from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.configuration import conf
from airflow.sdk.types import TaskInstanceKey

# Where the plugin's pages are, below Airflow's base URL.
PAGES = "feature-store"


@attrs.define()
class ValidationReportLink(BaseOperatorLink):
    """One click from a task to the validation reports of its run.

    Airflow keeps a link when the task ends, as it is: one that S3 has signed would work for hours at most. So it leads
    to a page of Airflow's own server (reports.py), which fetches the report with its own credentials.
    """

    name = "Validation report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - the interface
        """Return the page of the run's reports."""
        base = conf.get("api", "base_url", fallback="/").rstrip("/")
        return f"{base}/{PAGES}/{reports_path(ti_key.dag_id, ti_key.run_id)}"


def reports_path(dag_id: str, run_id: str) -> str:
    """Return the path, below the plugin's pages, of the reports of a run; a run's id has `:` and `+` in it."""
    return f"reports/{quote(dag_id, safe='')}/{quote(run_id, safe='')}"
