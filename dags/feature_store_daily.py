"""The daily run: yesterday's features, once its readings have landed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param
from feature_store_airflow.options import run_params
from feature_store_airflow.pipeline import DEFAULT_ARGS, build_pipeline
from feature_store_airflow.release import release_params
from feature_store_airflow.sync import sync_params

DOC = """
# Features of one day

**What it does.** Makes an EMR cluster, takes what is new in the landing folder into the readings, computes the day's
features of every view and entity (each window ends with that day), judges each day, writes what of the days that may go
online differs from what is there to Keyspaces, reads it back, certifies it, and ends the cluster.

**Inputs.** `.csv` and `.csv.gz` objects under `s3://BUCKET/Dataset/`. An object may say in its metadata `last-day`
(YYYY-MM-DD) which day its newest reading is of.

**Outputs.** Delta `s3://BUCKET/delta/readings`; of each feature view, such as `energy_data_features`, Delta
`s3://BUCKET/delta/VIEW` and the Keyspaces table of its name; what each job says and the views' validation reports
under `s3://BUCKET/runs/DAG_ID/RUN_ID/`.

**Schedule and lag.** Every day at 00:00 UTC, for the day that has just ended. `plan` then waits, without a cluster
and at most 12 hours, for an object that landed after the end of that day and does not declare an earlier `last-day`.
Then a cluster starts, and five steps follow one another, each of at most 2 hours.

**To rerun a day.** Clear its run; or trigger the DAG with *First day*. A rerun replaces the day's rows by the same
ones. A step that is cleared alone, or with those after it, is done anew as long as the run's cluster lives; later the
whole run has to be cleared, for a new cluster.

**Days held back.** `validate` is a gate: a day that fails a check does not go online, and what was online before stays
as it is. If no day of a view is left the task fails, else the other days go online and the run fails at its end; either
way the message names check, day, count and keys. The run's tab *Validation report*, and the link of that name in the
details of `validate`, show all of it. If the data is wrong, have it mended and trigger the DAG for the day. If it is
right and only unusual, trigger the DAG for the day with *Released by* and *Reason*: the day goes online, and both are
kept with the verdict. A warning holds nothing back; `verdict` names it.

**For consumers.** When `validate` has succeeded, each view's asset, named as the view, has an event: schedule a DAG on
it by `schedule=[feature_store_airflow.assets.asset("energy_data_features")]`. The event's `extra` has the table's `uri`
and `features_version`, `start`, `end`, `rows`, the `days` by verdict (those `quarantined` are not for use), the
`verdict` of all and the `report`. What it tells of is in Delta at that time, and online once `sync` is done.

**What is online.** `schema` makes the online tables, or adds new columns to them, and refuses what would destroy
something. `sync` writes only rows that differ from what was last certified, deletes those that Delta no longer has or
that are older than the view's retention, and compares with Delta: a sync that can't certify its days has failed. With
*Budget* it writes nothing if that would cost more. With *Check the whole table* it compares all of the online table,
also rows that nobody asked for, and mends it. Each view's certificate is `certificate.json` in the run's folder.

**To backfill.** Trigger this DAG with *First day* and *Last day*, or `feature_store_backfill`: one cluster for the
whole range. Airflow's own backfill (`airflow backfill create --dag-id feature_store_daily`, or *Backfill* in the
trigger dialog) works too: a run for each day, all of which share one cluster, that is ended by the last of them or
after 15 idle minutes.

**Late readings.** A run takes in whatever has landed, of other days too, but computes the features of its own days
alone. Readings of a day are in the features of that day and of the year after it: of other days' features that are of
older readings `catch_up` has `feature_store_backfill` recompute just these, in a run `late__RUN_ID`, with this run's
views, cluster size, *Skip sync* and budget; `verdict` names them. If `catch_up` fails, `verdict` says what to trigger.

**Impact of failure.** The day's features are missing online; readers go on getting the newest day before it. Nothing
is synced that did not pass validation, unless someone has released it. The failed task's log and `verdict` say why and
what to do next; the cluster is gone.
"""

with DAG(
    dag_id="feature_store_daily",
    description="Features of the day that has just ended: landing to Delta to Keyspaces",
    doc_md=DOC,
    # Midnight UTC with a data interval: the only cron timetable under which scheduled runs, backfills and manual runs
    # with an interval all mean the same day.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    # A run before its DAG's start date has no tasks and is a success at once: earlier than any reading.
    start_date=datetime(2011, 1, 1, tzinfo=UTC),
    catchup=False,
    # A day that waits for its file must not hold up the next one; the lake's pool keeps the writers apart.
    max_active_runs=3,
    default_args=DEFAULT_ARGS,
    params={
        "start": Param(
            None, type=["null", "string"], format="date", title="First day", description="Empty: the run's own day"
        ),
        "end": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Last day",
            description="Inclusive. Empty: the first day",
        ),
        **run_params(),
        **release_params(),
        **sync_params(),
    },
    tags=["feature-store", "emr", "keyspaces"],
):
    build_pipeline(step_timeout=timedelta(hours=2), lifetime=timedelta(hours=24))
