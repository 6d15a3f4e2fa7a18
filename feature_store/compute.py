"""The features of a view in one process, without Spark: the same kernel, so the same numbers, bit for bit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own

from feature_store import inputs, kernel
from feature_store.arrow_readings import Readings, schema
from feature_store.calendar import DayRange
from feature_store.inputs import Input
from feature_store.view import FeatureView

ROWS = 400_000  # of whole entities that a thread takes at a time: what it makes of them on the way is small, then


def features(
    view: FeatureView, source: Input, days: DayRange | None = None, *, known_on: dt.date | None = None
) -> pa.Table:
    """Compute a view's features from the readings of a source.

    Args:
        view: the declaration.
        source: a deltalake.DeltaTable, or the path or URI of a Delta table; the path or URI of a landed .csv or
            .csv.gz, or of a folder of them; or an Arrow table. feature_store.inputs says what of it is read,
            landed_csv which landed rows are refused. What s3:// needs is taken from the environment (AWS_...).
        days: those whose features are wanted, or None for all. Readings are taken of these days, and of those before
            them that the longest window sees.
        known_on: take the readings as the table had them at the end of that day (UTC): what came late, was corrected
            or withdrawn after it does not count. For the path or URI of a Delta table, as far back as its log and
            files go: what VACUUM has deleted can't be read.

    Returns:
        One row per reading of the days, by entity and day: the view's columns, exactly and in its order. Days without a
        reading have no row.

    Raises:
        ReadingsError: nothing can be read there, a column is missing or has another type, a key is null or stands
            twice, a value is malformed, or a result is too large for its type. One sentence says which.
    """
    taken = source if known_on is None else inputs.as_known_on(source, known_on)
    ordered = Readings(inputs.readings(view, taken, days and view.longest.seen(days)), view)
    # An entity's features follow from its own readings, so threads share the entities, and no bit depends on how.
    with ThreadPoolExecutor(pa.cpu_count()) as threads:
        made = list(threads.map(lambda part: kernel.features(part, view, days), _parts(ordered)))
    return pa.concat_tables(made) if made else schema(view.columns).empty_table()


def _parts(ordered: Readings) -> Iterator[pa.Table]:
    """Cut ordered readings between entities."""
    entities = ordered.keys - ordered.days
    begin = 0
    while begin < len(entities):
        last = entities[min(begin + ROWS, len(entities)) - 1]
        end = int(np.searchsorted(entities, last, "right"))
        yield ordered.table.slice(begin, end - begin)
        begin = end
