"""The pipeline of the real DAGs with steps that may not take long: its run shows what becomes of one that hangs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param
from feature_store_airflow.pipeline import DEFAULT_ARGS, build_pipeline
from feature_store_airflow.release import release_params
from feature_store_airflow.sync import sync_params

with DAG(
    dag_id="feature_store_impatient",
    schedule=None,
    start_date=datetime(2011, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args=DEFAULT_ARGS,
    params={
        "start": Param(type="string", format="date"),
        "end": Param(type="string", format="date"),
        **release_params(),
        **sync_params(),
    },
):
    build_pipeline(step_timeout=timedelta(seconds=20), lifetime=timedelta(hours=1))
