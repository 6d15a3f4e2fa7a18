"""Feast's Cassandra online store, in an environment of its own: `python -m benchmarks.online_feast WAY`.

Two things of it are set here, as it has no settings for them: TLS, and the consistency level, which it leaves at the
driver's LOCAL_ONE, by which Keyspaces takes no writes. All else is as it comes.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
from cassandra import ConsistencyLevel  # type: ignore[import-untyped]
from cassandra.cluster import Cluster, ExecutionProfile  # type: ignore[import-untyped]

# In its own environment alone, as Feast is.
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.online_stores.cassandra_online_store import cassandra_online_store
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64, Int64

from benchmarks import online_worker

VIEW, ENTITY, DAY = "energy_data_features", "id", "day_date"


class OverTls(Cluster):  # type: ignore[misc]  # it has no types
    """The driver's cluster over TLS, the server's certificate and name checked, at LOCAL_QUORUM."""

    def __init__(
        self, hosts: Sequence[str], execution_profiles: dict[object, ExecutionProfile], **settings: object
    ) -> None:
        """As Feast makes it."""
        for profile in execution_profiles.values():
            profile.consistency_level = ConsistencyLevel.LOCAL_QUORUM
        super().__init__(
            hosts,
            ssl_context=ssl.create_default_context(cafile=os.environ["KEYSPACES_CA"]),
            ssl_options={"server_hostname": hosts[0]},
            execution_profiles=execution_profiles,
            **settings,
        )


def feature_store(newest: Path, keyspace: str) -> FeatureStore:
    """A store of one view, whose registry is a file, and whose offline side is never asked."""
    cassandra_online_store.Cluster = OverTls
    here = newest.parent / "feast"
    here.mkdir(exist_ok=True)
    return FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(here / "registry.db"),
            offline_store={"type": "file"},
            online_store={
                "type": "cassandra",
                "hosts": [os.environ["KEYSPACES_HOST"]],
                "port": int(os.environ["KEYSPACES_PORT"]),
                "keyspace": keyspace,
                "username": os.environ["KEYSPACES_USERNAME"],
                "password": os.environ["KEYSPACES_PASSWORD"],
                "protocol_version": 4,
                "request_timeout": 10.0,
                "load_balancing": {
                    "load_balancing_policy": "DCAwareRoundRobinPolicy",
                    "local_dc": os.environ["AWS_REGION"],
                },
            },
            entity_key_serialization_version=3,
        )
    )


def load(store: FeatureStore, newest: Path) -> None:
    """Declare the view, make its table, and write the newest rows."""
    rows = pq.read_table(newest)
    types = {name: Float64 if str(kind) == "double" else Int64 for name, kind in features(rows)}
    entity = Entity(name=ENTITY, join_keys=[ENTITY], value_type=ValueType.STRING)
    view = FeatureView(
        name=VIEW,
        entities=[entity],
        schema=[Field(name=name, dtype=kind) for name, kind in types.items()],
        source=FileSource(path=str(newest), timestamp_field=DAY),
        ttl=dt.timedelta(0),
        online=True,
    )
    store.apply([entity, view])
    frame = rows.to_pandas(date_as_object=False)
    frame[DAY] = frame[DAY].dt.tz_localize("UTC")
    store.write_to_online_store(VIEW, frame)


def features(rows: Any) -> list[tuple[str, object]]:  # noqa: ANN401 - Arrow has no types
    """Name the features of the rows, and their types."""
    return [(field.name, field.type) for field in rows.schema if field.name not in (ENTITY, DAY)]


def by_features(store: FeatureStore, names: Sequence[str]) -> online_worker.Read:
    """Feast's own way for a service: get_online_features, and what it gives as Python's values."""
    wanted = [f"{VIEW}:{name}" for name in names]

    def read(entities: Sequence[str]) -> Any:  # noqa: ANN401 - Feast's dict of lists
        rows = [{ENTITY: entity} for entity in entities]
        return store.get_online_features(features=wanted, entity_rows=rows).to_dict()

    return read


def by_store(store: FeatureStore, names: Sequence[str]) -> online_worker.Read:
    """The online store under it, without Feast's own work: its values are left in protobuf."""
    view = store.get_feature_view(VIEW)
    online = store._get_provider().online_store

    def read(entities: Sequence[str]) -> Any:  # noqa: ANN401 - Feast's list of pairs
        keys = [EntityKey(join_keys=[ENTITY], entity_values=[Value(string_val=entity)]) for entity in entities]
        return online.online_read(store.config, view, keys, list(names))

    return read


def looked(way: str, read: online_worker.Read, names: Sequence[str]) -> online_worker.Read:
    """Give what a way reads as the newest features by name, to be compared."""

    def look(entities: Sequence[str]) -> list[dict[str, object]]:
        found: Any = read(entities)
        if way == "features":
            return [{name: found[name][place] for name in names} for place in range(len(entities))]
        return [{name: _plain(values[name]) for name in names} for _, values in found]

    return look


def _plain(value: Any) -> object:  # noqa: ANN401 - Feast's protobuf
    kind = value.WhichOneof("val")
    return getattr(value, kind) if kind else None


def main() -> int:
    """Load, or read in one way as the standard input says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.online_feast", description=__doc__)
    parser.add_argument("way", choices=("load", "store", "features"))
    parser.add_argument("--keyspace", required=True)
    parser.add_argument("--newest", required=True, type=Path, help="a Parquet file of the newest rows")
    parser.add_argument("--entities", type=Path, help="a file of their names, one a line")
    parser.add_argument("--server", type=int, help="its process id")
    args = parser.parse_args()
    store = feature_store(args.newest, args.keyspace)
    if args.way == "load":
        load(store, args.newest)
        return 0
    names = [name for name, _ in features(pq.read_table(args.newest))]
    read = (by_store if args.way == "store" else by_features)(store, names)
    reads = {"get": read, "look": looked(args.way, read, names)}
    online_worker.serve(args.entities.read_text().split(), reads, args.server)
    return 0


if __name__ == "__main__":
    sys.exit(main())
