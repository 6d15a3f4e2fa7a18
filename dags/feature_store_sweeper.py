"""Every hour: no cluster of the feature store is older than it may become."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG
from feature_store_airflow.measures import MeasureAgesOperator
from feature_store_airflow.pipeline import DEFAULT_ARGS, DEPLOYMENT_TAGS
from feature_store_airflow.sweep import SweepClustersOperator

DOC = """
# No cluster left behind

**What it does.** Looks for clusters of this deployment (by the tags `Project` and `bucket`) that are older than their
tag `lifetime-hours` says, and terminates them.

Beside it `measure_ages` publishes how many days old the newest day online of each view is, for CloudWatch's alarm on
stale features; it is skipped where the Variable `feature_store` has no `metrics_namespace`.

**Inputs.** EMR's list of clusters; `s3://BUCKET/metrics/`.

**Outputs.** None but the ended clusters, and metrics in CloudWatch. What there is stands in the tasks' return values.

**Schedule and lag.** Every hour. A cluster is ended by its run, or after its idle time by EMR itself; this finds what
outlives both, at most an hour after its lifetime.

**When it fails.** It has found such a cluster, and is ending it: its message names each, with its age. That a cluster
became so old is a fault somewhere: see `terminate_cluster` of the run that its name names. A step that runs longer than
the lifetime is ended with its cluster; clear its run.

**To rerun.** Trigger it, or clear a run: it looks at what is there then.

**Cost per run.** None: a handful of calls to EMR.

**Impact of failure.** If it can't run, clusters end by their runs and by their idle time as ever.
"""

with DAG(
    dag_id="feature_store_sweeper",
    description="Ends clusters that are older than they may become, and says which",
    doc_md=DOC,
    schedule="@hourly",
    start_date=datetime(2011, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["feature-store", "emr"],
):
    SweepClustersOperator(
        task_id="sweep_clusters", cluster_tags=DEPLOYMENT_TAGS, execution_timeout=timedelta(minutes=10)
    )
    MeasureAgesOperator(task_id="measure_ages", execution_timeout=timedelta(minutes=5))
