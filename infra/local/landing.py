"""The input of a run: which files, the newest day in them, and their way into the bucket's Dataset/ folder."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from infra.local.settings import BUCKET, StackError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PREFIX = "Dataset/"
SUFFIXES = (".csv", ".csv.gz")


@dataclass(frozen=True)
class Landed:
    """What was put into the bucket: number of files, number of those that were not there yet, and the newest day."""

    files: int
    uploaded: int
    last_day: dt.date


def csv_files(path: Path) -> list[Path]:
    """List the CSV files that DATA names: a file, or a folder of them (searched all the way down).

    Raises:
        StackError: nothing is there, or nothing that ends in .csv or .csv.gz.
    """
    if not path.exists():
        raise StackError(f"DATA={path} does not exist: give a .csv, a .csv.gz or a folder of them.")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    found = [file for file in files if file.name.endswith(SUFFIXES)]
    if not found:
        raise StackError(f"DATA={path} holds no .csv and no .csv.gz file: give a file or a folder that does.")
    return found


def newest_day(file: Path) -> dt.date | None:
    """Find the newest day in a CSV's `day` column; None where no row has a well-formed one.

    Malformed rows are the ingest step's business, so nothing here is an error but a file without the column.

    Raises:
        StackError: the file is no CSV with a column `day`.
    """
    try:
        scan = pl.scan_csv(file, infer_schema=False, truncate_ragged_lines=True, quote_char=None, encoding="utf8-lossy")
        days = scan.select(pl.col("day").str.to_date("%Y-%m-%d", strict=False).max()).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StackError(f"{file} can't be read as a CSV of daily readings with a column `day`: {reason}") from error
    newest: dt.date | None = days.item()
    return newest


def land(s3: S3Client, files: Iterable[Path], root: Path, progress: Callable[[str], None]) -> Landed:
    """Upload files below root to Dataset/, skipping those that are there with the same content.

    Each object declares its newest day as metadata `last-day`: a scheduled run that waits for a day is not let off by a
    file that ends before it. The content's hash is metadata too; an unchanged file keeps its object and its time.

    Raises:
        StackError: a file can't be read as a CSV, or none holds a single well-formed day.
    """
    days = {file: newest_day(file) for file in files}
    last_day = max((day for day in days.values() if day), default=None)
    if last_day is None:
        raise StackError(
            f"No row under {root} has a day as YYYY-MM-DD in its column `day`: is this a file of readings?"
        )
    uploaded = 0
    for file, day in days.items():
        key = PREFIX + file.relative_to(root).as_posix()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if _digest_there(s3, key) == digest:
            continue
        metadata = {"sha256": digest} | ({"last-day": day.isoformat()} if day else {})
        s3.upload_file(str(file), BUCKET, key, ExtraArgs={"Metadata": metadata})
        progress(f"s3://{BUCKET}/{key} ({file.stat().st_size / 1e6:.1f} MB)")
        uploaded += 1
    return Landed(len(days), uploaded, last_day)


def _digest_there(s3: S3Client, key: str) -> str | None:
    try:
        return s3.head_object(Bucket=BUCKET, Key=key)["Metadata"].get("sha256")
    except s3.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
            return None
        raise
