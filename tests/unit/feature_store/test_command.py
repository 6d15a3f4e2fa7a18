"""`python -m feature_store`: what it prints, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable, Schema

from feature_store import cql, describe, live_table, registry
from feature_store.__main__ import main
from feature_store.energy import ENERGY
from feature_store.table_schema import as_json
from feature_store.view import ViewError
from infra.local.settings import ROOT

pytestmark = pytest.mark.unit

NAMES = [view.name for view in registry.views()]
FEATURE = """\
  energy_sum_3months     double  sum over 3months     energy_sum     energy_sum
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """An empty Delta table with the first view's columns."""
    path = tmp_path / ENERGY.name
    DeltaTable.create(path, Schema.from_json(as_json(ENERGY)))
    return path


def test_the_list_names_every_view(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["view", *NAMES]
    assert ENERGY.description in lines[1]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wider_than_a_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["list"], ["describe", name], ["schema", name]):
        assert main(command) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 120


def test_a_description_has_every_column_with_its_lineage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", ENERGY.name]) == 0
    said = capsys.readouterr().out
    assert FEATURE in said
    assert [line.split()[0] for line in said.splitlines()[-24:]] == [column.name for column in ENERGY.columns]
    # Clamped: as of the last day of May.
    assert "  3months  add_months(d, -3), clamped at the month's end   d         2024-02-29" in said
    assert "household_id or LCLid" in said
    assert "online a row stays for ever" in said


def test_a_description_counts_days_from_the_day_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "energy_recent_features"]) == 0
    said = capsys.readouterr().out
    assert "  28days  d - 27 days  d         2024-05-04" in said
    assert "days seen over 28days  day_date    day\n" in said
    assert "for the newest 90 days" in said


def test_the_cql_is_that_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    for view in registry.views():
        assert main(["cql", view.name]) == 0
        assert capsys.readouterr().out == (ROOT / "Keyspaces" / cql.file(view)).read_text()
    assert main(["cql", ENERGY.name, "--keyspace", "other"]) == 0
    assert '"other"."energy_data_features"' in capsys.readouterr().out


def test_the_schema_comes_as_ddl_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", ENERGY.name]) == 0
    assert "  energy_count_1yr BIGINT,\n" in capsys.readouterr().out
    assert main(["schema", ENERGY.name, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["fields"]) == 24


def test_a_table_of_the_view_does_not_differ(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", ENERGY.name, "--table", str(table)]) == 0
    assert capsys.readouterr().out == f"energy_data_features is {table}: 24 columns, the same names, types and order.\n"


def test_a_table_of_another_view_differs(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "energy_recent_features", "--table", str(table)]) == 1
    said = capsys.readouterr().out
    assert "\n  added    energy_sum_min_7days double\n" in said
    assert "\n  missing  energy_sum_3months double\n" in said
    assert "\nadded: declared, and not in the table. Recompute: " in said
    assert "\nmissing: in the table, and declared no more. Refused: " in said
    assert max(map(len, said.splitlines()[1:])) <= 100


@pytest.mark.parametrize("command", [["describe"], ["cql"], ["schema"], ["diff", "--table", "x"]])
def test_a_wrong_name_is_one_sentence_with_the_known_ones(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "energy"]) == 2
    said = capsys.readouterr()
    assert said.err == f"There is no feature view 'energy': there are {', '.join(NAMES)}.\n"
    assert said.out == ""


def test_what_is_no_table_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", ENERGY.name, "--table", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path} is not a Delta table.\n"


def test_a_store_that_can_not_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = "Generic S3 error\n          \x1b[31m↳\x1b[0m Error performing GET\n           \x1b[31m↳\x1b[0m refused\n"

    def refuse(*_: object, **__: object) -> None:
        raise OSError(tree)

    monkeypatch.setattr("deltalake.DeltaTable", refuse)
    with pytest.raises(live_table.LiveTableError) as refused:
        live_table.schema("s3://lake/x")
    assert str(refused.value) == "s3://lake/x can't be read: Generic S3 error: Error performing GET: refused"


def test_the_endpoint_of_s3_is_not_that_of_the_rest() -> None:
    both = {"AWS_ENDPOINT_URL": "http://aws", "AWS_ENDPOINT_URL_S3": "http://s3"}
    assert live_table.storage_options(both) == {"AWS_ENDPOINT_URL": "http://s3"}
    assert live_table.storage_options({"AWS_ENDPOINT_URL": "http://aws"}) == {}


def test_a_wrong_declaration_ends_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise ViewError("x.py:1: windows of view x has none")

    monkeypatch.setattr(registry, "views", refuse)
    assert main(["list"]) == 2
    assert capsys.readouterr().err == "x.py:1: windows of view x has none\n"


@pytest.mark.parametrize("argv", [[], ["show"], ["describe"], ["diff", "energy_data_features"], ["list", "--all"]])
def test_bad_arguments(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2


def test_a_long_description_is_cut_in_the_list() -> None:
    from dataclasses import replace

    text = describe.listing([replace(ENERGY, description="word " * 40)])
    assert max(map(len, text.splitlines())) <= 120
    assert text.endswith("word ...\n")


def test_it_runs_without_what_computes() -> None:
    """And so it starts at once."""
    code = """import sys; from feature_store.__main__ import main; main(["describe", "energy_data_features"])
assert not {"numpy", "pyarrow", "pyspark", "airflow", "cassandra", "deltalake"} & set(sys.modules), sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
