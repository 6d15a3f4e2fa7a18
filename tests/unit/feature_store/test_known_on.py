"""Features as they would have been made on an earlier day, from what the readings were then."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from feature_store import arrow_readings, compute, live_table
from feature_store.energy import ENERGY
from tests.support import committed_on

pytestmark = pytest.mark.unit

MEASURES = [measure.name for measure in ENERGY.measures]
FIRST, SECOND = dt.date(2014, 2, 1), dt.date(2014, 2, 2)


def readings(**values: float) -> pa.Table:
    """Readings of household A: its days of February 2014 and their values."""
    rows = [
        {"id": "A", "day_date": dt.date(2014, 2, int(day[1:])), **dict.fromkeys(MEASURES, value)}
        for day, value in values.items()
    ]
    schema = arrow_readings.schema(ENERGY.readings)
    return pa.Table.from_pylist(rows, schema=schema)


KNOWN = {
    FIRST: readings(_1=1.0, _2=2.0),
    SECOND: readings(_1=1.0, _2=5.0, _3=3.0),  # the second day was corrected, a third came
    dt.date(2014, 2, 4): readings(_2=5.0, _3=3.0),  # the first was withdrawn
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for version, (day, rows) in enumerate(KNOWN.items()):
        write_deltalake(tmp_path, rows, mode="overwrite")
        committed_on(tmp_path, version, dt.datetime.combine(day, dt.time(23, 59), dt.UTC))
    return tmp_path


@pytest.mark.parametrize(
    ("day", "of"), [(FIRST, FIRST), (SECOND, SECOND), (dt.date(2014, 2, 3), SECOND), (dt.date(2014, 2, 9), "newest")]
)
def test_each_day_has_its_own_readings(table: Path, day: dt.date, of: dt.date | str) -> None:
    expected = list(KNOWN.values())[-1] if of == "newest" else KNOWN[of]  # type: ignore[index]
    made = compute.features(ENERGY, table, known_on=day)
    assert made.equals(compute.features(ENERGY, expected))
    assert compute.features(ENERGY, table).num_rows == 2


def test_a_version_of_the_last_moment_counts_and_one_of_midnight_does_not(table: Path) -> None:
    committed_on(table, 1, dt.datetime(2014, 2, 3, tzinfo=dt.UTC))
    assert live_table.version_known_on(str(table), SECOND) == 0
    committed_on(table, 1, dt.datetime(2014, 2, 2, 23, 59, 59, 999_000, dt.UTC))
    assert live_table.version_known_on(str(table), SECOND) == 1


@pytest.mark.parametrize("day", [dt.date.max, dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)])
def test_a_day_that_is_not_over_is_refused(table: Path, day: dt.date) -> None:
    with pytest.raises(arrow_readings.ReadingsError, match="is not over yet"):
        compute.features(ENERGY, table, known_on=day)


def test_what_can_not_be_known(table: Path, tmp_path: Path) -> None:
    early = dt.date(2014, 1, 31)
    with pytest.raises(
        arrow_readings.ReadingsError,
        match=r"has no version of 2014-01-31 or before: the oldest .* 2014-02-01 23:59 UTC",
    ):
        compute.features(ENERGY, table, known_on=early)
    with pytest.raises(arrow_readings.ReadingsError, match="nowhere is not a Delta table"):
        compute.features(ENERGY, tmp_path / "nowhere", known_on=early)
    with pytest.raises(arrow_readings.ReadingsError, match="known_on takes the path or URI of a Delta table"):
        compute.features(ENERGY, KNOWN[FIRST], known_on=early)
    for file in DeltaTable(table, version=0).file_uris():
        Path(file).unlink()  # as VACUUM does
    with pytest.raises(arrow_readings.ReadingsError, match="can't be read"):
        compute.features(ENERGY, table, known_on=FIRST)
