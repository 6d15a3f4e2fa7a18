"""From what was found and measured to a verdict for each day: limits, and the days before as what is usual."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from feature_store.calendar import DayRange
from feature_store.expectations import Expectations, Severity
from feature_store.function import NUMBERS
from feature_store.validation.checks import checks
from feature_store.validation.look import EXAMPLES, Finding, Look
from feature_store.validation.records import Judged, Metrics, Release, Verdict
from feature_store.view import FeatureView

# An interquartile range is taken to be at least this part of the median, or of the range of nine in ten values: of what
# is nearly always the same (48 half hours) it is 0, and then any change would be infinitely far.
LEAST_OF_MEDIAN, LEAST_OF_RANGE = 1 / 4, 1 / 8
# And of one that has become narrow this part of that, so that none is narrower by an infinite factor.
LEAST_LEFT = 1 / 10


@dataclass(frozen=True)
class Known:
    """What days are judged by, beside what is in them.

    Attributes:
        past: metrics of days before the first, without those that were held back.
        before: the days' verdicts until now: a released day stays released while its rows and failures are the same.
        release: releases the days that would be held back, as far as their failed checks allow it.
        since: the first day that there are readings of: what is computed over windows that reach back before it grows
            by itself, and is not compared.
    """

    past: Mapping[dt.date, Metrics] = field(default_factory=dict)
    before: Mapping[dt.date, Judged] = field(default_factory=dict)
    release: Release | None = None
    since: dt.date | None = None


@dataclass
class Judgement:
    """Verdicts of a view's days, all that they rest on, and which checks could not be made.

    Attributes:
        days: verdicts, by day.
        findings: all of them; those of no day count for every day.
        skipped: of checks that could not be made on some days, on how many, and why not on the first of them.
    """

    days: dict[dt.date, Judged] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    skipped: dict[str, tuple[int, str]] = field(default_factory=dict)


def judge(look: Look, view: FeatureView, days: DayRange, known: Known) -> Judgement:
    """Judge days one after the other, each by those before it.

    Args:
        look: what was found of these days.
        view: the declaration, with its limits.
        days: that were asked for.
        known: what is known beside that.
    """
    past = dict(known.past)
    judgement = Judgement(findings=[*look.findings, *_absent(look, view, days)])
    for day in sorted(look.rows):
        own = look.metrics.get(day, {})
        trailed = _trailing(past, day, view.expects)
        findings = list(_of_day(day, own, trailed, view, judgement.skipped))
        findings += _against(day, own, trailed, view, known.since, judgement.skipped)
        judgement.findings += findings
        of_day = [finding for finding in judgement.findings if finding.day in (day, None)]
        facts = Judged(day, Verdict.PASSED, look.rows[day], look.fingerprints[day])
        judged = _verdict(facts, of_day, view, known)
        judgement.days[day] = judged
        if not judged.held_back:
            past[day] = own
    return judgement


def hold_back(
    check: str, what: str, examples: Sequence[str], view: FeatureView, rows: Mapping[dt.date, int]
) -> Judgement:
    """Judge days of which nothing can be looked at: all of them are held back for one check."""
    finding = Finding(
        check, checks(view)[check].severity, None, max(len(examples), 1), tuple(examples[:EXAMPLES]), what
    )
    held = {day: Judged(day, Verdict.QUARANTINED, count, "", failed=(check,)) for day, count in rows.items()}
    return Judgement(held, [finding])


def trailing(days: DayRange, expects: Expectations) -> list[dt.date]:
    """The days before the first of some days by which the first is judged."""
    numbers = range(days.start.toordinal() - expects.trailing_days, days.start.toordinal())
    return [dt.date.fromordinal(number) for number in numbers if number >= 1]


def _verdict(facts: Judged, findings: Iterable[Finding], view: FeatureView, known: Known) -> Judged:
    findings = list(findings)
    failed, warned = (
        tuple(dict.fromkeys(finding.check for finding in findings if finding.severity is severity))
        for severity in (Severity.ERROR, Severity.WARN)
    )
    judged = replace(facts, failed=failed, warned=tuple(check for check in warned if check not in failed))
    before, release = known.before.get(facts.day), known.release
    if not failed:
        return replace(judged, verdict=Verdict.WARNED) if warned else judged
    if not all(checks(view)[name].releasable for name in failed):
        return replace(judged, verdict=Verdict.QUARANTINED)
    if release is None and before and before.release:
        same = (before.failed, before.rows, before.fingerprint) == (judged.failed, judged.rows, judged.fingerprint)
        release = before.release if same else None
    if release is None:
        return replace(judged, verdict=Verdict.QUARANTINED)
    return replace(judged, verdict=Verdict.RELEASED, release=release)


def _absent(look: Look, view: FeatureView, days: DayRange) -> Iterator[Finding]:
    """Days without any row, from the first on that has some: a day that did not arrive."""
    there = [day for day, rows in look.rows.items() if rows]
    first = min(there, default=days.start)
    severity = checks(view)["fresh"].severity
    for day in days:
        if day >= first and day not in look.rows:
            yield Finding(
                "fresh",
                severity,
                day,
                1,
                (),
                f"no row, nor a reading; the newest are of {max(there, default='no day')}",
            )


def _of_day(
    day: dt.date, own: Metrics, past: Sequence[Metrics], view: FeatureView, skipped: dict[str, tuple[int, str]]
) -> Iterator[Finding]:
    """Judge a day by itself, and whether its readings are those of the day before more than they usually are."""
    expects = view.expects
    if "filled" in own and (severity := expects.filled.severity_below(own["filled"])):
        yield _finding(view, "day_filled", severity, day, f"{own['filled']:.3f}")
    if "whole" in own:
        if own["rows"] < expects.least_rows:
            _skip(skipped, "entities_whole", f"{day} has {own['rows']:g} rows: {few(expects)}")
        elif severity := expects.whole.severity_below(own["whole"]):
            yield _finding(view, "entities_whole", severity, day, f"{own['whole']:.3f}")
    if own.get("compared", 0) < expects.least_rows:
        why = f"{own.get('compared', 0):g} entities have a reading of {day} and of the day before: {few(expects)}"
        _skip(skipped, "not_a_copy", why)
    else:
        usual = median([each["repeated"] for each in past if "repeated" in each] or [0.0])
        if severity := expects.repeated.severity_above(own["repeated"], usual):
            said = f"{own['repeated']:.3f} of {own['compared']:,.0f}, where {usual:.3f} is usual"
            yield _finding(view, "not_a_copy", severity, day, said)


def few(expects: Expectations) -> str:
    """Say why so few rows are not compared."""
    return f"under {expects.least_rows}, chance is larger than what is looked for"


def _skip(skipped: dict[str, tuple[int, str]], check: str, why: str) -> None:
    days, first = skipped.get(check, (0, why))
    skipped[check] = days + 1, first


def _against(  # noqa: PLR0913, PLR0917 - a day, what it is judged by, and what could not be
    day: dt.date,
    own: Metrics,
    past: Sequence[Metrics],
    view: FeatureView,
    since: dt.date | None,
    skipped: dict[str, tuple[int, str]],
) -> Iterator[Finding]:
    """Judge a day by the days before it."""
    expects = view.expects
    usual = median(each["rows"] for each in past) if past else 0.0
    steady = ("rows_steady", "rows_growth", "nulls_steady", "values_steady", "spread_steady")
    why = None
    if len(past) < expects.least_days:
        why = (
            f"{day} has {len(past)} judged day(s) before it: {expects.least_days} of {expects.trailing_days} are needed"
        )
    elif usual < expects.least_rows:
        why = f"the days before {day} have {usual:g} rows: {few(expects)}"
    if why:
        for check in steady:
            _skip(skipped, check, why)
        return
    rows = own["rows"]
    said = f"{rows:,.0f} rows against {usual:,.0f}"
    if severity := expects.rows.severity_below(rows / usual):
        yield _finding(view, "rows_steady", severity, day, said)
    if severity := expects.growth.severity_above(rows / usual):
        yield _finding(view, "rows_growth", severity, day, said)
    if not rows:
        return
    # Of few rows a median is uncertain by 0.93 / sqrt(n) interquartile ranges, were they normal: twice that is chance.
    chance = 2 / math.sqrt(rows)
    found: dict[tuple[str, Severity], list[str]] = {}
    first = dt.date.fromordinal(max(day.toordinal() - expects.trailing_days, 1))
    for column in view.columns:
        window = view.made_of[column.name][1] if column.name in view.made_of else None
        grows = window is not None and since is not None and window.first_day(first) < since
        if column.type in NUMBERS and not grows:
            for check, severity, text in _column(column.name, own, past, view.expects, chance):
                worst = severity if column in view.readings else Severity.WARN
                found.setdefault((check, worst), []).append(f"{column.name}: {text}")
    for (check, severity), columns in found.items():
        finding = _finding(view, check, severity, day, columns[0])
        yield replace(finding, count=len(columns), examples=tuple(columns[:EXAMPLES]))


def _column(
    name: str, own: Metrics, past: Sequence[Metrics], expects: Expectations, chance: float
) -> Iterator[tuple[str, Severity, str]]:
    """Judge a column's distribution by the days before."""

    def usual(metric: str) -> float | None:
        values = [value for each in past if (value := each.get(f"{name}.{metric}")) is not None]
        return median(values) if len(values) >= expects.least_days else None

    nulls = usual("nulls")
    if nulls is not None and (severity := expects.nulls.severity_above(own.get(f"{name}.nulls", 0.0) - nulls, chance)):
        yield "nulls_steady", severity, f"{own[f'{name}.nulls']:.3f} of the rows are null, against {nulls:.3f}"
    quantiles = {quantile: usual(quantile) for quantile in ("p05", "p25", "p50", "p75", "p95")}
    there = {quantile: own.get(f"{name}.{quantile}") for quantile in quantiles}
    if None in quantiles.values() or None in there.values():
        return
    then, now = ({k: float(v or 0.0) for k, v in each.items()} for each in (quantiles, there))
    least = max(abs(then["p50"]) * LEAST_OF_MEDIAN, (then["p95"] - then["p05"]) * LEAST_OF_RANGE)
    width = max(then["p75"] - then["p25"], least)
    apart = abs(now["p50"] - then["p50"])
    if width > 0:
        if severity := expects.shift.severity_above(apart / width, chance):
            yield (
                "values_steady",
                severity,
                f"median {now['p50']:.6g} against {then['p50']:.6g}, {apart / width:.3g} ranges away",
            )
        factor = _factor(now["p75"] - now["p25"], then["p75"] - then["p25"], least)
        if severity := expects.spread.severity_above(factor, chance):
            yield (
                "spread_steady",
                severity,
                f"interquartile range {now['p75'] - now['p25']:.6g} against {then['p75'] - then['p25']:.6g}",
            )


def _factor(now: float, then: float, least: float) -> float:
    """By which factor an interquartile range has become wider, or narrower where it was one."""
    wider = max(now, least) / max(then, least)
    return max(wider, then / max(now, least * LEAST_LEFT)) if then >= least else wider


def _trailing(known: Mapping[dt.date, Metrics], day: dt.date, expects: Expectations) -> list[Metrics]:
    first = day.toordinal() - expects.trailing_days
    return [metrics for each, metrics in known.items() if first <= each.toordinal() < day.toordinal()]


def _finding(view: FeatureView, check: str, severity: Severity, day: dt.date, seen: str) -> Finding:
    # What a view only wants to be told of does not hold a day back, however far it is off.
    severity = Severity.WARN if check in view.expects.warn_only else severity
    return Finding(check, severity, day, 1, (), seen)
