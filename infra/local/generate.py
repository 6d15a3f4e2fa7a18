"""Readings of households that do not exist, shaped like London's: the input of the main job where there is no other.

A household's day depends on household, day and seed alone: however the days are spread over files, the rows agree.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from feature_store.calendar import DayRange

SEED = 20140228
HOUSEHOLDS = 500
DAYS = 400
COLUMNS = (
    "household_id",
    "day",
    "energy_median",
    "energy_mean",
    "energy_max",
    "energy_count",
    "energy_std",
    "energy_sum",
    "energy_min",
)
FILE = re.compile(r"readings_(?P<first>\d{4}-\d{2}-\d{2})_(?P<last>\d{4}-\d{2}-\d{2})\.csv")
# In every file, so that the quarantine is seen at work: each of another kind, of households that have no good row.
MALFORMED = (
    "SYN900001,2013-02-30,0.2,0.2,0.5,48,0.1,9.6,0.1",
    "SYN900002,{day},0.2,0.2,much,48,0.1,9.6,0.1",
    "SYN900003,{day},0.2,0.2,0.5,-1,0.1,9.6,0.1",
    "SYN900004,{day},0.2,0.2,0.5",
    ",{day},0.2,0.2,0.5,48,0.1,9.6,0.1",
)

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Counts = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Words = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]
Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


class Chance:
    """Random numbers by name and place instead of by turn: the same for the same place, whatever else is drawn."""

    def __init__(self, seed: int) -> None:
        """Take the seed."""
        self._seed = seed

    def uniform(self, what: str, *places: Counts) -> Numbers:
        """Draw from [0, 1) for each of the places, given as arrays of equal shape."""
        word = np.full(places[0].shape, self._seed, np.uint64)
        for number in (*(np.full(places[0].shape, ord(letter), np.int64) for letter in what), *places):
            word = _mixed(word ^ number.astype(np.uint64))
        drawn: Numbers = (word >> np.uint64(11)).astype(np.float64) / 2**53
        return drawn

    def normal(self, what: str, *places: Counts) -> Numbers:
        """Draw from the standard normal distribution (Box and Muller's way)."""
        radius = np.sqrt(-2 * np.log1p(-self.uniform(what + "/radius", *places)))
        drawn: Numbers = radius * np.cos(2 * np.pi * self.uniform(what + "/angle", *places))
        return drawn


def _mixed(word: Words) -> Words:
    """Splitmix64's step: every bit of the input moves half of the output's."""
    word = word + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def generate(
    last_day: dt.date, households: int = HOUSEHOLDS, days: int = DAYS, seed: int = SEED, first_household: int = 1
) -> pl.DataFrame:
    """Make the readings of the days up to last_day, in the landed files' columns, by household and day."""
    first = last_day.toordinal() - days + 1
    house = np.repeat(np.arange(first_household, first_household + households), days)
    day = np.tile(np.arange(first, first + days), households)
    chance = Chance(seed)
    kept = _is_read(chance, house, day)
    return _measures(chance, house[kept], day[kept])


@dataclass(frozen=True)
class Written:
    """A new file: its days, and how many readings are in it."""

    days: DayRange
    readings: int


def files(folder: Path) -> list[Path]:
    """List the files that extend() has written, the oldest days first."""
    return sorted(file for file in folder.glob("*.csv") if FILE.fullmatch(file.name))


def extend(folder: Path, last_day: dt.date, households: int = HOUSEHOLDS, days: int = DAYS) -> Written | None:
    """Write the days up to last_day that no file of the folder has into one more file.

    Args:
        folder: where the files are, made if it is missing; their names say which days they have.
        last_day: the newest day to write.
        households: how many there are.
        days: how many days the first file has.

    Returns:
        What was written; None if the files have last_day already.
    """
    there = [dt.date.fromisoformat(found["last"]) for file in files(folder) if (found := FILE.fullmatch(file.name))]
    first_day = max(there) + dt.timedelta(days=1) if there else last_day - dt.timedelta(days=days - 1)
    if first_day > last_day:
        return None
    new = DayRange(first_day, last_day)
    return Written(new, write_csv(folder / f"readings_{new.start}_{new.end}.csv", last_day, households, len(new)))


def write_csv(file: Path, last_day: dt.date, households: int = HOUSEHOLDS, days: int = DAYS, seed: int = SEED) -> int:
    """Write generated readings to a CSV file, whole or not at all, with a handful of malformed lines at its end.

    Returns:
        How many readings are in it; the malformed lines do not count.
    """
    readings = generate(last_day, households, days, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    with part.open("wb") as out:
        readings.write_csv(out)
        first_day = last_day - dt.timedelta(days=days - 1)
        out.writelines(f"{line.format(day=first_day)}\n".encode() for line in MALFORMED)
    part.rename(file)
    return readings.height


def _is_read(chance: Chance, house: Counts, day: Counts) -> Flags:
    """Which days have a reading: households join and leave, and there are gaps and outages."""
    # A meter is in use for one to three years, then off for up to five months, and so on.
    use = 365 + (chance.uniform("use", house) * 730).astype(np.int64)
    pause = 20 + (chance.uniform("pause", house) * 130).astype(np.int64)
    phase = (chance.uniform("phase", house) * (use + pause)).astype(np.int64)
    in_use = (day + phase) % (use + pause) < use
    missed = chance.uniform("missed", house, day) < 0.012
    # In each half year one household in fifty is cut off for 3 to 60 days.
    half_year, at = day // 182, day % 182
    begin = (chance.uniform("outage begin", house, half_year) * 120).astype(np.int64)
    length = 3 + (chance.uniform("outage length", house, half_year) * 58).astype(np.int64)
    cut_off = (chance.uniform("outage", house, half_year) < 0.02) & (at >= begin) & (at < begin + length)
    # And for five days in the middle of each, one in seven has trouble with the network.
    network = (at >= 90) & (at < 95) & (chance.uniform("network", house, half_year) < 0.14)
    read: Flags = in_use & ~missed & ~cut_off & ~(network & (chance.uniform("network day", house, day) < 0.8))
    return read


def _measures(chance: Chance, house: Counts, day: Counts) -> pl.DataFrame:
    """Make plausible values that agree with each other: min <= median, mean <= max, sum = mean * count."""
    here = (house, day)
    usual = np.exp(-1.75 + 0.75 * chance.normal("usual", house))  # kWh in half an hour
    season = 1 + 0.35 * np.cos(
        (day - 15) / 365.25 * 2 * np.pi
    )  # ordinal days begin on a 1 January: the peak is mid-January
    weekend = np.where((day + 6) % 7 >= 5, 1.1, 1.0)  # ordinal 1 was a Monday
    mean = usual * season * weekend * np.exp(0.25 * chance.normal("day", *here))
    kind = chance.uniform("kind", *here)
    partial = 1 + (chance.uniform("half hours", *here) * 47).astype(np.int64)
    count = np.select([kind < 0.0005, kind < 0.004, kind < 0.02], [0, 1, partial], 48)
    total = np.round(mean * count, 3)  # meters count watt hours
    mean = total / np.maximum(count, 1)
    spread = mean * np.exp(-0.3 + 0.3 * chance.normal("spread", *here))
    largest = np.round(mean + spread * (1.5 + 2 * chance.uniform("largest", *here)), 3)
    smallest = np.round(mean * 0.4 * chance.uniform("smallest", *here), 3)
    middle = np.round(mean * (0.6 + 0.4 * chance.uniform("middle", *here)), 4)
    one = count == 1
    values = {
        "energy_median": np.where(one, total, np.maximum(middle, smallest)),
        "energy_mean": mean,
        "energy_max": np.where(one, total, largest),
        "energy_std": np.where(one, np.nan, spread),
        "energy_sum": total,
        "energy_min": np.where(one, total, smallest),
    }
    # As in the real set: no measure at all where nothing was counted, no deviation of a single half hour.
    nothing = np.where(count == 0, np.nan, 1.0)
    frame = pl.DataFrame(
        {
            "household_id": pl.Series(house).cast(pl.String).str.zfill(6),
            "day": pl.Series(day - dt.date(1970, 1, 1).toordinal(), dtype=pl.Int32).cast(pl.Date),
            "energy_count": pl.Series(count, dtype=pl.Int32),
            **{name: pl.Series(value * nothing).fill_nan(None) for name, value in values.items()},
        }
    )
    return frame.with_columns((pl.lit("SYN") + pl.col("household_id")).alias("household_id")).select(COLUMNS)
