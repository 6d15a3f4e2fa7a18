"""The validation reports of a run, as pages of Airflow's API server, which fetches them from S3 on demand.

Airflow mounts the app below its own, so that its sign-in counts here: who may read the runs of a DAG may read their
reports.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import Variable
from botocore.exceptions import BotoCoreError, ClientError
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse

from feature_store import registry
from feature_store_airflow.aws import s3_client
from feature_store_airflow.settings import REPORT, RUNS

if TYPE_CHECKING:
    from fastapi import FastAPI
    from mypy_boto3_s3 import S3Client

# A report quotes keys from the data: whatever they are, nothing in it runs, loads or sends anything.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# What Airflow takes for a DAG's id and, unless it is told otherwise, for a run's: no slash, nor anything escaped. Two
# such names have a meaning of their own in paths, and an S3 may keep its objects in files.
DAG_ID = re.compile(r"(?!\.{1,2}\Z)[\w.-]+")
RUN_ID = re.compile(r"(?!\.{1,2}\Z)[\w.~:+-]+")
ABSENT = ("NoSuchKey", "404")
CHUNK = 64 * 1024  # bytes

LIST = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Validation reports</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem; background: #fff; color: #222 }}</style>
<h1>Validation reports</h1>
<p>{run}, of {dag}</p>
<ul>
{items}
</ul>
</html>
"""

log = logging.getLogger(__name__)


class NoReportError(Exception):
    """There is nothing to show; the message says what there is not, and what to do. 404."""


class StoreError(Exception):
    """S3, or the way to it, does not work; the message says how. 502."""


def make_app() -> FastAPI:
    """Make the app, without the pages about itself that FastAPI would show to anyone."""
    # Each process of Airflow runs all files of the plugins folder, that of each task too: what only the API server has,
    # and takes half a second to import, is imported where only that comes.
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity  # noqa: PLC0415
    from airflow.api_fastapi.core_api.security import requires_access_dag  # noqa: PLC0415
    from fastapi import Depends, FastAPI  # noqa: PLC0415

    app = FastAPI(
        title="Feature store",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))],
    )
    app.add_api_route("/reports/{dag_id}/{run_id}", list_reports, response_model=None)
    app.add_api_route("/reports/{dag_id}/{run_id}/{view}", show_report, response_model=None)
    for kind, status in ((NoReportError, 404), (StoreError, 502)):
        app.add_exception_handler(kind, _sentence(status))
    return app


# No coroutines: Airflow's hooks and boto3 block, and FastAPI runs plain functions in threads.
def list_reports(dag_id: str, run_id: str) -> Response:
    """List the reports of a run, one for each view; show the report itself if there is but one."""
    folder = _folder(dag_id, run_id)
    client, bucket = _store()
    views = [view.name for view in registry.views() if _is_there(client, bucket, _key(folder, view.name))]
    if not views:
        raise NoReportError(_nothing(f"Run {run_id} of {dag_id} has no validation report."))
    # Relative to this page, wherever a proxy has put Airflow.
    here = quote(run_id, safe="")
    if len(views) == 1:
        return RedirectResponse(f"./{here}/{views[0]}", headers={"Cache-Control": HEADERS["Cache-Control"]})
    items = "\n".join(f'<li><a href="./{here}/{view}">{escape(view)}</a></li>' for view in views)
    return HTMLResponse(LIST.format(run=escape(run_id), dag=escape(dag_id), items=items), headers=HEADERS)


def show_report(dag_id: str, run_id: str, view: str) -> Response:
    """Show the report on a view, as the job has written it."""
    folder = _folder(dag_id, run_id)
    try:
        name = registry.view(view).name
    except registry.UnknownViewError as error:
        raise NoReportError(str(error)) from error
    client, bucket = _store()
    try:
        found = client.get_object(Bucket=bucket, Key=_key(folder, name))
    except (BotoCoreError, ClientError) as error:
        if _is_absence(error):
            raise NoReportError(_nothing(f"Run {run_id} of {dag_id} has no validation report on {name}.")) from error
        raise _unwell(bucket, error) from error
    # The type is ours to say: whatever the object claims to be, it is shown as a page under our headers.
    body: Iterator[bytes] = found["Body"].iter_chunks(CHUNK)
    return StreamingResponse(body, media_type="text/html; charset=utf-8", headers=HEADERS)


def _folder(dag_id: str, run_id: str) -> str:
    if not (DAG_ID.fullmatch(dag_id) and RUN_ID.fullmatch(run_id)):
        raise NoReportError("That is not a DAG and a run of it. Next: come here by the link on the task validate.")
    return f"{RUNS}/{dag_id}/{run_id}"


def _key(folder: str, view: str) -> str:
    return f"{folder}/{view}/{REPORT}.html"


def _nothing(what: str) -> str:
    return (
        f"{what} The task validate writes it when it has judged the run's days. Next: see whether that task has run, "
        "and its log; clear the run if it is to be done again."
    )


def _store() -> tuple[S3Client, str]:
    """Return S3 and the bucket, by the same Variable and connection as the tasks' (the API server may read both)."""
    try:
        bucket: str = Variable.get("feature_store", deserialize_json=True)["bucket"]
        return s3_client(S3Hook()), bucket
    except Exception as error:
        log.exception("The feature store's bucket can't be reached.")
        raise StoreError(
            "The feature store's bucket can't be reached. Next: see the Variable feature_store, the connection "
            "aws_default and the log of Airflow's API server."
        ) from error


def _is_there(client: S3Client, bucket: str, key: str) -> bool:
    try:
        client.head_object(Bucket=bucket, Key=key)
    except (BotoCoreError, ClientError) as error:
        if _is_absence(error):
            return False
        raise _unwell(bucket, error) from error
    return True


def _is_absence(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in ABSENT


def _unwell(bucket: str, error: Exception) -> StoreError:
    return StoreError(f"S3 gave no report from the bucket {bucket}: {error}. Next: try again, and see S3 if it stays.")


def _sentence(status: int) -> Callable[[Request, Exception], Response]:
    def answer(_: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{error}\n", status_code=status, headers=HEADERS)

    return answer
