"""The other ways to the same table, each as a process of its own: `python -m benchmarks.rivals NAME`.

All of them read the Delta table of readings and write a Delta table of the view's columns.
"""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Callable, Iterator

import pyarrow as pa

from feature_store.calendar import parse_day
from feature_store.energy import ENERGY as VIEW
from feature_store.view import Function, Type

KEYS = [key.name for key in VIEW.keys]
CARRIED = [column.name for column in VIEW.readings]


def _windowed() -> Iterator[str]:
    """The view's columns in SQL, by RANGE windows: as Spark and DuckDB read them."""
    yield from CARRIED
    for column in VIEW.features:
        aggregation, window = VIEW.made_of[column.name]
        over = f"OVER (PARTITION BY {VIEW.entity} ORDER BY {VIEW.day} {window.frame_sql()})"
        value = aggregation.function.sql(aggregation.measure, VIEW.day, over)
        yield f"CAST({value} AS {column.type.spark}) AS {column.name}"


def original_full(readings: str, features: str) -> None:
    """The original kit's cells: each row's windows go forward from it to the newest day, and the table lies by day."""
    from pyspark.sql import SparkSession  # noqa: PLC0415
    from pyspark.sql import Window as Over  # noqa: PLC0415
    from pyspark.sql import functions as F  # noqa: N812, PLC0415

    spark = SparkSession.builder.appName("original").getOrCreate()
    rows = spark.read.format("delta").load(readings).select(*CARRIED)
    rows.cache()
    rows.count()  # the kit prints it
    newest: dt.date = rows.agg(F.max(VIEW.day)).collect()[0][0]
    over = Over.partitionBy(VIEW.entity).orderBy(F.col(VIEW.day).desc())
    functions = {
        Function.SUM: F.sum,
        Function.MAX: F.max,
        Function.MEAN: F.mean,
        Function.STDDEV: F.stddev,
    }
    for name, (aggregation, window) in VIEW.made_of.items():
        recent = F.when(rows[VIEW.day] >= window.first_day(newest), F.col(str(aggregation.measure))).otherwise(0)
        rows = rows.withColumn(name, functions[aggregation.function](recent).over(over))
    rows = rows.select(*(column.name for column in VIEW.columns)).fillna(0)
    rows.count()  # the kit prints it
    rows.write.format("delta").mode("overwrite").partitionBy(VIEW.day).save(features)


def spark_range_full(readings: str, features: str) -> None:
    """Spark's own RANGE windows."""
    from pyspark.sql import SparkSession  # noqa: PLC0415

    spark = SparkSession.builder.appName("spark_range").getOrCreate()
    rows = spark.read.format("delta").load(readings).selectExpr(*_windowed())
    rows.write.format("delta").mode("append").save(features)


def floor_full(readings: str, features: str) -> None:
    """Nothing computed: the measures again in the features' columns."""
    from pyspark.sql import SparkSession  # noqa: PLC0415

    spark = SparkSession.builder.appName("floor").getOrCreate()
    rows = spark.read.format("delta").load(readings).selectExpr(*_copied())
    rows.write.format("delta").mode("append").save(features)


def floor_day(readings: str, features: str, day: dt.date) -> None:
    """Nothing computed, of one day, in its place in a table that is there."""
    from pyspark.sql import SparkSession  # noqa: PLC0415

    spark = SparkSession.builder.appName("floor_day").getOrCreate()
    rows = spark.read.format("delta").load(readings).where(f"{VIEW.day} = DATE'{day}'").selectExpr(*_copied())
    where = f"{VIEW.day} = DATE'{day}'"
    rows.coalesce(1).write.format("delta").mode("overwrite").option("replaceWhere", where).save(features)


def duckdb_full(readings: str, features: str) -> None:
    """DuckDB's RANGE windows, in one process."""
    import duckdb  # noqa: PLC0415
    from deltalake import DeltaTable, write_deltalake  # noqa: PLC0415

    files = DeltaTable(readings).file_uris()
    query = f"SELECT {', '.join(_windowed())} FROM read_parquet(?)"  # noqa: S608 - names of the declaration
    made = duckdb.connect().execute(query, [files])
    write_deltalake(features, made.to_arrow_reader(100_000), mode="overwrite")


def polars_full(readings: str, features: str) -> None:
    """Polars' rolling aggregates, in one process."""
    import polars as pl  # noqa: PLC0415
    from deltalake import write_deltalake  # noqa: PLC0415

    rows = pl.scan_delta(readings).select(CARRIED).sort(KEYS).collect()
    made = []
    for aggregation in VIEW.aggregations:
        value = pl.col(str(aggregation.measure))
        if aggregation.function is Function.SUM and VIEW.measure(str(aggregation.measure)).type is Type.INT:
            value = value.cast(pl.Int64)  # sums of integers are 64-bit
        rolling: dict[Function, Callable[..., pl.Expr]] = {
            Function.SUM: value.rolling_sum_by,
            Function.MAX: value.rolling_max_by,
            Function.MEAN: value.rolling_mean_by,
            Function.STDDEV: value.rolling_std_by,
        }
        least = 2 if aggregation.function is Function.STDDEV else 1
        for window in VIEW.windows:
            expression = rolling[aggregation.function](
                VIEW.day, window_size=f"{window.whole_months}mo", closed="both", min_samples=least
            )
            made.append(expression.over(VIEW.entity).alias(aggregation.column(window)))
    write_deltalake(features, rows.with_columns(made).to_arrow(), mode="overwrite")


def ours_in_process_full(readings: str, features: str) -> None:
    """The project's own kernel, in one process."""
    from deltalake import DeltaTable, write_deltalake  # noqa: PLC0415

    from feature_store import compute  # noqa: PLC0415

    made: pa.Table = compute.features(VIEW, DeltaTable(readings))
    write_deltalake(features, made, mode="overwrite")


def _copied() -> Iterator[str]:
    yield from CARRIED
    for column in VIEW.features:
        aggregation, _ = VIEW.made_of[column.name]
        yield f"CAST({aggregation.measure} AS {column.type.spark}) AS {column.name}"


WAYS = (original_full, spark_range_full, floor_full, floor_day, duckdb_full, polars_full, ours_in_process_full)


def main() -> None:
    """Run one of them."""
    ways: dict[str, Callable[..., None]] = {way.__name__: way for way in WAYS}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__)
    parser.add_argument("name", choices=ways)
    parser.add_argument("--readings", required=True)
    parser.add_argument("--features", required=True)
    parser.add_argument("--day", type=parse_day, help="of floor_day")
    args = parser.parse_args()
    days = [args.day] if args.name == floor_day.__name__ else []
    ways[args.name](args.readings, args.features, *days)


if __name__ == "__main__":
    main()
