"""The features of a range of days, in one pass of one cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param
from feature_store_airflow.options import backfill_params, run_params
from feature_store_airflow.pipeline import DEFAULT_ARGS, build_pipeline
from feature_store_airflow.release import release_params
from feature_store_airflow.sync import sync_params

DOC = """
# Features of a range of days

**What it does.** Looks which of the days from *First day* to *Last day* (both included) are to be done, and does them
on one cluster, in chunks of some 500,000 rows, the oldest first: as a rule each chunk is featurized, validated and
brought online before the next one is begun.

**Dry run.** On unless it is switched off: the task `preview` says what would be done (days that are there and right,
missing, of older readings or held back; chunks, rows, minutes, write units, dollars), in its log and on the run's tab
*Features*; there is no cluster, and nothing is written. What has landed and was not taken in yet is not looked at.

**Inputs.** What has landed as `.csv` and `.csv.gz` under `s3://BUCKET/Dataset/`, and the readings of earlier runs. It
does not wait for anything: with nothing landed it fails at once.

**Outputs.** As `feature_store_daily`: Delta `s3://BUCKET/delta/readings`, of each feature view Delta
`s3://BUCKET/delta/VIEW` and the Keyspaces table of its name; of each chunk summaries, reports and certificates under
`s3://BUCKET/runs/DAG_ID/RUN_ID/FIRST_LAST/`. Rows of days outside the range stay.

**Schedule and lag.** None: it is triggered by hand or through the API, with both days. One run at a time; its steps
take turns with those of the daily runs, which go first: a long range delays each step of a day by one of a chunk at
most.

**To rerun a day.** Trigger it with the day as *First day* and *Last day*, and *Reprocess* all. A rerun replaces rows by
the same ones.

**When it breaks off.** Trigger it again with the same days, or clear the run: `choose_days` finds what is done, and the
rest is done. A chunk that fails stops no other; the run fails at its end, and names it.

**Reprocess.** missing: days that have no features, or were not validated as they are, or are not online. stale: days
whose features are of older readings than there are now. changed: both. all: every day that has readings. With *Skip
sync* nothing has to be online.

**Days held back.** As `feature_store_daily`: `validate` judges each day, `sync` leaves out those that fail, the others
go online, and the run fails at its end with a message that names the days of each view, what is wrong with them and the
two ways on: mend and run these days again, or run them with *Released by* and *Reason*, both with *Reprocess* all. A
run releases all of its days that fail, so release the days that were held back and no others. If no day of a chunk is
left of a view, its `validate` fails.

**For consumers.** As `feature_store_daily`: an event of each view's asset for each chunk whose `validate` has
succeeded, with the days by verdict.

**To backfill.** In the UI, *Trigger*, pick the days and switch *Dry run* off; or `airflow dags trigger
feature_store_backfill --conf '{"start": "2013-01-01", "end": "2013-12-31", "dry_run": false}'`. An older day written
late never replaces the latest features online: the day is part of the key.

**Late readings.** After readings of a day have come late or were corrected, their features and those of the year after
are of the older readings. *Reprocess* changed brings those of the range up to date, and says which days after the range
are of older readings too.

**Impact of failure.** The days that were not done keep the features that they had. The failed task's log and `verdict`
say why and what to do next; the cluster is gone.

**Cost per run.** That of its cluster, for as long as it takes, and Keyspaces' write units: `preview` says both ahead.
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
        **backfill_params(),
        **run_params(),
        **release_params(),
        **sync_params(),
    },
    tags=["feature-store", "emr", "keyspaces"],
):
    build_pipeline(step_timeout=timedelta(hours=12), lifetime=timedelta(hours=72), in_chunks=True)
