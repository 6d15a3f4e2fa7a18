"""The Keyspaces stand-in answers as Keyspaces does: TLS, roles, limits, DDL, throttling; and it keeps its rows."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cassandra import ConsistencyLevel, InvalidRequest, ReadTimeout, Unauthorized, WriteTimeout
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster, NoHostAvailable
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import BatchStatement, SimpleStatement

from infra.local import cassandra as stand_in
from infra.local.cassandra import tls
from infra.local.settings import ROOT, Ports, Stack
from tests.integration.capacity import CONSUMED, Capacity
from tests.support import serving

pytestmark = pytest.mark.integration

KEYSPACE = "stand_in_test"
TABLE = f"{KEYSPACE}.t"
INSERT = f"INSERT INTO {TABLE} (id, d, v) VALUES ('a', '2020-01-01', 1.0)"
START_WCU = 7


def login(stack: Stack) -> Any:
    return stand_in.session(stack, stack.secrets.keyspaces_username, stack.secrets.keyspaces_password)


def can_log_in(stack: Stack) -> bool:
    try:
        with login(stack):
            return True
    except NoHostAvailable:
        return False


@pytest.fixture(scope="module")
def session(cassandra: Any) -> Iterator[Any]:
    with login(cassandra.stack) as session:
        session.execute(
            f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH REPLICATION = {{'class': 'SingleRegionStrategy'}}"
        )
        session.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (id text, d date, v double, PRIMARY KEY (id, d))")
        yield session


class TestTls:
    def refusal(self, cassandra: Any, context: ssl.SSLContext | None, name: str | None = None) -> str:
        cluster = Cluster(
            [cassandra.host],
            port=cassandra.port,
            auth_provider=PlainTextAuthProvider(cassandra.username, cassandra.password),
            ssl_context=context,
            ssl_options={"server_hostname": name} if name else None,
            protocol_version=4,
        )
        with cluster, pytest.raises(NoHostAvailable) as refused:
            cluster.connect()
        return str(refused.value)

    def test_another_name_is_refused(self, cassandra: Any) -> None:
        context = ssl.create_default_context(cafile=str(cassandra.ca))
        assert "Hostname mismatch" in self.refusal(cassandra, context, "cassandra.eu-west-2.amazonaws.com")

    def test_another_authority_is_refused(self, cassandra: Any, tmp_path: Path) -> None:
        other = Stack(tmp_path, Ports.free())
        tls.ensure_certificate(other)
        assert "CERTIFICATE_VERIFY_FAILED" in self.refusal(cassandra, ssl.create_default_context(cafile=str(other.ca)))

    def test_plain_text_is_refused(self, cassandra: Any) -> None:
        self.refusal(cassandra, None)


class TestRoles:
    def test_the_password_that_everyone_knows_is_gone(self, cassandra: Any) -> None:
        with (
            pytest.raises(NoHostAvailable, match="incorrect"),
            stand_in.session(cassandra.stack, "cassandra", "cassandra"),
        ):
            pass

    def test_the_ordinary_role_is_no_superuser(self, session: Any) -> None:
        for statement in ("CREATE ROLE other", "SELECT * FROM system_auth.roles"):
            with pytest.raises(Unauthorized):
                session.execute(statement)

    def test_a_set_up_that_was_interrupted_is_completed(self, cassandra: Any) -> None:
        stack = cassandra.stack
        with stand_in.session(stack, "cassandra", stack.secrets.cassandra_superuser_password) as root:
            root.execute(f"ALTER ROLE {cassandra.username} WITH LOGIN = false")
        deadline = time.monotonic() + 30
        while can_log_in(stack):  # roles are cached for two seconds
            assert time.monotonic() < deadline
        # Cassandra takes a new password only every 5 s: the first attempts may be refused.
        stand_in.wait_until_ready(stack, 30)
        with login(stack) as again:
            assert again.execute("SELECT key FROM system.local").one()


class TestDdl:
    def test_the_projects_own_is_taken_unchanged(self, session: Any) -> None:
        for name in ("Keyspace.cql", "Table_Schema.cql"):
            session.execute((ROOT / "Keyspaces" / name).read_text())
        row = session.execute(
            "SELECT status FROM system_schema_mcs.tables WHERE keyspace_name = 'feature_store' "
            "AND table_name = 'energy_data_features'"
        ).one()
        assert row.status == "ACTIVE"
        (row,) = session.execute(
            "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = 'feature_store'"
        )
        assert row.replication["eu-west-2"] == "1"

    def test_what_only_looks_like_an_option_stays(self, session: Any) -> None:
        session.execute(
            f"""CREATE TABLE IF NOT EXISTS {KEYSPACE}.odd (id text, "with" text, d date, PRIMARY KEY (id, d))
            WITH -- a comment and {"{"} 'odd
            CLUSTERING ORDER BY (d DESC) /* AND TAGS = */ AND CUSTOM_PROPERTIES = {{
              'capacity_mode': {{'throughput_mode': 'PROVISIONED', 'read_capacity_units': 1}},
              'x': 'and it''s }} fine'}}
            AND comment = 'WITH x AND TAGS = {{1}};' AND TAGS = {{'team': 'a'}};"""
        )
        where = f"WHERE keyspace_name = '{KEYSPACE}' AND table_name = 'odd'"
        assert (
            session.execute(f"SELECT comment FROM system_schema.tables {where}").one().comment
            == "WITH x AND TAGS = {1};"
        )
        (row,) = session.execute(f"SELECT clustering_order FROM system_schema.columns {where} AND column_name = 'd'")
        assert row.clustering_order == "desc"

    def test_an_alter_of_keyspaces_own_properties_changes_nothing(self, session: Any) -> None:
        session.execute(
            f"ALTER TABLE {TABLE} WITH CUSTOM_PROPERTIES = "
            "{'capacity_mode': {'throughput_mode': 'PAY_PER_REQUEST'}}"
        )
        session.execute(f"ALTER KEYSPACE {KEYSPACE} WITH CLIENT_SIDE_TIMESTAMPS = {{'status': 'ENABLED'}}")

    def test_a_prepared_statement_is_rewritten_too(self, session: Any) -> None:
        session.execute(session.prepare(f"ALTER TABLE {TABLE} WITH TAGS = {{'a': 'b'}}"))


class TestLimits:
    @pytest.mark.parametrize("level", ["ONE", "LOCAL_ONE", "QUORUM", "ALL", "ANY"])
    def test_writes_at_another_level_are_refused(self, session: Any, level: str) -> None:
        with pytest.raises(InvalidRequest, match="write_consistency_levels"):
            session.execute(SimpleStatement(INSERT, consistency_level=getattr(ConsistencyLevel, level)))

    @pytest.mark.parametrize("level", ["ONE", "LOCAL_ONE", "LOCAL_QUORUM"])
    def test_reads_at_three_levels_are_taken(self, session: Any, level: str) -> None:
        session.execute(INSERT)
        select = f"SELECT v FROM {TABLE} WHERE id = 'a' LIMIT 1"
        assert (
            session.execute(SimpleStatement(select, consistency_level=getattr(ConsistencyLevel, level))).one().v == 1.0
        )

    @pytest.mark.parametrize("level", ["QUORUM", "ALL", "SERIAL", "LOCAL_SERIAL"])
    def test_reads_at_others_are_refused(self, session: Any, level: str) -> None:
        with pytest.raises(InvalidRequest, match="read_consistency_levels"):
            session.execute(
                SimpleStatement(f"SELECT v FROM {TABLE}", consistency_level=getattr(ConsistencyLevel, level))
            )

    @pytest.mark.parametrize(
        "statement",
        [
            f"SELECT COUNT(*) FROM {TABLE}",
            f"SELECT MAX(v) FROM {TABLE}",
            f"SELECT DISTINCT id FROM {TABLE}",
            f"SELECT * FROM {TABLE} PER PARTITION LIMIT 1",
            f"SELECT id FROM {TABLE} GROUP BY id",
            f"SELECT * FROM {TABLE} WHERE id IN ({', '.join(repr(str(n)) for n in range(101))})",
            f"{INSERT} USING TIMESTAMP 1",
            f"CREATE INDEX ON {TABLE} (v)",
            f"TRUNCATE {TABLE}",
            f"CREATE MATERIALIZED VIEW {KEYSPACE}.m AS SELECT * FROM {TABLE} "
            "WHERE id IS NOT NULL AND d IS NOT NULL PRIMARY KEY (d, id)",
            "CREATE KEYSPACE simple WITH REPLICATION = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        ],
    )
    def test_what_keyspaces_lacks_is_refused(self, session: Any, statement: str) -> None:
        with pytest.raises(InvalidRequest):
            session.execute(statement)

    def test_a_batch_holds_thirty_statements(self, session: Any) -> None:
        insert = session.prepare(f"INSERT INTO {TABLE} (id, d, v) VALUES ('b', ?, 1.0)")
        batch = BatchStatement()
        for day in range(30):
            batch.add(insert, [day])
        session.execute(batch)
        batch.add(insert, [30])
        with pytest.raises(InvalidRequest, match="at most 30"):
            session.execute(batch)


def test_over_capacity_a_write_times_out_and_a_killed_server_keeps_its_rows(tmp_path: Path) -> None:
    stack = Stack(tmp_path, Ports.free())
    with serving(stack, "cassandra", KEYSPACES_WCU="50"), login(stack) as session:
        session.execute(f"CREATE KEYSPACE {KEYSPACE} WITH REPLICATION = {{'class': 'SingleRegionStrategy'}}")
        session.execute(f"CREATE TABLE {TABLE} (id text PRIMARY KEY)")
        insert = session.prepare(f"INSERT INTO {TABLE} (id) VALUES (?)")
        results = execute_concurrent_with_args(
            session, insert, [[str(n)] for n in range(1000)], raise_on_first_error=False
        )
        written = {str(n) for n, result in enumerate(results) if result.success}
        assert 50 <= len(written) < 1000
        refused = [result.result_or_exc for result in results if not result.success]
        assert {type(error) for error in refused} == {WriteTimeout}
    # serving() has killed it (-9), and starts it again on the same folder, with the roles that it made.
    with serving(stack, "cassandra"), login(stack) as session:
        assert {row.id for row in session.execute(f"SELECT id FROM {TABLE}")} == written


class Limited(Capacity):
    """A server whose capacity a test sets as it goes, and tables to write to."""

    def table(self, name: str) -> str:
        self.session.execute(f"CREATE TABLE {KEYSPACE}.{name} (id text, n int, v text, PRIMARY KEY (id, n))")
        return f"{KEYSPACE}.{name}"

    def file_error(self) -> Any:
        """Why the file is not in force; None if it is."""
        return self.session.execute("SELECT file_error FROM stand_in.capacity WHERE name = 'wcu'").one().file_error

    def consumed(self, table: str) -> Any:
        """What was asked of a table; None if nothing was."""
        return self.session.execute(CONSUMED, table.split(".")).one()

    def write(self, table: str, keys: Sequence[str], size: int = 1) -> list[bool]:
        """A row of about `size` bytes for each key, at once; which were taken."""
        insert = self.session.prepare(f"INSERT INTO {table} (id, n, v) VALUES (?, ?, ?)")
        rows = [(key, number, "x" * size) for number, key in enumerate(keys)]
        results = execute_concurrent_with_args(self.session, insert, rows, raise_on_first_error=False)
        assert {type(each.result_or_exc) for each in results if not each.success} <= {WriteTimeout}
        return [each.success for each in results]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    stack = Stack(tmp_path_factory.mktemp("limited"), Ports.free())
    with serving(stack, "cassandra", KEYSPACES_WCU=str(START_WCU)), login(stack) as session:
        session.execute(f"CREATE KEYSPACE {KEYSPACE} WITH REPLICATION = {{'class': 'SingleRegionStrategy'}}")
        yield Limited(stack, session, START_WCU)


@pytest.fixture
def limited(running: Limited) -> Limited:
    """Without any limit, at first."""
    running.set(wcu=0, rcu=0)
    return running


class TestCapacityFile:
    def test_it_changes_the_capacity_of_the_running_server(self, limited: Limited) -> None:
        table, keys = limited.table("changed"), [str(number) for number in range(1000)]
        assert all(limited.write(table, keys))
        limited.set(wcu=20)
        assert 20 <= sum(limited.write(table, keys)) < 1000
        limited.set(wcu=0)
        assert all(limited.write(table, keys))

    def test_where_it_says_nothing_the_servers_start_and_keyspaces_quotas_hold(self, limited: Limited) -> None:
        limited.set(rcu=5)
        assert limited.limits() == {"wcu": START_WCU, "rcu": 5, "partition.wcu": 1000, "partition.rcu": 3000}
        limited.file.unlink()
        limited.wait_for(wcu=START_WCU, rcu=0, partition_wcu=1000, partition_rcu=0)

    @pytest.mark.parametrize(
        "text", ["", "wcu = ", "wcu = many", "wcu = -1", "wcu = NaN", "wcu = 3\npartition.w", "\\u"]
    )
    def test_one_that_cannot_be_read_changes_nothing(self, limited: Limited, text: str) -> None:
        limited.set(wcu=11)
        limited.write_file(text)
        deadline = time.monotonic() + 10
        while not limited.file_error():
            assert limited.limits()["wcu"] == 11
            assert time.monotonic() < deadline
        assert limited.limits()["wcu"] == 11
        limited.set(wcu=12)
        assert limited.file_error() is None


class TestPartitionLimit:
    def test_a_hot_partition_is_refused_where_its_table_has_more(self, limited: Limited) -> None:
        table = limited.table("hot")
        limited.set(wcu=10_000)
        assert all(limited.write(table, [str(number) for number in range(500)], 9 * 1024))  # 5,000 units
        before = limited.consumed(table)
        began = time.monotonic()
        taken = sum(
            limited.write(table, ["hot"] * 1000, 9 * 1024)
        )  # so large that no machine is too slow to be refused
        took = time.monotonic() - began
        assert taken < 1000
        # A bucket is a second's worth, and fills while it is emptied.
        assert 1000 <= taken * 10 <= 1000 * (1 + took) + 10
        after = limited.consumed(table)
        assert after.written_units - before.written_units == taken * 10
        assert after.writes_refused - before.writes_refused == 1000 - taken

    def test_what_a_partition_refuses_is_not_taken_from_the_table(self, limited: Limited) -> None:
        table = limited.table("table_untouched")
        limited.set(wcu=600, partition_wcu=1)
        assert limited.write(table, ["hot"], 90 * 1024) == [True]  # in debt for a minute and a half
        for _ in range(5):
            assert limited.write(table, ["hot"], 500 * 1024) == [False]
        assert limited.write(table, ["cold"], 500 * 1024) == [True]

    def test_what_a_table_refuses_is_not_taken_from_the_partition(self, limited: Limited) -> None:
        table = limited.table("partition_untouched")
        limited.set(wcu=1, partition_wcu=600)
        assert limited.write(table, ["another"], 90 * 1024) == [True]
        for _ in range(5):
            assert limited.write(table, ["cold"], 500 * 1024) == [False]
        limited.set(wcu=0, partition_wcu=600)
        assert limited.write(table, ["cold"], 500 * 1024) == [True]

    def test_reads_of_a_partition_and_of_a_range(self, limited: Limited) -> None:
        table = limited.table("read_hot")
        limited.write(table, ["hot"])
        limited.set(rcu=100_000, partition_rcu=0.5)
        with pytest.raises(ReadTimeout):
            limited.session.execute(f"SELECT v FROM {table} WHERE id = 'hot'")
        assert limited.session.execute(f"SELECT v FROM {table}").one()


class TestConsumption:
    @pytest.mark.parametrize(("name", "size", "units"), [("kb", 1000, 1), ("kb2", 1025, 2), ("kb3", 3 * 1024 - 10, 3)])
    def test_a_write_costs_a_unit_for_every_kilobyte_begun(
        self, limited: Limited, name: str, size: int, units: int
    ) -> None:
        table = limited.table(name)
        limited.write(table, ["k"], size)
        consumed = limited.consumed(table)
        assert consumed.written_units == units
        assert consumed.bytes_written == size + len("k") + 4  # the int is as much
        assert (consumed.writes, consumed.writes_refused) == (1, 0)

    def test_a_batch_costs_what_its_rows_do_and_is_refused_whole(self, limited: Limited) -> None:
        table = limited.table("in_a_batch")
        insert = limited.session.prepare(f"INSERT INTO {table} (id, n, v) VALUES ('a', ?, ?)")
        batch = BatchStatement()
        for number, size in enumerate((1, 2000, 3000)):
            batch.add(insert, [number, "x" * size])
        limited.session.execute(batch)
        assert limited.consumed(table).written_units == 1 + 2 + 3
        limited.set(wcu=0.5)
        with pytest.raises(WriteTimeout):
            limited.session.execute(batch)
        consumed = limited.consumed(table)
        assert (consumed.writes, consumed.writes_refused, consumed.written_units) == (3, 3, 6)

    @pytest.mark.parametrize(
        ("level", "where", "units"),
        [
            ("LOCAL_QUORUM", "WHERE id = 'a'", 1),
            ("LOCAL_ONE", "WHERE id = 'a'", 0.5),
            ("ONE", "WHERE id = 'a'", 0.5),
            ("LOCAL_QUORUM", "WHERE id IN ('a', 'b', 'c')", 3),
            ("LOCAL_QUORUM", "", 1),
        ],
    )
    def test_what_a_read_costs(self, running: Limited, level: str, where: str, units: float) -> None:
        table = f"{KEYSPACE}.read"
        running.session.execute(f"CREATE TABLE IF NOT EXISTS {table} (id text PRIMARY KEY)")
        running.set(rcu=0)
        before = running.consumed(table)
        query = SimpleStatement(f"SELECT id FROM {table} {where}", consistency_level=getattr(ConsistencyLevel, level))
        running.session.execute(query)
        after = running.consumed(table)
        assert after.read_units - (before.read_units if before else 0) == units
        running.set(rcu=0.4)
        with pytest.raises(ReadTimeout):
            running.session.execute(query)
        refused = running.consumed(table)
        assert refused.reads_refused - after.reads_refused == 1
        assert (refused.reads, refused.read_units) == (after.reads, after.read_units)
