"""The feature store's pages as an app that Airflow mounts below its own, so that its sign-in counts here.

They only read. Who may read the runs of a DAG sees their reports; who may read the logs of its tasks, those of their
steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store_airflow.bucket import NothingThereError, StoreError
from feature_store_airflow.reports import list_reports, show_report
from feature_store_airflow.responses import sentence

if TYPE_CHECKING:
    from fastapi import FastAPI


def make_app() -> FastAPI:
    """Make the app, without the pages about itself that FastAPI would show to anyone."""
    # Each process of Airflow runs all files of the plugins folder, that of each task too: what only the API server has,
    # and takes half a second to import, is imported where only that comes.
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity  # noqa: PLC0415
    from airflow.api_fastapi.core_api.security import requires_access_dag  # noqa: PLC0415
    from fastapi import APIRouter, Depends, FastAPI  # noqa: PLC0415

    from feature_store_airflow.step_log import show_log  # noqa: PLC0415

    app = FastAPI(title="Feature store", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    # By the path's own dag_id.
    runs = APIRouter(dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))])
    runs.add_api_route("/reports/{dag_id}/{run_id}", list_reports, response_model=None)
    runs.add_api_route("/reports/{dag_id}/{run_id}/{view}", show_report, response_model=None)
    logs = APIRouter(dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS))])
    logs.add_api_route("/logs/{dag_id}/{run_id}/{task_id}/{stream}", show_log, response_model=None)
    app.include_router(runs)
    app.include_router(logs)
    for kind, status in ((NothingThereError, 404), (StoreError, 502)):
        app.add_exception_handler(kind, sentence(status))
    return app
