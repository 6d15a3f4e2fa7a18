"""Other ways to bring features online: `python -m benchmarks.sync_rivals NAME --features URI --keyspace K`."""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyspark
from deltalake import DeltaTable

from feature_store import cql
from feature_store.arrow_readings import schema
from feature_store.endpoint import Endpoint, open_session
from feature_store.energy import ENERGY
from feature_store.sync import cells
from infra.local.settings import JARS

FORMAT = "org.apache.spark.sql.cassandra"
CONCURRENCY = 100  # of those who loop over rows with the Python driver, such as Feast


def original(features: str, keyspace: str) -> None:
    """As the original kit: all rows by Spark's connector, in two partitions."""
    _append(features, keyspace, partitions=2)


def connector_defaults(features: str, keyspace: str) -> None:
    """Spark's connector with its own defaults."""
    _append(features, keyspace, partitions=None)


def python_driver(features: str, keyspace: str) -> None:
    """The loop that people write: the Python driver's own helper, over rows of Python's values."""
    from cassandra.concurrent import execute_concurrent_with_args  # type: ignore[import-untyped]  # noqa: PLC0415

    session = open_session(Endpoint.here())
    insert = session.prepare(cql.insert(ENERGY, keyspace, ENERGY.name))
    for batch in _table(features).to_batches(max_chunksize=20_000):
        columns = [batch.column(column.name).to_pylist() for column in ENERGY.columns]
        execute_concurrent_with_args(session, insert, zip(*columns, strict=True), concurrency=CONCURRENCY)
    session.cluster.shutdown()


def ceiling(features: str, keyspace: str) -> None:
    """One well-tuned Java client with prepared inserts, the rows in memory: what it prints is the writing alone."""
    file = Path(f"{features}.cells")
    if not file.exists():
        encode(_table(features), file)
    pyspark_jars = Path(str(pyspark.__file__)).parent / "jars"
    classes = os.pathsep.join([f"{JARS / 'connector'}/*", *map(str, pyspark_jars.glob("slf4j-api*.jar"))])
    insert = cql.insert(ENERGY, keyspace, ENERGY.name)
    program = Path(__file__).with_name("Ceiling.java")
    # Over the file's: the connector's retry policy is no part of a plain client; two connections, as there are cores.
    tuned = {"advanced.retry-policy.class": "DefaultRetryPolicy", "advanced.connection.pool.local.size": 2}
    settings = [f"-Ddatastax-java-driver.{name}={value}" for name, value in tuned.items()]
    arguments = [str(program), os.environ["KEYSPACES_DRIVER_CONFIG"], str(file), insert]
    subprocess.run(["java", "-Xmx6g", *settings, "-cp", classes, *arguments], check=True)


def _append(features: str, keyspace: str, *, partitions: int | None) -> None:
    from pyspark.sql import SparkSession  # noqa: PLC0415 - the others need none

    spark = SparkSession.builder.getOrCreate()
    rows = spark.read.format("delta").load(features)
    rows = rows if partitions is None else rows.coalesce(partitions)
    config = Path(os.environ["KEYSPACES_DRIVER_CONFIG"]).absolute().as_uri()
    options = {"keyspace": keyspace, "table": ENERGY.name, "spark.cassandra.connection.config.profile.path": config}
    rows.write.format(FORMAT).options(**options).mode("append").save()
    spark.stop()


def _table(features: str) -> pa.Table:
    return DeltaTable(features).to_pyarrow_table().cast(schema(ENERGY.columns))


def encode(table: pa.Table, file: Path) -> None:
    """Write rows as our Java reads them: how many, of how many columns, and of each value its length and bytes."""
    part = file.with_suffix(".part")
    with part.open("wb") as out:
        out.write(struct.pack(">ii", table.num_rows, len(ENERGY.columns)))
        out.writelines(cells.rows(table, ENERGY.columns))
    part.rename(file)


WAYS: dict[str, Callable[[str, str], None]] = {
    way.__name__: way for way in (original, connector_defaults, python_driver, ceiling)
}


def main() -> int:
    """Run one of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sync_rivals", description=__doc__)
    parser.add_argument("name", choices=WAYS)
    parser.add_argument("--features", required=True)
    parser.add_argument("--keyspace", required=True)
    args = parser.parse_args()
    WAYS[args.name](args.features, args.keyspace)
    return 0


if __name__ == "__main__":
    sys.exit(main())
