"""A look at a live Delta table, without Spark."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from collections.abc import Iterator, Mapping

COMMIT = re.compile(r"(\d{20})\.json")  # Delta's protocol: one commit, one file of that number
# delta-rs draws a tree of causes, in colour.
BRANCH = re.compile(r"\s*\n\s*(?:\x1b\[\d*m|↳)*\s*")
# What delta-rs says of a version that the log has no longer, or has not yet.
NO_SUCH_VERSION = re.compile(r"No files in log segment|No table metadata or protocol|LogSegment end version")


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


def version_known_on(uri: str, day: dt.date) -> int:
    """Find the newest version of a table that was committed by the end of a day (UTC).

    Its writers' own clocks count, as each commit holds its time: a copy of a table has them too.

    Args:
        uri: a path, or s3://bucket/key.
        day: the day.

    Raises:
        LiveTableError: the day is not over, there is no table, it was not there yet, or its log no longer goes back so
            far.
    """
    if day >= dt.datetime.now(dt.UTC).date():
        raise LiveTableError(f"{day} is not over yet (in UTC): nobody can say what will be known on it.")
    over = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)
    committed = None
    for version, committed in commits(uri):
        if committed is not None and committed < over:
            return version
    since = f": the oldest commit in its log is of {committed:%Y-%m-%d %H:%M} UTC" if committed else ""
    raise LiveTableError(f"{uri} has no version of {day} or before{since}.")


def commits(uri: str) -> Iterator[tuple[int, dt.datetime | None]]:
    """Go through a table's versions, the newest first, with the moments at which they were committed.

    A moment is what the commit says itself, None if it says nothing. As far back as the log goes.

    Args:
        uri: a path, or s3://bucket/key.

    Raises:
        LiveTableError: there is no table, or its log can't be read.
    """
    # Not at import: whoever only looks at a schema needs no Arrow.
    import pyarrow.fs  # type: ignore[import-untyped]  # noqa: PLC0415 - it has no types, nor are there stubs of its own

    from feature_store import files  # noqa: PLC0415

    try:
        system, path = files.locate(f"{uri.rstrip('/')}/_delta_log")
        found = system.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True))
        there = sorted((int(commit[1]), info.path) for info in found if (commit := COMMIT.fullmatch(info.base_name)))
        for version, file in reversed(there):
            with system.open_input_stream(file) as stream:
                yield version, _committed(stream.read().decode())
    except (OSError, ValueError) as error:
        raise LiveTableError(f"The log of {uri} can't be read: {_sentence(error)}") from error
    if not there:
        raise LiveTableError(f"{uri} is not a Delta table.")


def _committed(log: str) -> dt.datetime | None:
    """When a commit was made, by what it says itself."""
    for action in map(json.loads, filter(None, log.splitlines())):
        if (said := action.get("commitInfo", {}).get("timestamp")) is not None:
            return dt.datetime.fromtimestamp(said / 1000, dt.UTC)
    return None


def storage_options(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings that delta-rs does not take from the environment by itself: an endpoint that is for S3 alone."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3")
    return {"AWS_ENDPOINT_URL": endpoint} if endpoint else {}


def _sentence(error: Exception) -> str:
    return BRANCH.sub(": ", str(error).strip()) or type(error).__name__
