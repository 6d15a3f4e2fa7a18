"""CQL: the files are the view's, and a file is split as CQL is."""

from dataclasses import replace
from pathlib import Path

import pytest

from feature_store import cql, cql_lint, registry
from feature_store.energy import ENERGY
from feature_store.view import FeatureView

pytestmark = pytest.mark.unit

FILES = Path(__file__).resolve().parents[3] / "Keyspaces"


def test_the_files_are_what_the_views_say() -> None:
    said = {"Keyspace.cql": cql.keyspace("feature_store")}
    said |= {cql.file(view): cql.table(view, "feature_store") for view in registry.views()}
    assert {file.name: file.read_text() for file in FILES.glob("*.cql")} == said


def test_the_first_views_file_has_the_original_kits_name() -> None:
    assert cql.file(ENERGY) == "Table_Schema.cql"


def test_rows_leave_by_their_day_and_never_by_a_time_to_live() -> None:
    assert cql.table(replace(ENERGY, retention=2), "k") == cql.table(ENERGY, "k")


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


@pytest.mark.parametrize("view", registry.views(), ids=lambda view: view.name)
def test_keyspaces_does_all_that_is_sent(view: FeatureView) -> None:
    sent = cql.sent(view, "k")
    assert len(sent) == 14
    assert [cql_lint.checked(statement) for statement in sent] == sent


def test_a_row_is_written_whole() -> None:
    assert cql.insert(ENERGY, "k", "t").startswith('INSERT INTO "k"."t" ("id", "day_date", "energy_median", ')
    assert cql.insert(ENERGY, "k", "t").count("?") == len(ENERGY.columns)
