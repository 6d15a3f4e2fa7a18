"""The input of a run: which files, the days in them, and their way into the bucket's landing folder."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from feature_store import layout
from feature_store.calendar import DayRange, parse_day
from feature_store.energy import ENERGY
from feature_store.landed import HeaderError, read_header
from infra.local.settings import BUCKET, StackError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef


class NoDayError(ValueError):
    """A file that the ingest step takes has no row of a day; the message says why, after the file's name."""


@dataclass(frozen=True)
class Source:
    """A file to be landed.

    Attributes:
        path: where it is.
        key: where it goes in the bucket.
        days: from its oldest day to its newest; None if it has no row of a day.
        remark: why it has none, and what becomes of it; empty if it has.
    """

    path: Path
    key: str
    days: DayRange | None
    remark: str = ""


@dataclass(frozen=True)
class Input:
    """The files of a run, and the days from the oldest to the newest in all of them."""

    sources: tuple[Source, ...]
    days: DayRange


def csv_files(path: Path) -> list[Path]:
    """List the CSV files that DATA names: a file, or a folder of them (searched all the way down).

    Raises:
        StackError: nothing is there, or nothing that the ingest step would take; or one may not look.
    """
    try:
        if not path.exists():
            raise StackError(f"DATA={path} does not exist: give a .csv, a .csv.gz or a folder of them.")
        found = [file for file in _files(path) if layout.is_csv(file.name)]
    except OSError as error:
        raise StackError(f"DATA={path} can't be looked into: {error}.") from error
    if not found:
        raise StackError(
            f"DATA={path} holds no .csv and no .csv.gz file (names that begin with _ or . are passed over): "
            "give a file or a folder that does."
        )
    return found


def _files(path: Path) -> list[Path]:
    """List a file, or all files of a folder; OSError if one may not look into one of its own (rglob passes it over)."""
    if path.is_file():
        return [path]

    def refuse(error: OSError) -> None:
        raise error

    walk = os.walk(path, onerror=refuse)
    return sorted(file for folder, _, names in walk for name in names if (file := Path(folder, name)).is_file())


def look(files: Sequence[Path], root: Path) -> Input:
    """Look into files below root for their days, before anything else is done with them.

    Raises:
        StackError: a file can't be read to its end, or none has a single row of a day.
    """
    sources = tuple(_source(file, layout.LANDING + file.relative_to(root).as_posix()) for file in files)
    days = [source.days for source in sources if source.days]
    if not days:
        remarks = "; ".join(f"{source.path.name} {source.remark}" for source in sources[:3])
        entities = " or ".join(ENERGY.source.landed_entities)
        columns = ", ".join((ENERGY.source.landed_day, *(measure.name for measure in ENERGY.measures)))
        raise StackError(
            f"No file under {root} has a single row of a day: {remarks}. "
            f"Give files with the columns {entities}, {columns}, and days as YYYY-MM-DD."
        )
    return Input(sources, DayRange(min(each.start for each in days), max(each.end for each in days)))


def days_of(file: Path) -> DayRange:
    """Find the oldest and the newest day in a CSV, taking it line by line as the ingest step does.

    What is malformed otherwise is the ingest step's business: a row counts that has all its fields and a day.

    Raises:
        NoDayError: it has no such row.
        StackError: it can't be read to its end.
    """
    try:
        with _open(file) as lines:
            texts = _day_texts(lines)
    except EOFError as error:
        raise StackError(f"{file} is cut short: its end is missing. Get it again.") from error
    except (OSError, zlib.error) as error:
        raise StackError(f"{file} can't be read: {error}.") from error
    days = sorted(_days(texts))
    if not days:
        raise NoDayError(
            "has no row with a day as YYYY-MM-DD: its rows go to quarantine" if texts else "has a header and no row"
        )
    return DayRange(days[0], days[-1])


def land(s3: S3Client, sources: Iterable[Source], progress: Callable[[str], None]) -> int:
    """Upload files to the landing folder, skipping those that are there with the same content.

    Each object declares its newest day in its metadata: a scheduled run that waits for a day is not let off by a
    file that ends before it. The content's hash is metadata too; an unchanged file keeps its object and its time.
    A file that is not the same any more replaces the one that has landed, and ingest withdraws what only that one had.

    Returns:
        How many were uploaded.
    """
    uploaded = 0
    for source in sources:
        with source.path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        there = _there(s3, source.key)
        if there and there["Metadata"].get("sha256") == digest:
            continue
        last_day = {layout.LAST_DAY: source.days.end.isoformat()} if source.days else {}
        s3.upload_file(str(source.path), BUCKET, source.key, ExtraArgs={"Metadata": {"sha256": digest} | last_day})
        what = f"{layout.uri(BUCKET, source.key)} ({source.path.stat().st_size / 1e6:.1f} MB)"
        progress(what + (_replaced(there) if there else ""))
        uploaded += 1
    return uploaded


def _source(file: Path, key: str) -> Source:
    try:
        return Source(file, key, days_of(file))
    except NoDayError as error:
        return Source(file, key, None, str(error))


def _open(file: Path) -> TextIO:
    if file.suffix != ".gz":
        return file.open(encoding="utf-8", errors="replace")
    if file.stat().st_size == 0:  # to Python an empty text, to Hadoop an error
        raise EOFError
    return gzip.open(file, "rt", encoding="utf-8", errors="replace")


def _day_texts(lines: TextIO) -> set[str]:
    """Collect what stands in the column of the day: nothing, in a row that has not all its fields."""
    try:
        header = read_header(lines.readline().rstrip("\n"), ENERGY)
    except HeaderError as error:
        raise NoDayError("has no header of readings: it goes to quarantine as a whole") from error
    # A quoted field ends where its line ends at the latest: what follows an unbalanced quote is not lost.
    rows = (_quoted(line) if '"' in line else line.rstrip("\n").split(",") for line in lines if not line.isspace())
    return {row[header.day] if len(row) == header.fields else "" for row in rows}


def _quoted(line: str) -> list[str]:
    """Split a line with quotes; no fields where they are unbalanced."""
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return []


def _days(texts: Iterable[str]) -> Iterator[dt.date]:
    for text in texts:
        try:
            yield parse_day(text)
        except ValueError:
            continue


def _replaced(there: HeadObjectOutputTypeDef) -> str:
    return (
        f"; replaces the one of {there['LastModified']:%Y-%m-%d %H:%M} UTC, with other content: "
        "its former readings are withdrawn where it has them no more"
    )


def _there(s3: S3Client, key: str) -> HeadObjectOutputTypeDef | None:
    try:
        return s3.head_object(Bucket=BUCKET, Key=key)
    except s3.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
            return None
        raise
