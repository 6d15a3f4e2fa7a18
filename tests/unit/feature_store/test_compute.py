"""Features in one process: the kernel's, bit for bit, whatever the readings are kept in; no more read than needed."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from feature_store import compute, inputs, kernel, landed_csv
from feature_store.arrow_readings import KeyRefusedError, ReadingsError, schema
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.view import Aggregation, Function, Window
from tests.unit.feature_store.in_process import FIRST, HEADER, bits, csv_lines, household, some_readings, write_csv

pytestmark = pytest.mark.unit

READINGS = some_readings()
DAYS = DayRange(dt.date(2012, 2, 29), dt.date(2012, 4, 2))


def day_of(readings: pa.Table) -> pa.ChunkedArray:
    return readings[ENERGY.day]


def delta(folder: Path) -> str:
    """A table as the jobs leave it: several files, other columns, rows in no order."""
    for part in (READINGS.slice(300), READINGS.slice(0, 300)):
        write_deltalake(folder, part.append_column("source_file", pa.array(["f"] * len(part))), mode="append")
    return str(folder)


def delta_by_day(folder: Path) -> str:
    write_deltalake(folder, READINGS.filter(pc.less(day_of(READINGS), dt.date(2012, 5, 1))), partition_by=[ENERGY.day])
    write_deltalake(folder, READINGS.filter(pc.greater_equal(day_of(READINGS), dt.date(2012, 5, 1))), mode="append")
    return str(folder)


def one_csv(folder: Path) -> Path:
    write_csv(folder / "readings.csv", READINGS)
    return folder / "readings.csv"


def csv_folder(folder: Path) -> Path:
    write_csv(folder / "block_0.csv", READINGS.slice(0, 77))
    write_csv(folder / "below" / "block_1.csv.gz", READINGS.slice(77))
    (folder / "_hidden.csv").write_text("not,for,us\n")
    (folder / "README.md").write_text("nor,this\n")
    return folder


def as_other_tools_write_it(folder: Path) -> Path:
    """The kit's name of the entity, columns in another order, quotes, Windows' line ends, a mark, blank lines."""
    content = csv_lines(READINGS).replace("LCLid,day", "day,household_id").splitlines()
    swapped = [content[0]]
    for line in content[1:]:
        entity, day, rest = line.split(",", 2)
        swapped.append(f'"{day}","{entity}",{rest}'.replace(",48,", ",48.0,"))
    (folder / "other.csv").write_bytes(("\ufeff" + "\r\n".join(swapped) + "\r\n   \r\n\r\n").encode())
    return folder / "other.csv"


SOURCES: list[Callable[[Path], Any]] = [
    delta,
    lambda folder: DeltaTable(delta(folder)),
    delta_by_day,
    one_csv,
    csv_folder,
    as_other_tools_write_it,
    lambda folder: READINGS,
    lambda folder: READINGS.slice(0, 3).combine_chunks().to_batches()[0],
]
NAMES = ["Delta's path", "DeltaTable", "Delta by day", "CSV", "folder", "other CSV", "Arrow", "batch"]


@pytest.mark.parametrize("days", [None, DAYS], ids=["all", "days"])
@pytest.mark.parametrize("make", SOURCES, ids=NAMES)
def test_all_sources_give_the_kernels_bits(make: Callable[[Path], Any], days: DayRange | None, tmp_path: Path) -> None:
    source = make(tmp_path)
    readings = pa.Table.from_batches([source]) if isinstance(source, pa.RecordBatch) else READINGS
    right = kernel.features(readings, ENERGY, days)
    found = compute.features(ENERGY, source, days)
    assert found.schema == schema(ENERGY.columns)
    assert bits(found) == bits(right)
    assert found.num_rows or (days and isinstance(source, pa.RecordBatch))


@pytest.mark.parametrize("rows", [1, 100, 600])
def test_how_threads_share_the_entities_changes_no_bit(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "ROWS", rows)
    assert bits(compute.features(ENERGY, READINGS)) == bits(kernel.features(READINGS, ENERGY))


def test_small_blocks_of_a_file_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landed_csv, "BLOCK", 1000)
    assert bits(compute.features(ENERGY, one_csv(tmp_path))) == bits(kernel.features(READINGS, ENERGY))


def test_a_new_view_takes_the_same_files(tmp_path: Path) -> None:
    view = replace(
        ENERGY,
        name="tried_out",
        takes=("energy_sum", "energy_count"),
        windows=(Window("7days", days=7), Window("28days", days=28)),
        aggregations=(Aggregation("low", Function.MIN, "energy_sum"), Aggregation("seen", Function.DAYS_SEEN)),
    )
    found = compute.features(view, one_csv(tmp_path)).to_pylist()
    assert found[27] | {"seen_7days": 7, "seen_28days": 28} == found[27]


def test_no_row_makes_no_row(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text(HEADER)
    for source in (READINGS.slice(0, 0), tmp_path):
        assert compute.features(ENERGY, source).equals(schema(ENERGY.columns).empty_table())
    later = DayRange(dt.date(2030, 1, 1), dt.date(2030, 1, 2))
    assert compute.features(ENERGY, READINGS, later).equals(schema(ENERGY.columns).empty_table())


# --- no more is read than needed


def test_files_that_no_window_sees_are_not_opened(tmp_path: Path) -> None:
    """They may as well not be there."""
    readings = household("MAC1", 1000)
    years = [readings.filter(pc.equal(pc.year(day_of(readings)), year)) for year in (2011, 2012, 2013, 2014)]
    for year in years:
        write_deltalake(tmp_path, year, mode="append")
    for file in DeltaTable(tmp_path).file_uris():
        days = pq.read_table(file)[ENERGY.day]
        if pc.max(days).as_py() < dt.date(2012, 1, 1) or pc.min(days).as_py() >= dt.date(2014, 1, 1):
            Path(file).unlink()
    seen_exactly = DayRange(dt.date(2013, 1, 1), dt.date(2013, 12, 31))
    assert bits(compute.features(ENERGY, str(tmp_path), seen_exactly)) == bits(
        kernel.features(readings, ENERGY, seen_exactly)
    )
    a_day_more = DayRange(dt.date(2012, 12, 31), dt.date(2013, 12, 31))
    for days in (a_day_more, None):
        with pytest.raises(inputs.InputError, match="can't be read"):
            compute.features(ENERGY, str(tmp_path), days)


def test_rows_and_columns_that_are_not_needed_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[pa.Table] = []
    rows = inputs._rows
    monkeypatch.setattr(inputs, "_rows", lambda *args: read.append(rows(*args)) or read[-1])
    compute.features(ENERGY, delta(tmp_path), DAYS)
    (table,) = read
    assert table.column_names == [column.name for column in ENERGY.readings]
    ends = pc.min_max(day_of(table)).as_py()
    assert (ends["min"], ends["max"]) == (FIRST, DAYS.end)
    assert len(table) == pc.sum(pc.less_equal(day_of(READINGS), DAYS.end)).as_py() < len(READINGS)


def test_some_entities_can_be_read_alone(tmp_path: Path) -> None:
    for source in (delta(tmp_path / "delta"), one_csv(tmp_path / "csv"), READINGS):
        assert set(inputs.readings(ENERGY, source, entities=["MAC2", "?"])["id"].to_pylist()) == {"MAC2"}


# --- errors: a sentence that says what and where

GOOD = "MAC1,2012-01-01,1,1,1,48,1,1,1"
MALFORMED = [
    ("", "is no file of readings: its first line is empty"),
    ("a,b\n1,2", "must have one column household_id or LCLid, and has none"),
    (HEADER.replace(",energy_std", ""), "its header lacks energy_std"),
    (f"{HEADER},day\n", "column 'day' twice"),
    (f"{HEADER}\n{GOOD}\n\n{GOOD},9", "10 fields instead of 9: '" + GOOD),
    (f"{HEADER}\n{GOOD}\nMAC1,2012-01-02", "2 fields instead of 9"),
    (f"{HEADER}\n{GOOD}\n{GOOD.replace('MAC1', '')}", "row 2: id is empty"),
    (f"{HEADER}\n{GOOD.replace('2012-01-01', '')}", "row 1: day_date is empty"),
    (f"{HEADER}\n{GOOD.replace('2012-01-01', '2012-02-30')}", "row 1: day_date '2012-02-30' is not a day"),
    (f"{HEADER}\n{GOOD.replace('2012-01-01', '2012-1-1')}", "row 1: day_date '2012-1-1' is not a day"),
    (f"{HEADER}\n{GOOD.replace(',1,48', ',nan,48')}", "row 1: energy_max 'nan' is not a number"),
    (f"{HEADER}\n{GOOD.replace(',1,48', ', 1,48')}", "row 1: energy_max ' 1' is not a number"),
    (f"{HEADER}\n{GOOD.replace(',1,48', ',1e999,48')}", "row 1: energy_max '1e999' is too large"),
    (f"{HEADER}\n{GOOD.replace(',1,48', ',-0.1,48')}", "row 1: energy_max '-0.1' is less than 0"),
    (f"{HEADER}\n{GOOD.replace('48', '4.8')}", "row 1: energy_count '4.8' is not a whole number"),
    (f"{HEADER}\n{GOOD.replace('48', '2147483648')}", "row 1: energy_count '2147483648' is too large"),
    (f"{HEADER}\n{GOOD.replace('MAC1', chr(34) + 'A' + chr(34) + 'B')}", "row 1: id '\"A\"B' has a quote in it"),
    (f"{HEADER}\n{GOOD}\n".encode() + GOOD.encode().replace(b"MAC1", b"\xff"), "UTF8"),
]


@pytest.mark.parametrize(("content", "says"), MALFORMED)
def test_a_malformed_file_is_named_and_what_is_wrong_with_it(content: str | bytes, says: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", READINGS)
    (tmp_path / "b.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(landed_csv.LandedFileError) as refused:
        compute.features(ENERGY, tmp_path)
    assert f"{tmp_path}/b.csv" in str(refused.value)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_cut_short_is_no_shorter_file(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv.gz", READINGS)
    whole = (tmp_path / "a.csv.gz").read_bytes()
    for size in (len(whole) // 2, len(whole) - 4, 0):
        (tmp_path / "a.csv.gz").write_bytes(whole[:size])
        with pytest.raises(landed_csv.LandedFileError, match=r"a\.csv\.gz"):
            compute.features(ENERGY, tmp_path)


def test_the_row_of_a_fault_is_counted_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landed_csv, "BLOCK", 1000)
    write_csv(tmp_path / "a.csv", READINGS)
    with (tmp_path / "a.csv").open("a") as file:
        file.write(GOOD.replace("48", "x"))
    with pytest.raises(landed_csv.LandedFileError, match=f"row {len(READINGS) + 1}: energy_count 'x'"):
        compute.features(ENERGY, tmp_path)


def test_a_key_that_lands_twice_is_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        write_csv(tmp_path / name, READINGS.slice(0, 5))
    with pytest.raises(KeyRefusedError, match="id 'MAC3', day_date 2011-11-23; keys that do so: 5"):
        compute.features(ENERGY, tmp_path)


@pytest.mark.parametrize(
    ("readings", "says"),
    [
        (READINGS.drop_columns(["energy_sum"]), "column energy_sum is missing in the readings of view"),
        (READINGS.append_column("id", READINGS["id"]), "column id is there twice"),
        (
            READINGS.set_column(1, "day_date", day_of(READINGS).cast(pa.timestamp("us"))),
            r"column day_date .* is timestamp\[us\], and not date32",
        ),
        (READINGS.set_column(5, "energy_count", READINGS["energy_count"].cast(pa.int64())), "is int64, and not int32"),
    ],
)
@pytest.mark.parametrize("days", [None, DAYS])
def test_tables_that_do_not_fit_are_refused(
    readings: pa.Table, says: str, days: DayRange | None, tmp_path: Path
) -> None:
    made: list[Any] = [readings]
    if len(set(readings.column_names)) == len(readings.column_names):
        write_deltalake(tmp_path / "delta", readings)
        made.append(tmp_path / "delta")
    for source in made:
        with pytest.raises(ReadingsError, match=says):
            compute.features(ENERGY, source, days)


def test_places_where_nothing_is_are_named(tmp_path: Path) -> None:
    with pytest.raises(inputs.InputError, match="nowhere does not exist"):
        compute.features(ENERGY, tmp_path / "nowhere")
    with pytest.raises(inputs.InputError, match=r"is no Delta table, and holds no \.csv"):
        compute.features(ENERGY, tmp_path)
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / f"{0:020}.json").write_text("{no JSON")
    with pytest.raises(inputs.InputError, match=str(tmp_path)):
        compute.features(ENERGY, tmp_path)
    with pytest.raises(inputs.InputError, match=r"ftp://host/x\.csv can't be read"):
        compute.features(ENERGY, "ftp://host/x.csv")


def test_days_that_end_before_they_start_are_none() -> None:
    with pytest.raises(ValueError, match="the last day 2012-01-01 is before the first day 2012-01-02"):
        compute.features(ENERGY, READINGS, DayRange(dt.date(2012, 1, 2), dt.date(2012, 1, 1)))


def test_without_delta_rs_a_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, csv = delta(tmp_path / "delta"), one_csv(tmp_path / "csv")
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(inputs.InputError, match="takes the package deltalake"):
        compute.features(ENERGY, path)
    assert compute.features(ENERGY, csv).num_rows == len(READINGS)
