"""The other ways to the same training set, each as a process of its own: `python -m benchmarks.training_rivals NAME`.

All of them read the Delta table's files and a Parquet file of events, and write a Parquet file of the same columns.
They check nothing, keep no order, and leave no record.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from feature_store.energy import ENERGY as VIEW

ENTITY, DAY = VIEW.entity, VIEW.day
FEATURES = [column.name for column in VIEW.columns[len(VIEW.keys) :]]
FOUND, AGE = f"{VIEW.name}__day", f"{VIEW.name}__age"
LEVEL = 1  # of zstd, as ours


def duckdb_asof(features: str, events: str, out: str) -> None:
    """DuckDB's ASOF JOIN as one writes it first: whole rows."""
    taken = ", ".join(f"f.{name}" for name in FEATURES)
    _copied(
        f"""
        SELECT e.*, f.{DAY} AS {FOUND}, CAST(e.event_time AS DATE) - f.{DAY} AS {AGE}, {taken}
        FROM events AS e ASOF LEFT JOIN features AS f
        ON e.{ENTITY} = f.{ENTITY} AND CAST(e.event_time AS DATE) - 1 >= f.{DAY}
        """,  # noqa: S608 - names of the declaration
        *(features, events, out),
    )


def duckdb_keys(features: str, events: str, out: str) -> None:
    """The best that was found by hand: only keys go through the ASOF JOIN."""
    taken = ", ".join(f"f.{name}" for name in FEATURES)
    _copied(
        f"""
        WITH found AS (
            SELECT e.*, k.{DAY} AS {FOUND}, CAST(e.event_time AS DATE) - k.{DAY} AS {AGE}
            FROM events AS e ASOF LEFT JOIN (SELECT {ENTITY}, {DAY} FROM features) AS k
            ON e.{ENTITY} = k.{ENTITY} AND CAST(e.event_time AS DATE) - 1 >= k.{DAY}
        )
        SELECT found.*, {taken} FROM found LEFT JOIN features AS f
        ON found.{ENTITY} = f.{ENTITY} AND found.{FOUND} = f.{DAY}
        """,  # noqa: S608 - the same
        *(features, events, out),
    )


def _copied(query: str, features: str, events: str, out: str) -> None:
    import duckdb  # noqa: PLC0415
    from deltalake import DeltaTable  # noqa: PLC0415

    files = ", ".join(f"'{file}'" for file in DeltaTable(features).file_uris())
    connection = duckdb.connect()
    connection.execute("SET preserve_insertion_order = false")
    connection.execute(f"CREATE VIEW features AS SELECT * FROM read_parquet([{files}])")  # noqa: S608 - of the benchmark
    connection.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet('{events}')")  # noqa: S608 - the same
    connection.execute(f"COPY ({query}) TO '{out}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {LEVEL})")


def polars_asof(features: str, events: str, out: str) -> None:
    """Polars' join_asof, both sides sorted."""
    import polars as pl  # noqa: PLC0415

    rows = pl.scan_delta(features).select([ENTITY, DAY, *FEATURES]).sort(DAY).with_columns(pl.col(DAY).alias(FOUND))
    event_day = pl.col("event_time").cast(pl.Date)
    asked = pl.scan_parquet(events).with_columns(latest=event_day.dt.offset_by("-1d")).sort("latest")
    joined = asked.join_asof(
        rows, left_on="latest", right_on=DAY, by=ENTITY, strategy="backward", check_sortedness=False, coalesce=True
    )
    age = (event_day - pl.col(FOUND)).dt.total_days().cast(pl.Int32).alias(AGE)
    names = pl.scan_parquet(events).collect_schema().names()
    made = joined.with_columns(age).select([*names, FOUND, AGE, *FEATURES]).collect()
    made.write_parquet(out, compression="zstd", compression_level=LEVEL)


def floor(features: str, events: str, out: str) -> None:
    """Nothing looked up: the table's columns and the events are read, and as much as the set is written."""
    import numpy as np  # noqa: PLC0415
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - it has no types, nor are there stubs
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415 - the same
    from deltalake import DeltaTable  # noqa: PLC0415

    rows = DeltaTable(features).to_pyarrow_dataset().to_table([ENTITY, DAY, *FEATURES])
    asked = pq.read_table(events)
    # As many rows, from all over the table.
    taken = rows.take(pa.array(np.linspace(0, rows.num_rows - 1, asked.num_rows).astype(np.int64)))
    age = pa.array(np.zeros(asked.num_rows, np.int32))
    columns = {**{name: asked[name] for name in asked.column_names}, FOUND: taken[DAY], AGE: age}
    made = pa.table(columns | {name: taken[name] for name in FEATURES})
    pq.write_table(made, out, compression="zstd", compression_level=LEVEL, use_dictionary=[ENTITY])


WAYS = (duckdb_asof, duckdb_keys, polars_asof, floor)


def main() -> None:
    """Run one of them."""
    ways: dict[str, Callable[[str, str, str], None]] = {way.__name__: way for way in WAYS}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_rivals", description=__doc__)
    parser.add_argument("name", choices=ways)
    for name in ("features", "events", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    ways[args.name](args.features, args.events, args.out)


if __name__ == "__main__":
    main()
