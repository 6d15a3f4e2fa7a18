"""The last task of a pipeline: did the run do its work, and what did it do."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow.sdk import get_current_context

from feature_store import registry
from feature_store.calendar import DayRange, parse_day
from feature_store_airflow.catch_up import CAUGHT_UP
from feature_store_airflow.choose_days import LEFT, OUTLOOK
from feature_store_airflow.chunks import VERDICTS, combined
from feature_store_airflow.failures import RunIncomplete, failure_of
from feature_store_airflow.gate import BACKFILL, findings, held_back, named, next_steps
from feature_store_airflow.options import DRY_RUN, REPROCESS, SKIP_SYNC
from feature_store_airflow.release import BY, REASON

CHOOSE, CATCH_UP = "choose_days", "catch_up"
OF_DAYS = ("featurize", "validate", "sync")
STEPS = ("schema", "ingest", *OF_DAYS)
# What these return is what they did; the tasks about the cluster have done their work whatever they return.
TELLING = ("plan", *STEPS)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Instance:
    """A task of a run; of a run in chunks, one of its instances.

    Attributes:
        task_id: its name.
        map_index: the number of its chunk, or -1.
        state: Airflow's; None if it was never looked at.
        days: of its chunk, in words.
    """

    task_id: str
    map_index: int
    state: str | None
    days: str = ""

    def __str__(self) -> str:
        """Name it, as messages do."""
        return f"{self.task_id} of {self.days}" if self.days else self.task_id


def judge_run(order: Sequence[str], *, in_chunks: bool = False) -> str:
    """Fail the run if a task did not do its work or validation held days back, else say what the run did.

    A run's state is that of its leaves, and the teardown, which succeeds after every failure, would make it a success;
    so would tasks that were skipped because someone marked the run failed.

    Args:
        order: the run's task ids, first to last.
        in_chunks: whether those of days are there once for each chunk that choose_days has returned.

    Raises:
        RunIncomplete: names the tasks that failed, with their reasons, those that someone marked a success, as nobody
            knows what they did, and those that never ran; and the days that are held back, with what is wrong with
            them and how they come online.
    """
    ti: Any = get_current_context()["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    plan = ti.xcom_pull(task_ids="plan")
    chunks = ti.xcom_pull(task_ids=CHOOSE) if in_chunks else None
    unwanted = {"sync"} if (plan or {}).get(SKIP_SYNC) else set()
    if chunks == []:
        unwanted |= set(OF_DAYS)
    instances = [each for each in _instances(order, states, chunks) if each.task_id not in unwanted]
    # Skipped, it has found nothing to catch up with.
    if states.get(CATCH_UP) not in (None, "success", "skipped"):
        instances.append(Instance(CATCH_UP, -1, states[CATCH_UP]))
    failed = [each for each in instances if each.state == "failed"]
    # Whatever else Airflow says of it: skipped, upstream_failed, removed, nothing at all.
    not_run = [each for each in instances if each.state not in ("success", "failed")]
    said = {each: _returned(ti, each) for each in instances if each.task_id in TELLING}
    by_hand = [each for each, value in said.items() if each.state == "success" and value is None]
    returned: dict[str, Any] = {each.task_id: value for each, value in said.items() if each.task_id not in OF_DAYS}
    for name in OF_DAYS:
        parts = [value for each, value in said.items() if each.task_id == name and each.state == "success" and value]
        returned[name] = parts[0] if parts and not in_chunks else combined(parts)
    if failed or by_hand or not_run:
        reasons = [
            f"{each} failed: {failure_of(ti, each.task_id, each.map_index) or _unknown(each)}" for each in failed
        ]
        reasons += [_marked(each) for each in by_hand]
        if not_run:
            reasons.append(f"Not run: {', '.join(map(str, not_run))}.")
        if held := held_back(returned["validate"]):
            reasons += ["Validation holds days back.", *map(str, held), f"Next: {next_steps(ti.dag_id, held)}"]
        # Now or never: when the run is cleared, ingest finds nothing new any more. (Before that task starts anew, its
        # XCom is that of the time before the clear.)
        ingest = returned["ingest"] if states.get("ingest") == "success" else None
        if stale := _late(ti, states, plan, ingest):
            reasons.append(stale)
        raise RunIncomplete("This run did not do its work.\n" + "\n".join(reasons))
    if chunks == []:
        summary = f"Nothing was to be done: {ti.xcom_pull(task_ids=CHOOSE, key=OUTLOOK)}"
    else:
        summary = describe(plan, {name: returned[name] for name in STEPS if name not in unwanted}, chunks)
        if left := ti.xcom_pull(task_ids=CHOOSE, key=LEFT) if in_chunks else None:
            summary += f"\n{left}"
    first = chunks != [] and _is_first(returned["featurize"])
    if not first and (stale := _late(ti, states, plan, returned["ingest"])):
        summary += f"\n{stale}"
    if held := held_back(returned["validate"], returned["sync"]):
        raise RunIncomplete(
            "Validation holds days back; all other days of this run are online.\n"
            + "".join(f"{each}\n" for each in held)
            + f"Next: {next_steps(ti.dag_id, held)}\n"
            + f"What was done: {summary}"
        )
    log.info(summary)
    return summary


def _instances(
    order: Sequence[str], states: Mapping[str, str], chunks: Sequence[Mapping[str, Any]] | None
) -> Iterator[Instance]:
    for task_id in order:
        if task_id not in OF_DAYS or not chunks:
            yield Instance(task_id, -1, states.get(task_id))
            continue
        for number, chunk in enumerate(chunks):
            # As Airflow names those of a mapped task, where it tells their states.
            yield Instance(task_id, number, states.get(f"{task_id}_{number}"), _days(chunk))


def _days(chunk: Mapping[str, Any]) -> str:
    return str(DayRange(parse_day(chunk["start"]), parse_day(chunk["end"])))


def _returned(ti: Any, each: Instance) -> Any:  # noqa: ANN401 - Airflow's task instance, and what a task returns
    # Before a task starts anew, its XCom is that of the time before a clear.
    return ti.xcom_pull(task_ids=each.task_id, map_indexes=each.map_index)


def _unknown(each: Instance) -> str:
    return f"it could not say why (marked by hand, or its worker was lost). Next: see the log of {each}."


def _marked(each: Instance) -> str:
    return (
        f"{each} was marked a success by hand (it returned nothing): nobody knows whether its work was done. Next: "
        "clear the run; or, if it is to stay as it is, mark verdict a success too."
    )


def describe(
    plan: Mapping[str, Any],
    summaries: Mapping[str, Mapping[str, Any]],
    chunks: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Say in words what a run did, from its plan, its jobs' summaries (sync's if it ran) and its chunks, if any."""
    ingest = summaries["ingest"]
    # Of each, what it did for every view.
    featurize, validate = ([*summaries[name]["views"].values()] for name in ("featurize", "validate"))
    worst = min((view["verdict"] for view in validate), key=VERDICTS.index)
    took = ", ".join(f"{name} {said['seconds']:.0f} s" for name, said in summaries.items())
    days = f"{len(plan['days'])} day(s)"
    if chunks is not None:
        days = f"{sum(chunk['days'] for chunk in chunks)} of {days}, in {len(chunks)} chunk(s)"
    online = "nothing brought online, as was asked"
    if "sync" in summaries:
        sync = [*summaries["sync"]["views"].values()]
        online = f"{sum(view['rows_online'] for view in sync):,} rows online and equal, {_written(sync)}"
    did = (
        f"{plan['start']} to {plan['end']} ({days}): "
        f"{ingest['rows_in']:,} rows read from {ingest['files']} file(s), {ingest['rows_quarantined']:,} quarantined; "
        f"{sum(view['rows_written'] for view in featurize):,} rows of features written for "
        f"{max(view['entities'] for view in featurize):,} entities, of {len(featurize)} view(s); "
        f"validation {worst} ({sum(view['checks'] for view in validate)} checks); {online}. {took}."
    )
    return "\n".join([did, *_noted(plan, summaries["validate"]["views"])])


def _is_first(featurize: Mapping[str, Any]) -> bool:
    """Whether the tables' first versions are this run's own: then there are no features of other days."""
    return all(view["features_version"] == 0 for view in featurize["views"].values())


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


def _late(
    ti: Any,  # noqa: ANN401 - Airflow's task instance
    states: Mapping[str, str],
    plan: Mapping[str, Any] | None,
    ingest: Mapping[str, Any] | None,
) -> str | None:
    """Say what becomes of features of other days, if some are of older readings than there are now."""
    if states.get(CATCH_UP) in {"success", "skipped"}:  # skipped too where an earlier try has triggered that run
        said: str | None = ti.xcom_pull(task_ids=CATCH_UP, key=CAUGHT_UP)
        return said
    return _advice(plan, ingest)


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
        f"any, are of the older readings. Next: airflow dags trigger {BACKFILL} --conf "
        f"'{json.dumps({'start': others[0], 'end': others[-1], REPROCESS: 'stale', DRY_RUN: False})}'"
    )
