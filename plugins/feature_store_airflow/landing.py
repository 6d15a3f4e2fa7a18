"""What the landing folder holds, as far as the plan needs to know."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook

from feature_store import layout
from feature_store.calendar import parse_day
from feature_store_airflow.aws import s3_client
from feature_store_airflow.failures import PlanRejected
from feature_store_airflow.settings import LANDING_PREFIX


def csv_objects(s3: S3Hook, bucket: str) -> Iterator[dict[str, Any]]:
    """Yield the listing's entry (Key, LastModified ...) of each CSV in the landing folder that ingest will read."""
    found = s3.iter_file_metadata(LANDING_PREFIX, bucket)
    return (item for item in found if layout.is_csv(item["Key"].rpartition("/")[2]))


def landed_for(s3: S3Hook, bucket: str, last: date) -> str | None:
    """Return the key of a CSV that can hold the whole of day `last`; None while there is none.

    It landed when that day was over (midnight UTC after it) and, if it says where it ends, does not end before it.

    Raises:
        PlanRejected: an object's `last-day` is not a day.
    """
    over = datetime.combine(last + timedelta(days=1), time(), UTC)
    recent = [item for item in csv_objects(s3, bucket) if item["LastModified"] >= over]
    # Newest first: the file that the run waits for is the last to come, and each look at metadata is a request.
    recent.sort(key=lambda item: item["LastModified"], reverse=True)
    keys = (item["Key"] for item in recent)
    return next((key for key in keys if _declared_last_day(s3, bucket, key, default=last) >= last), None)


def _declared_last_day(s3: S3Hook, bucket: str, key: str, *, default: date) -> date:
    declared = s3_client(s3).head_object(Bucket=bucket, Key=key)["Metadata"].get(layout.LAST_DAY)
    if declared is None:
        return default
    try:
        return parse_day(declared)
    except ValueError as error:
        raise PlanRejected(
            f"s3://{bucket}/{key} declares {layout.LAST_DAY}={declared!r}, which is not a day. "
            f"Next: upload it again with x-amz-meta-{layout.LAST_DAY} as YYYY-MM-DD or without it, then clear the run."
        ) from error
