"""The report of a validation, for machines: what was expected and seen of every check, and the metrics of the days."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from feature_store.calendar import DayRange
from feature_store.expectations import Severity
from feature_store.function import NUMBERS
from feature_store.validation.checks import Check, checks
from feature_store.validation.judge import Judgement
from feature_store.validation.look import EXAMPLES, QUANTILES, Finding
from feature_store.validation.records import Judged, Metrics, Verdict
from feature_store.view import FeatureView

DAYS_SHOWN = 20  # of a check's days with findings, the first ones
PASSED, WARNED, FAILED, SKIPPED = "passed", "warned", "failed", "skipped"
OF_DAY = ("rows", "filled", "whole")


def verdict(judged: Iterable[Judged]) -> str:
    """Sum up a run: failed if any day is held back, warned if any has a warning or was released."""
    verdicts = {each.verdict for each in judged}
    if Verdict.QUARANTINED in verdicts or not verdicts:
        return FAILED
    return WARNED if verdicts & {Verdict.WARNED, Verdict.RELEASED} else PASSED


def summary(judgement: Judgement, view: FeatureView) -> dict[str, Any]:
    """What a run's log and its tasks need of a judgement: days by verdict, and what is wrong, check by check."""
    days: dict[str, list[str]] = {each.value: [] for each in Verdict}
    for judged in judgement.days.values():
        days[judged.verdict.value].append(str(judged.day))
    return {
        "verdict": verdict(judgement.days.values()),
        "checks": len(checks(view)),
        "rows": sum(judged.rows for judged in judgement.days.values()),
        "days": days,
        "failed": _entries(judgement.findings, view, Severity.ERROR),
        "warned": _entries(judgement.findings, view, Severity.WARN),
    }


def messages(judgement: Judgement, view: FeatureView, day: dt.date, severity: Severity) -> dict[str, str]:
    """What the checks of a severity that fail on a day say of it, by check."""
    findings = [each for each in judgement.findings if each.day in (day, None)]
    return {entry["check"]: entry["message"] for entry in _entries(findings, view, severity)}


def report(  # noqa: PLR0913, PLR0917 - all that a report is made of
    judgement: Judgement,
    view: FeatureView,
    days: DayRange,
    past: Mapping[dt.date, Metrics],
    own: Mapping[dt.date, Metrics],
    recomputed: int,
) -> dict[str, Any]:
    """Put together all that there is to say.

    Args:
        judgement: verdicts and findings.
        view: the declaration.
        days: that were asked for.
        past: metrics of the days before, by which the first was judged.
        own: metrics of the days.
        recomputed: rows that were computed by the other path too.
    """
    short = summary(judgement, view)
    return {
        "view": view.name,
        "description": view.description,
        "start": str(days.start),
        "end": str(days.end),
        **{name: short[name] for name in ("verdict", "rows", "failed", "warned")},
        "rows_recomputed": recomputed,
        "days": [_day(judged) for judged in judgement.days.values()],
        "checks": [_check(check, judgement, own, recomputed) for check in checks(view).values()],
        "series": _series(judgement, view, past, own),
    }


def _day(judged: Judged) -> dict[str, Any]:
    return {
        "day": str(judged.day),
        "verdict": judged.verdict.value,
        "rows": judged.rows,
        "failed": list(judged.failed),
        "warned": list(judged.warned),
        "released_by": judged.release and judged.release.by,
        "reason": judged.release and judged.release.reason,
    }


def _entries(findings: Sequence[Finding], view: FeatureView, severity: Severity) -> list[dict[str, Any]]:
    """One entry a check, in the order of the checks: the first day, and all days' count."""
    entries = []
    for check in checks(view).values():
        if own := [each for each in findings if each.check == check.name and each.severity is severity]:
            entries.append(_entry(check, sorted(own, key=_by_day), severity))
    return entries


def _entry(check: Check, findings: Sequence[Finding], severity: Severity) -> dict[str, Any]:
    first = findings[0]
    count = sum(each.count for each in findings)
    examples = [example for each in findings for example in each.examples][:EXAMPLES]
    days = sorted({each.day for each in findings if each.day})
    on = f" on {days[0]}" if len(days) == 1 else f" on {len(days)} days, the first {days[0]}" if days else ""
    seen = first.seen if first.seen and not examples else f"{count}"
    such = f", such as {', '.join(examples)}" if examples else f"; expected: {check.expected}"
    return {
        "check": check.name,
        "severity": severity.value,
        "day": None if first.day is None else str(first.day),
        "count": count,
        "examples": examples,
        "message": f"{check.name}: {check.what} ({seen}{on}{such})",
    }


def _check(check: Check, judgement: Judgement, own: Mapping[dt.date, Metrics], recomputed: int) -> dict[str, Any]:
    findings = sorted((each for each in judgement.findings if each.check == check.name), key=_by_day)
    days, why = judgement.skipped.get(check.name, (0, ""))
    if findings:
        worst = min(findings, key=lambda each: each.severity is not Severity.ERROR)
        became = FAILED if worst.severity is Severity.ERROR else WARNED
        seen = worst.seen or f"{sum(each.count for each in findings):,}"
    elif days and days == len(judgement.days):
        became, seen = SKIPPED, f"not compared: {why}"
    elif judgement.findings and not own and check.name not in ("readable", "columns"):
        became, seen = SKIPPED, "not looked at"
    else:
        became, seen = PASSED, _fine(check, own, recomputed) + (f"; {days} day(s) not compared: {why}" if days else "")
    return {
        "check": check.name,
        "what": check.what,
        "expected": check.expected,
        "seen": seen,
        "verdict": became,
        "severity": check.severity.value,
        "days_failed": len({each.day for each in findings}),
        "days": [
            {
                "day": each.day and str(each.day),
                "severity": each.severity.value,
                "count": each.count,
                "seen": each.seen,
                "examples": list(each.examples),
            }
            for each in findings[:DAYS_SHOWN]
        ],
    }


def _fine(check: Check, own: Mapping[dt.date, Metrics], recomputed: int) -> str:
    """What was seen where nothing is wrong."""
    if check.name == "values_recomputed":
        rows = sum(int(of.get("rows", 0)) for of in own.values())
        return f"{recomputed:,} of {rows:,} rows computed again, none differs"
    metric = {"day_filled": "filled", "entities_whole": "whole", "not_a_copy": "repeated"}.get(check.name)
    values = [of[metric] for of in own.values() if metric in of] if metric else []
    if values:
        least, most = min(values), max(values)
        return f"{least:.3f}" if least == most else f"{least:.3f} to {most:.3f}"
    return "none"


def _series(
    judgement: Judgement, view: FeatureView, past: Mapping[dt.date, Metrics], own: Mapping[dt.date, Metrics]
) -> dict[str, Any]:
    """The metrics of the days, and of those before them, as lines to draw."""
    of = {**past, **own}
    days = sorted(of)

    def line(metric: str) -> list[float | None]:
        return [of[day].get(metric) for day in days]

    held = {day for day, judged in judgement.days.items() if judged.held_back}
    columns = [column.name for column in view.columns if column.type in NUMBERS]
    of_day = {name: line(name) for name in OF_DAY}
    return {
        "days": [str(day) for day in days],
        "own": [day in own for day in days],
        "held_back": [day in held for day in days],
        "metrics": {name: values for name, values in of_day.items() if any(value is not None for value in values)},
        "columns": {name: {each: line(f"{name}.{each}") for each in (*QUANTILES, "nulls")} for name in columns},
    }


def _by_day(finding: Finding) -> dt.date:
    return finding.day or dt.date.min
