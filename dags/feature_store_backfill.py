"""The features of a range of days, in one pass of one cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param
from feature_store_airflow.pipeline import DEFAULT_ARGS, build_pipeline
from feature_store_airflow.release import release_params
from feature_store_airflow.sync import sync_params

DOC = """
# Features of a range of days

**What it does.** The same as `feature_store_daily`, for all days from *First day* to *Last day* (both included) at
once: one cluster, and one step of each kind over the whole range.

**Inputs.** What has landed as `.csv` and `.csv.gz` under `s3://BUCKET/Dataset/`, and the readings of earlier runs. It
does not wait for anything: with nothing landed it fails at once.

**Outputs.** As `feature_store_daily`: Delta `s3://BUCKET/delta/readings`, of each feature view Delta
`s3://BUCKET/delta/VIEW` and the Keyspaces table of its name, reports under `s3://BUCKET/runs/DAG_ID/RUN_ID/`. Rows of
days outside the range stay.

**Schedule and lag.** None: it is triggered by hand or through the API, with both days. One run at a time; its steps
take turns with those of the daily runs, so a long range delays the daily features.

**To rerun a day.** Clear the run; or trigger it again with the day as *First day* and *Last day*. A rerun replaces
rows by the same ones. A step that is cleared alone, or with those after it, is done anew as long as the run's cluster
lives; later the whole run has to be cleared, for a new cluster.

**Days held back.** As `feature_store_daily`: `validate` judges each day, `sync` leaves out those that fail, the others
go online, and the run fails at its end with a message that names the days of each view, what is wrong with them and the
two ways on: mend and run these days again, or run them with *Released by* and *Reason*. A run releases all of its days
that fail, so release the days that were held back and no others. If no day of a view is left, `validate` fails.

**For consumers.** As `feature_store_daily`: an event of each view's asset when `validate` has succeeded, with the days
by verdict.

**To backfill.** In the UI, *Trigger* and pick the days; or `airflow dags trigger feature_store_backfill --conf
'{"start": "2013-01-01", "end": "2013-12-31"}'`. An older day written late never replaces the latest features online:
the day is part of the key.

**Late readings.** After readings of a day have come late or were corrected, their features and those of the year after
are of the older readings. `verdict` of the run that took the readings in names the range to run here: from the first
such day to the last one whose windows reach back to it, at most to the newest day with readings.

**Impact of failure.** The range's days, or those of them that are held back, keep the features that they had, or have
new ones in Delta that are not online if it was validate or sync that failed. The failed task's log and `verdict` say
why and what to do next; the cluster is gone.
"""

with DAG(
    dag_id="feature_store_backfill",
    description="Features of a range of days in one cluster: landing to Delta to Keyspaces",
    doc_md=DOC,
    schedule=None,
    # A run before its DAG's start date has no tasks and is a success at once: earlier than any reading.
    start_date=datetime(2011, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={
        "start": Param(type="string", format="date", title="First day"),
        "end": Param(type="string", format="date", title="Last day", description="Inclusive"),
        **release_params(),
        **sync_params(),
    },
    tags=["feature-store", "emr", "keyspaces"],
):
    build_pipeline(step_timeout=timedelta(hours=12), lifetime=timedelta(hours=72))
