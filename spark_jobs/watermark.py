"""What is known of a table of features: which days were computed, and of which readings all of it is right."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from pyspark.sql import SparkSession

from feature_store.calendar import DayRange, parse_day
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


def read(spark: SparkSession, features: str) -> Watermark | None:
    """The table's watermark; None if there is none, or none that can be understood."""
    place = uri(features)
    if not storage.exists(spark, place):
        return None
    try:
        found = json.loads(storage.first_line(spark, place))
        computed = tuple(DayRange(parse_day(start), parse_day(end)) for start, end in found["computed"])
        return Watermark(str(found["readings_id"]), int(found["version"]), computed)
    except (JobError, ValueError, KeyError, TypeError, OverflowError) as error:
        log.warning("%s is no watermark (%s): all features count as possibly outdated.", place, error)
        return None


def write(spark: SparkSession, features: str, watermark: Watermark) -> None:
    """Set the watermark."""
    computed = [(str(days.start), str(days.end)) for days in watermark.computed]
    state = {"readings_id": watermark.readings_id, "version": watermark.version, "computed": computed}
    storage.write_text(spark, uri(features), json.dumps(state) + "\n")


def remove(spark: SparkSession, features: str) -> None:
    """Forget what is known: all features then count as possibly outdated."""
    storage.delete(spark, uri(features))


def merged(days: Iterable[DayRange]) -> tuple[DayRange, ...]:
    """Put ranges of days in order, those that touch or overlap into one."""
    made: list[DayRange] = []
    for each in sorted(days, key=lambda days: days.start):
        if made and (each.start - made[-1].end).days <= 1:
            made[-1] = DayRange(made[-1].start, max(made[-1].end, each.end))
        else:
            made.append(each)
    return tuple(made)
