"""boto3's clients, with their types: the provider declares those of its hooks as `boto3.client`, a function."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow.providers.amazon.aws.hooks.emr import EmrHook
from airflow.providers.amazon.aws.hooks.s3 import S3Hook

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient
    from mypy_boto3_s3 import S3Client


def emr_client(hook: EmrHook) -> EMRClient:
    """Return the client of an EMR hook."""
    return cast("EMRClient", hook.conn)


def s3_client(hook: S3Hook) -> S3Client:
    """Return the client of an S3 hook."""
    return cast("S3Client", hook.conn)
