"""Files by path or URI through Arrow's file systems: those of this machine, and S3, set up by the AWS_... variables."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from uuid import uuid4

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.fs  # type: ignore[import-untyped]  # the same

S3_SCHEMES = ("s3", "s3a", "s3n")  # Hadoop's names for it among them
FILE = re.compile(r"file:(?://)?(?=/[^/])")  # what Hadoop and others put before an absolute path
LOCAL = pyarrow.fs.LocalFileSystem()


def locate(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Find the file system of a path or URI, and the path in it.

    Args:
        uri: a path, file:/path, or s3://bucket/key (s3a and s3n are the same); the key as it is, not URL-encoded.

    Raises:
        OSError: S3 can't be reached, or has no such bucket.
        ValueError: it is a URI of another kind.
    """
    scheme, _, rest = uri.partition(":")
    if scheme in S3_SCHEMES and rest.startswith("//"):
        path = rest.removeprefix("//")
        return _bucket(path.partition("/")[0]), path.rstrip("/")
    if found := FILE.match(uri):
        return LOCAL, uri[found.end() :]
    if "://" in uri or scheme == "file":
        raise ValueError(f"{uri} is neither a path, nor a URI of a file or of S3")
    return LOCAL, uri


def as_uri(uri: str) -> str:
    """Name a place as delta-rs takes it: a URI, in which a path's own blanks and # are encoded; errors as in locate."""
    system, path = locate(uri)
    return Path(path).absolute().as_uri() if system is LOCAL else f"s3://{path}"


def write_text(uri: str, text: str) -> None:
    """Write a file, whole or not at all, in place of one that is there; OSError if that is not possible."""
    system, path = locate(uri)
    if system is not LOCAL:  # an object is there when all of it is
        with system.open_output_stream(path) as stream:
            stream.write(text.encode())
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid4().hex}.part")  # its own: two that write at once must not meet
    try:
        part.write_text(text)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@cache
def _bucket(name: str) -> pyarrow.fs.FileSystem:
    # By its URI, as Arrow then asks for the bucket's region: a node of a cluster has no variable that says it.
    try:
        return pyarrow.fs.FileSystem.from_uri(f"s3://{name}")[0]
    except pa.ArrowInvalid as error:
        raise ValueError(f"s3://{name} is no bucket: {error}") from error
