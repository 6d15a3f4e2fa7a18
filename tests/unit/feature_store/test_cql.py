"""CQL: the files are the view's, and a file is split as CQL is."""

from pathlib import Path

import pytest

from feature_store import cql
from feature_store.energy import ENERGY

pytestmark = pytest.mark.unit

FILES = Path(__file__).resolve().parents[3] / "Keyspaces"


def test_the_files_are_what_the_view_says() -> None:
    assert (FILES / "Keyspace.cql").read_text() == cql.keyspace("feature_store")
    assert (FILES / "Table_Schema.cql").read_text() == cql.table(ENERGY, "feature_store")


def test_the_table_is_in_keyspaces_dialect() -> None:
    text = cql.table(ENERGY, "feature_store")
    assert 'CREATE TABLE IF NOT EXISTS "feature_store"."energy_data_features" (' in text
    assert 'PRIMARY KEY ("id", "day_date")' in text
    assert "WITH CUSTOM_PROPERTIES = {'capacity_mode': {'throughput_mode': 'PAY_PER_REQUEST'}}" in text
    assert 'AND CLUSTERING ORDER BY ("day_date" DESC);' in text
    assert "{'class': 'SingleRegionStrategy'}" in cql.keyspace("feature_store")


def test_cqlshrc_checks_the_server_and_holds_no_secret() -> None:
    text = (FILES / "cqlshrc").read_text()
    assert "port = 9142" in text
    assert "validate = true" in text
    assert "ssl_mode = verify-identity" in text
    assert "[authentication]" not in text


def test_semicolons_within_strings_names_and_comments_end_nothing() -> None:
    text = """-- first; comment
    INSERT INTO t (a) VALUES ('it''s; not'); // second; comment
    /* third;
       comment */ SELECT "a;b" FROM t WHERE a = $$x;y$$;
    ;
    SELECT 1"""
    assert cql.statements(text) == [
        "INSERT INTO t (a) VALUES ('it''s; not')",
        'SELECT "a;b" FROM t WHERE a = $$x;y$$',
        "SELECT 1",
    ]


def test_a_file_is_applied_in_its_order() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.ran: list[str] = []

        def execute(self, query: str) -> None:
            self.ran.append(query)

    session = Recorder()
    cql.apply(session, "A; B;\nC;")
    assert session.ran == ["A", "B", "C"]
