"""The last task of a pipeline: did the run do its work, and what did it do."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow.sdk import get_current_context

from feature_store import registry
from feature_store.calendar import DayRange, parse_day
from feature_store_airflow.failures import RunIncomplete, failure_of
from feature_store_airflow.gate import findings, held_back, named, next_steps
from feature_store_airflow.release import BY, REASON

STEPS = ("schema", "ingest", "featurize", "validate", "sync")
# What these return is what they did; the tasks about the cluster have done their work whatever they return.
TELLING = ("plan", *STEPS)

log = logging.getLogger(__name__)


def judge_run(order: Sequence[str]) -> str:
    """Fail the run if a task did not do its work or validation held days back, else say what the run did.

    A run's state is that of its leaves, and the teardown, which succeeds after every failure, would make it a success;
    so would tasks that were skipped because someone marked the run failed.

    Args:
        order: the run's task ids, first to last.

    Raises:
        RunIncomplete: names the tasks that failed, with their reasons, those that someone marked a success, as nobody
            knows what they did, and those that never ran; and the days that are held back, with what is wrong with
            them and how they come online.
    """
    ti: Any = get_current_context()["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    failed = [task_id for task_id in order if states.get(task_id) == "failed"]
    not_run = [task_id for task_id in order if states.get(task_id) in ("upstream_failed", "skipped")]
    returned = {name: ti.xcom_pull(task_ids=name) for name in TELLING}
    by_hand = [name for name in TELLING if states.get(name) == "success" and returned[name] is None]
    if failed or by_hand or not_run:
        reasons = [f"{task_id} failed: {failure_of(ti, task_id) or _unknown(task_id)}" for task_id in failed]
        reasons += [_marked(task_id) for task_id in by_hand]
        if not_run:
            reasons.append(f"Not run: {', '.join(not_run)}.")
        # Before validate starts anew, its XCom is that of the time before a clear.
        if states.get("validate") == "success" and (held := held_back(returned["validate"])):
            reasons += ["Validation holds days back.", *map(str, held), f"Next: {next_steps(ti.dag_id, held)}"]
        # Now or never: when the run is cleared, ingest finds nothing new any more. (Before that task starts anew, its
        # XCom is that of the time before the clear.)
        ingest = returned["ingest"] if states.get("ingest") == "success" else None
        if stale := _advice(returned["plan"], ingest):
            reasons.append(stale)
        raise RunIncomplete("This run did not do its work.\n" + "\n".join(reasons))
    summary = describe(returned["plan"], {name: returned[name] for name in STEPS})
    if held := held_back(returned["validate"], returned["sync"]):
        raise RunIncomplete(
            "Validation holds days back; all other days of this run are online.\n"
            + "".join(f"{each}\n" for each in held)
            + f"Next: {next_steps(ti.dag_id, held)}\n"
            + f"What was done: {summary}"
        )
    log.info(summary)
    return summary


def _unknown(task_id: str) -> str:
    return f"it could not say why (marked by hand, or its worker was lost). Next: see the log of {task_id}."


def _marked(task_id: str) -> str:
    return (
        f"{task_id} was marked a success by hand (it returned nothing): nobody knows whether its work was done. Next: "
        "clear the run; or, if it is to stay as it is, mark verdict a success too."
    )


def describe(plan: Mapping[str, Any], summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Say in words what a run did, from its plan and its jobs' summaries."""
    ingest = summaries["ingest"]
    # Of each, what it did for every view.
    featurize, validate, sync = ([*summaries[name]["views"].values()] for name in STEPS[2:])
    verdicts = {view["verdict"] for view in validate}
    worst = next(verdict for verdict in ("failed", "warned", "passed") if verdict in verdicts)
    took = ", ".join(f"{name} {summaries[name]['seconds']:.0f} s" for name in STEPS)
    did = (
        f"{plan['start']} to {plan['end']} ({len(plan['days'])} day(s)): "
        f"{ingest['rows_in']:,} rows read from {ingest['files']} file(s), {ingest['rows_quarantined']:,} quarantined; "
        f"{sum(view['rows_written'] for view in featurize):,} rows of features written for "
        f"{max(view['entities'] for view in featurize):,} entities, of {len(featurize)} view(s); "
        f"validation {worst} ({sum(view['checks'] for view in validate)} checks); "
        f"{sum(view['rows_online'] for view in sync):,} rows online and equal, {_written(sync)}. {took}."
    )
    # A table's first version is this run's own: there are no features of other days.
    stale = None if all(view["features_version"] == 0 for view in featurize) else _advice(plan, ingest)
    return "\n".join([did, *_noted(plan, summaries["validate"]["views"]), *([stale] if stale else [])])


def _written(sync: Sequence[Mapping[str, Any]]) -> str:
    """Say what was written online, and what that cost."""
    written, deleted = (sum(view[f"rows_{what}"] for view in sync) for what in ("written", "deleted"))
    prices = [view["dollars"] for view in sync if view["dollars"] is not None]
    price = f" (${sum(prices):.4f} at on-demand prices)" if prices else ""
    return f"{written:,} of them written and {deleted:,} deleted{price}"


def _noted(plan: Mapping[str, Any], views: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Say, by view, what is online although validation found something: warnings, and days that were released."""
    for view, judged in views.items():
        if judged["warned"]:
            yield f"Validation warned: {view}: {findings(judged, 'warned')}. Report: {judged['page']}"
    for view, judged in views.items():
        if released := judged["days"]["released"]:
            # A release holds for later runs of the day too; by whom it was is then in the report.
            by = f"by {plan[BY]}: {plan[REASON]}" if plan.get(BY) else "in an earlier run"
            yield f"Released: {view}: {named(released)} {by} (failed: {findings(judged, 'failed')})"


def _advice(plan: Mapping[str, Any] | None, ingest: Mapping[str, Any] | None) -> str | None:
    """Say which features are stale, or that this can't be told: that is no reason to call the run anything else."""
    try:
        return stale_features(plan, ingest, today=dt.datetime.now(dt.UTC).date())
    except Exception as error:
        log.exception("The days whose features are of older readings can't be told.")
        return f"Whether features of other days are of older readings can't be told ({error!r}): see the verdict's log."


def stale_features(plan: Mapping[str, Any] | None, ingest: Mapping[str, Any] | None, *, today: dt.date) -> str | None:
    """Say which features of other days than the run's have windows with changed readings in them; None if none have.

    Args:
        plan: what the run's plan returned.
        ingest: the summary of its ingest step.
        today: the day, in UTC, that is not over yet: from it on there are no features, and no run computes any.
    """
    # A task that did not come to its end, or that someone marked a success, has returned nothing.
    if not plan or not ingest or not ingest.get("days_changed"):
        return None
    changed = DayRange(parse_day(ingest["first_day_changed"]), parse_day(ingest["last_day_changed"]))
    # Features are of days that have readings; the last changed day is one, or was before a file withdrew its readings.
    newest = parse_day(ingest["last_day"]) if ingest["last_day"] else changed.end
    reached = max(view.longest.last_day(changed.end) for view in registry.views())
    last = max(changed.end, min(reached, newest))
    yesterday = today - dt.timedelta(days=1)
    if changed.start > yesterday:
        return None
    affected = DayRange(changed.start, min(last, yesterday))
    own = set(plan["days"])
    others = [day for day in map(str, affected) if day not in own]
    if not others:
        return None
    return (
        f"Readings of {changed.start} to {changed.end} ({ingest['days_changed']} day(s)) came or changed, and features "
        f"of other days than this run's are not recomputed by it: those of {others[0]} to {others[-1]}, if there are "
        "any, are of the older readings. Next: airflow dags trigger feature_store_backfill --conf "
        f"'{json.dumps({'start': others[0], 'end': others[-1]})}'"
    )
