"""The tables that ingest writes: readings, their quarantine, and the ledger of files that are in them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.calendar import DayRange
from feature_store.view import FeatureView
from spark_jobs import landing, tables
from spark_jobs.landing import Batch
from spark_jobs.storage import File

INGESTED_AT = "ingested_at"
LEDGER = "path string, size bigint, modified bigint, rows bigint, quarantined bigint"


def quarantine_uri(readings: str) -> str:
    """Where the malformed rows are."""
    return readings.rstrip("/") + "_quarantine"


def ledger_uri(readings: str) -> str:
    """Where the list of the files that are ingested is."""
    return readings.rstrip("/") + "_files"


def not_ingested(spark: SparkSession, readings: str, files: Sequence[File]) -> list[File]:
    """Choose the files that the ledger does not have at their size and modification time.

    Without a table of readings these are all of them: a person may delete it to have it made anew.
    """
    uri = ledger_uri(readings)
    if not (tables.exists(spark, uri) and tables.exists(spark, readings)):
        return list(files)
    ledger = spark.read.format("delta").load(uri)
    known = {
        (row["path"], row["size"], row["millis"])
        for row in ledger.select("path", "size", F.unix_millis("modified").alias("millis")).collect()
    }
    return [file for file in files if (file.path, file.size, file.modified) not in known]


def record(spark: SparkSession, readings: str, batch: Batch) -> None:
    """Enter files into the ledger: to be done last, since what is in it is not looked at again."""
    rows = [
        (file.path, file.size, file.modified, batch.counts[file.path].rows, batch.counts[file.path].quarantined)
        for file in (landed.file for landed in batch.files)
    ]
    made = spark.createDataFrame(rows, LEDGER).withColumn("modified", F.timestamp_millis("modified"))
    _stamped(made).coalesce(1).write.format("delta").mode("append").save(ledger_uri(readings))


def quarantine(spark: SparkSession, readings: str, batch: Batch, view: FeatureView) -> None:
    """Make the quarantine hold exactly the bad rows of these files, in place of those of their former versions."""
    uri = quarantine_uri(readings)
    bad = {(f.file.path, f.file.modified): batch.counts[f.file.path].quarantined for f in batch.files}
    paths = sorted(path for path, _ in bad)
    there = {key: number for key, number in _quarantined(spark, uri).items() if key[0] in paths}
    if there == {key: number for key, number in bad.items() if number}:
        return
    rows = _stamped(landing.malformed(spark, batch, view)).coalesce(1)
    names = ", ".join("'{}'".format(path.replace("\\", "\\\\").replace("'", "\\'")) for path in paths)
    with landing.whole_files(spark, batch):
        where = f"source_file IN ({names})"
        rows.write.format("delta").mode("overwrite").option("replaceWhere", where).save(uri)


def _quarantined(spark: SparkSession, uri: str) -> dict[tuple[str, int], int]:
    if not tables.exists(spark, uri):
        return {}
    grouped = spark.read.format("delta").load(uri).groupBy(*landing.SOURCE).count()
    rows = grouped.select("source_file", F.unix_millis("source_modified").alias("millis"), "count").collect()
    return {(row["source_file"], row["millis"]): row["count"] for row in rows}


def merge(newest: DataFrame, readings: str, days: DayRange, view: FeatureView) -> None:
    """Merge readings of these days: a row gives way only to one of a newer file."""
    spark = newest.sparkSession
    rows = _stamped(newest)
    if not tables.exists(spark, readings):
        tables.clustered(rows, view.day, days).write.format("delta").mode("append").save(readings)
        return
    rows.createOrReplaceTempView("incoming")
    spark.sql(
        f"""
        MERGE INTO {tables.name(readings)} AS held USING incoming
        ON held.{view.entity} = incoming.{view.entity} AND held.{view.day} = incoming.{view.day}
            AND held.{view.day} BETWEEN DATE'{days.start}' AND DATE'{days.end}'
        WHEN MATCHED AND struct(incoming.source_modified, incoming.source_file)
            > struct(held.source_modified, held.source_file) THEN UPDATE SET *
        WHEN NOT MATCHED THEN INSERT *
        """
    )


def rebuild(newest: DataFrame, readings: str, days: DayRange, view: FeatureView) -> None:
    """Replace the readings of these days."""
    tables.replace_days(_stamped(newest), readings, view.day, days, ignoring=(INGESTED_AT,))


def _stamped(rows: DataFrame) -> DataFrame:
    return rows.withColumn(INGESTED_AT, F.lit(dt.datetime.now(dt.UTC)))
