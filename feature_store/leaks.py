"""The leak gate: features as of a day, computed anew from readings that end on that day, must be the same.

    python -m feature_store.leaks --readings URI [--features URI] [--view NAME] [--samples N] [--seed N]

Exit status: 0 no leak, 1 leaks found, 2 nothing can be judged (bad arguments, or readings or features that are unfit).
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own
import pyarrow.compute as pc  # type: ignore[import-untyped]  # the same
import pyarrow.dataset as ds  # type: ignore[import-untyped]  # the same

from feature_store import compute, inputs, kernel, registry
from feature_store.arrow_readings import ARROW, ReadingsError, is_text, schema
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.inputs import Input
from feature_store.view import Column, FeatureView, Function, ViewError

SAMPLES, SEED = 200, 0
TOLERANCE = 1e-9  # of features that others have computed, relative to the value or to the readings it is made of
ADDING = (Function.SUM, Function.MEAN, Function.STDDEV)
EXAMPLES = 10
AFTER = (1, 2, 29, 366)  # days after the judged one that are filled with garbage
GARBAGE = {"double": (1e300, -1e300, 1e-300, 7.0), "int": (2**31 - 1,) * 4, "bigint": (2**60,) * 4}

Row = dict[str, Any]


class FeaturesError(ReadingsError):
    """A table of features that can't be judged; the message names the column."""


@dataclass(frozen=True)
class Leak:
    """A value that its past does not give. Where a row has no reading at all, the column is the day's."""

    entity: str
    day: dt.date
    column: str
    value_with: object
    value_without: object

    def __str__(self) -> str:
        """The leak as a line."""
        return f"{self.entity} {self.day} {self.column}: {self.value_with}, and {self.value_without} without the future"


@dataclass(frozen=True)
class LeakReport:
    """What was judged, and what was found.

    Attributes:
        view: its name.
        seed: of the sample; the same seed takes the same rows of the same keys, however a table lies.
        rows: that were judged.
        entities: whose rows these were.
        values: that were compared.
        leaks: how many values differ, by column; empty if there is no leak.
        examples: the first of them.
    """

    view: str
    seed: int
    rows: int
    entities: int
    values: int
    leaks: dict[str, int]
    examples: tuple[Leak, ...]

    @property
    def clean(self) -> bool:
        """Whether there is no leak."""
        return not self.leaks

    def __str__(self) -> str:
        """The report as lines."""
        judged = (
            f"{self.values} values in {self.rows} rows of {self.entities} entities (view {self.view}, seed {self.seed})"
        )
        if self.clean:
            return f"no leak: {judged} follow from the readings up to their day alone"
        lines = [f"{sum(self.leaks.values())} of {judged} do not follow from the readings up to their day:"]
        lines += [f"  {count:6} {column}" for column, count in self.leaks.items()]
        lines += ["such as", *(f"  {leak}" for leak in self.examples)]
        lines.append("They have seen what came later, or are not computed from these readings as the view declares.")
        return "\n".join(lines)


def check(
    view: FeatureView, source: Input, features: Input | None = None, *, samples: int = SAMPLES, seed: int = SEED
) -> LeakReport:
    """Judge features of random entities and days by the readings up to each day alone.

    Each is recomputed from its entity's readings that end on the day, and again with garbage after it, which may not
    change a bit. What is judged must be equal to that: bit for bit if it is computed here, with all the readings there;
    or to TOLERANCE if it is a table that anyone has made.

    Args:
        view: the declaration.
        source: the readings, as compute.features takes them.
        features: the table to judge, a Delta table or an Arrow table; None to judge what compute.features makes.
        samples: how many rows to judge, at most: first their entities are drawn, then days of these.
        seed: of the draw.

    Raises:
        ReadingsError: the readings are unfit, or the features lack a column; or there is no row.
    """
    tolerance = 0.0 if features is None else TOLERANCE
    table = inputs.dataset(compute.features(view, source) if features is None else features)
    try:
        judged = _judged(view, table, samples, seed)
    except OSError as error:
        raise FeaturesError(f"the features of view {view.name} can't be read: {str(error).splitlines()[0]}") from error
    past = _Past(view, source, {row[view.entity] for row in judged})
    found = [leak for row in judged for leak in past.leaks(row, tolerance)]
    return LeakReport(
        view=view.name,
        seed=seed,
        rows=len(judged),
        entities=len({row[view.entity] for row in judged}),
        values=len(judged) * (len(view.columns) - len(view.keys)),
        leaks=dict(Counter(leak.column for leak in found)),
        examples=tuple(found[:EXAMPLES]),
    )


def _judged(view: FeatureView, features: ds.Dataset, samples: int, seed: int) -> list[Row]:
    """Draw rows of a table of features."""
    for column in view.columns:
        _check_column(features.schema, column, view)
    keys = features.to_table(columns={key.name: ds.field(key.name).cast(ARROW[key.type]) for key in view.keys})
    for key in view.keys:
        if count := keys[key.name].null_count:
            raise FeaturesError(f"features of view {view.name} without {key.name}: {count}")
    if not keys.num_rows:
        raise FeaturesError(f"there are no features of view {view.name} to judge")
    random = np.random.default_rng(seed)
    names = sorted(pc.unique(keys[view.entity]).to_pylist())
    drawn = Counter(names[place] for place in random.integers(len(names), size=samples))
    among = pc.is_in(keys[view.entity], pa.array(list(drawn), pa.string()))
    days_of: dict[str, set[dt.date]] = {}
    for row in keys.filter(among).to_pylist():
        days_of.setdefault(row[view.entity], set()).add(row[view.day])
    asked = set()
    for name in sorted(drawn):
        days = sorted(days_of[name])
        places = random.choice(len(days), size=min(drawn[name], len(days)), replace=False)
        asked |= {(name, days[place]) for place in places}
    of_entity = ds.field(view.entity).cast(pa.string()).isin(pa.array(list(drawn), pa.string()))
    of_day = ds.field(view.day).isin(pa.array(sorted({day for _, day in asked}), pa.date32()))
    rows = features.to_table(columns=[column.name for column in view.columns], filter=of_entity & of_day).to_pylist()
    rows = [row for row in rows if (row[view.entity], row[view.day]) in asked]
    return sorted(rows, key=lambda row: (row[view.entity], row[view.day]))


def _check_column(there: pa.Schema, column: Column, view: FeatureView) -> None:
    fields = [field for field in there if field.name == column.name]
    if len(fields) != 1:
        says = "is there twice" if fields else "is missing"
        raise FeaturesError(f"column {column.name} {says} in the features of view {view.name}")
    kind = fields[0].type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    fits = {view.entity: is_text(kind), view.day: pa.types.is_date32(kind)}.get(column.name, number)
    if not fits:
        raise FeaturesError(
            f"column {column.name} in the features of view {view.name} is {kind}, not {column.type.cql}"
        )


class _Past:
    """The readings of some entities, of which each judged row gets what was there on its day."""

    def __init__(self, view: FeatureView, source: Input, entities: set[str]) -> None:
        """Read them."""
        self._view = view
        readings = inputs.readings(view, source, entities=entities).sort_by(view.entity)
        self._readings = readings.combine_chunks()
        names = readings[view.entity].to_pylist()
        begins = [place for place, name in enumerate(names) if not place or names[place - 1] != name]
        ends = [*begins[1:], len(names)]
        self._places = {names[begin]: (begin, end - begin) for begin, end in zip(begins, ends, strict=False)}

    def leaks(self, row: Row, tolerance: float) -> Iterator[Leak]:
        """Compare a judged row with what its past gives."""
        entity, day = row[self._view.entity], row[self._view.day]
        history = self._readings.slice(*self._places.get(entity, (0, 0)))
        known = history.filter(pc.less_equal(history[self._view.day], pa.scalar(day, pa.date32())))
        right = self._features(known, day)
        if right is None:
            yield Leak(entity, day, self._view.day, day, None)
            return
        disturbed = self._features(pa.concat_tables([known, self._garbage(entity, day)]), day)
        for column in self._view.columns[len(self._view.keys) :]:
            name = column.name
            if not _equal(row[name], right[name]) and not (
                tolerance and _close(row[name], right[name], tolerance, self._scale(known, day, name))
            ):
                yield Leak(entity, day, name, row[name], right[name])
            elif disturbed is None or not _equal(disturbed[name], right[name]):
                yield Leak(entity, day, name, disturbed and disturbed[name], right[name])

    def _features(self, readings: pa.Table, day: dt.date) -> Row | None:
        rows: list[Row] = kernel.features(readings, self._view, DayRange(day, day)).to_pylist()
        return rows[0] if rows else None

    def _garbage(self, entity: str, day: dt.date) -> pa.Table:
        """Readings of the entity after a day, as far as the calendar goes, that nothing before them may notice."""
        view = self._view
        days = [day + dt.timedelta(days=after) for after in AFTER if day.toordinal() + after <= dt.date.max.toordinal()]
        columns = {view.entity: [entity] * len(days), view.day: days}
        columns |= {measure.name: list(GARBAGE[measure.type.cql][: len(days)]) for measure in view.measures}
        return pa.table(columns, schema(view.readings))

    def _scale(self, known: pa.Table, day: dt.date, column: str) -> float:
        """The largest of the readings that a feature adds up: where they cancel, others' rounding errors stay."""
        aggregation, window = self._view.made_of.get(column, (None, None))
        if aggregation is None or window is None or aggregation.measure is None or aggregation.function not in ADDING:
            return 0.0
        first = pa.scalar(window.first_day(day), pa.date32())
        seen = known.filter(pc.greater_equal(known[self._view.day], first))
        ends = pc.min_max(seen[aggregation.measure]).as_py()
        return max(abs(float(ends["min"] or 0)), abs(float(ends["max"] or 0)))


def _equal(value: object, right: object) -> bool:
    if isinstance(value, float) and isinstance(right, float):
        return struct.pack("<d", value) == struct.pack("<d", right)
    return value == right


def _close(value: float | None, right: float | None, tolerance: float, scale: float) -> bool:
    if value is None or right is None or (isinstance(value, int) and isinstance(right, int)):
        return False
    return math.isclose(value, right, rel_tol=tolerance, abs_tol=tolerance * scale)


def main(argv: Sequence[str] | None = None) -> int:
    """Judge from the command line; the exit status."""
    arguments = argparse.ArgumentParser(
        prog="python -m feature_store.leaks", description=(__doc__ or "").split("\n")[0]
    )
    arguments.add_argument(
        "--readings", required=True, metavar="URI", help="Delta table of readings, or landed CSV files"
    )
    arguments.add_argument(
        "--features", metavar="URI", help="Delta table to judge (default: what this project computes)"
    )
    arguments.add_argument("--view", default=ENERGY.name, metavar="NAME", help="whose features (default: %(default)s)")
    arguments.add_argument(
        "--samples", type=int, default=SAMPLES, metavar="N", help="rows to judge (default: %(default)s)"
    )
    arguments.add_argument("--seed", type=int, default=SEED, metavar="N", help="of the sample (default: %(default)s)")
    args = arguments.parse_args(argv)
    if args.samples < 1 or args.seed < 0:
        arguments.error("--samples takes a number from 1, --seed one from 0")
    try:
        report = check(registry.view(args.view), args.readings, args.features, samples=args.samples, seed=args.seed)
    except (ReadingsError, ViewError, registry.UnknownViewError) as error:
        print(f"leaks: {error}", file=sys.stderr)  # noqa: T201 - the sentence that a person looks for
        return 2
    print(report)  # noqa: T201 - what the command is for
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
