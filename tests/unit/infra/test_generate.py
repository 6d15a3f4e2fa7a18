"""The generated readings: the same for the same arguments, and the past stays as it was."""

import datetime as dt
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from infra.local import generate

pytestmark = pytest.mark.unit

LAST = dt.date(2026, 3, 1)


@pytest.fixture(scope="module")
def readings() -> pl.DataFrame:
    return generate.generate(LAST, households=300, days=500)


def test_tomorrows_file_agrees_with_todays(readings: pl.DataFrame) -> None:
    tomorrow = generate.generate(LAST + dt.timedelta(days=1), households=300, days=501)
    assert_frame_equal(tomorrow.filter(pl.col("day") <= LAST), readings)
    assert tomorrow["day"].max() == LAST + dt.timedelta(days=1)


def test_a_household_is_the_same_among_more(readings: pl.DataFrame) -> None:
    fewer = generate.generate(LAST, households=10, days=20)
    same = readings.filter(pl.col("household_id") <= "SYN000010", pl.col("day") > LAST - dt.timedelta(days=20))
    assert_frame_equal(fewer, same)


def test_another_seed_is_another_world(readings: pl.DataFrame) -> None:
    assert not generate.generate(LAST, households=300, days=500, seed=1).equals(readings)


def test_it_is_shaped_as_the_real_set(readings: pl.DataFrame) -> None:
    assert tuple(readings.columns) == generate.COLUMNS
    assert readings["household_id"].str.contains(r"^SYN\d{6}$").all()
    assert not readings.select("household_id", "day").is_duplicated().any()
    single = readings.filter(pl.col("energy_count") == 1)
    assert single.height
    assert single["energy_std"].null_count() == single.height
    nothing = readings.filter(pl.col("energy_count") == 0)
    assert nothing.height
    assert nothing["energy_sum"].null_count() == nothing.height
    values = readings.drop_nulls()
    assert values.filter(~(pl.col("energy_min") <= pl.col("energy_median"))).is_empty()
    assert values.filter(~(pl.col("energy_mean") <= pl.col("energy_max"))).is_empty()


def test_households_join_leave_and_have_gaps(readings: pl.DataFrame) -> None:
    first = LAST - dt.timedelta(days=499)
    seen = readings.group_by("household_id").agg(
        pl.col("day").min().alias("from"), pl.col("day").max().alias("to"), pl.len()
    )
    assert seen.filter(pl.col("from") > first + dt.timedelta(days=30)).height
    assert seen.filter(pl.col("to") < LAST - dt.timedelta(days=30)).height
    assert seen.filter(pl.col("len") < (pl.col("to") - pl.col("from")).dt.total_days() + 1).height


def test_the_file_has_malformed_lines_of_households_without_good_ones(tmp_path: Path) -> None:
    file = tmp_path / "new" / "daily.csv"
    rows = generate.write_csv(file, LAST, households=5, days=30)
    lines = file.read_text().splitlines()
    assert lines[0] == ",".join(generate.COLUMNS)
    assert len(lines) == 1 + rows + len(generate.MALFORMED)
    good = {line.split(",")[0] for line in lines[1 : 1 + rows]}
    assert not good & {line.split(",")[0] for line in lines[1 + rows :]}
    assert [each.name for each in file.parent.iterdir()] == ["daily.csv"]
