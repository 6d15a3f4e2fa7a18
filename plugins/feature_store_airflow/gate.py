"""What validation holds back of a run, and what a person can do about it: for the messages that say so."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from feature_store import registry
from feature_store.calendar import parse_day
from feature_store.validation.checks import checks
from feature_store_airflow.options import DRY_RUN, REPROCESS
from feature_store_airflow.release import BY, REASON

Summary: TypeAlias = Mapping[str, Any]

SHOWN = 5  # stretches of days, or findings: the report has them all
BACKFILL = "feature_store_backfill"
PLACEHOLDERS = {BY: "WHO", REASON: "WHY"}


@dataclass(frozen=True)
class HeldBack:
    """What is held back of a view.

    Attributes:
        view: its name.
        days: that are not online, ISO days in order.
        of: of how many days of the run.
        failed: what is wrong, an entry for each check, as validate's summary has it; empty where this run's validate
            let the days pass, and another run's has held them back since.
        page: the report, for people.
    """

    view: str
    days: Sequence[str]
    of: int
    failed: Sequence[Summary]
    page: str

    def __str__(self) -> str:
        """Say it in one line."""
        days = f"{self.view}: {named(self.days)} ({len(self.days)} of {self.of} day(s))"
        if not self.failed:
            return f"{days}: this run's validation let them pass, and another run's has held them back since."
        others = [entry["check"] for entry in self.failed[1:]]
        more = f"; failed too: {_few(others)}" if others else ""
        return f"{days}: {self.failed[0]['message']}{more}. Report: {self.page}"


def held_back(validate: Summary | None, sync: Summary | None = None) -> list[HeldBack]:
    """Return what is held back, by view.

    Args:
        validate: the summary of the run's validate; None if there is none.
        sync: that of its sync, which asks for the verdicts again: another run may have judged the same days since.
    """
    found = []
    for view, judged in _views(validate).items():
        days = judged.get("days", {})
        left_out = {*days.get("quarantined", ()), *_views(sync).get(view, {}).get("days_held_back", ())}
        if left_out:
            failed = judged["failed"] if days.get("quarantined") else ()
            count = sum(len(each) for each in days.values())
            found.append(HeldBack(view, sorted(left_out), count, failed, judged["page"]))
    return found


def next_steps(dag_id: str, held: Sequence[HeldBack]) -> str:
    """Say how held back days come online: they are recomputed and pass, or someone releases them."""
    (first, last), *others = stretches(day for each in held for day in each.days)
    days = {"start": first, "end": last}
    same = f"\nThe same for {_few([_stretch(*each) for each in others])}." if others else ""
    fixed = sorted({entry["check"] for each in held for entry in each.failed if not _releasable(each.view, entry)})
    but = f" (not what fails by {', '.join(fixed)})" if fixed else ""
    return (
        "if the data is wrong, have it mended and compute these days anew:\n"
        f"{_trigger(dag_id, days)}\n"
        f"If it is right and only unusual, release them{but}, which is recorded with the verdict:\n"
        f"{_trigger(dag_id, {**days, **PLACEHOLDERS})}{same}"
    )


def findings(judged: Summary, kind: str) -> str:
    """List the messages of a view's entries, such as those that `warned`."""
    return _few([entry["message"] for entry in judged[kind]])


def named(days: Iterable[str]) -> str:
    """Name ISO days, those that follow one another as a stretch: `2014-02-26, 2014-02-28 to 2014-03-02`."""
    return _few([_stretch(*each) for each in stretches(days)], between=", ")


def stretches(days: Iterable[str]) -> list[tuple[str, str]]:
    """Put ISO days that follow one another together; the first and the last of each stretch."""
    found: list[tuple[dt.date, dt.date]] = []
    for day in sorted({parse_day(day) for day in days}):
        if found and (day - found[-1][1]).days == 1:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return [(str(first), str(last)) for first, last in found]


def _views(summary: Summary | None) -> Mapping[str, Summary]:
    views: Mapping[str, Summary] = (summary or {}).get("views", {})
    return views


def _stretch(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"


def _few(texts: Sequence[str], between: str = "; ") -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return f"{between.join(texts[:SHOWN])}{more}"


def _trigger(dag_id: str, days: Mapping[str, str]) -> str:
    # The backfill does nothing unless it is told to, and leaves days alone that are held back.
    conf = {**days, **({REPROCESS: "all", DRY_RUN: False} if dag_id == BACKFILL else {})}
    return f"airflow dags trigger {dag_id} --conf '{json.dumps(conf)}'"


def _releasable(view: str, entry: Summary) -> bool:
    """Whether a person may let days go online that fail by this; of a check that isn't known here, the job decides."""
    declared = {each.name: each for each in registry.views()}.get(view)
    check = checks(declared).get(entry["check"]) if declared else None
    return check is None or check.releasable
