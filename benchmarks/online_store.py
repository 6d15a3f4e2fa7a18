"""What the benchmark of reads reads: a stand-in of Keyspaces with a table of features, put there without a server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # the same
from deltalake import DeltaTable

from benchmarks import data, sync, sync_rivals, sync_server
from benchmarks.features import WORK
from benchmarks.sync_server import Server
from feature_store import cql
from feature_store.arrow_readings import schema
from feature_store.endpoint import open_session
from feature_store.energy import ENERGY
from infra.local.cassandra.server import prepare

KEYSPACE, RIVALS_KEYSPACE = "bench_online", "bench_online_feast"
HOME = WORK / "online"
LOADER_HEAP = "-Xmx4g"  # instead of the server's: it sorts rows in memory


@dataclass(frozen=True)
class Rows:
    """What is in the table.

    Attributes:
        table: all of it.
        newest: a Parquet file of each entity's newest row.
        names: a file of the entities, one a line.
    """

    table: pa.Table
    newest: Path
    names: Path

    def features(self, entities: Sequence[str]) -> list[Mapping[str, object]]:
        """The newest features of entities, by name."""
        features = [column.name for column in ENERGY.columns if column.name not in (ENERGY.entity, ENERGY.day)]
        by_name = {row[ENERGY.entity]: row for row in pq.read_table(self.newest).to_pylist()}
        return [{name: by_name[entity][name] for name in features} for entity in entities]


def make(rows: int) -> Rows:
    """Make the features, once, and take about so many rows of them: all days of so many households, 100 at least."""
    whole = DeltaTable(str(sync.features(sync.DAYS))).to_pyarrow_table().cast(schema(ENERGY.columns))
    names = sorted(pc.unique(whole.column(ENERGY.entity)).to_pylist())[: max(100, rows // sync.DAYS)]
    table = whole.filter(pc.is_in(whole.column(ENERGY.entity), pa.array(names)))
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    made = Rows(table, HOME / "newest.parquet", HOME / "names")
    pq.write_table(table.filter(pc.equal(table.column(ENERGY.day), pa.scalar(data.LAST_DAY))), made.newest)
    made.names.write_text("\n".join(names))
    return made


def serve(rows: Rows, meanwhile: Callable[[Server], None]) -> Server:
    """Start a server that has the rows in its table and nothing in its memory: all is in files, which are read.

    Args:
        rows: to be there.
        meanwhile: what else to write, by a server that is started again after it.
    """
    server = sync_server.start(HOME / "stack")
    server.fresh(KEYSPACE)
    with open_session(server.endpoint).cluster as cluster:
        create = cluster.metadata.keyspaces[KEYSPACE].tables[ENERGY.name].as_cql_query()
        cql.apply(cluster.connect(), cql.keyspace(RIVALS_KEYSPACE))
    meanwhile(server)
    server.stop()
    (folder,) = (HOME / "stack").glob(f"cassandra/data/**/{KEYSPACE}/{ENERGY.name}-*")
    _write(rows, create, server, folder)
    return sync_server.start(HOME / "stack")


def _write(rows: Rows, create: str, server: Server, folder: Path) -> None:
    """Write the rows as files of a table, as the server would."""
    encoded = HOME / "rows.cells"
    sync_rivals.encode(rows.table, encoded)
    insert = cql.insert(ENERGY, KEYSPACE, ENERGY.name)
    *java, _ = prepare(server.stack)
    program = str(Path(__file__).with_name("Load.java"))
    done = subprocess.run(
        [*java, LOADER_HEAP, program, str(encoded), str(folder), create, insert],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"The rows can't be written: {(done.stdout + done.stderr)[-2000:]}")
    encoded.unlink()
