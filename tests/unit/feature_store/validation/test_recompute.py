"""SQL's features against the kernel's: every function over every unit, day by day and all days at once."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import duckdb
import pyarrow as pa
import pytest

from feature_store import compute
from feature_store.arrow_readings import schema
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.validation import recompute
from feature_store.view import Aggregation, FeatureView, Function, Measure, Window

pytestmark = pytest.mark.unit

EVERY_FUNCTION = FeatureView(
    name="every_function",
    description="Every function over every unit.",
    source=replace(ENERGY.source, measures=tuple(Measure(measure.name, measure.type) for measure in ENERGY.measures)),
    windows=(Window("1d", days=1), Window("2w", weeks=2), Window("2m", months=2), Window("1y", years=1)),
    aggregations=tuple(
        Aggregation(f"{of or 'row'}_{function.name.lower()}", function, of)
        for function in Function
        for of in (("energy_sum", "energy_count") if function.takes_measure else (None,))
    ),
)
START = dt.date(2011, 12, 1)
# Around a leap day's year, and months' ends.
DAYS = DayRange(dt.date(2013, 2, 26), dt.date(2013, 3, 2))


def readings() -> pa.Table:
    rows = []
    for entity, step in (("A", 1), ("B", 3), ("C", 40), ("D", 500)):
        for n in range(0, 480, step):
            value = None if n % 31 == 3 else float(n * 7919 % 1000) / 8
            measures = dict.fromkeys((measure.name for measure in ENERGY.measures), value)
            count = {"energy_count": None if value is None else n % 49}
            rows.append({"id": entity, "day_date": START + dt.timedelta(days=n), **measures, **count})
    return pa.Table.from_pylist(rows, schema(ENERGY.readings))


@pytest.mark.parametrize("passes", [len(DAYS), 0], ids=["a pass a day", "windows"])
@pytest.mark.parametrize("view", [ENERGY, EVERY_FUNCTION], ids=lambda view: view.name)
def test_it_agrees_with_the_kernel(view: FeatureView, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute, "PASSES", passes)
    expected = compute.features(view, readings(), DAYS).to_pylist()
    assert len(expected) > len(DAYS)
    again = {(row["id"], row["day_date"]): row for row in computed(view)}
    for row in expected:
        other = again[row["id"], row["day_date"]]
        for column in view.features:
            wanted = row[column.name]
            close = pytest.approx(wanted, rel=1e-12, abs=1e-12) if isinstance(wanted, float) else wanted
            assert other[column.name] == close, (row["id"], row["day_date"], column.name)


def test_it_knows_the_least_and_the_most_of_a_means_window() -> None:
    year = ENERGY.longest
    for row in computed(ENERGY):
        low, high = row[recompute.least("energy_mean", year)], row[recompute.most("energy_mean", year)]
        assert high == row["energy_max_1yr"]
        assert low <= row["energy_mean_1yr"] <= high


def computed(view: FeatureView) -> list[dict]:
    with duckdb.connect() as connection:
        connection.register("readings_in", readings())
        for statement in recompute.statements(view, list(DAYS), DAYS):
            connection.execute(statement)
        return connection.sql("SELECT * FROM a").to_arrow_table().to_pylist()
