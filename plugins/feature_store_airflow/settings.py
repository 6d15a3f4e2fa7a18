"""The templates that operators get instead of values: Airflow resolves them when a task starts, never at parse time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from feature_store.energy import ENERGY


def setting(path: str) -> str:
    """Return the template of one entry of the Airflow Variable `feature_store`, such as `keyspaces.host`."""
    return f"{{{{ var.json.feature_store.{path} }}}}"


BUCKET = setting("bucket")
POLL_SECONDS = setting("poll_seconds")

LANDING_PREFIX = "Dataset/"
READINGS = f"s3://{BUCKET}/delta/readings"
FEATURES = f"s3://{BUCKET}/delta/{ENERGY.name}"
LANDING = f"s3://{BUCKET}/{LANDING_PREFIX}"
RUN_FOLDER = f"s3://{BUCKET}/runs/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}"

# No try number: a retry has to find what the try before it started.
STEP_NAME = "{{ dag.dag_id }}.{{ task.task_id }}.{{ run_id }}"
START = "{{ ti.xcom_pull(task_ids='plan')['start'] }}"
END = "{{ ti.xcom_pull(task_ids='plan')['end'] }}"
CLUSTER_ID = "{{ ti.xcom_pull(task_ids='create_cluster') or '' }}"


def load_cluster_spec() -> dict[str, Any]:
    """Read EMR/cluster.json, the RunJobFlow request with templates in its strings.

    It is the nearest one above this package: the repository's own in a checkout, and on a managed Airflow, where dags
    and plugins are delivered apart, the one that travels in the plugins archive as `EMR/cluster.json`.

    Raises:
        FileNotFoundError: there is none.
    """
    folders = Path(__file__).resolve().parents[1:]
    found = next((file for folder in folders if (file := folder / "EMR" / "cluster.json").is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"EMR/cluster.json is neither in {folders[0]} nor in a folder above it: deliver it there."
        )
    spec: dict[str, Any] = json.loads(found.read_text())
    return spec
