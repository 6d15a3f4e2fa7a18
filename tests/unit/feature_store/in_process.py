"""Readings for the tests of what computes in one process, and what they can be kept in."""

from __future__ import annotations

import datetime as dt
import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from feature_store.arrow_readings import schema
from feature_store.energy import ENERGY

HEADER = "LCLid,day,energy_median,energy_mean,energy_max,energy_count,energy_std,energy_sum,energy_min"
FIRST = dt.date(2011, 11, 23)


def household(name: str, days: int, step: int = 1, first: dt.date = FIRST) -> pa.Table:
    """Readings of a household on every step-th day, some values of which are not there."""
    random = np.random.default_rng(days)
    rows = []
    for place in range(days):
        values = {m.name: float(random.lognormal(-1, 1)) for m in ENERGY.measures} | {"energy_count": 48}
        if place % 11 == 3:
            values |= {"energy_std": None, "energy_count": 1}
        if place % 17 == 5:
            values = dict.fromkeys(values) | {"energy_count": 0}
        rows.append({"id": name, "day_date": first + dt.timedelta(days=place * step)} | values)
    return pa.Table.from_pylist(rows, schema(ENERGY.readings))


def some_readings() -> pa.Table:
    return pa.concat_tables([household("MAC3", 60, 7), household("MAC1", 500), household("MAC2", 90, 2)])


def csv_lines(readings: pa.Table) -> str:
    rows = (",".join("" if value is None else str(value) for value in row.values()) for row in readings.to_pylist())
    return "\n".join([HEADER, *rows]) + "\n"


def write_csv(path: Path, readings: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = csv_lines(readings).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def bits(features: pa.Table) -> list[tuple[Any, ...]]:
    """Rows in their order, doubles as their bytes: equal is identical."""
    return [
        tuple(struct.pack("<d", value) if isinstance(value, float) else value for value in row.values())
        for row in features.to_pylist()
    ]
