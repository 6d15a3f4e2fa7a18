"""The validation reports of a run, as pages of Airflow's API server, which fetches them from S3 on demand."""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response, StreamingResponse

from feature_store import registry
from feature_store.templates import template
from feature_store_airflow.bucket import Bucket, NothingThereError, run_folder
from feature_store_airflow.responses import HEADERS, html
from feature_store_airflow.settings import REPORT

FILE = f"/{REPORT}.html"
CHUNK_FOLDER = re.compile(r"\d{4}-\d{2}-\d{2}_\d{4}-\d{2}-\d{2}", re.ASCII)


# No coroutines: Airflow's hooks and boto3 block, and FastAPI runs plain functions in threads.
def list_reports(dag_id: str, run_id: str) -> Response:
    """List the reports of a run, one for each view and chunk of days; show the report itself if there is but one."""
    folder = run_folder(dag_id, run_id)
    keys = [key for key in Bucket.open().names(f"{folder}/") if key.endswith(FILE)]
    known = [view.name for view in registry.views()]
    # CHUNK/VIEW, or VIEW where the run's days are in one.
    parts = [key.removeprefix(f"{folder}/").removesuffix(FILE).rpartition("/")[::2] for key in keys]
    if not (parts := sorted(part for part in parts if part[1] in known)):
        raise NothingThereError(_nothing(f"Run {run_id} of {dag_id} has no validation report."))
    # Relative to this page, wherever a proxy has put Airflow.
    here = quote(run_id, safe="")
    links = [(f"./{here}/{f'{chunk}/' if chunk else ''}{view}", view, words(chunk)) for chunk, view in parts]
    if len(links) == 1:
        return RedirectResponse(links[0][0], headers={"Cache-Control": HEADERS["Cache-Control"]})
    listed = template("feature_store_airflow", "reports.html.j2")
    return html(listed.render(dag_id=dag_id, run_id=run_id, links=links))


def show_report(dag_id: str, run_id: str, view: str) -> Response:
    """Show the report on a view, as the job has written it."""
    return _shown(dag_id, run_id, run_folder(dag_id, run_id), view)


def show_report_of_chunk(dag_id: str, run_id: str, chunk: str, view: str) -> Response:
    """Show the report on a view's chunk of days."""
    if not CHUNK_FOLDER.fullmatch(chunk):
        raise NothingThereError("That is no chunk of days. Next: come here by the list of the run's reports.")
    return _shown(dag_id, run_id, f"{run_folder(dag_id, run_id)}/{chunk}", view)


def words(chunk: str) -> str:
    """Name the days of a chunk by its folder."""
    return chunk.replace("_", " to ")


def _shown(dag_id: str, run_id: str, folder: str, view: str) -> Response:
    try:
        name = registry.view(view).name
    except registry.UnknownViewError as error:
        raise NothingThereError(str(error)) from error
    body = Bucket.open().chunks(f"{folder}/{name}{FILE}")
    if body is None:
        raise NothingThereError(_nothing(f"Run {run_id} of {dag_id} has no validation report on {name}."))
    # The type is ours to say: whatever the object claims to be, it is shown as a page under our headers.
    return StreamingResponse(body, media_type="text/html; charset=utf-8", headers=HEADERS)


def _nothing(what: str) -> str:
    return (
        f"{what} The task validate writes it when it has judged the run's days. Next: see whether that task has run, "
        "and its log; clear the run if it is to be done again."
    )
