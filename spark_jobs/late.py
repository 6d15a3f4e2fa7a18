"""Late, corrected and withdrawn readings: recompute the features that they are in, and no others."""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_, or_

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j ships no types
from pyspark.errors import AnalysisException, IllegalArgumentException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.calendar import DayRange, merged
from feature_store.view import FeatureView
from spark_jobs import command, tables, watermark, windows
from spark_jobs.errors import JobError, Summary, first_cause, java_causes
from spark_jobs.lake import ACTION, DELETE, UPSERT
from spark_jobs.watermark import Watermark

ENTITY, DAY = "changed_entity", "changed_day"  # of a changed reading, beside the view's own names
# Of a change feed that was never recorded, whose files are vacuumed, whose log is cleaned up.
FEED_IS_GONE = re.compile(r"DELTA_|FileNotFound|delta file version")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Readings:
    """A table of readings, its own id, and the version that it is looked at."""

    uri: str
    id: str
    version: int


def recompute(spark: SparkSession, readings: Readings, features: str, view: FeatureView) -> Summary:
    """Bring the features of all computed days up to a version of the readings.

    What changed since the table's watermark decides: a row of features is recomputed if a reading in its longest
    window came, went or has another value. Days that nobody has computed are left alone.

    Args:
        spark: the session.
        readings: those to follow.
        features: the table of features, which exists.
        view: the declaration.

    Returns:
        since_version (null: every row was looked at), rows_written, rows_deleted, entities, first_day, last_day: of
        the rows that came out otherwise than they were held.

    Raises:
        JobError: another run wrote to the features meanwhile.
    """
    known = watermark.read(features)
    changed = _changes_since(spark, known, readings, view)
    held_version = tables.version(features)
    held = tables.read(spark, features, held_version)
    there = held.select(view.day).distinct().where(F.col(view.day).isNotNull()).collect()
    computed = merged([*(known.computed if known else ()), *(DayRange(day, day) for (day,) in there)])
    summary = _summary()
    try:
        if asked := _days(computed, changed, view):
            at = tables.read(spark, readings.uri, readings.version)
            summary = _write(_differing(at, held, changed, asked, view), features, view)
    finally:
        if changed is not None:
            changed.unpersist()
    if tables.version(features) != held_version + (summary["entities"] > 0):
        _put_back(features, known)
        raise JobError(f"Another run wrote to {features} while this one followed late readings. Next: run it again.")
    watermark.write(features, Watermark(readings.id, readings.version, computed))
    return {"since_version": None if known is None or changed is None else known.version, **summary}


def changes(spark: SparkSession, readings: str, since: int, upto: int, view: FeatureView) -> DataFrame:
    """Find the readings that came, went or took another value between two versions, by Delta's change feed.

    Returns:
        Their keys, each once, as changed_entity and changed_day; cached, for the caller to end.
    """
    keys = [F.col(view.entity).alias(ENTITY), F.col(view.day).alias(DAY)]
    if since == upto:
        return tables.read(spark, readings, upto).select(*keys).limit(0)
    feed = spark.read.format("delta").option("readChangeFeed", "true")
    rows = feed.option("startingVersion", since + 1).option("endingVersion", upto).load(readings)
    # A merge that only takes a reading over into another file, and a rebuild that writes it again, change no value.
    value = F.struct(*(measure.name for measure in view.measures))
    before = F.max(F.when(F.col("_change_type").isin("delete", "update_preimage"), value))
    after = F.max(F.when(F.col("_change_type").isin("insert", "update_postimage"), value))
    commits = rows.groupBy(*keys, "_commit_version").agg(before.alias("b"), after.alias("a"))
    found = commits.where(~F.col("b").eqNullSafe(F.col("a"))).select(ENTITY, DAY).distinct().persist()
    found.count()  # the feed's files are read here, and nowhere else
    return found


def _changes_since(
    spark: SparkSession, known: Watermark | None, readings: Readings, view: FeatureView
) -> DataFrame | None:
    """The changes since the watermark; None if that can't be told, so that every row has to be looked at."""
    if known is None:
        log.info("There is no watermark: every computed day is looked at.")
        return None
    if known.readings_id != readings.id or known.version > readings.version:
        log.warning("The readings in %s are not those of the watermark: every day is looked at.", readings.uri)
        return None
    try:
        return changes(spark, readings.uri, known.version, readings.version, view)
    except (AnalysisException, IllegalArgumentException, Py4JJavaError) as error:
        if not FEED_IS_GONE.search("\n".join([str(error), *java_causes(error)])):
            raise
        log.warning(
            "The change feed of %s can't be read from version %d on (%s; the table's property %s has to be true, and "
            "the feed is as old as the table's retention): every computed day is looked at.",
            *(readings.uri, known.version + 1, first_cause(error), tables.CHANGE_FEED),
        )
        return None


def _days(computed: Sequence[DayRange], changed: DataFrame | None, view: FeatureView) -> tuple[DayRange, ...]:
    """The computed days whose windows may have a changed reading in them."""
    if changed is None:
        return tuple(computed)
    first, last = changed.agg(F.min(DAY), F.max(DAY)).collect()[0]
    if first is None:
        return ()
    ends = ((max(days.start, first), min(days.end, view.longest.last_day(last))) for days in computed)
    return tuple(DayRange(start, end) for start, end in ends if start <= end)


def _differing(
    readings: DataFrame, held: DataFrame, changed: DataFrame | None, days: Sequence[DayRange], view: FeatureView
) -> DataFrame:
    """Compute the affected rows again; returns those that are not held as they are, with what is to be done."""
    keys = [column.name for column in view.keys]
    asked = DayRange(days[0].start, days[-1].end)
    wanted = reduce(or_, [tables.within(view.day, each) for each in days])
    there = held.where(tables.within(view.day, asked) & wanted)
    gone = there.select(*keys).join(readings.select(*keys), on=keys, how="left_anti")
    if changed is not None:
        # All readings of these entities: a window sees more than what changed.
        entities = changed.select(F.col(ENTITY).alias(view.entity)).distinct()
        readings = readings.join(entities, on=view.entity, how="left_semi")
    rows = windows.features(readings, view, asked).where(wanted)
    if changed is not None:
        rows = rows.join(changed, on=_in_window(view), how="left_semi")
    upserts = tables.missing(rows, there).withColumn(ACTION, F.lit(UPSERT))
    return upserts.unionByName(gone.withColumn(ACTION, F.lit(DELETE)), allowMissingColumns=True)


def _in_window(view: FeatureView) -> Column:
    """Whether a changed reading is in the longest window of a row of features."""
    first = F.expr(view.longest.first_day_sql(view.day))
    return reduce(and_, [F.col(ENTITY) == F.col(view.entity), F.col(DAY) >= first, F.col(DAY) <= F.col(view.day)])


def _write(incoming: DataFrame, features: str, view: FeatureView) -> Summary:
    """Merge rows into the features, all at once; a table that has them already gets no new version."""
    incoming.persist()
    try:
        upserts, deletes = (F.count_if(F.col(ACTION) == action) for action in (UPSERT, DELETE))
        of_all = F.countDistinct(view.entity), F.min(view.day), F.max(view.day)
        summary = _summary(*incoming.agg(upserts, deletes, *of_all).collect()[0])
        if summary["entities"]:
            incoming.createOrReplaceTempView("recomputed")
            same = " AND ".join(f"held.{key.name} = recomputed.{key.name}" for key in view.keys)
            days = f"BETWEEN DATE'{summary['first_day']}' AND DATE'{summary['last_day']}'"
            incoming.sparkSession.sql(
                f"""
                MERGE INTO {tables.name(features)} AS held USING recomputed
                ON {same} AND held.{view.day} {days}
                WHEN MATCHED AND recomputed.{ACTION} = '{DELETE}' THEN DELETE
                WHEN MATCHED THEN UPDATE SET *
                WHEN NOT MATCHED AND recomputed.{ACTION} = '{UPSERT}' THEN INSERT *
                """
            )
        return summary
    finally:
        incoming.unpersist()


def _summary(
    upserts: int = 0, deletes: int = 0, entities: int = 0, first: dt.date | None = None, last: dt.date | None = None
) -> Summary:
    ends = {"first_day": command.text(first), "last_day": command.text(last)}
    return {"rows_written": upserts, "rows_deleted": deletes, "entities": entities, **ends}


def _put_back(features: str, known: Watermark | None) -> None:
    """Put the watermark back to where it was, unless it is lower already: this run's rows may be older than others'."""
    there = watermark.read(features)
    if known is None or there is None or there.readings_id != known.readings_id:
        watermark.remove(features)
    elif there.version > known.version:
        watermark.write(features, replace(there, version=known.version))
