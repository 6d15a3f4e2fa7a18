"""Files by URI: s3://, s3a:// or a path. Landed ones through Hadoop, as Spark sees them; small ones without a JVM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow.fs  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # py4j ships no types
from pyspark.sql import SparkSession

from feature_store import files, layout
from spark_jobs.errors import JobError, first_cause


@dataclass(frozen=True)
class File:
    """A file as its file system lists it; modified is in milliseconds since 1970."""

    path: str
    size: int
    modified: int


def csv_files(spark: SparkSession, uri: str) -> list[File]:
    """List a CSV file, or those of a folder all the way down, gzipped or not, sorted by path.

    Names that start with _ or . are hidden, as everywhere in Spark.

    Raises:
        JobError: there is no such file or folder, or no CSV in it.
    """
    system, path = _open(spark, uri)
    try:
        found = system.listFiles(path, True)
        csvs = []
        while found.hasNext():
            status = found.next()
            name = str(status.getPath().getName())
            if layout.is_csv(name):
                csvs.append(File(status.getPath().toString(), status.getLen(), status.getModificationTime()))
    except Py4JJavaError as error:
        if "FileNotFoundException" in str(error.java_exception):
            raise JobError(f"{uri} does not exist: nothing has landed there.") from error
        raise
    if not csvs:
        raise JobError(f"{uri} holds no .csv and no .csv.gz file: nothing has landed there.")
    return sorted(csvs, key=lambda file: file.path)


def first_line(spark: SparkSession, path: str) -> str:
    """Read the first line of a text file, gzipped or not; empty for an empty file.

    Raises:
        JobError: it can't be read, or is not the gzip that its name says.
    """
    jvm: Any = spark._jvm  # PySpark has no public way to Hadoop's file systems
    with _text(spark, path) as stream:
        reader = jvm.java.io.BufferedReader(jvm.java.io.InputStreamReader(stream, "UTF-8"))
        return str(reader.readLine() or "")


def read_through(spark: SparkSession, path: str) -> None:
    """Read a text file to its end, gzipped or not.

    Raises:
        JobError: it can't be read, such as a gzip that was cut off.
    """
    jvm: Any = spark._jvm
    with _text(spark, path) as stream:
        stream.transferTo(jvm.java.io.OutputStream.nullOutputStream())


@contextmanager
def _text(spark: SparkSession, path: str) -> Iterator[Any]:
    jvm: Any = spark._jvm
    stream = None
    try:
        system, at = _open(spark, path)
        stream = system.open(at)
        codec = jvm.org.apache.hadoop.io.compress.CompressionCodecFactory(_configuration(spark)).getCodec(at)
        yield codec.createInputStream(stream) if codec is not None else stream
    except Py4JJavaError as error:
        cause = first_cause(error)
        advice = ": land it again, whole" if "EOF" in cause or "Zip" in cause or "gzip" in cause.lower() else ""
        raise JobError(f"{path} can't be read ({cause}){advice}.") from error
    finally:
        if stream is not None:
            stream.close()


def exists(uri: str) -> bool:
    """Tell whether there is a file or folder; JobError if that can't be told."""
    with _said(uri, "can't be looked at"):
        system, path = files.locate(uri)
        return bool(system.get_file_info(path).type != pyarrow.fs.FileType.NotFound)


def names(uri: str) -> list[str]:
    """List the names in a folder; none if there is no such folder. JobError if that can't be told."""
    with _said(uri, "can't be looked into"):
        system, path = files.locate(uri)
        return [info.base_name for info in system.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True))]


def read_text(uri: str) -> str:
    """Read a small text file; JobError if that is not possible."""
    with _said(uri, "can't be read"):
        system, path = files.locate(uri)
        with system.open_input_stream(path) as stream:
            return str(stream.read().decode())


def write_text(uri: str, text: str) -> None:
    """Write a text file, in place of one that is there; JobError if that is not possible."""
    with _said(uri, "can't be written"):
        files.write_text(uri, text)


def update_text(uri: str, change: Callable[[str | None], str]) -> None:
    """Replace a small text file by what `change` makes of it, as files.update_text; JobError if it is not possible."""
    with _said(uri, "can't be brought up to date"):
        files.update_text(uri, change)


def delete(uri: str) -> None:
    """Remove a file, if it is there; JobError if that is not possible."""
    if exists(uri):
        with _said(uri, "can't be removed"):
            system, path = files.locate(uri)
            system.delete_file(path)


@contextmanager
def _said(uri: str, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # of text, or of a URI, that is none
        raise JobError(f"{uri} {what}: {files.first_line(error)}.") from error


def _open(spark: SparkSession, uri: str) -> tuple[Any, Any]:
    jvm: Any = spark._jvm
    path = jvm.org.apache.hadoop.fs.Path(uri)
    return path.getFileSystem(_configuration(spark)), path


def _configuration(spark: SparkSession) -> Any:  # noqa: ANN401 - an object of the JVM
    context: Any = spark.sparkContext
    return context._jsc.hadoopConfiguration()
