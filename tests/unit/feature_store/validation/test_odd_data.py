"""Data that is odd and right: every function over it passes, whatever it is that the readings are of."""

from __future__ import annotations

import datetime as dt
import random
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from feature_store import compute
from feature_store.arrow_readings import schema
from feature_store.calendar import DayRange
from feature_store.validation import records
from feature_store.validation.checks import checks
from feature_store.view import Aggregation, Column, FeatureView, Function, Measure, Source, Type, ViewError, Window
from spark_jobs import validate
from spark_jobs.errors import VerdictError
from tests.unit.feature_store.validation import planted

pytestmark = pytest.mark.unit

LEAP = dt.date(2024, 2, 29)
# Nobody knows what a whole day of these is, nor what they can't be less than.
SOURCE = Source(
    name="measurements",
    entity="sensor",
    day="d",
    measures=(Measure("t"), Measure("n", Type.INT), Measure("big", Type.BIGINT)),
    landed_entities=("s",),
    landed_day="x",
)
VIEW = FeatureView(
    name="odd_features",
    description="Every function over every type.",
    source=SOURCE,
    windows=(Window("1d", days=1), Window("1m", months=1), Window("1y", years=1)),
    aggregations=tuple(
        Aggregation(f"{of or 'row'}_{function.name.lower()}", function, of)
        for function in Function
        for of in (("t", "n", "big") if function.takes_measure else (None,))
    ),
)
Values = Callable[[random.Random, int], tuple[float | None, int | None, int | None]]


def validated(
    folder: Path, values: Values, entities: list[str], days: int, first: dt.date = LEAP, last: dt.date = LEAP
) -> dict:
    chance = random.Random(7)
    rows = []
    for entity in entities:
        for back in range(days):
            t, n, big = values(chance, back)
            rows.append({"sensor": entity, "d": last - dt.timedelta(days=back), "t": t, "n": n, "big": big})
    columns = (*VIEW.keys, *(Column(measure.name, measure.type) for measure in SOURCE.measures))
    readings = pa.Table.from_pylist(rows, schema(columns))
    write_deltalake(folder / "readings", readings)
    write_deltalake(folder / "features", compute.features(VIEW, readings, DayRange(first, last)))
    given: Namespace = planted.arguments(folder, first, last, view=VIEW)
    return validate.run(given)


SENSORS = [f"s{n}" for n in range(60)]


@pytest.mark.parametrize(
    ("values", "entities", "days"),
    [
        (lambda r, _: (r.gauss(0, 10), r.randint(-5, 5), r.randint(-(10**12), 10**12)), SENSORS, 400),
        (lambda r, _: (-20 + r.random(), -1, -5), SENSORS, 60),
        (lambda r, _: (None, None, None), SENSORS, 60),
        (lambda r, _: (0.1, 3, 7), SENSORS, 60),
        (lambda r, _: (0.0, 0, 0), SENSORS, 60),
        (lambda r, _: (1.5, 1, 1), ["s"], 1),
        (lambda r, _: (1e300 * r.random() / 400, 2**31 - 1, 2**53 // 400), SENSORS[:5], 400),
        (lambda r, _: (1e9 + r.random(), 1, 1), SENSORS[:10], 400),
        (lambda r, back: ((1e12 if back % 2 else -1e12) + r.random(), 1, 1), SENSORS[:10], 400),
        (lambda r, back: (float(back), back, back), ["", 'it\'s "q"', "ünï😀", "a,b;--"], 40),
    ],
    ids=["signed", "negative", "null", "constant", "zero", "one", "huge", "an offset", "cancelling", "names"],
)
def test_it_passes(values: Values, entities: list[str], days: int, tmp_path: Path) -> None:
    done = validated(tmp_path, values, entities, days)
    assert (done["verdict"], done["failed"], done["warned"]) == ("passed", [], [])
    assert done["rows"] == len(entities)


def test_names_that_sql_has_a_meaning_for_are_only_names(tmp_path: Path) -> None:
    names = ("f", "r", "a", "share", "present", "computed", "rows", "c0", "group_by")
    source = replace(SOURCE, measures=tuple(Measure(name) for name in names), ascending=(("f", "r"),))
    aggregations = tuple(Aggregation(f"{name}_mean", Function.MEAN, name) for name in names)
    view = replace(VIEW, source=source, aggregations=aggregations)
    chance = random.Random(7)
    rows = []
    for sensor in SENSORS:
        for back in range(60):
            values = {name: chance.random() + (name == "r") for name in names}
            rows.append({"sensor": sensor, "d": LEAP - dt.timedelta(days=back), **values})
    columns = (*view.keys, *(Column(name, Type.DOUBLE) for name in names))
    readings = pa.Table.from_pylist(rows, schema(columns))
    write_deltalake(tmp_path / "readings", readings)
    made = compute.features(view, readings, DayRange(LEAP, LEAP))
    write_deltalake(tmp_path / "features", made)
    assert validate.run(planted.arguments(tmp_path, LEAP, LEAP, view=view))["verdict"] == "passed"
    first = records.verdicts(str(tmp_path / "features"), view, DayRange(LEAP, LEAP))[LEAP].fingerprint
    write_deltalake(tmp_path / "features", made.slice(1), mode="overwrite")
    with pytest.raises(VerdictError, match="rows_missing"):
        validate.run(planted.arguments(tmp_path, LEAP, LEAP, view=view))
    assert records.verdicts(str(tmp_path / "features"), view, DayRange(LEAP, LEAP))[LEAP].fingerprint != first


def test_two_checks_of_one_name_are_refused() -> None:
    twice = (Aggregation("key_not", Function.MEAN, "t"), Aggregation("key", Function.MEAN, "t"))
    with pytest.raises(ViewError, match="make check key_not_null twice"):
        checks(replace(VIEW, aggregations=twice))


def test_a_year_of_months_ends_passes(tmp_path: Path) -> None:
    last = dt.date(2025, 3, 31)
    done = validated(tmp_path, lambda r, back: (back / 7, back, back), ["a", "b"], 500, LEAP, last)
    assert len(done["days"]["passed"]) == (last - LEAP).days + 1
