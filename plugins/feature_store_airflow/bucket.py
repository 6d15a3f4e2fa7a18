"""The feature store's bucket, as the pages of Airflow's API server read it: with the same connection as the tasks."""

from __future__ import annotations

import gzip
import logging
import re
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import Variable
from botocore.exceptions import BotoCoreError, ClientError

from feature_store_airflow.aws import s3_client
from feature_store_airflow.settings import RUNS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What Airflow takes for the id of a DAG or a task and, unless it is told otherwise, for a run's: no slash, nor anything
# escaped. Two such names have a meaning of their own in paths, and an S3 may keep its objects in files.
DAG_ID = re.compile(r"(?!\.{1,2}\Z)[\w.-]+")
RUN_ID = re.compile(r"(?!\.{1,2}\Z)[\w.~:+-]+")
ABSENT = ("NoSuchKey", "404")
CHUNK = 64 * 1024  # bytes
AT_ONCE = 16  # small objects that are read at the same time: of a run in chunks there are hundreds
# A client takes a tenth of a second to make, which is a third of what a page may take. So long one is used again: then
# a connection that was changed counts.
CLIENT_SECONDS = 300

log = logging.getLogger(__name__)


class NothingThereError(Exception):
    """There is nothing to show; the message says what there is not, and what to do. 404."""


class StoreError(Exception):
    """S3, or the way to it, does not work; the message says how. 502."""


@dataclass(frozen=True)
class Bucket:
    """A bucket, and all of the Airflow Variable that names the feature store's."""

    client: S3Client
    name: str
    settings: Mapping[str, Any]

    @classmethod
    def open(cls, name: str | None = None) -> Bucket:
        """Open the feature store's, or the one of a name.

        Raises:
            StoreError: the Variable or the connection is not there (the API server may read both).
        """
        try:
            settings: Mapping[str, Any] = {} if name else Variable.get("feature_store", deserialize_json=True)
            return cls(_client(int(time.monotonic() // CLIENT_SECONDS)), name or settings["bucket"], settings)
        except Exception as error:
            log.exception("The feature store's bucket can't be reached.")
            raise StoreError(
                "The feature store's bucket can't be reached. Next: see the Variable feature_store, the connection "
                "aws_default and the log of Airflow's API server."
            ) from error

    def chunks(self, key: str) -> Iterator[bytes] | None:
        """Read an object piece by piece, unpacked if its key ends in .gz.

        None if there is none, StoreError if S3 does not give it.
        """
        try:
            body: Any = self.client.get_object(Bucket=self.name, Key=key)["Body"]
        except (BotoCoreError, ClientError) as error:
            if _is_absence(error):
                return None
            raise self._unwell(error) from error
        if key.endswith(".gz"):
            return iter(partial(gzip.GzipFile(fileobj=body).read, CHUNK), b"")
        chunks: Iterator[bytes] = body.iter_chunks(CHUNK)
        return chunks

    def text(self, key: str) -> str | None:
        """Read a small object as text; None if there is none, StoreError if S3 does not give it."""
        chunks = self.chunks(key)
        try:
            return None if chunks is None else b"".join(chunks).decode(errors="replace")
        except BotoCoreError as error:  # while it is being read
            raise self._unwell(error) from error

    def texts(self, keys: Collection[str]) -> dict[str, str]:
        """Read small objects as text, several at once; those that are not there are left out."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            found = dict(zip(keys, threads.map(self.text, keys), strict=True))
        return {key: text for key, text in found.items() if text is not None}

    def names(self, prefix: str) -> list[str]:
        """List the keys that begin so; StoreError if S3 does not say."""
        return [*self.written(prefix)]

    def folders(self, prefix: str) -> list[str]:
        """List the names of what lies directly in a folder and is one, without what is in it; `prefix` ends in a slash.

        StoreError if S3 does not say.
        """
        found = [
            entry["Prefix"] for page in self._pages(prefix, Delimiter="/") for entry in page.get("CommonPrefixes", [])
        ]
        return [name.removeprefix(prefix).rstrip("/") for name in found]

    def each_written(self, keys: Collection[str]) -> dict[str, datetime]:
        """Say when objects were written, several at once; those that are not there are left out."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            found = zip(keys, threads.map(self.written, keys), strict=True)
            return {key: written[key] for key, written in found if key in written}

    def written(self, prefix: str) -> dict[str, datetime]:
        """List the keys that begin so, with the time at which each object was written; StoreError if S3 does not."""
        return {
            entry["Key"]: entry["LastModified"] for page in self._pages(prefix) for entry in page.get("Contents", [])
        }

    def _pages(self, prefix: str, **more: Any) -> Iterator[Any]:  # noqa: ANN401 - as S3 takes and gives them
        try:
            yield from self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix, **more)
        except (BotoCoreError, ClientError) as error:
            raise self._unwell(error) from error

    def _unwell(self, error: Exception) -> StoreError:
        return StoreError(
            f"S3 gave nothing from the bucket {self.name}: {error}. Next: try again, and see S3 if it stays."
        )


def run_folder(dag_id: str, run_id: str) -> str:
    """Name the folder of a run in the bucket; NothingThereError if these are no names of a DAG and of a run."""
    if not (DAG_ID.fullmatch(dag_id) and RUN_ID.fullmatch(run_id)):
        raise NothingThereError("That is not a DAG and a run of it. Next: come here by a link on a run or its tasks.")
    return f"{RUNS}/{dag_id}/{run_id}"


@lru_cache(maxsize=1)
def _client(_: int) -> S3Client:
    return s3_client(S3Hook())


def _is_absence(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in ABSENT
