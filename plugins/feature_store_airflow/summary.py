"""The JSON object in which a job says what it did, on S3."""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook

from feature_store_airflow.aws import s3_client


def delete_summary(s3: S3Hook, uri: str) -> None:
    """Delete the summary of an earlier try, so that whatever is there afterwards is of the step that comes next."""
    bucket, key = s3.parse_s3_url(uri)
    s3_client(s3).delete_object(Bucket=bucket, Key=key)


def read_summary(s3: S3Hook, uri: str) -> dict[str, Any] | None:
    """Return the summary at uri; None if the job has left none, or has died while writing it.

    Raises:
        ClientError: S3 refuses to tell.
    """
    bucket, key = s3.parse_s3_url(uri)
    client = s3_client(s3)
    try:
        text = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise
    try:
        summary = json.loads(text)
    except ValueError:
        return None
    return summary if isinstance(summary, dict) else None
