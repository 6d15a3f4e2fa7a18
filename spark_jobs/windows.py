"""The features of a view on Spark: it brings each entity's readings together, the kernel computes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
from pyspark.sql import DataFrame

from feature_store import kernel
from feature_store.calendar import DayRange
from feature_store.view import FeatureView
from spark_jobs import tables
from spark_jobs.errors import JobError, java_causes

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


def check_columns(readings: DataFrame, uri: str, view: FeatureView) -> None:
    """Refuse a table of readings that lacks a column of the view, or has it in another type, by a JobError."""
    there = {field.name: field.dataType.simpleString() for field in readings.schema}
    for column in view.readings:
        if column.name not in there:
            raise JobError(f"The readings in {uri} have no column {column.name}, which view {view.name} declares.")
        if there[column.name] != column.type.spark:
            raise JobError(
                f"Column {column.name} of the readings in {uri} is {there[column.name]}, and view {view.name} declares "
                f"{column.type.spark}."
            )


def refusal(error: BaseException) -> str | None:
    """What the kernel refuses in the readings, if an error of Spark comes from it."""
    found = REFUSED.findall("\n".join([str(error), *java_causes(error)]))
    return found[-1] if found else None
