"""The templates that operators get instead of values: Airflow resolves them when a task starts, never at parse time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from feature_store import layout
from feature_store.view import FeatureView


def setting(path: str) -> str:
    """Return the template of one entry of the Airflow Variable `feature_store`, such as `keyspaces.host`."""
    return f"{{{{ var.json.feature_store.{path} }}}}"


BUCKET = setting("bucket")
POLL_SECONDS = setting("poll_seconds")

LANDING_PREFIX = layout.LANDING
READINGS = layout.uri(BUCKET, layout.READINGS)
FEATURES = layout.uri(BUCKET, layout.FEATURES)
LANDING = layout.uri(BUCKET, LANDING_PREFIX)
VIEW_METRICS = layout.uri(BUCKET, layout.VIEW_METRICS)
# Beside the lake, a folder for each run, DAG/RUN/: what its jobs say, and in VIEW/ the report on each view.
RUNS = "runs"
RUN_FOLDER = layout.uri(BUCKET, f"{RUNS}/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}")
REPORT = "validation_report"  # .json, and .html for people

# A retry has to find the step that the try before it has submitted; a task that was cleared must not find the one that
# it is to do again. So the name carries the first of the tries that belong together: 1, and after a clear the first one
# since. Airflow reckons it the same way (get_first_reschedule_date in sdk/execution_time/task_runner.py): a clear makes
# max_tries the tries so far plus `retries` (clear_task_instances in models/taskinstance.py), and no retry changes it.
# dag_run.clear_number would not do: the clear of any task raises it for every task of the run, also for one that is to
# be retried, and a clear that leaves the run's state alone does not raise it at all. A task that is cleared while it
# runs may keep its number; it is killed first, which cancels its step.
TRY_MARK = ".try"
TRY = f"{TRY_MARK}{{{{ ti.max_tries - task.retries + 1 }}}}"
# Of a task that is there for each chunk of days, its number too.
OF_CHUNK = "{{ '' if ti.map_index < 0 else '.chunk' ~ ti.map_index }}"
STEP_NAME = f"{{{{ dag.dag_id }}}}.{{{{ task.task_id }}}}.{{{{ run_id }}}}{OF_CHUNK}{TRY}"
START = "{{ ti.xcom_pull(task_ids='plan')['start'] }}"
END = "{{ ti.xcom_pull(task_ids='plan')['end'] }}"


@dataclass(frozen=True)
class Span:
    """The days that a step is of, and the folder in which it leaves what it says: templates."""

    start: str
    end: str
    folder: str


def chunk_folder(start: str, end: str) -> str:
    """Name the folder of a chunk of days in that of its run, by its first and last day."""
    return f"{start}_{end}"


RUN = Span(START, END, RUN_FOLDER)
_CHUNK_START, _CHUNK_END = (
    f"{{{{ ti.xcom_pull(task_ids='choose_days')[ti.map_index]['{which}'] }}}}" for which in ("start", "end")
)
CHUNK = Span(_CHUNK_START, _CHUNK_END, f"{RUN_FOLDER}/{chunk_folder(_CHUNK_START, _CHUNK_END)}")
# Plain texts of people: Jinja renders a template once, so braces in them stay as they are.
RELEASED_BY = "{{ ti.xcom_pull(task_ids='plan').get('released_by', '') }}"
RELEASE_REASON = "{{ ti.xcom_pull(task_ids='plan').get('release_reason', '') }}"
# How long a cluster may live is a tag of it, so that the sweeper needs to know nothing else of it.
LIFETIME_TAG = "lifetime-hours"
DEFAULT_LIFETIME = timedelta(hours=24)  # of one that carries no such tag
CLUSTER_ID = "{{ ti.xcom_pull(task_ids='create_cluster') or '' }}"
# The one that became ready: after a bootstrap action that failed, a retry of the wait has asked for another. If someone
# has marked the wait a success, the first one.
READY_CLUSTER_ID = "{{ ti.xcom_pull(task_ids='wait_for_cluster') or ti.xcom_pull(task_ids='create_cluster') or '' }}"


def version(view: FeatureView, table: str) -> str:
    """Return the template of what featurize has read, or has left, for a view: the Delta version of `table`.

    The later steps see these, whatever is written since.
    """
    pulled = "ti.xcom_pull(task_ids='featurize', map_indexes=ti.map_index)"
    return f"{{{{ {pulled}['views']['{view.name}']['{table}_version'] }}}}"


def load_cluster_spec() -> dict[str, Any]:
    """Read EMR/cluster.json, the RunJobFlow request with templates in its strings.

    It is the nearest one above this package: the repository's own in a checkout, and on a managed Airflow, where dags
    and plugins are delivered apart, the one that travels in the plugins archive as `EMR/cluster.json`.

    Raises:
        FileNotFoundError: there is none.
    """
    spec: dict[str, Any] = json.loads(deployed(Path("EMR") / "cluster.json").read_text())
    return spec


def deployed(file: Path) -> Path:
    """Find a file of the repository that travels with the plugins: the nearest one above this package.

    Raises:
        FileNotFoundError: there is none.
    """
    folders = Path(__file__).resolve().parents[1:]
    found = next((here for folder in folders if (here := folder / file).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{file} is neither in {folders[0]} nor in a folder above it: deliver it there.")
    return found
