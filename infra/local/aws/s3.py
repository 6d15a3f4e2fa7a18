"""What EMR itself does on S3: fetch a bootstrap script, put away the logs of a step or of a bootstrap action."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.settings import Stack

log = logging.getLogger(__name__)

# As EMR names them; `controller` is what EMR itself has to say about a step.
LOG_FILES = ("controller", "stdout", "stderr")


class S3Error(Exception):
    """S3 did not do what EMR needs; the message says what and where."""


class S3:
    """The stack's S3, used with the node's role."""

    def __init__(self, stack: Stack) -> None:
        """Make a client for the stack's S3 endpoint."""
        role = stack.aws_environment()
        self._client = boto3.client(
            "s3",
            endpoint_url=role["AWS_ENDPOINT_URL_S3"],
            region_name=role["AWS_REGION"],
            aws_access_key_id=role["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=role["AWS_SECRET_ACCESS_KEY"],
            # A stack that is being stopped ends its S3 too: an upload must not hold up the end of a cluster.
            config=Config(
                connect_timeout=2,
                read_timeout=10,
                retries={"mode": "standard", "total_max_attempts": 2},
                user_agent_appid="node",
            ),
        )

    def fetch(self, uri: str, to: Path) -> None:
        """Fetch one object into a file; S3Error where that fails."""
        bucket, key = split(uri)
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._client.download_file(bucket, key, str(to))
        except (BotoCoreError, ClientError) as error:
            raise S3Error(f"{uri} can't be fetched: {error}") from error

    def put_logs(self, folder: Path, uri: str) -> None:
        """Upload a folder's controller, stdout and stderr as <uri>/<name>.gz; that it fails is logged only."""
        bucket, prefix = split(uri)
        for name in LOG_FILES:
            file = folder / name
            if not file.exists():
                continue
            try:
                body = gzip.compress(file.read_bytes(), mtime=0)
                self._client.put_object(Bucket=bucket, Key=f"{prefix}/{name}.gz", Body=body)
            except (BotoCoreError, ClientError) as error:
                log.warning("the log %s/%s.gz could not be put away: %s", uri, name, error)
                return


def split(uri: str) -> tuple[str, str]:
    """Split s3://bucket/key (EMR takes s3n and s3a too) into bucket and key; S3Error if it is none."""
    scheme, separator, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in {"s3", "s3n", "s3a"} or not separator or not bucket:
        raise S3Error(f"{uri} is not a location in S3: give s3://BUCKET/KEY")
    return bucket, key.strip("/")
