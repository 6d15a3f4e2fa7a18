"""What the step of a task has written, as a page of Airflow's API server: all of it, as EMR has put it away in S3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.models.xcom import XComModel
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.utils.session import create_session
from starlette.responses import Response, StreamingResponse

from feature_store_airflow.bucket import DAG_ID, RUN_ID, Bucket, NothingThereError
from feature_store_airflow.links import STEP, STREAMS
from feature_store_airflow.responses import HEADERS


# No coroutine, as in reports.py.
def show_log(dag_id: str, run_id: str, task_id: str, stream: str, map_index: int = -1) -> Response:
    """Show stderr or stdout of the step that the newest try of a task (of a chunk of days) has followed."""
    if not (DAG_ID.fullmatch(dag_id) and RUN_ID.fullmatch(run_id) and DAG_ID.fullmatch(task_id) and stream in STREAMS):
        raise NothingThereError(
            f"That is not a task of a run, and {' or '.join(STREAMS)}. Next: come here by a link on the task."
        )
    step = _step(dag_id, run_id, task_id, map_index)
    if step is None:
        raise NothingThereError(
            f"The task {task_id} of run {run_id} of {dag_id} has no step yet. Next: see its state, and its own log."
        )
    which = f"step {step['step_id']} of {task_id} (cluster {step['cluster_id']})"
    if not step["logs"]:
        raise NothingThereError(
            f"The cluster of {which} has no LogUri: its logs went with it. Next: give it one in EMR/cluster.json."
        )
    name, folder = S3Hook.parse_s3_url(step["logs"])
    bucket = Bucket.open(name)
    # EMR compresses them; one that was put there by hand may be as it is.
    for suffix in (".gz", ""):
        body = bucket.chunks(f"{folder}{stream}{suffix}")
        if body is not None:
            return StreamingResponse(body, media_type="text/plain; charset=utf-8", headers=HEADERS)
    raise NothingThereError(
        f"The {stream} of {which} is not in {step['logs']}: the step has written nothing there, or EMR has not put it "
        "away yet, which it does every few minutes. Next: look again then."
    )


def _step(dag_id: str, run_id: str, task_id: str, map_index: int) -> Mapping[str, Any] | None:
    """Return what the task has left about its step; None if it has left nothing."""
    wanted = XComModel.get_many(
        run_id=run_id, key=STEP, task_ids=task_id, dag_ids=dag_id, map_indexes=map_index, limit=1
    )
    with create_session() as session:
        found = session.scalars(wanted).first()
        step: Mapping[str, Any] | None = XComModel.deserialize_value(found) if found else None
    return step
