"""The feature store's pages as an app that Airflow mounts below its own, so that its sign-in counts here.

They only read. Who may read the runs of a DAG sees what is told of a run of it; who may read the logs of its tasks,
those of their steps; the page of all views tells what the runs of the daily DAG have made of them, and is for those who
may read these; so is the list of simulations, for those who may read the runs of the DAG that makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.responses import Response

from feature_store_airflow.bucket import NothingThereError, StoreError
from feature_store_airflow.page import show_views
from feature_store_airflow.reports import list_reports, show_report, show_report_of_chunk
from feature_store_airflow.responses import sentence
from feature_store_airflow.run_page import show_run
from feature_store_airflow.simulation_pages import list_simulations, show_named, show_simulation

if TYPE_CHECKING:
    from fastapi import FastAPI

DAILY, SIMULATION = "feature_store_daily", "feature_store_simulation"
OF_A_RUN: dict[str, Callable[..., Response]] = {
    "/reports/{dag_id}/{run_id}": list_reports,
    "/reports/{dag_id}/{run_id}/{view}": show_report,
    "/reports/{dag_id}/{run_id}/{chunk}/{view}": show_report_of_chunk,
    "/runs/{dag_id}/{run_id}": show_run,
    "/simulations/{dag_id}/{run_id}": show_simulation,
}


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
    for path, page in OF_A_RUN.items():
        runs.add_api_route(path, page, response_model=None)
    # Named, as a `dag_id` in the query would count otherwise: anyone's, of a DAG that they may read.
    views = APIRouter(dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN, DAILY))])
    views.add_api_route("/", show_views, response_model=None)
    simulations = APIRouter(dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN, SIMULATION))])
    simulations.add_api_route("/simulations", list_simulations, response_model=None)
    simulations.add_api_route("/simulations/{name}", show_named, response_model=None)
    logs = APIRouter(dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS))])
    logs.add_api_route("/logs/{dag_id}/{run_id}/{task_id}/{stream}", show_log, response_model=None)
    app.include_router(runs)
    app.include_router(logs)
    app.include_router(views)
    app.include_router(simulations)
    for kind, status in ((NothingThereError, 404), (StoreError, 502)):
        app.add_exception_handler(kind, sentence(status))
    return app
