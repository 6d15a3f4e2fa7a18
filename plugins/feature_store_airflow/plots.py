"""Small plots of days as inline SVG: bars or a line, whose colours are those of the page's style.

Each is one picture to a screen reader; what it shows is said in words beside it (see `in_words`), and the page has the
numbers as a table.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from feature_store.calendar import DayRange

Values = Mapping[dt.date, float]

WIDTH, HEIGHT = 400, 150
LEFT, RIGHT, TOP, BOTTOM = 54, 396, 16, 128  # of the field in it
STEPS = (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10)  # what an axis may end at, times a power of ten
MARK = "✕"


@dataclass(frozen=True)
class Plot:
    """What is drawn of some days.

    Attributes:
        title: in a few words, with the unit.
        days: from left to right.
        values: of those days of which something is known.
        show: writes a value for people.
        marked: days that are held back, which get a mark of another colour and shape.
        least: the axis ends at no less.
    """

    title: str
    days: DayRange
    values: Values
    show: Callable[[float], str]
    marked: Collection[dt.date] = field(default_factory=frozenset)
    least: float = 0.0

    @property
    def known(self) -> list[tuple[dt.date, float]]:
        """The days of the plot that have a value, in order."""
        return [(day, self.values[day]) for day in self.days if day in self.values]


def in_words(plot: Plot) -> str:
    """Say what a plot shows, for those who can't see it."""
    known = plot.known
    if not known:
        return f"{plot.title}: nothing is known of {plot.days}"
    (last, value), past = known[-1], [value for _, value in known[:-1]]
    said = f"{plot.title}: {plot.show(value)} on {last}"
    if past:
        said += f"; {plot.show(min(past))} to {plot.show(max(past))} on the {len(past)} days before that are known"
    if missing := len(plot.days) - len(known):
        said += f"; nothing on {missing} of {len(plot.days)} days"
    held = [str(day) for day in plot.days if day in plot.marked]
    return said + (f"; held back: {', '.join(held)}" if held else "")


def bars(plot: Plot) -> Markup:
    """Draw a bar for each day, those that are marked as outlines with a mark above."""
    top, wide = _top(plot), (RIGHT - LEFT) / len(plot.days)

    def each() -> Iterator[str]:
        for day, value in plot.known:
            x, y = _x(plot, day), _y(value, top)
            marked = day in plot.marked
            kind = "bar held" if marked else "bar"
            yield (
                f'<rect class="{kind}" x="{x + wide * 0.1:.1f}" y="{y:.1f}" width="{wide * 0.8:.1f}" '
                f'height="{max(BOTTOM - y, 0.5 if value else 0):.1f}"><title>{_told(plot, day)}</title></rect>'
            )
        yield from _marks(plot, top)

    return _svg(plot, top, each())


def line(plot: Plot) -> Markup:
    """Draw a line from day to day, which breaks off where nothing is known; days that are marked have a mark on it."""
    top, wide = _top(plot), (RIGHT - LEFT) / len(plot.days)

    def at(day: dt.date) -> str:
        return f"{_x(plot, day) + wide / 2:.1f} {_y(plot.values[day], top):.1f}"

    def each() -> Iterator[str]:
        days = [day for day, _ in plot.known]
        before = {day for day in days if day - dt.timedelta(days=1) in plot.values and day > plot.days.start}
        path = " ".join(f"{'L' if day in before else 'M'}{at(day)}" for day in days)
        yield f'<path class="line" d="{path}"/>' if path else ""
        for day in days:
            alone = day not in before and day + dt.timedelta(days=1) not in before
            # Drawn where the line would be invisible, else only there for the pointer.
            x, y = at(day).split()
            kind = "dot" if alone or day == days[-1] else "touch"
            yield f'<circle class="{kind}" cx="{x}" cy="{y}" r="2.5"><title>{_told(plot, day)}</title></circle>'
        yield from _marks(plot, top)

    return _svg(plot, top, each())


def _svg(plot: Plot, top: float, drawn: Iterator[str]) -> Markup:
    ticks = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{_y(value, top):.1f}" y2="{_y(value, top):.1f}"/>'
        f'<text class="tick" x="{LEFT - 5}" y="{_y(value, top) + 3.5:.1f}" text-anchor="end">'
        f"{_of_axis(plot, value)}</text>"
        for value in (0.0, top / 2, top)
    )
    ends = (
        f'<text class="tick" x="{LEFT}" y="{HEIGHT - 6}">{plot.days.start}</text>'
        f'<text class="tick" x="{RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{plot.days.end}</text>'
    )
    # Nothing in it is from elsewhere: numbers, days, and texts that were escaped.
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{ticks}{"".join(drawn)}{ends}</svg>')  # noqa: S704


def _marks(plot: Plot, top: float) -> Iterator[str]:
    wide = (RIGHT - LEFT) / len(plot.days)
    for day, value in plot.known:
        if day in plot.marked:
            x, y = _x(plot, day) + wide / 2, max(_y(value, top) - 3, TOP - 4)
            yield f'<text class="cross" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{MARK}</text>'


def _told(plot: Plot, day: dt.date) -> str:
    held = ", held back" if day in plot.marked else ""
    return str(escape(f"{day}: {plot.show(plot.values[day])}{held}"))


def _of_axis(plot: Plot, value: float) -> str:
    return str(escape(plot.show(value))) if value else "0"


def _x(plot: Plot, day: dt.date) -> float:
    return LEFT + (RIGHT - LEFT) * (day - plot.days.start).days / len(plot.days)


def _y(value: float, top: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * value / top


def _top(plot: Plot) -> float:
    """Where the axis ends: a round number that holds all values."""
    most = max([value for _, value in plot.known], default=0.0)
    most = max(most, plot.least) or 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in STEPS if step * power >= most * (1 - 1e-9))
