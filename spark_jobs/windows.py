"""The features of a view on Spark: it brings each entity's readings together, the kernel computes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
from pyspark.sql import DataFrame

from feature_store import kernel
from feature_store.calendar import DayRange
from feature_store.view import FeatureView
from spark_jobs import tables
from spark_jobs.errors import JobError, java_causes

VACUUMED = " (files of versions that are no longer the newest are deleted by VACUUM, after the retention it is given)"
# As PySpark's error shows what a worker has raised: the whole traceback, of which this is the last line.
REFUSED = re.compile(r"^feature_store\.\w+\.\w+Error: (.+)$", re.MULTILINE)


def features(readings: DataFrame, view: FeatureView, days: DayRange) -> DataFrame:
    """Compute the features of the readings of some days.

    The readings of an entity go to one task, in order, and stream through the kernel: a task holds a batch of them, or
    one entity's where that is more, however long the history and however unequal the tasks.

    Args:
        readings: one row per key, with the view's reading columns; of other days too, as far as the longest window of
            these days sees, or further.
        view: the declaration.
        days: those whose features are wanted.

    Returns:
        One row per reading of the days: the view's columns, exactly and in its order. Evaluating it raises what
        `refusal` understands where a key stands twice, or a value is no finite number.
    """
    seen = readings.where(tables.within(view.day, view.longest.seen(days)))
    together = seen.select(*(column.name for column in view.readings)).repartition(view.entity)
    ordered = together.sortWithinPartitions(view.entity, view.day)

    def compute(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return kernel.stream(batches, view, days)

    return ordered.mapInArrow(compute, ", ".join(f"{column.name} {column.type.spark}" for column in view.columns))


def check_columns(there: Mapping[str, str], uri: str, view: FeatureView) -> None:
    """Refuse readings, given by their columns and Spark's types, without a column of the view, or with another type.

    Raises:
        JobError: names the column.
    """
    for column in view.readings:
        if column.name not in there:
            raise JobError(f"The readings in {uri} have no column {column.name}, which view {view.name} declares.")
        if there[column.name] != column.type.spark:
            raise JobError(
                f"Column {column.name} of the readings in {uri} is {there[column.name]}, and view {view.name} declares "
                f"{column.type.spark}."
            )


def check_features(there: Mapping[str, str], uri: str, view: FeatureView) -> None:
    """Refuse a table of features, given by its columns and Spark's types, that is not the view's, by a JobError."""
    if list(there.items()) != [(column.name, column.type.spark) for column in view.columns]:
        raise JobError(
            f"{uri} has other columns than view {view.name} declares. Nothing was written. Next: see how they differ "
            f"by `python -m feature_store diff {view.name} --table {uri}`."
        )


def no_readings(uri: str, days: DayRange, first: object, last: object) -> str:
    """Say that there is no reading of the days, and which there are, from a first to a last one or none."""
    known = f"they go from {first} to {last}" if first else "they are empty"
    return f"The readings in {uri} have no row of {days}: {known}. Nothing was written."


def refusal(error: BaseException) -> str | None:
    """What the kernel refuses in the readings, if an error of Spark comes from it."""
    found = REFUSED.findall("\n".join([str(error), *java_causes(error)]))
    return found[-1] if found else None
