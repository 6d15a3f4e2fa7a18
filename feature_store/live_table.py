"""A look at a live Delta table, without Spark."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

# delta-rs draws a tree of causes, in colour.
BRANCH = re.compile(r"\s*\n\s*(?:\x1b\[\d*m|↳)*\s*")


class LiveTableError(Exception):
    """A table can't be read; the message says which and why."""


def schema(uri: str) -> str:
    """Read the schema of a table's newest version, as JSON.

    Args:
        uri: a path, or s3://bucket/key; the environment says which S3, as for any AWS client.

    Raises:
        LiveTableError: there is no table, or it can't be reached.
    """
    # Not at import: it is for a person's machine, and the nodes don't have it.
    try:
        from deltalake import DeltaTable  # noqa: PLC0415
        from deltalake.exceptions import DeltaError, TableNotFoundError  # noqa: PLC0415
    except ImportError as error:
        raise LiveTableError("deltalake is not installed, and it reads the table: `make setup` installs it.") from error
    try:
        return str(DeltaTable(uri, storage_options=storage_options(os.environ)).schema().to_json())
    except TableNotFoundError as error:
        raise LiveTableError(f"{uri} is not a Delta table.") from error
    except (DeltaError, OSError, ValueError) as error:
        raise LiveTableError(f"{uri} can't be read: {_sentence(error)}") from error


def storage_options(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings that delta-rs does not take from the environment by itself: an endpoint that is for S3 alone."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3")
    return {"AWS_ENDPOINT_URL": endpoint} if endpoint else {}


def _sentence(error: Exception) -> str:
    return BRANCH.sub(": ", str(error).strip()) or type(error).__name__
