"""Where the files of a simulation are: a bucket, or a folder in place of one."""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from feature_store import layout

# A worker that can't write says so soon, and does not hang: three tries, which end before ECS kills a task.
CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
THERE_ALREADY = {"PreconditionFailed", "ConditionalRequestConflict"}


class StoreError(Exception):
    """The files can't be read or written; one sentence says what, where, and what to do."""


class ExistsError(StoreError):
    """There is a file of that name already, and it is left as it is."""


class NoFileError(StoreError):
    """There is no file of that name."""


@dataclass(frozen=True)
class Entry:
    """A file.

    Attributes:
        key: its name in the store.
        modified: seconds since 1970 when it was written, by the store's clock.
    """

    key: str
    modified: float


class Store(Protocol):
    """Files by name. All of it raises StoreError for what goes wrong."""

    def list(self, prefix: str) -> Sequence[Entry]:
        """The files whose names begin so, by name."""
        ...

    def read(self, key: str) -> bytes:
        """What is in a file; NoFileError if there is none."""
        ...

    def write(self, key: str, content: bytes, *, new: bool = False, kind: str = "application/json") -> None:
        """Write a file, whole or not at all.

        Args:
            key: its name.
            content: what is in it.
            new: whether it is left as it is, and ExistsError is raised, if it is there.
            kind: its content type.
        """
        ...

    def now(self) -> float:
        """Seconds since 1970 by the clock that `modified` is of, give or take half a second."""
        ...


class Bucket:
    """A bucket of S3, by the AWS identity of this process. Thread-safe."""

    def __init__(self, name: str) -> None:
        """Take a bucket; that it is there is seen when it is first used."""
        self.name = name
        with self._explained("used"):
            self._client: Any = boto3.client("s3", config=CONFIG)

    def __str__(self) -> str:
        """Name it as messages do."""
        return f"s3://{self.name}"

    def list(self, prefix: str) -> Sequence[Entry]:
        """The files whose names begin so."""
        with self._explained("listed", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
            return [
                Entry(each["Key"], each["LastModified"].timestamp())
                for page in pages
                for each in page.get("Contents", ())
            ]

    def read(self, key: str, most: float = math.inf) -> bytes:
        """What is in a file; StoreError if it has more bytes than that."""
        with self._explained("read", key):
            answer = self._client.get_object(Bucket=self.name, Key=key)
            if answer["ContentLength"] > most:
                raise StoreError(f"{self}/{key} has {answer['ContentLength']:,} bytes: {most:,} at most are read.")
            return bytes(answer["Body"].read())

    def write(self, key: str, content: bytes, *, new: bool = False, kind: str = "application/json") -> None:
        """Write a file."""
        only = {"IfNoneMatch": "*"} if new else {}
        with self._explained("written", key):
            self._client.put_object(Bucket=self.name, Key=key, Body=content, ContentType=kind, **only)

    def now(self) -> float:
        """The bucket's time: what an answer of it is dated."""
        with self._explained("listed"):
            # Of the one folder that a worker's role lets it list.
            answer = self._client.list_objects_v2(Bucket=self.name, Prefix=f"{layout.SIMULATIONS}/", MaxKeys=1)
        date = parsedate_to_datetime(str(answer["ResponseMetadata"]["HTTPHeaders"]["date"]))
        return date.timestamp() + 0.5  # it has no fractions: that is in the middle

    @contextmanager
    def _explained(self, done: str, key: str = "") -> Iterator[None]:
        what = f"{self}/{key}"
        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in THERE_ALREADY:
                raise ExistsError(f"{what} is there already.") from error
            if code in {"NoSuchKey", "404"}:
                raise NoFileError(f"{what} is not there.") from error
            if code == "NoSuchBucket":
                raise StoreError(f"There is no bucket {self.name}: name one that is there by --bucket.") from error
            raise StoreError(f"{what} can't be {done}: {code}: {error.response['Error'].get('Message', '')}") from error
        except (BotoCoreError, ValueError) as error:  # a bucket's name that can't be one is a ParamValidationError
            raise StoreError(f"{what} can't be {done}: {' '.join(str(error).split())}") from error


class Folder:
    """A folder in place of a bucket, on a machine's own disk."""

    def __init__(self, path: Path) -> None:
        """Take a folder, which need not be there yet."""
        self.path = path

    def __str__(self) -> str:
        """Name it as messages do."""
        return str(self.path)

    def list(self, prefix: str) -> Sequence[Entry]:
        """The files whose names begin so."""
        files = (file for file in self.path.rglob("*") if file.is_file() and file.suffix != ".part")
        named = sorted((file.relative_to(self.path).as_posix(), file) for file in files)
        return [Entry(key, file.stat().st_mtime) for key, file in named if key.startswith(prefix)]

    def read(self, key: str) -> bytes:
        """What is in a file."""
        try:
            return (self.path / key).read_bytes()
        except FileNotFoundError as error:
            raise NoFileError(f"{self.path / key} is not there.") from error
        except OSError as error:
            raise StoreError(f"{self.path / key} can't be read: {error}") from error

    def write(self, key: str, content: bytes, *, new: bool = False, kind: str = "application/json") -> None:  # noqa: ARG002
        """Write a file."""
        file = self.path / key
        part = file.with_name(f".{file.name}.part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            if new:
                file.hardlink_to(part)  # fails where it is there
                part.unlink()
            else:
                part.replace(file)
        except FileExistsError as error:
            part.unlink(missing_ok=True)
            raise ExistsError(f"{file} is there already.") from error
        except OSError as error:
            raise StoreError(f"{file} can't be written: {error}") from error

    def now(self) -> float:
        """This machine's time."""
        return time.time()


def moment(seconds: float) -> str:
    """A time as messages have it, in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")
