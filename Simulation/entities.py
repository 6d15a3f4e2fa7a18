"""Who is asked for: ids of the real table, or of a trace, and which of them by which chance."""

from __future__ import annotations

import gzip
import math
import random
import time
import zlib
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import accumulate, cycle, islice, pairwise
from typing import Any

# The driver ships no types.
from cassandra import ConsistencyLevel  # type: ignore[import-untyped]
from cassandra.cluster import Session  # type: ignore[import-untyped]
from cassandra.concurrent import execute_concurrent_with_args  # type: ignore[import-untyped]

from feature_store import cql, cql_lint
from feature_store.endpoint import DRIVER_ERRORS, OnlineError
from feature_store.online.tries import Tries, kind_of
from feature_store.view import FeatureView
from Simulation.plan import TRACE, UNIFORM, Plan
from Simulation.store import Bucket

MOST_IDS = 10_000
MOST_TRACE = 32 * 1024**2  # bytes, unpacked: some million ids, which are some 100 MB in memory
# Parts of the token ring that are walked at once, by a request each at a time; a part more is a read unit more.
PARTS, AT_ONCE = 100, 32
PATIENCE = 120.0  # seconds, for a table with too little capacity for a quick walk
FIRST_TOKEN, LAST_TOKEN = -(2**63), 2**63 - 1
NO_ONE = (
    "{table} is empty: there is nobody to ask for. Bring features online first (spark_jobs.sync, or the DAG "
    "feature_store_daily), or name the right --keyspace and --view."
)
Draw = Callable[[int], Sequence[str]]  # so many ids, fewer if one is drawn twice


class EntitiesError(Exception):
    """There is nobody to ask for; one sentence says why."""


def find(session: Session, view: FeatureView, keyspace: str, most: int = MOST_IDS) -> list[str]:
    """Find ids of a table, in their order: all of them, or so many from all parts of the token ring.

    Keyspaces has no DISTINCT and no PER PARTITION LIMIT, and bills the rows that a page reads: a scan would read every
    day of every entity. So each request asks for the first row after the token of the last one: one row of each
    entity is read, at half a read unit (LOCAL_ONE), and one more for each part of the ring. 10,000 ids take some
    5,050 read units: less than a thousandth of a dollar.

    Raises:
        EntitiesError: the table is empty.
        OnlineError: it can't be read, or not within two minutes for want of capacity.
    """
    table = f"{keyspace}.{view.name}"
    try:
        statement = session.prepare(cql_lint.checked(cql.next_entity(view, keyspace, view.name)))
    except DRIVER_ERRORS as error:
        raise OnlineError(f"The ids of {table} can't be asked for: {error}") from error
    statement.fetch_size = 1  # or Keyspaces reads, and bills, a megabyte
    statement.consistency_level = ConsistencyLevel.LOCAL_ONE
    edges = [FIRST_TOKEN + (LAST_TOKEN - FIRST_TOKEN) * part // PARTS for part in range(PARTS + 1)]
    walking = list(pairwise(edges))
    found: set[str] = set()
    while walking and len(found) < most:
        try:
            rows = _all(session, statement, walking)
        except DRIVER_ERRORS as error:
            raise OnlineError(f"The ids of {table} can't be read: {error}") from error
        after = []
        for (_, end), row in zip(walking, rows, strict=True):
            if row:
                entity, token = row.values()
                found.add(entity)
                after.append((token, end))
        walking = after
    if not found:
        raise EntitiesError(NO_ONE.format(table=table))
    return sorted(found)[:most]


def _all(session: Session, statement: Any, wanted: Sequence[Any]) -> list[dict[str, Any] | None]:  # noqa: ANN401 - the driver's
    """The row of each, or None; what is refused is tried again for as long as it is worth it."""
    rows: dict[int, dict[str, Any] | None] = {}
    tries = Tries.within(PATIENCE)
    while missing := [place for place in range(len(wanted)) if place not in rows]:
        tries.begin()
        asked = [wanted[place] for place in missing]
        answers = execute_concurrent_with_args(session, statement, asked, AT_ONCE, raise_on_first_error=False)
        for place, (answered, result) in zip(missing, answers, strict=True):
            if answered:
                rows[place] = result.one()
            else:
                failed = result
        if len(rows) < len(wanted):
            pause = None if kind_of(failed) is None else tries.pause()
            if pause is None:
                raise failed
            time.sleep(pause)
    return [rows[place] for place in range(len(wanted))]


def trace(uri: str) -> list[str]:
    """Read a trace, s3://BUCKET/KEY: an id a line, gzip or not.

    Raises:
        EntitiesError: there is no id in it, or it is no text, or too much of it.
        StoreError: it can't be read, or is too large.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    content = Bucket(bucket).read(key, MOST_TRACE)
    try:
        if content.startswith(b"\x1f\x8b"):
            with gzip.open(BytesIO(content)) as packed:
                content = packed.read(MOST_TRACE + 1)
        if len(content) > MOST_TRACE:
            raise EntitiesError(f"The trace {uri} has more than {MOST_TRACE:,} bytes: take a part of it.")
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise EntitiesError(f"The trace {uri} is no text of an id a line, gzip or not: {error}.") from error
    ids = [line.strip() for line in text.splitlines() if line.strip()]
    if not ids:
        raise EntitiesError(f"The trace {uri} is empty: it has an id a line.")
    return ids


def drawer(plan: Plan, worker: int, ids: Sequence[str]) -> Draw:
    """Draw ids as a plan says; what a worker draws is of the plan's seed and its number.

    Of Zipf, the id of rank k has a weight of 1 / k**S; who has which rank is drawn, the same for all workers. Of a
    trace each worker takes every N-th line in its order, and begins again when it is over.
    """
    draw = random.Random(f"{plan.seed}:{worker}:ids")  # noqa: S311 - no secret
    if plan.ids == UNIFORM:
        return lambda size: draw.sample(ids, min(size, len(ids))) if size > 1 else [draw.choice(ids)]
    if plan.ids.startswith(TRACE):
        lines = _own(worker, plan.workers, ids)
        return lambda size: list(dict.fromkeys(islice(lines, size)))
    ranked = list(ids)
    random.Random(f"{plan.seed}:ranks").shuffle(ranked)  # noqa: S311 - as above
    until = list(accumulate(math.pow(rank, -plan.skew) for rank in range(1, len(ranked) + 1)))

    def zipf(size: int) -> Sequence[str]:
        drawn = (ranked[bisect(until, draw.random() * until[-1], hi=len(ranked) - 1)] for _ in range(size))
        return list(dict.fromkeys(drawn))

    return zipf


def _own(worker: int, workers: int, lines: Sequence[str]) -> Iterator[str]:
    return islice(cycle(lines), worker, None, workers)
