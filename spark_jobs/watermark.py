"""What is known of a table of features: which days were computed, and of which readings all of it is right."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from feature_store.calendar import DayRange, merged, parse_day
from spark_jobs import storage
from spark_jobs.errors import JobError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watermark:
    """Up to which version of a table of readings the features of the computed days are right.

    Attributes:
        readings_id: the readings' own id, which a table that is made anew does not share.
        version: of the readings. One that is too old costs time and nothing else, as what is recomputed without need
            comes out the same; so it is lowered before rows are written, and raised after.
        computed: the days that were computed, ascending, with gaps between; also those that have no row.
    """

    readings_id: str
    version: int
    computed: tuple[DayRange, ...]


def uri(features: str) -> str:
    """Where the watermark of a table of features is: a file beside it."""
    return features.rstrip("/") + "_watermark.json"


def read(features: str) -> Watermark | None:
    """The table's watermark; None if there is none, or none that can be understood."""
    place = uri(features)
    if not storage.exists(place):
        return None
    try:
        found = json.loads(storage.read_text(place))
        computed = tuple(DayRange(parse_day(start), parse_day(end)) for start, end in found["computed"])
        return Watermark(str(found["readings_id"]), int(found["version"]), computed)
    except (JobError, ValueError, KeyError, TypeError, OverflowError) as error:
        log.warning("%s is no watermark (%s): all features count as possibly outdated.", place, error)
        return None


def write(features: str, watermark: Watermark) -> None:
    """Set the watermark."""
    computed = [(str(days.start), str(days.end)) for days in watermark.computed]
    state = {"readings_id": watermark.readings_id, "version": watermark.version, "computed": computed}
    storage.write_text(uri(features), json.dumps(state) + "\n")


def remove(features: str) -> None:
    """Forget what is known: all features then count as possibly outdated."""
    storage.delete(uri(features))


def record(
    features: str, readings_id: Callable[[], str], version: int, days: DayRange | None = None, *, made: bool = False
) -> None:
    """Let the watermark be no newer than the readings of a run, and hold the days that it computed.

    A run that is overtaken by another computes from readings that the watermark is past: what changed in between has
    to be looked at again.

    Args:
        features: the table.
        readings_id: asked for the readings' own id where it matters.
        version: of the readings that the run computes from.
        days: that it has computed; None before it writes.
        made: whether it has made the table, so that these days are all that it holds.
    """
    known = read(features)
    wanted = known
    if known is None and made and days:
        wanted = Watermark(readings_id(), version, (days,))
    elif known is not None:
        computed = merged([*known.computed, *([days] if days else [])])
        # The versions of another table say nothing about this one's: its id stays, so that every row is looked at.
        overtaken = known.version > version and known.readings_id == readings_id()
        wanted = Watermark(known.readings_id, version if overtaken else known.version, computed)
    if wanted is not None and wanted != known:
        write(features, wanted)
