"""What the page says of a view: from its metrics to facts, plots and tables."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from feature_store.calendar import DayRange
from feature_store.metrics import KEPT_DAYS, Synced, Validated, ViewMetrics
from feature_store.validation.verdict import Verdict
from feature_store.view import FeatureView
from feature_store_airflow.links import reports_path
from feature_store_airflow.plots import Plot, bars, in_words, line
from feature_store_airflow.settings import REPORT, RUNS

SHOWN_DAYS = 90
# Yesterday is computed in the course of today: until then the features are a day behind, and not late.
LATE_DAYS = 2
LEAST_SHARE = 0.01  # that an axis of shares ends at
REPORT_URI = re.compile(rf"s3://(?P<bucket>[^/]+)/{RUNS}/(?P<dag>[^/]+)/(?P<run>[^/]+)/(?P<view>[^/]+)/{REPORT}\.json")


@dataclass(frozen=True)
class Status:
    """How a view is doing: a verdict, for its sign and colour, and a few words."""

    verdict: str
    text: str


@dataclass(frozen=True)
class Fact:
    """One thing about a view: what it is, how it is, and what that means."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A plot and what it says in words."""

    title: str
    says: str
    svg: Markup


def status(metrics: ViewMetrics, yesterday: dt.date) -> Status:
    """Sum up a view."""
    online = metrics.online
    held = [day for day, each in metrics.validated.items() if _held(each)]
    said = _online(online)
    if online:
        said += f", {_behind((yesterday - online).days)}"
    if held:
        said += f"; {max(held)} is held back" if len(held) == 1 else f"; {len(held)} days are held back, to {max(held)}"
    if held and (online is None or max(held) > online):
        return Status("failed", said)  # what is served is not the newest day, and won't be by itself
    if online is None:
        return Status("warned" if metrics.validated else "skipped", said)
    return Status("warned" if held or (yesterday - online).days >= LATE_DAYS else "passed", said)


def facts(metrics: ViewMetrics, now: dt.datetime) -> list[Fact]:
    """Say how far each stage has come, and what the online store has cost."""
    yesterday = now.date() - dt.timedelta(days=1)
    online = metrics.online
    certified = metrics.certified[online] if online else None
    held = [day for day, each in metrics.validated.items() if _held(each)]
    spent = _spent(metrics, now)
    return [
        _stage("Newest day computed", metrics.computed, yesterday),
        _stage("Last validated day", metrics.passed, yesterday),
        Fact(
            "Last certified day",
            str(online) if online else "none",
            f"at {certified.certified_at:%Y-%m-%d %H:%M} UTC, {certified.rows:,} rows, version "
            f"{certified.features_version}"
            if certified
            else "nothing is proven to be online",
        ),
        Fact("Online lag", _days((yesterday - online).days) if online else "not known", "behind yesterday (UTC)"),
        Fact("Held back", _days(len(held)), f"of the newest {KEPT_DAYS}" if held else "nothing waits for anyone"),
        Fact(
            "Keyspaces",
            money(sum(each.dollars or 0 for each in spent)),
            f"on demand, {len(spent)} sync(s) of the last {SHOWN_DAYS} days{_unknown(spent)}",
        ),
    ]


def window(metrics: ViewMetrics, yesterday: dt.date) -> DayRange:
    """The days to show: up to yesterday, or, of a view that has been still for longer, up to its newest day."""
    newest = max((day for day in (metrics.computed, metrics.online) if day), default=yesterday)
    end = yesterday if (yesterday - newest).days < SHOWN_DAYS else newest
    return DayRange(end - dt.timedelta(days=SHOWN_DAYS - 1), end)


def pictures(metrics: ViewMetrics, now: dt.datetime) -> list[Picture]:
    """Plot rows and nulls by day of features, and dollars by the day on which they were spent."""
    days = window(metrics, now.date() - dt.timedelta(days=1))
    shown = {day: each for day, each in metrics.validated.items() if days.start <= day <= days.end}
    held = frozenset(day for day, each in shown.items() if _held(each))
    rows = Plot("Rows per day", days, {day: each.rows for day, each in shown.items()}, "{:,.0f}".format, held)
    most = {day: max(each.nulls.values()) for day, each in shown.items() if each.nulls}
    nulls = Plot("Largest share of nulls in a column", days, most, _share, held, LEAST_SHARE)
    costs = {day: total.dollars for day, total in _by_day(_spent(metrics, now)).items() if total.dollars is not None}
    spending = Plot("Dollars per day of spending", _last_days(now), costs, money)
    return [
        Picture(rows.title, in_words(rows), bars(rows)),
        Picture(nulls.title, in_words(nulls), line(nulls)),
        Picture(spending.title, in_words(spending), bars(spending)),
    ]


def held_back(metrics: ViewMetrics, bucket: str) -> list[dict[str, Any]]:
    """List the days that are held back, and those that someone has released, the newest first."""
    chosen = (Verdict.QUARANTINED, Verdict.RELEASED)
    return [
        {
            "day": day,
            "verdict": each.verdict.value,
            "why": [said or f"{check}: see the report" for check, said in each.failed.items()],
            "released_by": each.released_by,
            "reason": each.release_reason,
            "report": report_path(each.report, bucket),
        }
        for day, each in sorted(metrics.validated.items(), reverse=True)
        if each.verdict in chosen
    ]


def days(metrics: ViewMetrics, yesterday: dt.date, bucket: str) -> list[dict[str, Any]]:
    """What the plots show, as a table: a line for each day that anything is known of, the newest first."""
    listed = []
    for day in reversed(list(window(metrics, yesterday))):
        judged, online = metrics.validated.get(day), metrics.certified.get(day)
        if judged or online:
            most = max(judged.nulls.items(), key=lambda each: each[1], default=None) if judged else None
            listed.append(
                {
                    "day": day,
                    "verdict": judged.verdict.value if judged else None,
                    "rows": judged.rows if judged else None,
                    "nulls": f"{_share(most[1])} {most[0]}" if most and most[1] else "0" if most else None,
                    "online": online,
                    "report": report_path(judged.report, bucket) if judged else None,
                }
            )
    return listed


def columns(metrics: ViewMetrics, view: FeatureView, yesterday: dt.date) -> list[dict[str, Any]]:
    """The share of nulls of each column: on the newest day, and on the days that are shown."""
    span = window(metrics, yesterday)
    shown = [each for day, each in sorted(metrics.validated.items()) if span.start <= day <= span.end and each.nulls]
    listed = []
    for column in view.columns[len(view.keys) :]:
        shares = [each.nulls[column.name] for each in shown if column.name in each.nulls]
        if shares:
            least, most = _share(min(shares)), _share(max(shares))
            listed.append({"name": column.name, "last": _share(shares[-1]), "least": least, "most": most})
    return listed


def costs(metrics: ViewMetrics, now: dt.datetime) -> list[dict[str, Any]]:
    """What the syncs have used, by the day on which they ended (UTC), the newest first."""
    return [{"day": day, "total": total} for day, total in sorted(_by_day(_spent(metrics, now)).items(), reverse=True)]


def report_path(uri: str, bucket: str) -> str | None:
    """The page of a report, below the plugin's pages; None if it is not where the DAGs put them."""
    found = REPORT_URI.fullmatch(uri)
    if found is None or found["bucket"] != bucket:
        return None
    return f"{reports_path(found['dag'], found['run'])}/{found['view']}"


def money(dollars: float) -> str:
    """Write dollars, also small ones."""
    return f"${dollars:,.2f}" if dollars >= 1 or not dollars else f"${dollars:.4g}"


@dataclass(frozen=True)
class Total:
    """What the syncs of a day have used together; dollars are None if no price is known."""

    syncs: int
    rows_written: int
    rows_deleted: int
    write_units: int
    read_units: int
    dollars: float | None


def _by_day(spent: Iterable[Synced]) -> dict[dt.date, Total]:
    by_day: dict[dt.date, list[Synced]] = {}
    for each in spent:
        by_day.setdefault(each.at.date(), []).append(each)
    return {day: _total(syncs) for day, syncs in by_day.items()}


def _total(syncs: Sequence[Synced]) -> Total:
    prices = [each.dollars for each in syncs if each.dollars is not None]
    return Total(
        len(syncs),
        sum(each.rows_written for each in syncs),
        sum(each.rows_deleted for each in syncs),
        sum(each.write_units for each in syncs),
        sum(each.read_units for each in syncs),
        sum(prices) if prices else None,
    )


def _spent(metrics: ViewMetrics, now: dt.datetime) -> list[Synced]:
    first = _last_days(now).start
    return [each for each in metrics.syncs if each.at.date() >= first]


def _unknown(spent: Iterable[Synced]) -> str:
    missing = sum(each.dollars is None for each in spent)
    return f", without {missing} in a region whose prices are not known" if missing else ""


def _last_days(now: dt.datetime) -> DayRange:
    return DayRange(now.date() - dt.timedelta(days=SHOWN_DAYS - 1), now.date())


def _stage(name: str, day: dt.date | None, yesterday: dt.date) -> Fact:
    if day is None:
        return Fact(name, "none", "that is known")
    return Fact(name, str(day), _behind((yesterday - day).days))


def _held(each: Validated) -> bool:
    return each.verdict is Verdict.QUARANTINED


def _online(day: dt.date | None) -> str:
    return f"online up to {day}" if day else "no day is known to be online"


def _behind(days: int) -> str:
    return "which is yesterday" if days == 0 else f"{_days(days)} behind yesterday"


def _days(count: int) -> str:
    return f"{count:,} day" if count == 1 else f"{count:,} days"


def _share(value: float) -> str:
    return f"{value:.2%}" if 0 < value < 0.1 else f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"
