"""What must hold of a range of days of features, given the readings. Pure: DataFrames in, violations out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import pairwise

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.calendar import DayRange
from feature_store.view import FeatureView, Function, Type
from spark_jobs import tables

CHECK, DETAIL = "check", "detail"
RELATIVE = 1e-9  # of the larger value, or of SMALLEST where both are smaller
SMALLEST = 1e-3  # a watt hour in kWh: below it, what is left of rounding counts as equal
SAMPLE = 10_000  # rows that are computed again by the other path; up to so many, all of them


def wrong_columns(features: DataFrame, view: FeatureView) -> list[str]:
    """List how a table's columns differ from the view's, in names, order and types."""
    wanted = [(column.name, column.type.spark) for column in view.columns]
    there = [(field.name, field.dataType.simpleString()) for field in features.schema]
    if wanted == there:
        return []
    kinds = dict(there)
    wrong = [f"{name} is missing" for name, _ in wanted if name not in kinds]
    wrong += [f"{name} is {kinds[name]} instead of {kind}" for name, kind in wanted if kinds.get(name, kind) != kind]
    wrong += [f"{name} is unknown" for name, _ in there if name not in dict(wanted)]
    return wrong or ["the columns are in another order"]


def descriptions(view: FeatureView) -> dict[str, str]:
    """Name every check and say what is wrong where it fails."""
    return {
        "columns": "the table's columns are not the view's",
        "rows_present": "there is no row in the range",
        "key_not_null": "rows without entity or day",
        "key_unique": "keys that have more than one row",
        "readings_unique": "keys that have more than one reading (ingest with --start and --end rebuilds such days)",
        "rows_missing": "readings that have no features",
        "rows_unexpected": "features that have no reading",
        "values_finite": "rows with a value that is NaN or infinite",
        **{name: f"rows where {name.replace('_', ' ')} does not hold" for name, _ in _invariants(view)},
        "values_recomputed": "rows whose values differ from those computed by another path",
    }


def violations(features: DataFrame, readings: DataFrame, days: DayRange, view: FeatureView, rows: int) -> DataFrame:
    """Find all violations.

    Args:
        features: rows of the days, and those of no day, with the view's columns; cached by the caller: it is read
            several times.
        readings: those that the days' windows see, or more.
        days: the range.
        view: the declaration.
        rows: how many features there are.

    Returns:
        check, the view's keys, detail (null if the check says it all): one row per check and key.
    """
    present = readings.where(tables.within(view.day, days))
    parts = [
        _row_checks(features, view),
        _key_checks(features, present, view),
        _repeated(readings, view),
        _recomputed(features, readings, view, rows),
    ]
    return reduce(DataFrame.unionByName, parts)


def _invariants(view: FeatureView) -> Iterator[tuple[str, Column]]:
    """Per check, the condition under which a row violates it."""
    for aggregation in view.aggregations:
        names = [aggregation.column(window) for window in view.windows]
        least = view.measure(aggregation.measure).minimum if aggregation.measure else None
        match aggregation.function:
            case Function.STDDEV:
                yield f"{aggregation.name}_not_negative", _any([F.col(name) < 0 for name in names])
            case Function.SUM if least is None or least < 0:
                continue
            case Function.SUM | Function.MAX | Function.COUNT | Function.DAYS_SEEN:
                yield f"{aggregation.name}_grows", _any([_less(long, short) for short, long in pairwise(names)])
            case Function.MIN:
                yield f"{aggregation.name}_falls", _any([_less(short, long) for short, long in pairwise(names)])


def _less(one: str, other: str) -> Column:
    """Whether a column is less than another by more than rounding, or is null where that is not."""
    first, second = F.col(one), F.col(other)
    # Sums of more terms are rounded otherwise: equal up to that is no fall.
    fallen = second - first > RELATIVE * F.abs(second)
    return F.coalesce(fallen, second.isNotNull() & first.isNull())


def _row_checks(features: DataFrame, view: FeatureView) -> DataFrame:
    entity, day = (F.col(column.name) for column in view.keys)
    doubles = [F.col(column.name) for column in view.columns if column.type is Type.DOUBLE]
    unfit = _any([F.isnan(value) | (F.abs(value) == float("inf")) for value in doubles])
    conditions = [("key_not_null", entity.isNull() | day.isNull()), ("values_finite", unfit), *_invariants(view)]
    failed = F.array_compact(F.array(*(F.when(violated, F.lit(name)) for name, violated in conditions)))
    return features.select(F.explode(failed).alias(CHECK), entity, day, F.lit(None).cast("string").alias(DETAIL))


def _key_checks(features: DataFrame, present: DataFrame, view: FeatureView) -> DataFrame:
    keys = [column.name for column in view.keys]
    sides = (
        present.select(*keys, F.lit(1).alias("wanted"), F.lit(0).alias("there")),
        features.select(*keys, F.lit(0), F.lit(1)),
    )
    both = sides[0].union(sides[1]).groupBy(*keys).agg(F.sum("wanted").alias("wanted"), F.sum("there").alias("there"))
    failed = F.array_compact(
        F.array(
            F.when(F.col("there") > 1, F.lit("key_unique")),
            F.when(F.col("there") == 0, F.lit("rows_missing")),
            F.when(F.col("wanted") == 0, F.lit("rows_unexpected")),
        )
    )
    return both.select(F.explode(failed).alias(CHECK), *keys, F.lit(None).cast("string").alias(DETAIL))


def _repeated(readings: DataFrame, view: FeatureView) -> DataFrame:
    """Look at all readings that the windows see: one that is there twice counts twice in each of them."""
    keys = [column.name for column in view.keys]
    twice = readings.groupBy(*keys).count().where("count > 1")
    return twice.select(F.lit("readings_unique").alias(CHECK), *keys, F.lit(None).cast("string").alias(DETAIL))


def recompute(keys: DataFrame, readings: DataFrame, view: FeatureView) -> DataFrame:
    """Compute the view's columns for some keys otherwise than the features were: on arrays, in two passes.

    The readings of an entity become one array; each window is cut out of it and folded, the standard deviation around
    the mean that was computed before. A key whose entity has no reading at all does not come out.
    """
    entity, day = (column.name for column in view.keys)
    fields = [column.name for column in view.readings if column.name != entity]
    histories = readings.groupBy(entity).agg(F.collect_list(F.struct(*fields)).alias("history"))
    found = keys.join(histories, on=entity, how="inner")
    today = F.expr(f"try_element_at(filter(history, r -> r.{day} = {day}), 1)")
    cuts = {
        f"w{window.name}": F.expr(f"filter(history, r -> r.{day} >= {window.first_day_sql(day)} AND r.{day} <= {day})")
        for window in view.windows
    }
    arrays = {
        f"{measure}_in_{window.name}": F.expr(
            f"filter(transform(w{window.name}, r -> struct(r.{day} AS day, r.{measure} AS v)), r -> r.v IS NOT NULL)"
        )
        for measure in {aggregation.measure for aggregation in view.aggregations if aggregation.measure}
        for window in view.windows
    }
    folded = {
        name: _folded(aggregation.function, f"{aggregation.measure}_in_{window.name}")
        if aggregation.measure
        # The function that takes no measure: the days that have a row.
        else F.expr(f"cast(size(array_distinct(w{window.name}.{day})) as bigint)")
        for name, (aggregation, window) in view.made_of.items()
    }
    values = {measure.name: F.col(f"today.{measure.name}") for measure in view.measures} | folded
    rows = found.withColumn("today", today).withColumns(cuts).withColumns(arrays)
    return rows.select(entity, day, *(value.alias(name) for name, value in values.items()))


def _folded(function: Function, rows: str) -> Column:
    """Fold a window's rows that have a value: structs of `day` and `v`."""
    values = f"{rows}.v"
    total = f"aggregate({values}, 0D, (sum, v) -> sum + v)"
    mean = f"{total} / size({values})"
    # An array of one mean, so that it is computed once and not for every value.
    squares = f"transform(array({mean}), m -> aggregate({values}, 0D, (sum, v) -> sum + (v - m) * (v - m)))[0]"
    folded = {
        Function.SUM: total,
        Function.COUNT: f"cast(size({values}) as bigint)",
        Function.MIN: f"array_min({values})",
        Function.MAX: f"array_max({values})",
        Function.MEAN: mean,
        Function.STDDEV: f"sqrt({squares} / (size({values}) - 1))",
        # Structs compare by their first field: the newest day's.
        Function.LAST: f"array_max({rows}).v",
    }[function]
    return F.expr(f"IF(size({values}) >= {function.least}, {folded}, NULL)")


def _recomputed(features: DataFrame, readings: DataFrame, view: FeatureView, rows: int) -> DataFrame:
    keys = [column.name for column in view.keys]
    sample = features if rows <= SAMPLE else features.orderBy(F.xxhash64(*keys), *keys).limit(SAMPLE)
    expected = recompute(sample.select(*keys).distinct(), readings, view)
    there, again = sample.alias("there"), expected.alias("again")
    joined = there.join(again, on=[F.col(f"there.{key}") == F.col(f"again.{key}") for key in keys], how="inner")
    values = view.columns[len(keys) :]
    unequal = [
        F.when(~_close(F.col(f"there.{column.name}"), F.col(f"again.{column.name}"), column.type), F.lit(column.name))
        for column in values
    ]
    wrong = joined.select(*(f"there.{key}" for key in keys), F.concat_ws(", ", *unequal).alias(DETAIL))
    return wrong.where(F.col(DETAIL) != "").select(F.lit("values_recomputed").alias(CHECK), *keys, DETAIL)


def _any(conditions: Sequence[Column]) -> Column:
    return reduce(lambda one, other: one | other, conditions)


def _close(one: Column, other: Column, kind: Type) -> Column:
    if kind is not Type.DOUBLE:
        return one.eqNullSafe(other)
    allowed = RELATIVE * F.greatest(F.abs(one), F.abs(other), F.lit(SMALLEST))
    return F.coalesce(F.abs(one - other) <= allowed, one.isNull() & other.isNull())
