"""The one pipeline that every DAG of features runs, for a day as for a range of days."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import TaskGroup, WeightRule, chain, task, task_group

from feature_store import layout, registry
from feature_store_airflow.catch_up import CatchUpOperator
from feature_store_airflow.choose_days import ChooseDaysOperator, PreviewOperator
from feature_store_airflow.create_cluster import CreateClusterOperator
from feature_store_airflow.notifier import notify_failure
from feature_store_airflow.plan import PlanSensor
from feature_store_airflow.settings import (
    CHUNK,
    FEATURES,
    LANDING,
    LIFETIME_TAG,
    READINGS,
    RELEASE_REASON,
    RELEASED_BY,
    REPORT,
    RUN,
    VIEW_METRICS,
    Span,
    load_cluster_spec,
    setting,
    version,
)
from feature_store_airflow.step import StepOperator
from feature_store_airflow.sync import BUDGET, CERTIFICATE, WHOLE_TABLE, SyncOperator
from feature_store_airflow.terminate_cluster import TerminateClusterOperator
from feature_store_airflow.validate import ValidateOperator
from feature_store_airflow.verdict import OF_DAYS, judge_run
from feature_store_airflow.wait_for_cluster import WaitForClusterSensor

# Made by the deployment with one slot. Delta's log on S3 takes one writer at a time, and runs overlap (a day that waits
# for its file, a backfill): a step that writes a table holds the slot, as does sync, so that of two runs of one day the
# features that were written last are also the ones that are online last. validate holds none: like sync it reads the
# versions that featurize has named, whatever another run's step has written in between; nor do waits hold any. (Only
# where a run has chunks does it, so that as a rule one is online before the next is begun.)
# A slot is held by a task, not by its step: between the loss of a worker and its cluster's end two writers can meet.
# And the pool has to include deferred tasks, which is not the default: a step is at work while its task is deferred.
LAKE = "feature_store_lake"

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "feature-store",
    # For what may pass (lost workers, AWS without an answer or without capacity): a retry takes the cluster or the step
    # that is there, and a cluster that has ended before it was ready is replaced. What would fail again (refused days,
    # a failed step) is not retried, see FeatureStoreFailure. The delay between tries is Airflow's own setting,
    # core.default_task_retry_delay.
    "retries": 1,
    # Off until the Variable `feature_store` says who is to be told.
    "on_failure_callback": notify_failure,
}


# By these a deployment knows its clusters, whichever run has made them.
DEPLOYMENT_TAGS = [tag for tag in load_cluster_spec()["Tags"] if tag["Key"] in {"Project", "bucket"}]


def build_pipeline(*, step_timeout: timedelta, lifetime: timedelta, in_chunks: bool = False) -> None:
    """Add the pipeline's tasks to the DAG that is being defined.

    Args:
        step_timeout: how long each step may take; then it is cancelled and its task fails.
        lifetime: how old the cluster may become; then `feature_store_sweeper` ends it.
        in_chunks: whether the run looks which of its days are to be done, and does them in chunks, each of which is
            featurized, validated and brought online before the next; else all of its days are done at once.
    """
    spec = load_cluster_spec()
    spec["Tags"].append({"Key": LIFETIME_TAG, "Value": f"{lifetime // timedelta(hours=1)}"})
    plan = PlanSensor(
        task_id="plan",
        mode="reschedule",
        poke_interval=timedelta(minutes=1),
        timeout=timedelta(hours=12),
        execution_timeout=timedelta(minutes=5),
    )
    preview = PreviewOperator(task_id="preview", execution_timeout=timedelta(minutes=30)) if in_chunks else None
    with TaskGroup("cluster", prefix_group_id=False, tooltip="The run's cluster, until it takes steps"):
        create = CreateClusterOperator(
            task_id="create_cluster",
            request=spec,
            # Two runs of a backfill that look for the shared cluster at once would make one each.
            max_active_tis_per_dag=1,
            execution_timeout=timedelta(minutes=10),
        )
        ready = WaitForClusterSensor(
            task_id="wait_for_cluster",
            request=spec,
            timeout=timedelta(minutes=40),
            execution_timeout=timedelta(minutes=45),
        )
    with TaskGroup("inputs", prefix_group_id=False, tooltip="What every run needs: online tables, and the readings"):
        schema, ingest = _inputs(step_timeout, 1 if in_chunks else DUE_FIRST)
    terminate = TerminateClusterOperator(
        task_id="terminate_cluster",
        cluster_name=spec["Name"],
        cluster_tags=spec["Tags"],
        deadline=timedelta(minutes=20),
        # More tries than elsewhere: each that is missed is paid for until the cluster's idle time is over.
        retries=3,
        execution_timeout=timedelta(minutes=30),
    ).as_teardown(setups=create)
    choose = ChooseDaysOperator(task_id="choose_days", execution_timeout=timedelta(minutes=30)) if in_chunks else None
    chain(*filter(None, (plan, preview, create, ready, schema, ingest)))
    if choose:
        work = _chunks_of(step_timeout).expand(chunk=choose.output)
        chain(ingest, choose, work, terminate)
    else:
        with TaskGroup("features", prefix_group_id=False, tooltip="The features of the run's days"):
            steps = _features(step_timeout, RUN, priority_weight=DUE_FIRST)
            chain(*steps)
        # Beside the steps: the days that it is about are none of this run's.
        chain(ingest, CatchUpOperator(task_id="catch_up", execution_timeout=timedelta(minutes=30)), terminate)
        chain(ingest, steps[0])
        chain(steps[-1], terminate)
    order = [each.task_id for each in filter(None, (plan, preview, create, ready, schema, ingest, choose))]
    verdict = task(task_id="verdict", execution_timeout=timedelta(minutes=5))(judge_run)(
        [*order, *OF_DAYS, terminate.task_id], in_chunks=in_chunks
    )
    # A teardown too, or Airflow would count the leaf before it; and the one whose failure fails the run.
    chain(terminate, verdict.as_teardown(setups=create, on_failure_fail_dagrun=True))


def _views(*tables: str) -> tuple[str, ...]:
    """Return the arguments that name all feature views, each with the versions of these tables that it is about."""
    named: list[str] = []
    for view in registry.views():
        named += ["--view", view.name]
        for table in tables:
            named += [f"--{table}-version", version(view, table)]
    return tuple(named)


# Of the tasks that wait for the lake's slot the one nearest to its run's end goes first: fewer clusters stand idle, and
# a chunk is brought online before the next one is begun.
WRITES: dict[str, Any] = {"pool": LAKE, "weight_rule": WeightRule.UPSTREAM}
# A run of days that are due goes before a backfill's chunks, of which there may be hundreds, all ready at once: more
# than the weights of a whole pipeline make.
DUE_FIRST = 20
TABLES = ("--readings", READINGS, "--features", FEATURES)
ONLINE = ("--keyspace", setting("keyspaces.keyspace"), "--table", layout.VIEW)


def _inputs(timeout: timedelta, priority: int) -> tuple[StepOperator, StepOperator]:
    """Return the steps that are the same whatever the days."""
    schema = StepOperator(
        task_id="schema",
        job="schema",
        # First: a declaration that the online table can't follow costs no more than a cluster's start.
        arguments=("--features", FEATURES, *_views(), *ONLINE),
        execution_timeout=timeout,
    )
    ingest = StepOperator(
        task_id="ingest",
        job="ingest",
        # No days: it takes what is new in the landing folder, as a late reading changes features of later days and
        # the windows of the planned days reach back a year.
        arguments=("--source", LANDING, "--readings", READINGS),
        execution_timeout=timeout,
        priority_weight=priority,
        **WRITES,
    )
    return schema, ingest


def _features(timeout: timedelta, span: Span, **more: Any) -> list[StepOperator]:  # noqa: ANN401 - whatever BaseOperator takes
    """Return the steps of days, first to last. Each is of all views: one of each would start a Spark of each."""
    days = ("--start", span.start, "--end", span.end)
    common = {"span": span, "execution_timeout": timeout, **more}
    return [
        StepOperator(task_id="featurize", job="featurize", arguments=(*TABLES, *_views(), *days), **WRITES, **common),
        ValidateOperator(
            task_id="validate",
            job="validate",
            arguments=(
                *TABLES,
                *_views("readings", "features"),
                *days,
                *("--report", f"{span.folder}/{layout.VIEW}/{REPORT}.json"),
                *("--metrics", VIEW_METRICS),
                # In one piece: a text that begins with a dash would be taken for another option.
                f"--released-by={RELEASED_BY}",
                f"--release-reason={RELEASE_REASON}",
            ),
            **(WRITES if span is CHUNK else {}),
            **common,
        ),
        SyncOperator(
            task_id="sync",
            job="sync",
            arguments=(
                *("--features", FEATURES),
                # Exactly what was validated.
                *_views("features"),
                *ONLINE,
                *days,
                *("--certificate", f"{span.folder}/{layout.VIEW}/{CERTIFICATE}.json"),
                *("--metrics", VIEW_METRICS),
                f"--budget={BUDGET}",
                f"--whole={WHOLE_TABLE}",
            ),
            **WRITES,
            **common,
        ),
    ]


def _chunks_of(step_timeout: timedelta) -> Any:  # noqa: ANN401 - what task_group makes
    """Return the group that is there once for each chunk of days."""

    @task_group(group_id="chunk", prefix_group_id=False, tooltip="The features of a chunk of the run's days")
    def chunk_of_days(chunk: Any) -> None:  # noqa: ANN401, ARG001 - which one it is, its tasks tell by their number
        chain(*_features(step_timeout, CHUNK, map_index_template=f"{CHUNK.start} to {CHUNK.end}"))

    return chunk_of_days
