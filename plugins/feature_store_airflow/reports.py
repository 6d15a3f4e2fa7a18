"""The validation reports of a run, as pages of Airflow's API server, which fetches them from S3 on demand."""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import RedirectResponse, Response, StreamingResponse

from feature_store import registry
from feature_store.templates import template
from feature_store_airflow.bucket import Bucket, NothingThereError, run_folder
from feature_store_airflow.responses import HEADERS, html
from feature_store_airflow.settings import REPORT


# No coroutines: Airflow's hooks and boto3 block, and FastAPI runs plain functions in threads.
def list_reports(dag_id: str, run_id: str) -> Response:
    """List the reports of a run, one for each view; show the report itself if there is but one."""
    folder = run_folder(dag_id, run_id)
    bucket = Bucket.open()
    views = [view.name for view in registry.views() if bucket.holds(_key(folder, view.name))]
    if not views:
        raise NothingThereError(_nothing(f"Run {run_id} of {dag_id} has no validation report."))
    # Relative to this page, wherever a proxy has put Airflow.
    here = quote(run_id, safe="")
    if len(views) == 1:
        return RedirectResponse(f"./{here}/{views[0]}", headers={"Cache-Control": HEADERS["Cache-Control"]})
    listed = template("feature_store_airflow", "reports.html.j2")
    return html(listed.render(dag_id=dag_id, run_id=run_id, here=here, views=views))


def show_report(dag_id: str, run_id: str, view: str) -> Response:
    """Show the report on a view, as the job has written it."""
    folder = run_folder(dag_id, run_id)
    try:
        name = registry.view(view).name
    except registry.UnknownViewError as error:
        raise NothingThereError(str(error)) from error
    body = Bucket.open().chunks(_key(folder, name))
    if body is None:
        raise NothingThereError(_nothing(f"Run {run_id} of {dag_id} has no validation report on {name}."))
    # The type is ours to say: whatever the object claims to be, it is shown as a page under our headers.
    return StreamingResponse(body, media_type="text/html; charset=utf-8", headers=HEADERS)


def _key(folder: str, view: str) -> str:
    return f"{folder}/{view}/{REPORT}.html"


def _nothing(what: str) -> str:
    return (
        f"{what} The task validate writes it when it has judged the run's days. Next: see whether that task has run, "
        "and its log; clear the run if it is to be done again."
    )
