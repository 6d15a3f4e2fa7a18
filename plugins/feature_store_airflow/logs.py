"""The ends of EMR's log files on S3, for messages: what a failing step or bootstrap action wrote last."""

from __future__ import annotations

import gzip
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from airflow.providers.amazon.aws.hooks.s3 import S3Hook

from feature_store_airflow.aws import s3_client

StreamingBody: TypeAlias = Any  # botocore has no types

LINES = 30
LINE_WIDTH = 500  # Spark prints whole query plans in one line

# Spark's own chatter, and the shutdown messages that always come after the error, would fill the last lines.
CHATTER = re.compile(r"^\d\d(\d\d)?[/-]\d\d[/-]\d\d[ T][\d:.,]+ (TRACE|DEBUG|INFO|WARN) ")
BOOTSTRAP_LOG = re.compile(r"/bootstrap-actions/\d+/stderr(\.gz)?$")


def step_logs(cluster: Mapping[str, Any], step_id: str) -> str | None:
    """Return the folder where EMR puts a step's logs; None for a cluster without a LogUri."""
    folder = _cluster_folder(cluster)
    return f"{folder}steps/{step_id}/" if folder else None


def step_log_tails(s3: S3Hook, cluster: Mapping[str, Any], step_id: str) -> dict[str, str]:
    """Return the last lines of a step's stderr and stdout, those that have any; EMR uploads them every few minutes.

    A traceback is in stdout: spark-submit sends both streams of a Python program there. The JVM's own errors are in
    stderr.
    """
    folder = step_logs(cluster, step_id)
    if folder is None:
        return {}
    tails = {name: _first_readable(s3, [f"{folder}{name}.gz", f"{folder}{name}"]) for name in ("stderr", "stdout")}
    return {name: tail for name, tail in tails.items() if tail}


def bootstrap_log_tail(s3: S3Hook, cluster: Mapping[str, Any]) -> str:
    """Return the last lines of the newest bootstrap action's stderr on the node that EMR blames, or on any."""
    folder = _cluster_folder(cluster)
    if folder is None:
        return ""
    bucket, prefix = s3.parse_s3_url(f"{folder}node/")
    try:
        found = [item for item in s3.iter_file_metadata(prefix, bucket) if BOOTSTRAP_LOG.search(item["Key"])]
    except s3_client(s3).exceptions.ClientError as error:
        return f"(the logs in {folder} can't be listed: {error})"
    blamed = re.search(r"\bi-[0-9a-f]+", cluster["Status"].get("StateChangeReason", {}).get("Message", ""))
    if blamed:
        found = [item for item in found if f"/{blamed[0]}/" in item["Key"]] or found
    found.sort(key=lambda item: item["LastModified"], reverse=True)
    return _first_readable(s3, [f"s3://{bucket}/{item['Key']}" for item in found])


def _cluster_folder(cluster: Mapping[str, Any]) -> str | None:
    log_uri = cluster.get("LogUri")
    return f"{log_uri.rstrip('/')}/{cluster['Id']}/" if log_uri else None


def _first_readable(s3: S3Hook, uris: list[str]) -> str:
    """Return the tail of the first of these objects that exists and is not empty."""
    client = s3_client(s3)
    for uri in uris:
        bucket, key = s3.parse_s3_url(uri)
        try:
            body = client.get_object(Bucket=bucket, Key=key)["Body"]
        except client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                continue
            # The log explains a failure; that it can't be read must not hide the failure itself.
            return f"({uri} can't be read: {error})"
        if text := _tail(body, compressed=key.endswith(".gz")):
            return text
    return ""


def _tail(body: StreamingBody, *, compressed: bool) -> str:
    lines = _lines(gzip.GzipFile(fileobj=body) if compressed else body.iter_lines())
    return "\n".join(deque((line[:LINE_WIDTH] for line in lines if not CHATTER.match(line)), maxlen=LINES))


def _lines(raw: Iterable[bytes]) -> Iterator[str]:
    for line in raw:
        if text := line.decode(errors="replace").rstrip():
            yield text
