"""The tables that ingest writes: readings, their quarantine, and the ledger of files that are in them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.calendar import DayRange
from feature_store.view import FeatureView
from spark_jobs import landing, tables
from spark_jobs.landing import Batch
from spark_jobs.storage import File

INGESTED_AT = "ingested_at"  # when a reading came to have its values: a file that says the same again leaves it
ACTION = "action"  # what merge does with a row: UPSERT if it is newer, else RESTORE or DELETE whatever is held
UPSERT, RESTORE, DELETE = "upsert", "restore", "delete"
LEDGER = "path string, size bigint, modified bigint, rows bigint, quarantined bigint, readings_id string"


def quarantine_uri(readings: str) -> str:
    """Where the malformed rows are."""
    return readings.rstrip("/") + "_quarantine"


def ledger_uri(readings: str) -> str:
    """Where the list of the files that are ingested is."""
    return readings.rstrip("/") + "_files"


def not_ingested(spark: SparkSession, readings: str, files: Sequence[File]) -> list[File]:
    """Choose the files that the table of readings does not have at their size and modification time.

    Of a file's entries in the ledger the last one counts, so that one that is put back as it was before counts again.
    Entries of another table at the same place count for nothing: a person may delete the table to have it made anew.
    """
    uri = ledger_uri(readings)
    if not (tables.exists(uri) and tables.exists(readings)):
        return list(files)
    ledger = spark.read.format("delta").load(uri).where(F.col("readings_id") == tables.identity(spark, readings))
    entry = F.max_by(F.struct("size", F.unix_millis("modified").alias("millis")), INGESTED_AT).alias("entry")
    last = ledger.groupBy("path").agg(entry).collect()
    known = {(row["path"], row["entry"]["size"], row["entry"]["millis"]) for row in last}
    return [file for file in files if (file.path, file.size, file.modified) not in known]


def record(spark: SparkSession, readings: str, batch: Batch) -> None:
    """Enter files into the ledger: to be done last, since what is in it is not looked at again."""
    of = tables.identity(spark, readings)
    counted = ((landed.file, batch.counts[landed.file.path]) for landed in batch.files)
    rows = [(file.path, file.size, file.modified, count.rows, count.quarantined, of) for file, count in counted]
    made = spark.createDataFrame(rows, LEDGER).withColumn("modified", F.timestamp_millis("modified"))
    stamped = made.withColumn(INGESTED_AT, F.lit(dt.datetime.now(dt.UTC)))
    stamped.coalesce(1).write.format("delta").mode("append").save(ledger_uri(readings))


def quarantine(spark: SparkSession, readings: str, batch: Batch, view: FeatureView) -> None:
    """Make the quarantine hold exactly the bad rows of these files, in place of those of their former versions."""
    uri = quarantine_uri(readings)
    bad = {(f.file.path, f.file.modified): batch.counts[f.file.path].quarantined for f in batch.files}
    paths = sorted(path for path, _ in bad)
    there = {key: number for key, number in _quarantined(spark, uri).items() if key[0] in paths}
    if there == {key: number for key, number in bad.items() if number}:
        return
    rows = landing.malformed(spark, batch, view).withColumn(INGESTED_AT, F.lit(dt.datetime.now(dt.UTC))).coalesce(1)
    names = ", ".join("'{}'".format(path.replace("\\", "\\\\").replace("'", "\\'")) for path in paths)
    with landing.whole_files(spark, batch):
        where = f"source_file IN ({names})"
        rows.write.format("delta").mode("overwrite").option("replaceWhere", where).save(uri)


def _quarantined(spark: SparkSession, uri: str) -> dict[tuple[str, int], int]:
    if not tables.exists(uri):
        return {}
    grouped = spark.read.format("delta").load(uri).groupBy(*landing.SOURCE).count()
    rows = grouped.select("source_file", F.unix_millis("source_modified").alias("millis"), "count").collect()
    return {(row["source_file"], row["millis"]): row["count"] for row in rows}


def withdrawn(batch: Batch, readings: str, view: FeatureView) -> DataFrame | None:
    """Find the readings whose file has come again without them, or as it was before.

    A file that is refused as a whole says nothing about its readings, and withdraws none.

    Args:
        batch: the files that have come.
        readings: the table.
        view: the declaration.

    Returns:
        Their keys, cached; None if there is none.
    """
    fit = [landed.file.path for landed in batch.files if landed.header]
    if not fit or batch.rows is None:
        return None
    keys = [view.entity, view.day]
    held = _as_it_is(batch.rows.sparkSession, readings).where(F.col("source_file").isin(fit)).alias("held")
    there = landing.good(batch.rows, view).alias("there")
    same = [F.col(f"held.{name}") == F.col(f"there.{name}") for name in (*keys, "source_file")]
    not_newer = F.col("held.source_modified") <= F.col("there.source_modified")
    found = held.join(there, on=[*same, not_newer], how="left_anti").select(*keys).persist()
    return None if found.isEmpty() else found


def merge(newest: DataFrame, readings: str, view: FeatureView, again: DataFrame | None = None) -> DataFrame:
    """Merge readings: a row gives way only to one of a newer file, and a withdrawn one to what `again` has for it.

    Args:
        newest: readings with their source columns, one row per key.
        readings: the table, made if it is missing.
        view: the declaration.
        again: withdrawn keys with the reading that holds now, or with nulls where none does; not among `newest`.

    Returns:
        The days of the readings that have other values than before, in one column.
    """
    spark = newest.sparkSession
    now = F.lit(dt.datetime.now(dt.UTC))
    rows = newest.withColumns({INGESTED_AT: now, ACTION: F.lit(UPSERT)})
    if again is not None:
        action = F.when(F.col("source_file").isNull(), F.lit(DELETE)).otherwise(F.lit(RESTORE))
        rows = rows.unionByName(again.withColumns({INGESTED_AT: now, ACTION: action}))
    first, last, number = rows.agg(F.min(view.day), F.max(view.day), F.count("*")).collect()[0]
    if first is None:
        return rows.select(view.day)
    days = DayRange(first, last)
    if not tables.exists(readings):
        return _make(rows.drop(ACTION), readings, days, number, view)
    rows.createOrReplaceTempView("incoming")
    equal = " AND ".join(f"held.{measure.name} <=> incoming.{measure.name}" for measure in view.measures)
    takes_over = (
        f"(incoming.{ACTION} = '{RESTORE}' OR struct(incoming.source_modified, incoming.source_file)"
        " > struct(held.source_modified, held.source_file))"
    )
    # What is said again by another file was known before: it keeps its ingestion time.
    spark.sql(
        f"""
        MERGE INTO {tables.name(readings)} AS held USING incoming
        ON held.{view.entity} = incoming.{view.entity} AND held.{view.day} = incoming.{view.day}
            AND held.{view.day} BETWEEN DATE'{days.start}' AND DATE'{days.end}'
        WHEN MATCHED AND incoming.{ACTION} = '{DELETE}' THEN DELETE
        WHEN MATCHED AND {takes_over} AND {equal} THEN UPDATE SET
            source_file = incoming.source_file, source_modified = incoming.source_modified
        WHEN MATCHED AND {takes_over} THEN UPDATE SET *
        WHEN NOT MATCHED AND incoming.{ACTION} != '{DELETE}' THEN INSERT *
        """  # noqa: S608 - names of the declaration, and days
    )
    changed = _ingested(spark, readings, now, view)
    return changed if again is None else changed.union(again.where("source_file IS NULL").select(view.day))


def rebuild(newest: DataFrame, readings: str, days: DayRange, view: FeatureView) -> DataFrame:
    """Replace the readings of these days; returns the days of those with other values than before, in one column."""
    spark = newest.sparkSession
    now = F.lit(dt.datetime.now(dt.UTC))
    if not tables.exists(readings):
        return _make(newest.withColumn(INGESTED_AT, now), readings, days, newest.count(), view)
    keys = [view.entity, view.day]
    said = [*keys, *(measure.name for measure in view.measures)]
    there = _as_it_is(spark, readings).where(tables.within(view.day, days)).persist()
    # Grouped, so that a reading that is held twice comes out once: a rebuild is the cure for it.
    known = there.groupBy(*(F.col(name).alias(f"held_{name}") for name in said)).agg(F.min(INGESTED_AT).alias("since"))
    equal = [F.col(name).eqNullSafe(F.col(f"held_{name}")) for name in said]
    joined = newest.join(known, on=equal, how="left").select(
        *newest.columns, F.coalesce("since", now).alias(INGESTED_AT)
    )
    gone = there.join(newest, on=keys, how="left_anti").select(view.day)
    tables.replace_days(joined, readings, view.day, days, newest.count())
    return _ingested(spark, readings, now, view).union(gone)


def _make(rows: DataFrame, readings: str, days: DayRange, number: int, view: FeatureView) -> DataFrame:
    """Make the table; returns the days of its readings, in one column."""
    # Which features follow from a later change is found by its change feed.
    written = tables.by_days(rows, view.day, days, number).option(tables.CHANGE_FEED, "true")
    written.mode("append").save(readings)
    return rows.select(view.day)


def _as_it_is(spark: SparkSession, readings: str) -> DataFrame:
    """The readings of now, also after they have been written to: Delta refreshes what is cached of a newest version."""
    return tables.read(spark, readings, tables.version(readings))


def _ingested(spark: SparkSession, readings: str, at: Column, view: FeatureView) -> DataFrame:
    return spark.read.format("delta").load(readings).where(F.col(INGESTED_AT) == at).select(view.day)
