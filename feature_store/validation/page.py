"""The report of a validation, for people: one HTML page that needs nothing else, from the report for machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from feature_store import pictures
from feature_store.pictures import BAD, LINE
from feature_store.templates import template

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Report = Mapping[str, Any]
Line = Sequence[float | None]

TEMPLATE = "page.html.j2"
ORDER = {"failed": 0, "warned": 1, "skipped": 2, "passed": 3}
WORST = {"quarantined": 0, "released": 1, "warned": 2, "passed": 3}
OF_DAY = {
    "rows": "rows",
    "filled": "share of the day that was read",
    "whole": "share of entities with a whole day",
}
WIDE, NARROW = f"{LINE}33", f"{LINE}55"
INCHES = (3.2, 1.7)


def page(report: Report) -> str:
    """Render a report, as spark_jobs.validate writes it, as a page without script or anything from elsewhere."""
    checks = sorted(report["checks"], key=lambda check: ORDER[check["verdict"]])
    days = sorted(report["days"], key=lambda day: WORST[day["verdict"]])
    held = [day["day"] for day in report["days"] if day["verdict"] == "quarantined"]
    return template(__package__, TEMPLATE).render(
        report=report,
        checks=checks,
        wrong=[check for check in checks if check["verdict"] in ("failed", "warned")],
        fine=[check for check in checks if check["verdict"] not in ("failed", "warned")],
        days=days,
        held=held,
        headline=headline(report),
        span=report["start"] if report["start"] == report["end"] else f"{report['start']} to {report['end']}",
        charts=list(_charts(report["series"])),
    )


def headline(report: Report) -> str:
    """Say the verdict in a few words."""
    held = [day["day"] for day in report["days"] if day["verdict"] == "quarantined"]
    released = [day["day"] for day in report["days"] if day["verdict"] == "released"]
    if report["verdict"] == "failed":
        if not report["days"]:
            return "Held back"
        return f"Held back: {held[0]}" if len(held) == 1 else f"Held back: {len(held)} of {len(report['days'])} days"
    if released:
        return f"Released: {released[0]}" if len(released) == 1 else f"Released: {len(released)} days"
    return "Passed with warnings" if report["verdict"] == "warned" else "Passed"


def _charts(series: Report) -> Iterator[dict[str, Any]]:
    """Of the day and of each column a small picture: a title, what it shows in words, and its SVG."""
    if not series["days"]:
        return
    with pictures.style():
        for name, what in OF_DAY.items():
            if line := series["metrics"].get(name):
                yield _chart(what, series, {"p50": line})
        nulls = {name: of["nulls"] for name, of in series["columns"].items()}
        if nulls:
            most = [max((v for v in of if v is not None), default=None) for of in zip(*nulls.values(), strict=True)]
            yield _chart("largest share of nulls in a column", series, {"p50": most})
        for name, of in series["columns"].items():
            yield _chart(name, series, of)


def _chart(title: str, series: Report, of: Mapping[str, Line]) -> dict[str, Any]:
    def draw(figure: Figure) -> None:
        _draw(figure.add_axes((0.15, 0.16, 0.82, 0.78)), series, of)

    return {"title": title, "says": _in_words(title, series, of["p50"]), "svg": pictures.svg(INCHES, draw)}


def _in_words(title: str, series: Report, line: Line) -> str:
    """What a picture shows, for those who can't see it: the last day, and those before."""
    known = [
        (day, own, value)
        for day, own, value in zip(series["days"], series["own"], line, strict=True)
        if value is not None
    ]
    past = [value for _, own, value in known if not own]
    own = [(day, value) for day, mine, value in known if mine]
    said = f"{own[-1][1]:.5g} on {own[-1][0]}" if own else "not known"
    return f"{title}: {said}" + (f"; {min(past):.5g} to {max(past):.5g} in the {len(past)} days before" if past else "")


def _draw(axes: Axes, series: Report, of: Mapping[str, Line]) -> None:
    """Draw bands of quantiles, the median, and the run's own days on it, those that are held back in red."""
    for low, high, colour in (("p05", "p95", WIDE), ("p25", "p75", NARROW)):
        if low in of and high in of:
            there = [n for n, pair in enumerate(zip(of[low], of[high], strict=True)) if None not in pair]
            axes.fill_between(there, _values(of[low], there), _values(of[high], there), color=colour, linewidth=0)
            # A band takes two days: one that stands alone is a bar.
            alone = [n for n in there if {n - 1, n + 1}.isdisjoint(there)]
            axes.vlines(alone, _values(of[low], alone), _values(of[high], alone), color=colour, linewidth=5)
    there = [n for n, value in enumerate(of["p50"]) if value is not None]
    axes.plot(there, _values(of["p50"], there), color=LINE, linewidth=1)
    for held, colour, marker, size in ((False, LINE, "o", 4), (True, BAD, "X", 6)):
        own = [n for n in there if series["own"][n] and series["held_back"][n] is held]
        axes.plot(own, _values(of["p50"], own), marker, color=colour, markersize=size)
    axes.spines[["top", "right"]].set_visible(False)
    last = len(series["days"]) - 1
    axes.set_xlim(-0.5, last + 0.5)
    axes.set_xticks(sorted({0, last}), [series["days"][n] for n in sorted({0, last})])
    if last:
        first, final = axes.get_xticklabels()
        first.set_horizontalalignment("left")
        final.set_horizontalalignment("right")
    axes.locator_params(axis="y", nbins=4)
    axes.tick_params(length=2, pad=2)


def _values(line: Line, places: Sequence[int]) -> list[float]:
    """The values at some places, all of which are there."""
    return [float(value) for n in places if (value := line[n]) is not None]
