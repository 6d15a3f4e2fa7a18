"""Whether all that has landed is ingested already, told without Spark: often it is, and Spark's start takes longer.

By the same files, ledger and table as `lake.not_ingested`. Where anything is new, or can't be told for certain, it is
for Spark.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator

import pyarrow.fs  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own

from feature_store import files, layout
from feature_store.calendar import DayRange
from spark_jobs import delta_rs, lake
from spark_jobs.delta_rs import NotHereError
from spark_jobs.storage import File
from spark_jobs.tables import Extent

ALL = DayRange(dt.date.min, dt.date.max)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

log = logging.getLogger(__name__)


def look(source: str, readings: str, day: str) -> tuple[int, Extent] | None:
    """Return the version and extent of the readings if there is nothing to ingest; None if that is for Spark to tell.

    Args:
        source: a landed file, or a folder of them.
        readings: the table.
        day: its day column.
    """
    try:
        table = delta_rs.open_table(readings, day)
        landed = set(_landed(source))
        if not landed or not landed <= _ingested(lake.ledger_uri(readings), delta_rs.identity(table)):
            return None
        of_all = delta_rs.recorded(table, readings, day, ALL)
        return table.version(), Extent(of_all.rows, of_all.first_day, of_all.last_day)
    except (NotHereError, OSError, ValueError, NotImplementedError) as why:  # Arrow's own are of the last three
        log.info("Spark looks for what is new: %s.", why)
        return None


def _landed(source: str) -> Iterator[File]:
    """List the files that storage.csv_files lists, by the names that Hadoop gives them."""
    system, path = files.locate(source)
    found = system.get_file_info(path)
    inside = (
        [found]
        if found.is_file
        else system.get_file_info(pyarrow.fs.FileSelector(path, recursive=True, allow_not_found=True))
    )
    scheme = "file:" if system is files.LOCAL else f"{source.partition('://')[0]}://"
    for info in inside:
        if info.is_file and layout.is_csv(info.base_name):
            yield File(f"{scheme}{info.path}", info.size, info.mtime_ns // 1_000_000)


def _ingested(ledger: str, readings_id: str) -> set[File]:
    """Return the files of which the ledger's last entry, for this table of readings, says that they are in it."""
    last: dict[str, tuple[dt.datetime, File]] = {}
    for row in delta_rs.rows(ledger):
        if row["readings_id"] == readings_id:
            modified = (row["modified"] - EPOCH) // dt.timedelta(milliseconds=1)
            entry = row[lake.INGESTED_AT], File(row["path"], row["size"], modified)
            last[row["path"]] = max(last.get(row["path"], entry), entry, key=lambda each: each[0])
    return {file for _, file in last.values()}
