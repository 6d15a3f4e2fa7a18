"""A view's metrics as three months of daily runs leave them: a day that did not come, one held back, one released."""

from __future__ import annotations

import datetime as dt
import random

from feature_store import cost
from feature_store.metrics import Certified, Synced, Validated, ViewMetrics
from feature_store.validation.verdict import Verdict
from feature_store.view import FeatureView

BY = "feature_store_daily"
HELD, RELEASED, WARNED, MISSING = 1, 40, 17, 60  # days before the last one
MESSAGE = (
    "day_filled: the half hours that were read, of those that a whole day has (0.021 on {day}; expected: at least "
    "0.8, a warning below 0.95)"
)


def run_id(day: dt.date) -> str:
    """Of the scheduled run that has computed a day."""
    return f"scheduled__{day + dt.timedelta(days=1)}T00:00:00+00:00"


def metrics(view: FeatureView, last: dt.date, days: int = 90, seed: int = 0) -> ViewMetrics:
    """Make them, up to a day."""
    chances = random.Random(seed)
    validated: dict[dt.date, Validated] = {}
    certified: dict[dt.date, Certified] = {}
    syncs: list[Synced] = []
    for before in reversed(range(days)):
        day = last - dt.timedelta(days=before)
        moment = dt.datetime.combine(day, dt.time(4, 12, 7), dt.UTC) + dt.timedelta(
            days=1, seconds=chances.random() * 900
        )
        if before == MISSING:
            continue
        verdict = {
            HELD: Verdict.QUARANTINED,
            RELEASED: Verdict.RELEASED,
            WARNED: Verdict.WARNED,
        }.get(before, Verdict.PASSED)
        rows = int(5530 - 2 * before + chances.gauss(0, 12)) // (3 if before == RELEASED else 1)
        bad = verdict in (Verdict.QUARANTINED, Verdict.RELEASED)
        nulls = {column.name: 0.0 for column in view.columns[len(view.keys) :]}
        for name in [name for name in nulls if "std" in name]:
            nulls[name] = round(abs(chances.gauss(0.006, 0.001)) + (0.031 if bad else 0), 6)
        validated[day] = Validated(
            verdict,
            rows,
            nulls,
            {"day_filled": MESSAGE.format(day=day)} if bad else {},
            {"rows_steady": "rows_steady: a tenth fewer rows than usual"} if verdict is Verdict.WARNED else {},
            "Ada Lovelace" if verdict is Verdict.RELEASED else None,
            "the meters' clock was set that night, ticket 7" if verdict is Verdict.RELEASED else None,
            f"s3://lake/runs/{BY}/{run_id(day)}/{view.name}/validation_report.json",
            moment,
        )
        if verdict is not Verdict.QUARANTINED:
            certified[day] = Certified(rows, 3 * (days - before), moment + dt.timedelta(minutes=1))
            written, read = rows if before != RELEASED else 3 * rows, rows // 30
            price = cost.dollars("eu-west-2", writes=written, reads=read)
            syncs.append(Synced(moment + dt.timedelta(minutes=1), 1, written, 0, written, read, price))
    return ViewMetrics(view.name, validated, certified, tuple(syncs))
