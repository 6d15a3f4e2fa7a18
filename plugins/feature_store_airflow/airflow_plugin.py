"""What Airflow's own server and pages get from this package: pages of views, runs and logs, two tabs on each run."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

from feature_store_airflow.app import make_app
from feature_store_airflow.links import PAGES

if TYPE_CHECKING:
    from fastapi import FastAPI


@cache
def pages() -> FastAPI:
    """Make the app of our pages, once: Airflow asks for it to mount it, and to list it among the plugins."""
    return make_app()


class FeatureStorePlugin(AirflowPlugin):
    """The feature store's part of Airflow's UI."""

    name = "feature_store"
    # Airflow fills the braces in, escaped. No slash before it: it is below Airflow's base URL, wherever that is.
    external_views = [  # noqa: RUF012 - the interface
        {
            "name": "Features",  # of ten letters at most: the navigation cuts off more
            "href": f"{PAGES}/",
            "destination": "nav",
            "url_route": "features",
            "nav_top_level": True,
        },
        {
            "name": "Features",
            "href": f"{PAGES}/runs/{{DAG_ID}}/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "run-features",
        },
        {
            "name": "Validation report",
            "href": f"{PAGES}/reports/{{DAG_ID}}/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "validation-report",
        },
    ]

    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override] # a list elsewhere, made when it is asked for here
        """Our pages, made when the API server asks for them."""
        return [{"name": "feature store", "app": pages(), "url_prefix": f"/{PAGES}"}]
