"""The generated readings: the same for the same arguments, and the past stays as it was."""

import datetime as dt
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.calendar import DayRange
from infra.local import generate, landing

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


def test_later_runs_add_the_days_since(tmp_path: Path) -> None:
    folder = tmp_path / "generated"
    first = generate.extend(folder, LAST, households=20, days=30)
    assert first
    assert (len(first.days), first.days.end) == (30, LAST)
    (one,) = generate.files(folder)
    content = one.read_bytes()
    assert generate.extend(folder, LAST, households=20, days=30) is None
    assert generate.extend(folder, LAST - dt.timedelta(days=3), households=20, days=30) is None
    later = LAST + dt.timedelta(days=2)
    second = generate.extend(folder, later, households=20, days=30)
    assert second
    assert second.days == DayRange(LAST + dt.timedelta(days=1), later)
    assert generate.files(folder) == [one, folder / f"readings_{second.days.start}_{later}.csv"]
    assert one.read_bytes() == content
    assert landing.look(generate.files(folder), folder).days == DayRange(first.days.start, later)


def test_the_files_of_many_days_hold_what_one_file_would(tmp_path: Path) -> None:
    for day in range(3):
        generate.extend(tmp_path / "daily", LAST + dt.timedelta(days=day), households=20, days=10)
    generate.extend(tmp_path / "once", LAST + dt.timedelta(days=2), households=20, days=12)
    daily, once = (
        sorted(
            line
            for file in generate.files(tmp_path / name)
            for line in file.read_text().splitlines()
            if line.startswith("SYN0")
        )
        for name in ("daily", "once")
    )
    assert len(daily) == len(set(daily))
    assert daily == once


def test_each_new_file_shows_the_quarantine_at_work(tmp_path: Path) -> None:
    for day in range(2):
        generate.extend(tmp_path, LAST + dt.timedelta(days=day), households=5, days=30)
    for file in generate.files(tmp_path):
        lines = file.read_text().splitlines()
        (named,) = [line for line in lines if line.startswith("SYN900002,")]
        assert lines[-len(generate.MALFORMED) :][1] == named
        assert landing.days_of(file).start <= dt.date.fromisoformat(named.split(",")[1]) <= landing.days_of(file).end


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "daily_dataset.csv").write_text("of a former time")
    generate.extend(tmp_path, LAST, households=5, days=30)
    assert [file.name for file in generate.files(tmp_path)] == [
        f"readings_{LAST - dt.timedelta(days=29)}_{LAST}.csv",
    ]
