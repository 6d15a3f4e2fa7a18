"""Late, corrected and withdrawn readings: recompute the features that they are in, and no others."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.calendar import DayRange
from feature_store.view import FeatureView
from spark_jobs import command, tables, watermark, windows
from spark_jobs.errors import JobError, Summary
from spark_jobs.watermark import Watermark

ENTITY, DAY = "changed_entity", "changed_day"  # of a changed reading, beside the view's own names
ACTION, UPSERT, DELETE = "action", "upsert", "delete"
NOTHING: Summary = {"rows_written": 0, "rows_deleted": 0, "entities": 0, "first_day": None, "last_day": None}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Readings:
    """A table of readings at the version that it is looked at."""

    uri: str
    at: Watermark


def recompute(
    spark: SparkSession, readings: Readings, features: str, view: FeatureView, own: DayRange | None
) -> Summary:
    """Bring the features of all days that the table holds up to a version of the readings.

    What changed since the table's watermark decides: a row of features is recomputed if a reading in its longest
    window came, went or has another value. Days that the table has no row of are not computed.

    Args:
        spark: the session.
        readings: those to follow.
        features: the table of features, which exists.
        view: the declaration.
        own: days that were just computed from this version; left alone.

    Returns:
        since_version (null: every row counted as changed), rows_written, rows_deleted, entities, first_day, last_day:
        of the rows that came out otherwise than they were held.

    Raises:
        JobError: the readings' change feed does not go back to the watermark.
    """
    now, since = readings.at, watermark.read(spark, features)
    if since and (since.readings_id != now.readings_id or since.version > now.version):
        log.warning("The readings in %s are not those of the watermark: every day counts as changed.", readings.uri)
        since = None
    summary: Summary = {"since_version": since.version if since else None, **NOTHING}
    changed = changes(spark, readings.uri, since.version, now.version, view) if since else None
    try:
        held = tables.read(spark, features, tables.version(spark, features))
        asked = _days(held, changed, view, own)
        if asked:
            at = tables.read(spark, readings.uri, now.version)
            summary |= _write(_differing(at, held, changed, asked, view), features, view)
    finally:
        if changed is not None:
            changed.unpersist()
    watermark.write(spark, features, now)
    return summary


def changes(spark: SparkSession, readings: str, since: int, upto: int, view: FeatureView) -> DataFrame:
    """Find the readings that came, went or took another value between two versions, by Delta's change feed.

    Returns:
        Their keys, each once, as changed_entity and changed_day; cached, for the caller to end.

    Raises:
        JobError: the feed does not go back that far.
    """
    keys = [F.col(view.entity).alias(ENTITY), F.col(view.day).alias(DAY)]
    if since == upto:
        return tables.read(spark, readings, upto).select(*keys).limit(0)
    feed = spark.read.format("delta").option("readChangeFeed", "true")
    rows = feed.option("startingVersion", since + 1).option("endingVersion", upto)
    # A merge that only takes a reading over into another file, and a rebuild that writes it again, change no value.
    value = F.struct(*(measure.name for measure in view.measures))
    before = F.max(F.when(F.col("_change_type").isin("delete", "update_preimage"), value))
    after = F.max(F.when(F.col("_change_type").isin("insert", "update_postimage"), value))
    try:
        commits = rows.load(readings).groupBy(*keys, "_commit_version").agg(before.alias("b"), after.alias("a"))
        found = commits.where(~F.col("b").eqNullSafe(F.col("a"))).select(ENTITY, DAY).distinct().persist()
        found.count()
    except AnalysisException as error:
        raise JobError(
            f"The change feed of {readings} can't be read from version {since + 1} on ({_first_line(error)}). Next: if "
            f"the table has none, set its property {tables.CHANGE_FEED} to true; then remove the watermark beside the "
            "features: every day that they hold is recomputed once."
        ) from error
    return found


def _days(held: DataFrame, changed: DataFrame | None, view: FeatureView, own: DayRange | None) -> list[dt.date]:
    """The days that the features hold and whose windows may have a changed reading in them, ascending."""
    there: list[dt.date] = sorted(row[0] for row in held.select(view.day).distinct().collect())
    days = [day for day in there if own is None or not own.start <= day <= own.end]
    if changed is None:
        return days
    first, last = changed.agg(F.min(DAY), F.max(DAY)).collect()[0]
    return [day for day in days if first <= day <= view.longest.last_day(last)] if first else []


def _differing(
    readings: DataFrame, held: DataFrame, changed: DataFrame | None, days: Sequence[dt.date], view: FeatureView
) -> DataFrame:
    """Compute the affected rows again; returns those that are not held as they are, with what is to be done."""
    asked = DayRange(days[0], days[-1])
    wanted = F.col(view.day).isin(list(days))
    keys = [column.name for column in view.keys]
    there = held.where(tables.within(view.day, asked) & wanted)
    gone = there.select(*keys).join(readings.select(*keys), on=keys, how="left_anti")
    if changed is not None:
        # All readings of these entities: a window sees more than what changed.
        entities = changed.select(F.col(ENTITY).alias(view.entity)).distinct()
        readings = readings.join(entities, on=view.entity, how="left_semi")
    rows = windows.features(readings, view, asked).where(wanted)
    if changed is not None:
        rows = rows.join(changed, on=_in_window(view), how="left_semi")
    mine, theirs = rows.alias("mine"), there.alias("theirs")
    equal = [F.col(f"mine.{column}").eqNullSafe(F.col(f"theirs.{column}")) for column in rows.columns]
    other = mine.join(theirs, on=equal, how="left_anti").withColumn(ACTION, F.lit(UPSERT))
    return other.unionByName(gone.withColumn(ACTION, F.lit(DELETE)), allowMissingColumns=True)


def _in_window(view: FeatureView) -> Column:
    """Whether a changed reading is in the longest window of a row of features."""
    first = F.expr(view.longest.first_day_sql(view.day))
    return reduce(and_, [F.col(ENTITY) == F.col(view.entity), F.col(DAY) >= first, F.col(DAY) <= F.col(view.day)])


def _write(incoming: DataFrame, features: str, view: FeatureView) -> Summary:
    """Merge rows into the features, all at once; a table that has them already gets no new version."""
    incoming.persist()
    try:
        upserts, deletes = (F.count_if(F.col(ACTION) == action) for action in (UPSERT, DELETE))
        ends = F.min(view.day), F.max(view.day)
        row = incoming.agg(upserts, deletes, F.countDistinct(view.entity), *ends).collect()[0]
        first, last = row[3:]
        if first:
            incoming.createOrReplaceTempView("recomputed")
            same = " AND ".join(f"held.{key.name} = recomputed.{key.name}" for key in view.keys)
            incoming.sparkSession.sql(
                f"""
                MERGE INTO {tables.name(features)} AS held USING recomputed
                ON {same} AND held.{view.day} BETWEEN DATE'{first}' AND DATE'{last}'
                WHEN MATCHED AND recomputed.{ACTION} = '{DELETE}' THEN DELETE
                WHEN MATCHED THEN UPDATE SET *
                WHEN NOT MATCHED AND recomputed.{ACTION} = '{UPSERT}' THEN INSERT *
                """
            )
        return dict(zip(NOTHING, (*row[:3], command.text(first), command.text(last)), strict=True))
    finally:
        incoming.unpersist()


def _first_line(error: AnalysisException) -> str:
    return str(error).strip().splitlines()[0]
