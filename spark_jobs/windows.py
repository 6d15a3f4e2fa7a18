"""The features of a view, from its readings. Pure: DataFrames in, DataFrame out."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.view import FeatureView

SEEN = "seen_"  # prefix of a reading's columns where it is looked at from a later day


def features(asked: DataFrame, readings: DataFrame, view: FeatureView) -> DataFrame:
    """Compute every window's aggregates as of each asked reading's day.

    A window of N months as of day d covers the rows of the days in [add_months(d, -N), d], both ends included; it never
    sees a day after d. Missing days are no zeros, and nulls are skipped.

    Each asked reading meets the readings of its entity's longest window, and they are grouped again: a day costs a
    window's readings, whatever else the table holds. (A window function would compute the features of every reading
    that it passes, most of them only to be thrown away.)

    Args:
        asked: the readings whose features are wanted, one row per key.
        readings: one row per key, with the view's reading columns; all that the asked rows' longest windows see.
        view: the declaration.

    Returns:
        One row per asked reading: the view's columns, exactly and in its order.
    """
    first = {window.name: f"first_{window.name}" for window in view.windows}
    as_of = asked.select(
        *(column.name for column in view.readings),
        *(F.add_months(view.day, -window.months).alias(first[window.name]) for window in view.windows),
    )
    seen = readings.select(*(F.col(column.name).alias(SEEN + column.name) for column in view.readings))
    days = F.col(SEEN + view.day).between(F.col(first[view.windows[-1].name]), F.col(view.day))
    met = as_of.join(seen, on=(F.col(view.entity) == F.col(SEEN + view.entity)) & days, how="inner")
    aggregates = {
        aggregation.column(window): F.expr(
            f"{aggregation.function.value}({SEEN}{aggregation.measure})"
            f" FILTER (WHERE {SEEN}{view.day} >= {first[window.name]})"
        )
        for aggregation in view.aggregations
        for window in view.windows
    }
    keys = [key.name for key in view.keys]
    # The measures of the asked reading are the same in all rows of its group.
    measures = {measure.name: F.first(measure.name) for measure in view.measures}
    grouped = met.groupBy(*keys).agg(*(value.alias(name) for name, value in (measures | aggregates).items()))
    return grouped.select(*(F.col(column.name).cast(column.type.spark) for column in view.columns))
