"""What a feature view is: keys, daily measures, windows and aggregations. Columns and types follow from it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)


class ViewError(ValueError):
    """A declaration that makes no sense; the message says which part and why."""


class Type(Enum):
    """A column's type: its name in CQL, and in Spark SQL and Delta."""

    TEXT = ("text", "string")
    DATE = ("date", "date")
    INT = ("int", "int")
    BIGINT = ("bigint", "bigint")
    DOUBLE = ("double", "double")

    def __init__(self, cql: str, spark: str) -> None:
        """Take the two names apart."""
        self.cql = cql
        self.spark = spark


class Function(Enum):
    """How a window's values become one: the name is SQL's aggregate function. All of them skip nulls."""

    SUM = "sum"
    MAX = "max"
    MEAN = "avg"
    STDDEV = "stddev_samp"

    def result_type(self, of: Type) -> Type:
        """The type of the aggregate of a measure of that type: sums of integers are 64-bit."""
        if self is Function.MAX:
            return of
        if self is Function.SUM and of in (Type.INT, Type.BIGINT):
            return Type.BIGINT
        return Type.DOUBLE


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: Type


@dataclass(frozen=True)
class Measure:
    """A daily value of an entity. A reading below the minimum, where there is one, is malformed."""

    name: str
    type: Type = Type.DOUBLE
    minimum: int | None = None


@dataclass(frozen=True)
class Window:
    """The days from so many calendar months before a day, clamped at month ends, up to and including that day."""

    name: str
    months: int


@dataclass(frozen=True)
class Aggregation:
    """A function over one measure, computed for each window of the view as NAME_WINDOW."""

    name: str
    function: Function
    measure: str

    def column(self, window: Window) -> str:
        """The feature's name for a window."""
        return f"{self.name}_{window.name}"


@dataclass(frozen=True)
class FeatureView:
    """A declaration of daily features per entity; ViewError if it contradicts itself.

    Attributes:
        name: of the Delta table's folder and of the online table.
        entity: key column, text: whose features these are.
        day: key column, date: as of which day.
        measures: the daily readings that a row carries along, and that the aggregations take.
        windows: from the shortest to the longest.
        aggregations: each over every window.
        source_entities: names that the entity column has in landed CSV files.
        source_day: name that the day column has there.
    """

    name: str
    entity: str
    day: str
    measures: tuple[Measure, ...]
    windows: tuple[Window, ...]
    aggregations: tuple[Aggregation, ...]
    source_entities: tuple[str, ...]
    source_day: str

    def __post_init__(self) -> None:
        """Check the declaration as a whole."""
        names = [self.name, *(column.name for column in self.columns)]
        for name in names:
            if not NAME.fullmatch(name):
                raise ViewError(f"{name!r} can't be a name: lower-case letters, digits and _ only, a letter first")
        twice = [name for name, times in Counter(names[1:]).items() if times > 1]
        if twice:
            raise ViewError(f"view {self.name} has column {twice[0]} twice")
        months = [window.months for window in self.windows]
        if not months or months[0] < 1 or months != sorted(set(months)):
            raise ViewError(
                f"view {self.name} needs windows of whole months from the shortest to the longest, not {months}"
            )
        numbers = {Type.INT, Type.BIGINT, Type.DOUBLE}
        if odd := [measure.name for measure in self.measures if measure.type not in numbers]:
            raise ViewError(f"measure {odd[0]} of view {self.name} is not a number")
        if not self.source_entities:
            raise ViewError(f"view {self.name} names no entity column of the landed files")

    @cached_property
    def keys(self) -> tuple[Column, Column]:
        """The primary key."""
        return Column(self.entity, Type.TEXT), Column(self.day, Type.DATE)

    @cached_property
    def readings(self) -> tuple[Column, ...]:
        """The columns of the table of readings that come from the landed files."""
        return self.keys + tuple(Column(measure.name, measure.type) for measure in self.measures)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """All columns, in the tables' order: keys, measures, then each aggregation over its windows."""
        features = [
            Column(aggregation.column(window), aggregation.function.result_type(self.measure(aggregation.measure).type))
            for aggregation in self.aggregations
            for window in self.windows
        ]
        return (*self.readings, *features)

    @property
    def longest(self) -> int:
        """Months of the longest window."""
        return self.windows[-1].months

    def measure(self, name: str) -> Measure:
        """Find a measure; ViewError if there is none of that name."""
        for measure in self.measures:
            if measure.name == name:
                return measure
        raise ViewError(f"view {self.name} aggregates {name}, which is none of its measures")
