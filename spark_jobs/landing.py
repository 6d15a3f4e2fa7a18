"""Landed files to readings: what is good in them, what goes to quarantine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import reduce

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j ships no types
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.landed import Header, HeaderError, read_header
from feature_store.view import FeatureView
from spark_jobs import parsing, storage, tables
from spark_jobs.storage import File

SOURCE = ("source_file", "source_modified")
CONFLICT = "the same key stands in this file with other values"
LINES, CONFLICTS = "lines", "conflict"


@dataclass(frozen=True)
class Landed:
    """A landed file: its header, or why it has none that is fit for use."""

    file: File
    first_line: str
    header: Header | None
    refusal: str | None


@dataclass(frozen=True)
class Count:
    """What was in a file, in lines without header and blank ones."""

    rows: int
    quarantined: int

    @property
    def valid(self) -> int:
        """Lines that are good readings."""
        return self.rows - self.quarantined


@dataclass(frozen=True)
class Batch:
    """Landed files, their rows by key (see keyed; cached; None if all files are refused), and their counts by path."""

    files: Sequence[Landed]
    rows: DataFrame | None
    counts: Mapping[str, Count]


def read(spark: SparkSession, files: Sequence[File], view: FeatureView) -> Batch:
    """Read files, once.

    Raises:
        JobError: a file can't be read to its end, such as a truncated .gz.
    """
    looked = [look(spark, file, view) for file in files]
    counts = {landed.file.path: Count(1, 1) for landed in looked if landed.refusal}
    if len(counts) == len(looked):
        return Batch(looked, None, counts)
    rows = keyed(parsed(spark, looked, view), view).persist()
    bad = F.when(F.col(view.entity).isNull() | F.col(CONFLICTS), F.col(LINES)).otherwise(0)
    totals = rows.groupBy("source_file").agg(F.sum(LINES).alias("lines"), F.sum(bad).alias("bad"))
    try:
        counted = totals.collect()
    except Py4JJavaError:
        # Spark does not say which file it could not read: if it was one, reading it again says so.
        for landed in looked:
            storage.read_through(spark, landed.file.path)
        raise
    for row in counted:
        # The header line is among the lines, and among the bad ones.
        counts[row["source_file"]] = Count(row["lines"] - 1, row["bad"] - 1)
    return Batch(looked, rows, counts)


def look(spark: SparkSession, file: File, view: FeatureView) -> Landed:
    """Read a file's header."""
    line = storage.first_line(spark, file.path)
    try:
        return Landed(file, line, read_header(line, view), None)
    except HeaderError as error:
        return Landed(file, line, None, str(error))


def parsed(spark: SparkSession, files: Sequence[Landed], view: FeatureView) -> DataFrame:
    """Parse the files with good headers: what parsing.parse returns, with the source columns and `sequence`.

    `sequence` grows with the lines of a file, and by one from line to line if files are not split (see whole_files).
    """
    by_header: dict[Header, list[str]] = {}
    for landed in files:
        if landed.header:
            by_header.setdefault(landed.header, []).append(landed.file.path)
    parts = [parsing.parse(_lines(spark, paths), header, view) for header, paths in by_header.items()]
    return reduce(DataFrame.unionByName, parts)


def _lines(spark: SparkSession, paths: list[str]) -> DataFrame:
    encoded = F.col("_metadata.file_path")
    # Spark's metadata is URL-encoded; the ledger and people have the path as it is.
    path = F.when(encoded.contains("%"), F.url_decode(F.replace(encoded, F.lit("+"), F.lit("%2B")))).otherwise(encoded)
    # Files are named, not searched for: a * or [ in a name is no pattern.
    return (
        spark.read.option("__globPaths__", "false")
        .text(paths)
        .select(
            "value",
            path.alias("source_file"),
            F.col("_metadata.file_modification_time").alias("source_modified"),
            F.monotonically_increasing_id().alias("sequence"),
        )
    )


def keyed(rows: DataFrame, view: FeatureView) -> DataFrame:
    """Bring a file's rows of one key together: `lines` of them, and whether they `conflict` by different values.

    Malformed rows of a file come together too, under a null key.
    """
    keys = [view.entity, view.day]
    measures = [measure.name for measure in view.measures]
    apart = reduce(
        lambda one, other: one | other,
        (~F.min(m).eqNullSafe(F.max(m)) | ~F.count(m).isin(F.lit(0), F.count("*")) for m in measures),
    )
    # Partitioned by key for this grouping and the one in newest(): one shuffle for both.
    return (
        rows.repartition(*keys)
        .groupBy(*keys, *SOURCE)
        .agg(*(F.max(m).alias(m) for m in measures), F.count("*").alias(LINES), apart.alias(CONFLICTS))
        .withColumn(CONFLICTS, F.col(view.entity).isNotNull() & F.col(CONFLICTS))
    )


def good(keyed_rows: DataFrame, view: FeatureView) -> DataFrame:
    """Leave malformed and conflicting rows out."""
    return keyed_rows.where(F.col(view.entity).isNotNull() & ~F.col(CONFLICTS))


def newest(keyed_rows: DataFrame, view: FeatureView) -> DataFrame:
    """Choose each key's row of the newest file, by modification time and then by name; conflicting rows are no rows."""
    keys = [view.entity, view.day]
    values = [*reversed(SOURCE), *(measure.name for measure in view.measures)]
    chosen = good(keyed_rows, view).groupBy(*keys).agg(F.max(F.struct(*values)).alias("row"))
    return chosen.select(*keys, *(f"row.{m.name}" for m in view.measures), *(f"row.{name}" for name in SOURCE))


def malformed(spark: SparkSession, batch: Batch, view: FeatureView) -> DataFrame:
    """Find the bad rows of a batch with their line numbers, by reading the files that have some again, unsplit.

    Evaluate it within whole_files. Returns source_file, source_modified, line (the header's is 1), reason, raw.
    """
    refusals = _refused(spark, [landed for landed in batch.files if landed.refusal])
    files = [landed for landed in batch.files if landed.header and batch.counts[landed.file.path].quarantined]
    if not files or batch.rows is None:
        return refusals
    keys = [view.entity, view.day]
    rows = parsed(spark, files, view)
    conflicting = batch.rows.where(CONFLICTS).select(*keys, "source_file", F.lit(CONFLICT).alias("other"))
    joined = rows.join(F.broadcast(conflicting), on=[*keys, "source_file"], how="left")
    reason = F.coalesce(parsing.REASON, "other")
    # A file's first line is its header, which is malformed as a reading: the numbers count from it.
    first = F.expr("min(sequence) OVER (PARTITION BY source_file)")
    bad = joined.where(reason.isNotNull()).withColumn("line", F.col("sequence") - first + 1)
    return bad.where("line > 1").select(*SOURCE, "line", reason.alias("reason"), "raw").unionByName(refusals)


def _refused(spark: SparkSession, files: Sequence[Landed]) -> DataFrame:
    """One quarantined row for each file that is refused as a whole: its first line."""
    rows = [(f.file.path, f.file.modified, 1, f"the whole file is refused: {f.refusal}", f.first_line) for f in files]
    made = spark.createDataFrame(rows, "source_file string, modified bigint, line bigint, reason string, raw string")
    return made.select("source_file", F.timestamp_millis("modified").alias("source_modified"), "line", "reason", "raw")


def whole_files(spark: SparkSession, batch: Batch) -> AbstractContextManager[None]:
    """Keep Spark from splitting a batch's files, so that the order of their lines is known."""
    return tables.set_for(
        spark,
        {
            "spark.sql.files.maxPartitionBytes": str(max(landed.file.size for landed in batch.files) + 1),
            "spark.sql.files.minPartitionNum": "1",
        },
    )
