"""`python -m feature_store training`: what it makes, what it says, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from feature_store import registry
from feature_store.__main__ import main
from feature_store.arrow_readings import schema
from feature_store.training import Record
from tests.unit.feature_store.training.tables import day

pytestmark = pytest.mark.unit

ENERGY, RECENT = (view.name for view in registry.views())
CSV = "id,event_time,label\nA,2014-02-03,1\nB,2014-02-02,0\n"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Both views' tables, with a row each of the first day; and events."""
    for view in registry.views():
        numbers = {column.name: [3] for column in view.columns[2:]}
        columns = {view.entity: ["A"], view.day: [day(0)], **numbers}
        empty = schema(view.columns).empty_table()
        row = type(empty).from_pydict(columns, schema=empty.schema)
        write_deltalake(tmp_path / "delta" / view.name, row)
    (tmp_path / "events.csv").write_text(CSV)
    return tmp_path


def arguments(lake: Path, *more: str) -> list[str]:
    return ["training", "--features", f"{lake}/delta/{{view}}", "--out", str(lake / "set.parquet"), *more]


def test_a_set_of_two_views(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    views = ["--view", f"{ENERGY}:energy_sum_3months,energy_sum", "--view", RECENT]
    options = ["--max-age", "7", "--zone", "Europe/London", "--lag", "5.5"]
    assert main(arguments(lake, *views, "--events", f"{lake}/events.csv", *options)) == 0
    table, record = pq.read_table(lake / "set.parquet"), Record.read(str(lake / "set.parquet"))
    assert table.column_names[:5] == ["id", "event_time", "label", f"{ENERGY}__day", f"{ENERGY}__age"]
    assert table["energy_sum_3months"].to_pylist() == [3.0, None]
    assert record.options.lag.total_seconds() == 5.5 * 3600
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{lake}/set.parquet: 2 rows, 20 columns, digest {record.digest}")
    assert said[1] == f"{ENERGY}: version 0 of {lake}/delta/{ENERGY}, a row for 1 events, days held back: 0"


def test_a_set_by_days_is_rebuilt(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = ["--start", "2014-02-01", "--end", "2014-02-09", "--every", "4", "--view", ENERGY, "--full-names"]
    assert main(arguments(lake, *days)) == 0
    made = (lake / "set.parquet").read_bytes()
    assert pq.read_table(lake / "set.parquet").num_rows == 3
    again = ["training", "--rebuild", f"{lake}/set.parquet", "--out", f"{lake}/again.parquet"]
    assert main(again) == 0
    assert (lake / "again.parquet").read_bytes() == made
    (lake / "delta").rename(lake / "moved")
    assert main(again) == 2
    assert main([*again, "--features", f"{lake}/moved/{{view}}"]) == 0
    for file in DeltaTable(lake / "moved" / ENERGY).file_uris():
        Path(file).unlink()
    capsys.readouterr()
    assert main([*again, "--features", f"{lake}/moved/{{view}}"]) == 1
    assert "has lost a file of version 0" in capsys.readouterr().err


def test_events_that_have_changed_end_with_1(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = ["--events", f"{lake}/events.csv"]
    assert main(arguments(lake, *of, "--view", ENERGY)) == 0
    again = ["training", "--rebuild", f"{lake}/set.parquet", "--out", f"{lake}/again.parquet", *of]
    assert main(again) == 0
    (lake / "events.csv").write_text(CSV.replace("B", "C"))
    assert main(again) == 1
    assert "the events are not those of the record" in capsys.readouterr().err
    assert main([*again, "--max-age", "0"]) == 2
    assert "alone: not --max-age" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--view", "energy"], "There is no feature view 'energy'"),
        (["--view", f"{ENERGY}:energy"], f"view {ENERGY} has no feature 'energy'"),
        ([], "it takes --features and at least one --view"),
        (["--view", ENERGY, "--start", "2014-02-01"], "one of them"),
        (["--view", ENERGY, "--start", "2014-02-02", "--end", "2014-02-01"], "is before the first day"),
        (["--view", ENERGY, "--start", "2014-02-01", "--end", "2014-02-01", "--every", "0"], "every 0 days"),
        (["--view", ENERGY, "--version", f"{RECENT}=1"], "which no --view does"),
        (["--view", ENERGY, "--view", RECENT, "--features", "one/table"], "is one table: with {view} in it"),
        (["--view", ENERGY, "--version", f"{ENERGY}=7", "--events", "{lake}/events.csv"], "has no version 7"),
        (["--view", ENERGY, "--zone", "Moon", "--events", "{lake}/events.csv"], "there is no time zone 'Moon'"),
        (["--view", ENERGY, "--entity", "LCLid", "--events", "{lake}/events.csv"], "no entity column LCLid"),
        (["--view", ENERGY, "--events", "{lake}/nowhere.csv"], "can't be read from"),
        (["--rebuild", "{lake}/events.csv"], "events.csv can't be read: "),
    ],
)
def test_what_can_not_be_made_is_one_sentence(
    lake: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [each.replace("{lake}", str(lake)) for each in more]
    if "--rebuild" in given:
        assert main(["training", "--out", f"{lake}/set.parquet", *given]) == 2
    else:
        where = [] if not more else ["--features", f"{lake}/delta/{{view}}"]
        assert main(["training", "--out", f"{lake}/set.parquet", *where, *given]) == 2
    refused = capsys.readouterr()
    assert said in refused.err
    assert refused.err.count("\n") == 1
    assert not (lake / "set.parquet").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max-age", "-1"),
        ("--max-age", "x"),
        ("--lag", "x"),
        ("--lag", "nan"),
        ("--lag", "1e300"),
        ("--version", "7"),
        ("--start", "today"),
    ],
)
def test_bad_arguments(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["training", "--out", "x", option, value])
    assert ended.value.code == 2
    assert option in capsys.readouterr().err


def test_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["training", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for option in ("--events", "--as-known", "--rebuild", "Exit status"):
        assert option in said
