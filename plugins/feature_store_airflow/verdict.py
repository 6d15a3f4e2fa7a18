"""The last task of a pipeline: did the run do its work, and what did it do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import get_current_context

from feature_store_airflow.failures import RunIncomplete, failure_of

STEPS = ("ingest", "featurize", "validate", "sync")

log = logging.getLogger(__name__)


def judge_run(order: Sequence[str]) -> str:
    """Fail the run if one of its tasks did not do its work, else say what the run did.

    A run's state is that of its leaves, and the teardown, which succeeds after every failure, would make it a success;
    so would tasks that were skipped because someone marked the run failed.

    Args:
        order: the run's task ids, first to last.

    Raises:
        RunIncomplete: names the tasks that failed, with their reasons, and those that never ran.
    """
    ti: Any = get_current_context()["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    failed = [task_id for task_id in order if states.get(task_id) == "failed"]
    not_run = [task_id for task_id in order if states.get(task_id) in ("upstream_failed", "skipped")]
    if failed or not_run:
        reasons = [f"{task_id} failed: {failure_of(ti, task_id) or _unknown(task_id)}" for task_id in failed]
        if not_run:
            reasons.append(f"Not run: {', '.join(not_run)}.")
        raise RunIncomplete("This run did not do its work.\n" + "\n".join(reasons))
    summary = describe(ti.xcom_pull(task_ids="plan"), {name: ti.xcom_pull(task_ids=name) for name in STEPS})
    log.info(summary)
    return summary


def _unknown(task_id: str) -> str:
    return f"it could not say why (marked by hand, or its worker was lost). Next: see the log of {task_id}."


def describe(plan: Mapping[str, Any], summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Say in words what a run did, from its plan and its jobs' summaries."""
    ingest, featurize, validate, sync = (summaries[name] for name in STEPS)
    took = ", ".join(f"{name} {summaries[name]['seconds']:.0f} s" for name in STEPS)
    return (
        f"{plan['start']} to {plan['end']} ({len(plan['days'])} day(s)): "
        f"{ingest['rows_in']:,} rows read from {ingest['files']} file(s), {ingest['rows_quarantined']:,} quarantined; "
        f"{featurize['rows_written']:,} rows of features written for {featurize['entities']:,} entities; "
        f"validation {validate['verdict']} ({validate['checks']} checks); "
        f"{sync['rows_online']:,} rows online and equal. {took}."
    )
