"""The pictures of a report: what each shows, in words too, for those who can't see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from feature_store import pictures
from feature_store.pictures import BAD, LINE, TEXT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Report = Mapping[str, Any]
Chart = dict[str, Any]

# From calm to hot, as rates rise; of more rates than these, the first ones are alike.
COLOURS = ("#3d7be0", "#23a094", "#6fa53a", "#cf9a1d", "#e2762e", "#d6453d", "#b04fc0")
OTHER = "#cf7a1d"  # of the run that is set beside this one
WIDE, HALF = (9.0, 2.5), (4.4, 3.2)
BESIDE = (0.085, 0.17, 0.9, 0.73)
WITHIN = (0.15, 0.15, 0.82, 0.81)
LEGEND_COLUMNS, LEGEND_ROW = 4, 0.055  # and the share of a picture's height that a row of it takes
NINES = {0.0: "0", 0.9: "90", 0.99: "99", 0.999: "99.9", 0.9999: "99.99", 0.99999: "99.999", 0.999999: "99.9999"}
MARKS = {"throttled": BAD, "worker": "#b04fc0", "late": "#cf9a1d"}


def curves(report: Report) -> Chart:
    """How long calls took, percentile by percentile, a line a rate."""
    shown = [curve for curve in report["curves"] if curve["shares"]]

    def draw(figure: Figure) -> None:
        rows = -(-len(shown) // LEGEND_COLUMNS)
        left, bottom, width, height = WITHIN
        axes = figure.add_axes((left, bottom, width, height - LEGEND_ROW * rows))
        most = 1.0
        for place, curve in enumerate(shown):
            nines = [1 / (1 - share) for share in curve["shares"]]
            most = max(most, *nines)
            axes.plot(nines, curve["latency_ms"], color=_colour(place, len(shown)), linewidth=1.4, label=curve["title"])
        # From 1 / (1 - p): each nine takes as much room as the one before, and the longest calls are not in a corner.
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(1, most * 1.1)
        axes.set_xticks([1 / (1 - nine) for nine in NINES if 1 / (1 - nine) <= most * 1.1])
        axes.set_xticklabels([label for nine, label in NINES.items() if 1 / (1 - nine) <= most * 1.1])
        axes.minorticks_off()
        axes.axhline(report["objective"]["p99_ms"], color=TEXT, linewidth=0.8, linestyle=":")
        axes.set_xlabel("percentile")
        axes.set_ylabel("ms")
        _plain(axes)
        if not shown:
            return
        # Above the lines, which may be anywhere below.
        axes.legend(
            frameon=False,
            ncols=LEGEND_COLUMNS,
            fontsize=7,
            labelcolor=TEXT,
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            borderaxespad=0.2,
        )

    said = [f"{phase['title']}: p99 {_ms(phase['calls']['all']['latency_ms']['p99'])}" for phase in report["phases"]]
    return _chart("Latency by percentile (dotted: the objective's p99)", "; ".join(said), HALF, draw)


def throughput(report: Report) -> Chart:
    """What was answered of what was offered, a point a rate."""
    rates = [phase["calls"]["all"]["offered_per_s"] for phase in report["phases"]]
    answered = [phase["calls"]["all"]["answered_per_s"] for phase in report["phases"]]
    limit = report["throttling"]["calls"]

    def draw(figure: Figure) -> None:
        axes = figure.add_axes(WITHIN)
        most = max([*rates, *answered, 1.0]) * 1.08
        axes.plot([0, most], [0, most], color=TEXT, linewidth=0.8, linestyle=":")
        if limit is not None and limit < most:
            axes.axhline(limit, color=BAD, linewidth=0.8, linestyle="--")
            axes.annotate(
                "throttling begins", (most * 0.01, limit), xytext=(0, 2), textcoords="offset points", color=BAD
            )
        for place, (rate, each) in enumerate(zip(rates, answered, strict=True)):
            axes.plot(rate, each, "o", color=_colour(place, len(rates)), markersize=6)
        if report["against"] is not None:
            theirs = [phase["calls"]["all"] for phase in report["against"]["phases"]]
            axes.plot(
                [each["offered_per_s"] for each in theirs],
                [each["answered_per_s"] for each in theirs],
                "x",
                color=OTHER,
                markersize=6,
                label=report["against"]["name"],
            )
            axes.legend(frameon=False, loc="lower right", fontsize=7, labelcolor=TEXT)
        axes.set_xlim(0, most)
        axes.set_ylim(0, most)
        axes.set_xlabel("calls/s offered")
        axes.set_ylabel("calls/s answered")
        _plain(axes)

    said = "; ".join(f"{each:g} of {rate:g}/s" for rate, each in zip(rates, answered, strict=True))
    return _chart("Calls answered, of those offered (dotted: all of them)", said, HALF, draw)


def timelines(report: Report) -> Iterator[Chart]:
    """Latency, calls, and what went wrong, second by second, one below the other."""
    line = report["timeline"]

    def latency(axes: Axes) -> None:
        for name, colour in (("p50_ms", LINE), ("p99_ms", "#e2762e")):
            values = [float("nan") if value is None else value for value in line[name]]
            axes.plot(line["second"], values, color=colour, linewidth=1.1, label=name.removesuffix("_ms"))
        axes.set_yscale("log")
        axes.set_ylabel("ms")

    def calls(axes: Axes) -> None:
        axes.plot(line["second"], line["offered"], color=TEXT, linewidth=0.9, label="offered")
        axes.plot(line["second"], line["answered"], color=LINE, linewidth=1.1, label="answered")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("calls/s")

    def wrong(axes: Axes) -> None:
        axes.plot(line["second"], line["throttled"], color="#e2762e", linewidth=0.9, label="tries throttled")
        axes.plot(line["second"], line["failed"], color=BAD, linewidth=1.1, label="calls failed")
        # From none, and so that a few are seen beside many.
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("a second")

    known = [value for value in line["p99_ms"] if value is not None]
    yield _timeline("Latency, from when calls were due", f"p99 up to {_ms(max(known, default=None))}", report, latency)
    yield _timeline("Calls", f"up to {max(line['answered'], default=0):g}/s answered", report, calls)
    failed, refused = (max(line[name], default=0) for name in ("failed", "throttled"))
    said = f"up to {failed:g} calls failed and {refused:g} tries were throttled in a second"
    yield _timeline("What went wrong", said, report, wrong)


def beside(report: Report) -> Chart:
    """The 99th percentile by rate, of both runs."""
    both = (
        (report["name"], report["phases"], LINE, "o"),
        (report["against"]["name"], report["against"]["phases"], OTHER, "x"),
    )
    points = {
        name: [(of["rate"], p99) for of in phases if (p99 := of["calls"]["all"]["latency_ms"]["p99"]) is not None]
        for name, phases, _, _ in both
    }
    runs = [run for run in both if points[run[0]]]

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.09, 0.16, 0.89, 0.78))
        for name, _, colour, marker in runs:
            axes.plot(*zip(*sorted(points[name]), strict=True), marker=marker, color=colour, linewidth=1.1, label=name)
        axes.axhline(report["objective"]["p99_ms"], color=TEXT, linewidth=0.8, linestyle=":")
        axes.set_yscale("log")
        axes.set_xlim(left=0)
        axes.set_xlabel("calls/s")
        axes.set_ylabel("p99, ms")
        _plain(axes)
        if runs:
            axes.legend(frameon=False, loc="upper left", fontsize=7, labelcolor=TEXT)

    said = "; ".join(
        f"{name}: {', '.join(f'{_ms(p99)} at {rate:g}/s' for rate, p99 in points[name])}" for name, *_ in runs
    )
    return _chart("p99 by rate (dotted: the objective)", said, WIDE, draw)


def _timeline(title: str, says: str, report: Report, lines: Any) -> Chart:  # noqa: ANN401 - what draws on axes
    def draw(figure: Figure) -> None:
        axes = figure.add_axes(BESIDE)
        lines(axes)
        _mark(axes, report)
        axes.set_xlim(0, max(report["ran"], 1))
        axes.set_xlabel("seconds")
        _plain(axes)
        axes.legend(frameon=False, loc="upper left", ncols=2, fontsize=7, labelcolor=TEXT, bbox_to_anchor=(0, 0.93))

    marks = "; ".join(f"{event['says']} from second {event['second']}" for event in report["events"])
    return _chart(title, f"{says}; {marks}" if marks else says, WIDE, draw)


def _mark(axes: Axes, report: Report) -> None:
    """Tell the rates apart, and show when something happened."""
    top = axes.get_xaxis_transform()  # seconds across, and shares of the height
    for place, phase in enumerate(report["phases"]):
        if place % 2:
            axes.axvspan(phase["begins"], phase["begins"] + phase["seconds"], color=f"{TEXT}18", linewidth=0)
        middle = phase["begins"] + phase["seconds"] / 2
        axes.text(middle, 1.02, phase["title"], transform=top, ha="center", va="bottom", fontsize=7)
    for height, event in enumerate(report["events"]):
        colour = MARKS[event["kind"]]
        axes.axvline(event["second"], color=colour, linewidth=0.9, linestyle="--")
        right = event["second"] > report["ran"] * 0.75
        axes.annotate(
            event["says"],
            (event["second"], 0.92 - 0.11 * (height % 4)),
            xycoords=top,
            xytext=(-3 if right else 3, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top",
            fontsize=7,
            color=colour,
        )


def _plain(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415 - as in pictures

    if axes.get_yscale() in ("log", "symlog"):  # 0.5 and 20, and no powers of ten
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2, pad=2)


def _chart(title: str, says: str, inches: tuple[float, float], draw: Any) -> Chart:  # noqa: ANN401 - as above
    return {"title": title, "says": f"{title}: {says}", "svg": pictures.svg(inches, draw)}


def _colour(place: int, count: int) -> str:
    """Of a rate: a few are spread over all colours."""
    if count <= 1:
        return COLOURS[0]
    return COLOURS[round(place * (len(COLOURS) - 1) / (count - 1))]


def _ms(value: float | None) -> str:
    if value is None:
        return "not known"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"
