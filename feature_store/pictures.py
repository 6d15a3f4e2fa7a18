"""Small pictures of pages for people: SVG within the page, with text in the reader's own font, on light and on dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Seen on white and on black alike: a picture does not know which of them it stands on.
LINE, BAD, TEXT = "#3d7be0", "#d6453d", "#808890"
METADATA = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)


@contextmanager
def style() -> Iterator[None]:
    """Have what is drawn meanwhile look alike."""
    # Not at import: it takes half a second, and only pages need it.
    import matplotlib as mpl  # noqa: PLC0415

    how: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text: small, and the reader's own font
        "svg.hashsalt": "validation",  # the same report is the same page
        "font.size": 8,
        "text.color": TEXT,
        "axes.edgecolor": TEXT,
        "axes.labelcolor": TEXT,
        "axes.linewidth": 0.5,
        "xtick.color": TEXT,
        "ytick.color": TEXT,
    }
    with mpl.rc_context(how):
        yield


def svg(inches: tuple[float, float], draw: Callable[[Figure], None]) -> Markup:
    """Draw a picture on a figure of its own, without pyplot, which keeps all that it has made; within `style`."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=inches)
    draw(figure)
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = out.getvalue()
    return Markup(METADATA.sub("", drawn[drawn.index("<svg") :]))  # noqa: S704 - matplotlib's, which escapes what it is told
