"""The report of a simulation, for people: one HTML page that needs nothing else, from the report for machines."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from feature_store import pictures
from feature_store.templates import template
from Simulation import charts
from Simulation.figures import ALL

Report = Mapping[str, Any]

TEMPLATE = "page.html.j2"
STATES = {"done": "passed", "stopped": "warned", "failed": "failed", "lost": "failed"}
CALLS = {ALL: "all", "get": "get", "get_many": "get_many"}


def page(report: Report) -> str:
    """Render a report, as Simulation.report writes it, as a page without script or anything from elsewhere."""
    with pictures.style():
        drawn = {
            "halves": [charts.curves(report), charts.throughput(report)],
            "lines": list(charts.timelines(report)),
            "beside": charts.beside(report) if report["against"] else None,
        }
    return template(__package__, TEMPLATE).render(
        report=report,
        headline=headline(report),
        all=ALL,
        calls=CALLS,
        states=STATES,
        plan=_plan(report["plan"]),
        pairs=_pairs(report),
        ms=_ms,
        number=_number,
        share=_share,
        charts=drawn,
    )


def headline(report: Report) -> str:
    """Say what was found in a few words."""
    objective = report["objective"]
    if objective["rate"] is None:
        return f"No rate is known to keep its p99 under {objective['p99_ms']:g} ms with so few errors"
    return f"p99 under {objective['p99_ms']:g} ms up to {_number(objective['rate'])} calls/s"


def _plan(plan: Report) -> dict[str, str]:
    """What was asked, in words."""
    level = "LOCAL_QUORUM" if plan["strong"] else "LOCAL_ONE"
    many = f"{plan['many']:.0%} are get_many of {plan['many_size']}" if plan["many"] else "all are get"
    capacity = "" if plan["capacity"] is None else f", provisioned with {plan['capacity']:,g} read units/s"
    return {
        "Calls": f"{', '.join(_number(rate) for rate in plan['rates'])} a second in {plan['shape']}, "
        f"{plan['seconds']} s each; {plan['arrivals']} arrivals; {many}",
        "Of": f"{plan['keyspace']}.{plan['view']}{capacity}; ids {plan['ids']}",
        "Read": f"{level}, within {plan['deadline']:g} s",
        "By": f"{plan['workers']} worker(s), seed {plan['seed']}",
    }


def _pairs(report: Report) -> list[dict[str, Any]]:
    """The rates of both runs, those that are the same in one row; of one that comes several times, in their order."""
    if not report["against"]:
        return []
    here, there = (_by_title(run["phases"]) for run in (report, report["against"]))
    return [
        {"title": title, "here": own and own["calls"][ALL], "there": other and other["calls"][ALL]}
        for title in dict.fromkeys([*here, *there])
        for own, other in zip_longest(here.get(title, []), there.get(title, []))
    ]


def _by_title(phases: list[Report]) -> dict[str, list[Report]]:
    found: dict[str, list[Report]] = {}
    for phase in phases:
        found.setdefault(phase["title"], []).append(phase)
    return found


def _ms(value: float | None) -> str:
    """Milliseconds, to three digits; a dash where too few calls have one."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _share(value: float) -> str:
    """A share, in percent, of which a few in a million are seen."""
    percent = value * 100
    return "0 %" if not value else f"{percent:.4f} %" if percent < 0.01 else f"{percent:.3g} %"
