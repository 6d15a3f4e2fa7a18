"""The linter finds what Keyspaces does not do, and nothing in what it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_store import cql, cql_lint
from feature_store.cql_lint import RULES, UnsupportedCqlError, lint

pytestmark = pytest.mark.unit

FILES = Path(__file__).resolve().parents[3] / "Keyspaces"
MANY = ", ".join(map(str, range(101)))
WIDE = ", ".join(f"c{number}" for number in range(230))
INSERTS = "INSERT INTO t (a) VALUES (1); "

FOUND = {
    "TRUNCATE t": "unsupported-statement",
    "CREATE INDEX ON t (a)": "unsupported-statement",
    "CREATE CUSTOM INDEX i ON t (a) USING 'x'": "unsupported-statement",
    "DROP INDEX i": "unsupported-statement",
    "CREATE MATERIALIZED VIEW v AS SELECT a FROM t": "unsupported-statement",
    "CREATE TRIGGER x ON t USING 'y'": "unsupported-statement",
    "CREATE OR REPLACE FUNCTION f(a int) RETURNS int": "unsupported-statement",
    "DROP AGGREGATE f": "unsupported-statement",
    "ALTER TYPE u ADD a int": "unsupported-statement",
    "CREATE ROLE r": "roles",
    "GRANT SELECT ON t TO r": "roles",
    "LIST ROLES": "roles",
    "SELECT COUNT(*) FROM t": "aggregate",
    "SELECT a, max ( b ) FROM t": "aggregate",
    "SELECT DISTINCT a FROM t": "select-clause",
    "SELECT a FROM t GROUP BY a": "select-clause",
    "SELECT a FROM t PER PARTITION LIMIT 1": "select-clause",
    "ALTER TABLE k.t DROP a": "alter-table",
    'ALTER TABLE "k"."t" RENAME a TO b': "alter-table",
    "ALTER TABLE t ALTER a TYPE int": "alter-table",
    "CREATE TABLE t (a int PRIMARY KEY) WITH compaction = {'class': 'x'}": "ignored-option",
    "CREATE TABLE t (a int PRIMARY KEY) WITH comment = 'c' AND gc_grace_seconds = 1": "ignored-option",
    "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}": "replication",
    f"BEGIN UNLOGGED BATCH {INSERTS * 31} APPLY BATCH": "batch-size",
    f"BEGIN BATCH {INSERTS * 101} APPLY BATCH": "batch-size",
    "BEGIN UNLOGGED BATCH INSERT INTO t (a) VALUES (1) IF NOT EXISTS; APPLY BATCH": "batch-condition",
    f"SELECT a FROM t WHERE a IN ({MANY})": "in-values",
    f"DELETE FROM t WHERE a IN ({MANY})": "in-values",
    f"INSERT INTO t ({WIDE}) VALUES ({WIDE})": "columns",
    f"INSERT INTO t ({', '.join(f'c{n}' for n in range(170))}) VALUES (1) USING TTL 60": "columns",
    f"UPDATE t SET {', '.join(f'c{n} = 1' for n in range(226))} WHERE a = 1": "columns",
    "INSERT INTO t (a) VALUES (1) USING TIMESTAMP 5": "client-timestamp",
    "UPDATE t USING TTL 3 AND TIMESTAMP 5 SET b = 1 WHERE a = 1": "client-timestamp",
    "SELECT WRITETIME(a) FROM t": "client-timestamp",
    f"CREATE TABLE k.{'t' * 49} (a int PRIMARY KEY)": "name-length",
}
NOT_FOUND = [
    "SELECT count, max FROM t WHERE sum = 1",
    'SELECT "COUNT" FROM "truncate" WHERE a = \'DISTINCT GROUP BY\' -- COUNT(*)',
    "SELECT a FROM t WHERE token(a) > ? AND token(a) <= ? LIMIT 5 ALLOW FILTERING",
    "SELECT JSON a FROM t /* PER PARTITION LIMIT 1 */",
    "SELECT a FROM t WHERE a = $$ GROUP BY $$",
    "ALTER TABLE k.t ADD drop_count int",
    "ALTER TABLE t WITH default_time_to_live = 5",
    "CREATE TYPE u (a int)",
    "DROP TABLE t",
    "DROP TYPE u",
    f"SELECT a FROM t WHERE a IN ({', '.join(map(str, range(100)))})",
    f"BEGIN UNLOGGED BATCH {INSERTS * 30} APPLY BATCH",
    f"BEGIN BATCH {INSERTS * 100} APPLY BATCH",
    f"INSERT INTO t ({', '.join(f'c{n}' for n in range(227))}) VALUES (1)",
    "INSERT INTO t (a, timestamp) VALUES (1, 2) USING TTL 5",
    "INSERT INTO t (a) VALUES ('USING TIMESTAMP') IF NOT EXISTS",
    "CREATE KEYSPACE k WITH replication = {'class': 'NetworkTopologyStrategy', 'eu-west-2': 3};",
    "CREATE TABLE t (compaction int PRIMARY KEY) WITH CUSTOM_PROPERTIES = {'ttl': {'status': 'enabled'}}",
]


@pytest.mark.parametrize(("statement", "rule"), FOUND.items())
def test_what_keyspaces_does_not_do_is_found(statement: str, rule: str) -> None:
    assert [finding.rule.name for finding in lint(statement)] == [rule]
    assert lint(statement.upper().replace("'CLASS'", "'class'").replace("T" * 49, "t" * 49))[0].rule.name == rule


@pytest.mark.parametrize("statement", NOT_FOUND)
def test_what_it_does_is_not(statement: str) -> None:
    assert lint(statement) == []


def test_every_rule_is_tried_and_has_its_source() -> None:
    assert {rule.name for rule in RULES} == set(FOUND.values())
    assert all(rule.source.startswith("docs.aws.amazon.com/keyspaces/") and rule.as_of for rule in RULES)


@pytest.mark.parametrize("file", sorted(FILES.glob("*.cql")), ids=lambda file: file.name)
def test_the_files_of_the_repository(file: Path) -> None:
    assert [lint(statement) for statement in cql.statements(file.read_text())] != []
    assert not [found for statement in cql.statements(file.read_text()) for found in lint(statement)]


def test_all_of_it_is_said_in_one_sentence() -> None:
    with pytest.raises(UnsupportedCqlError) as caught:
        cql_lint.checked("SELECT DISTINCT COUNT(*)\nFROM t")
    said = str(caught.value)
    assert said.startswith("'SELECT DISTINCT COUNT(*) FROM t' is nothing for Keyspaces: COUNT(): ")
    assert "DISTINCT: " in said
    assert "\n" not in said
    assert cql_lint.checked("SELECT a FROM t") == "SELECT a FROM t"
