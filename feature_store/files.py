"""Files by path or URI through Arrow's file systems: those of this machine, and S3, set up by the AWS_... variables."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict
from uuid import uuid4

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.fs  # type: ignore[import-untyped]  # the same

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

S3_SCHEMES = ("s3", "s3a", "s3n")  # Hadoop's names for it among them
FILE = re.compile(r"file:(?://)?(?=/[^/])")  # what Hadoop and others put before an absolute path
LOCAL = pyarrow.fs.LocalFileSystem()
TRIES = 10  # at an object that others change too
# What S3 says where an object is not, or is just ceasing to be, the one that was read.
CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")


class _Condition(TypedDict, total=False):
    """That an object is still the one of this tag, or that there is still none."""

    IfMatch: str
    IfNoneMatch: str


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


def first_line(error: BaseException) -> str:
    """What an error of Arrow or delta-rs says, without the trace that it has behind; its class, if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def write_text(uri: str, text: str) -> None:
    """Write a file, whole or not at all, in place of one that is there; OSError if that is not possible."""
    write_bytes(uri, text.encode())


def write_bytes(uri: str, content: bytes | pa.Buffer) -> None:
    """Write a file as `write_text` does, of whatever is in it."""
    system, path = locate(uri)
    if system is not LOCAL:  # an object is there when all of it is
        with system.open_output_stream(path) as stream:
            stream.write(content)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid4().hex}.part")  # its own: two that write at once must not meet
    try:
        part.write_bytes(content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def update_text(uri: str, change: Callable[[str | None], str]) -> None:
    """Replace a small file by what `change` makes of it (of None where there is none); no other writer's is lost.

    Args:
        uri: of the file, as in `locate`.
        change: makes the new text of the one that is there; called anew where another writer was first.

    Raises:
        OSError: it can't be read or written, or others were first each time.
        ValueError: it is a URI of another kind.
    """
    system, path = locate(uri)
    if system is not LOCAL:
        _update_object(path, change)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent):
        write_text(uri, change(target.read_text() if target.exists() else None))


def _update_object(path: str, change: Callable[[str | None], str]) -> None:
    import boto3  # noqa: PLC0415 - Arrow has no conditional writes; whoever has no object to change needs no boto3
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    bucket, _, key = path.partition("/")
    try:
        client: S3Client = boto3.client("s3")
        for _ in range(TRIES):
            text, condition = _object(client, bucket, key)
            try:
                client.put_object(
                    Bucket=bucket, Key=key, Body=change(text).encode(), ContentType="application/json", **condition
                )
            except ClientError as error:
                if error.response["Error"]["Code"] not in CHANGED:
                    raise
            else:
                return
    except (BotoCoreError, ClientError) as error:
        raise OSError(f"S3 does not take it: {error}") from error
    raise OSError(f"others have changed it meanwhile, {TRIES} times")


def _object(client: S3Client, bucket: str, key: str) -> tuple[str | None, _Condition]:
    """The text of an object, None if there is none, and the condition on which it may be replaced."""
    try:
        got = client.get_object(Bucket=bucket, Key=key)
    except client.exceptions.NoSuchKey:
        return None, {"IfNoneMatch": "*"}
    return got["Body"].read().decode(), {"IfMatch": got["ETag"]}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder against others of this machine that would hold it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@cache
def _bucket(name: str) -> pyarrow.fs.FileSystem:
    # By its URI, as Arrow then asks for the bucket's region: a node of a cluster has no variable that says it.
    try:
        return pyarrow.fs.FileSystem.from_uri(f"s3://{name}")[0]
    except pa.ArrowInvalid as error:
        raise ValueError(f"s3://{name} is no bucket: {error}") from error
