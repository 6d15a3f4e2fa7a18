"""Up to which version of the readings all features of a table are right: a small file beside the table."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass

from pyspark.sql import SparkSession

from spark_jobs import storage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watermark:
    """A version of a table of readings; readings_id is the table's own id, which one made anew does not share."""

    readings_id: str
    version: int


def uri(features: str) -> str:
    """Where the watermark of a table of features is."""
    return features.rstrip("/") + "_watermark.json"


def read(spark: SparkSession, features: str) -> Watermark | None:
    """The table's watermark; None if there is none, or none that can be understood.

    One that is too old costs time and nothing else: what is recomputed again comes out the same.
    """
    place = uri(features)
    if not storage.exists(spark, place):
        return None
    text = storage.first_line(spark, place)
    try:
        found = json.loads(text)
        return Watermark(str(found["readings_id"]), int(found["version"]))
    except (ValueError, KeyError, TypeError):
        log.warning("%s is no watermark (%.100r): every day that the features hold counts as changed.", place, text)
        return None


def write(spark: SparkSession, features: str, watermark: Watermark) -> None:
    """Set the watermark: to be done last, when all features are right up to it."""
    storage.write_text(spark, uri(features), json.dumps(asdict(watermark)) + "\n")
