"""A small feature store on disk, what can go wrong with it, and which check has to find each of these faults."""

from __future__ import annotations

import datetime as dt
import shutil
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from deltalake import DeltaTable, write_deltalake

from feature_store import compute
from feature_store.arrow_readings import schema
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.view import Column, Type, Window
from infra.local import generate

DAY = dt.date(2026, 3, 31)  # a Tuesday, at the end of a month
DAYS_KNOWN = 120
HOUSEHOLDS = 150
SOURCE = schema(
    (Column("id", Type.TEXT), Column("day_date", Type.DATE), *(Column(m.name, m.type) for m in ENERGY.source.measures))
)

Frame = pl.DataFrame
IS_DAY = pl.col("day_date") == DAY


def readings(days: int = DAYS_KNOWN) -> Frame:
    """Generated ones, up to ten days after the day, so that whoever looks ahead sees something."""
    made = generate.generate(DAY + dt.timedelta(days=10), HOUSEHOLDS, days)
    return made.rename({"household_id": "id", "day": "day_date"}).select(SOURCE.names)


def features(of: Frame, view=ENERGY, days: DayRange | None = None) -> Frame:
    return pl.from_arrow(compute.features(view, of.to_arrow().cast(SOURCE), days or DayRange(DAY, DAY)))


def write(folder: Path, frame: Frame, columns=ENERGY.columns) -> None:
    if columns:
        write_deltalake(folder, frame.select([c.name for c in columns]).to_arrow().cast(schema(columns)))
    else:
        write_deltalake(folder, frame.to_arrow())


def save(folder: Path, of: Frame, made: Frame, columns=ENERGY.columns) -> None:
    write_deltalake(folder / "readings", of.to_arrow().cast(SOURCE))
    write(folder / "features", made, columns)


def arguments(folder: Path, start: dt.date = DAY, end: dt.date = DAY, **more: object) -> Namespace:
    """What the validate job gets, of the tables in a folder."""
    given = {
        "readings": str(folder / "readings"),
        "features": str(folder / "features"),
        "report": str(folder / "report.json"),
        "readings_version": None,
        "features_version": None,
        "released_by": "",
        "release_reason": "",
        "metrics": None,
        "view": ENERGY,
        "days": DayRange(start, end),
    }
    return Namespace(**(given | more))


@dataclass(frozen=True)
class Fault:
    """Something wrong: with features alone, or with readings that the features were then computed from."""

    name: str
    check: str
    features: Callable[[Frame, Frame], Frame] | None = None
    readings: Callable[[Frame], Frame] | None = None
    columns: tuple[Column, ...] | None = ENERGY.columns
    only_warns: bool = False
    after: Callable[[Path], None] | None = None


def _first(frame: Frame, **values: pl.Expr | object) -> Frame:
    """Change the first household's row of the day."""
    first = IS_DAY & (pl.col("id") == frame.filter(IS_DAY & (pl.col("energy_count") == 48))["id"].min())
    return frame.with_columns(
        **{
            name: pl.when(first).then(value if isinstance(value, pl.Expr) else pl.lit(value)).otherwise(pl.col(name))
            for name, value in values.items()
        }
    )


def _of_day(**values: pl.Expr) -> Callable[[Frame], Frame]:
    """Change all readings of the day."""
    return lambda frame: frame.with_columns(
        **{name: pl.when(IS_DAY).then(value).otherwise(pl.col(name)) for name, value in values.items()}
    )


def _every(nth: int, rest: int = 0) -> pl.Expr:
    return pl.col("id").str.slice(3).cast(pl.Int64) % nth == rest


def _scaled(by: float) -> Callable[[Frame], Frame]:
    return _of_day(**{m.name: pl.col(m.name) * by for m in ENERGY.measures if m.type is Type.DOUBLE})


def _other_view(**windows: Window):
    return replace(ENERGY, windows=tuple(windows.get(f"w{w.name}", w) for w in ENERGY.windows))


def _leaked(of: Frame, made: Frame) -> Frame:
    """Windows that look forward, as the original kit's do."""
    ahead = of.filter(pl.col("day_date") >= DAY).group_by("id").agg(pl.col("energy_sum").sum().alias("ahead"))
    return made.join(ahead, on="id", how="left").with_columns(energy_sum_3months="ahead").drop("ahead")


def _yesterday(of: Frame) -> Frame:
    before = of.filter(pl.col("day_date") == DAY - dt.timedelta(days=1)).with_columns(day_date=pl.lit(DAY))
    return pl.concat([of.filter(~IS_DAY), before])


def _population(of: Frame, made: Frame) -> Frame:
    factor = ((pl.col("energy_count_1yr") / 48).round() - 1) / (pl.col("energy_count_1yr") / 48).round()
    return made.with_columns(energy_stddev_1yr=pl.col("energy_stddev_1yr") * factor.sqrt())


def _swapped(one: str, other: str) -> Callable[[Frame, Frame], Frame]:
    return lambda of, made: made.with_columns(**{one: pl.col(other), other: pl.col(one)})


def _truncate(folder: Path) -> None:
    (file,) = (folder / "features").glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-1000])


def _repeat_a_reading(folder: Path) -> None:
    table = folder / "readings"
    one = pl.from_arrow(DeltaTable(table).to_pyarrow_table()).filter(pl.col("day_date") == DAY - dt.timedelta(days=40))
    write_deltalake(table, one.head(1).to_arrow().cast(SOURCE), mode="append")


def _columns(**types: Type) -> tuple[Column, ...]:
    return tuple(Column(c.name, types.get(c.name, c.type)) for c in ENERGY.columns)


COLUMN = "energy_sum_3months"
FAULTS = [
    # Of rows.
    Fault("a key twice", "key_unique", lambda of, made: pl.concat([made, made.head(1)])),
    Fault("a row is missing", "rows_missing", lambda of, made: made.slice(1)),
    Fault(
        "a row too many",
        "rows_unexpected",
        lambda of, made: pl.concat([made, made.head(1).with_columns(id=pl.lit("SYN9"))]),
    ),
    Fault("no entity", "key_not_null", lambda of, made: _first(made, id=None)),
    Fault("no day", "key_not_null", lambda of, made: _first(made, day_date=None)),
    Fault("half of the rows are missing", "rows_missing", lambda of, made: made.filter(_every(2))),
    Fault(
        "labelled a day late",
        "rows_missing",
        lambda of, made: made.with_columns(day_date=pl.lit(DAY + dt.timedelta(days=1))),
    ),
    Fault("a file is truncated", "readable", after=_truncate),
    Fault("a column is missing", "columns", lambda of, made: made.drop("energy_min"), columns=None),
    Fault("a column too many", "columns", lambda of, made: made.with_columns(more=pl.lit(1.0)), columns=None),
    Fault("another type", "columns", columns=_columns(energy_count_1yr=Type.INT)),
    Fault("another order", "columns", columns=ENERGY.columns[:-2] + ENERGY.columns[:-3:-1]),
    # Of values.
    Fault("NaN", "values_finite", lambda of, made: _first(made, energy_mean_1yr=float("nan"))),
    Fault("infinite", "values_finite", lambda of, made: _first(made, energy_sum_1yr=float("inf"))),
    Fault(
        "one value, a hundred millionth off",
        "values_recomputed",
        lambda of, made: _first(made, energy_mean_6months=pl.col("energy_mean_6months") * (1 + 1e-8)),
    ),
    Fault("rounded", "values_recomputed", lambda of, made: made.with_columns(pl.col("energy_stddev_1yr").round(2))),
    Fault("sees the future", "values_recomputed", _leaked),
    Fault(
        "a window is a day short",
        "values_recomputed",
        lambda of, made: features(of, _other_view(w3months=Window("3months", days=90))),
    ),
    Fault(
        "a window is a month long",
        "values_recomputed",
        lambda of, made: features(of, _other_view(w3months=Window("3months", months=4))),
    ),
    Fault(
        "as of the day before",
        "values_recomputed",
        lambda of, made: features(
            of, days=DayRange(DAY - dt.timedelta(days=1), DAY - dt.timedelta(days=1))
        ).with_columns(day_date=pl.lit(DAY)),
    ),
    Fault("deviation of the population", "values_recomputed", _population),
    Fault("another unit", "values_recomputed", lambda of, made: made.with_columns(pl.col(COLUMN) * 1000)),
    Fault("columns swapped", "values_recomputed", _swapped("energy_mean_3months", "energy_max_3months")),
    Fault("measures swapped", "readings_carried", _swapped("energy_mean", "energy_median")),
    Fault("a measure negative", "readings_carried", lambda of, made: _first(made, energy_sum=-1.0)),
    Fault("a measure null", "readings_carried", lambda of, made: _first(made, energy_std=None)),
    Fault(
        "a burst of nulls",
        "energy_sum_null",
        lambda of, made: made.with_columns(pl.when(_every(3)).then(None).otherwise(pl.col(COLUMN)).alias(COLUMN)),
    ),
    Fault("a count is null", "values_recomputed", lambda of, made: _first(made, energy_count_1yr=None)),
    Fault(
        "a count that no window can hold",
        "energy_count_possible",
        lambda of, made: _first(made, energy_count_1yr=48 * 367 + 1),
    ),
    Fault("a longer window with less", "energy_max_grows", lambda of, made: _first(made, energy_max_1yr=0.0)),
    Fault(
        "a window without its own day",
        "energy_max_holds_day",
        lambda of, made: _first(made, energy_max_3months=pl.col("energy_max") / 2),
    ),
    Fault(
        "a mean that no day had",
        "energy_mean_within",
        lambda of, made: _first(made, energy_mean_1yr=pl.col("energy_mean_1yr") * 1000),
    ),
    Fault(
        "a negative deviation", "energy_stddev_not_negative", lambda of, made: _first(made, energy_stddev_3months=-1.0)
    ),
    # Of readings, which the features follow rightly.
    Fault("half of the households did not come", "rows_steady", readings=lambda of: of.filter(~(IS_DAY & _every(2)))),
    Fault(
        "twice as many households",
        "rows_growth",
        readings=lambda of: pl.concat([of, of.filter(IS_DAY).with_columns(pl.col("id") + "B")]),
        only_warns=True,
    ),
    Fault("watt hours", "values_steady", readings=_scaled(1000)),
    Fault("megawatt hours", "spread_steady", readings=_scaled(0.001)),
    Fault("one half hour of the day", "day_filled", readings=_of_day(energy_count=pl.lit(1, pl.Int32))),
    Fault(
        "an outage of a fifth of the households",
        "entities_whole",
        readings=_of_day(energy_count=pl.when(_every(5)).then(40).otherwise(pl.col("energy_count")).cast(pl.Int32)),
        only_warns=True,
    ),
    Fault(
        "a measure did not come",
        "nulls_steady",
        readings=_of_day(energy_std=pl.when(_every(2)).then(None).otherwise(pl.col("energy_std"))),
    ),
    Fault("yesterday's readings again", "not_a_copy", readings=_yesterday),
    Fault("negative energy", "energy_min_minimum", readings=lambda of: _first(of, energy_min=-1.0)),
    Fault(
        "readings with least and most swapped",
        "energy_min_to_energy_max_by_energy_mean",
        readings=_of_day(energy_min=pl.col("energy_max"), energy_max=pl.col("energy_min")),
    ),
    Fault(
        "a median out of range",
        "energy_min_to_energy_max_by_energy_median",
        readings=lambda of: _first(of, energy_median=pl.col("energy_max") + 1),
    ),
    Fault("a reading twice", "readings_unique", after=_repeat_a_reading),
]


def plant(fault: Fault, folder: Path, of: Frame) -> None:
    """Make the tables with the fault in them."""
    spoiled = fault.readings(of) if fault.readings else of
    made = features(spoiled)
    save(folder, spoiled, fault.features(spoiled, made) if fault.features else made, fault.columns)
    if fault.after:
        fault.after(folder)


def copy(source: Path, to: Path) -> Path:
    shutil.copytree(source, to)
    return to
