"""Ways to read the newest features with this project's environment: its own client, the driver, the original's query.

`python -m benchmarks.online_ways WAY`, by benchmarks.online, as benchmarks.online_worker says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# The driver ships no types.
from cassandra import ConsistencyLevel  # type: ignore[import-untyped]
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session  # type: ignore[import-untyped]
from cassandra.concurrent import execute_concurrent_with_args  # type: ignore[import-untyped]
from cassandra.query import named_tuple_factory, tuple_factory  # type: ignore[import-untyped]

from benchmarks import online_worker
from feature_store import cql
from feature_store.endpoint import REQUEST_TIMEOUT, Endpoint, open_session
from feature_store.energy import ENERGY
from feature_store.online import Connection, Options

FEATURES = [column.name for column in ENERGY.columns if column.name not in (ENERGY.entity, ENERGY.day)]


def ours(session: Session, keyspace: str) -> online_worker.Read:
    """The project's reader, as patient as the driver."""
    reader = Connection(session, keyspace).reader(options=Options(deadline=REQUEST_TIMEOUT))

    def read(entities: Sequence[str]) -> list[Any]:
        return reader.get_many(entities) if len(entities) > 1 else [reader.get(entities[0])]

    return read


class _Bare:
    """The driver's prepared statement of the newest row, in the quickest form that rows can have."""

    def __init__(self, session: Session, keyspace: str) -> None:
        self.session = session
        self.profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=tuple_factory)
        self.statement = session.prepare(cql.latest(ENERGY, keyspace, (ENERGY.day, *FEATURES)))
        self.statement.fetch_size = 1


def driver(session: Session, keyspace: str) -> online_worker.Read:
    """One execute, or all execute_async at once and then their results."""
    bare = _Bare(session, keyspace)

    def read(entities: Sequence[str]) -> list[Any]:
        if len(entities) == 1:
            return [bare.session.execute(bare.statement, entities, execution_profile=bare.profile).one()]
        futures = [
            bare.session.execute_async(bare.statement, (entity,), execution_profile=bare.profile) for entity in entities
        ]
        return [future.result().one() for future in futures]

    return read


def concurrent(session: Session, keyspace: str) -> online_worker.Read:
    """The driver's own helper for many."""
    bare = _Bare(session, keyspace)

    def read(entities: Sequence[str]) -> list[Any]:
        found = execute_concurrent_with_args(
            bare.session,
            bare.statement,
            [(entity,) for entity in entities],
            concurrency=len(entities),
            execution_profile=bare.profile,
        )
        return [rows.one() for _, rows in found]

    return read


def original(session: Session, keyspace: str) -> online_worker.Read:
    """The original kit's simulation: all columns of all days, as a text, by the driver's defaults, one by one."""
    profile = session.execution_profile_clone_update(
        EXEC_PROFILE_DEFAULT, row_factory=named_tuple_factory, consistency_level=ConsistencyLevel.LOCAL_ONE
    )

    def read(entities: Sequence[str]) -> list[Any]:
        return [
            list(
                session.execute(
                    f"SELECT * FROM {keyspace}.{ENERGY.name} WHERE id='{entity}';",  # noqa: S608 - as it does
                    execution_profile=profile,
                )
            )
            for entity in entities
        ]

    return read


WAYS: dict[str, Callable[[Session, str], online_worker.Read]] = {
    way.__name__: way for way in (ours, driver, concurrent, original)
}


def looked(way: str, read: online_worker.Read) -> online_worker.Read:
    """Give what a way reads as the newest features by name, to be compared."""

    def look(entities: Sequence[str]) -> list[dict[str, Any]]:
        found: Any = read(entities)
        if way == "original":
            return [{name: getattr(rows[0], name) for name in FEATURES} for rows in found]
        if way == "ours":
            return [dict(answer.features) for answer in found]
        return [dict(zip(FEATURES, row[1:], strict=True)) for row in found]

    return look


def main() -> int:
    """Read in one way, as the standard input says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.online_ways", description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--keyspace", required=True)
    parser.add_argument("--server", required=True, type=int, help="its process id")
    parser.add_argument("--entities", required=True, type=Path, help="a file of their names, one a line")
    args = parser.parse_args()
    session = open_session(Endpoint.here())
    read = WAYS[args.way](session, args.keyspace)
    reads = {"get": read, "look": looked(args.way, read)}
    online_worker.serve(args.entities.read_text().split(), reads, args.server, driver(session, args.keyspace))
    return 0


if __name__ == "__main__":
    sys.exit(main())
