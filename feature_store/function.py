"""The functions of aggregations: of each the result's type, its fold in the kernel and its SQL, in one place."""

from __future__ import annotations

from enum import Enum


class Type(Enum):
    """A column's type: its name in CQL, in Spark SQL, and in the schema that a Delta table's log holds."""

    TEXT = ("text", "string", "string")
    DATE = ("date", "date", "date")
    INT = ("int", "int", "integer")
    BIGINT = ("bigint", "bigint", "long")
    DOUBLE = ("double", "double", "double")

    def __init__(self, cql: str, spark: str, delta: str) -> None:
        """Take the three names apart."""
        self.cql = cql
        self.spark = spark
        self.delta = delta


NUMBERS = (Type.INT, Type.BIGINT, Type.DOUBLE)


class Result(Enum):
    """How a function's result type follows from its measure's: INT, BIGINT, DOUBLE in this order."""

    SAME = NUMBERS
    WIDE = (Type.BIGINT, Type.BIGINT, Type.DOUBLE)
    DOUBLE = (Type.DOUBLE,) * 3


class Function(Enum):
    """How a window's values become one. All of them skip nulls.

    - SUM, MIN, MAX, MEAN: null where there is no value.
    - COUNT: how many values are there; 0 where there is none.
    - STDDEV: the sample's standard deviation; null under two values.
    - LAST: the value of the newest day that has one.
    - DAYS_SEEN: how many days have a row, whatever is in it. It takes no measure.

    Sums of integers and both counts are 64-bit, as in SQL: none of them can outgrow its column.

    Attributes:
        fold: the property of the kernel's WindowValues that computes it, of the days themselves if it takes no measure.
        least: under so many values the result is null.
    """

    SUM = ("total", 1, Result.WIDE, "sum({value}){over}")
    COUNT = ("count", 0, Type.BIGINT, "count({value}){over}")
    MIN = ("smallest", 1, Result.SAME, "min({value}){over}")
    MAX = ("largest", 1, Result.SAME, "max({value}){over}")
    MEAN = ("mean", 1, Result.DOUBLE, "avg({value}){over}")
    STDDEV = ("deviation", 2, Result.DOUBLE, "stddev_samp({value}){over}")
    # max_by passes over rows that have no order.
    LAST = ("newest", 1, Result.SAME, "max_by({value}, CASE WHEN {value} IS NOT NULL THEN {day} END){over}")
    # Not DISTINCT, which no frame takes: a key has one row.
    DAYS_SEEN = ("count", 0, Type.BIGINT, "count({day}){over}")

    def __init__(self, fold: str, least: int, result: Result | Type, sql: str) -> None:
        """Take the four parts apart."""
        self.fold = fold
        self.least = least
        self._result = result
        self._sql = sql

    @property
    def takes_measure(self) -> bool:
        """Whether it needs a measure; if not, it can't have one."""
        return "{value}" in self._sql

    def result_type(self, of: Type | None = None) -> Type:
        """The type of the aggregate of a measure of that type, or of none."""
        if isinstance(self._result, Type):
            return self._result
        if of not in NUMBERS:
            raise ValueError(f"{self.name} is of numbers, not of {of.name if of else 'nothing'}")
        return self._result.value[NUMBERS.index(of)]

    def sql(self, value: str | None, day: str, over: str = "") -> str:
        """SQL's aggregate of a column, for Spark and DuckDB.

        Args:
            value: the measure, or None for a function that takes none.
            day: the day's column.
            over: a FILTER or OVER clause of the aggregate.
        """
        return self._sql.format(value=value, day=day, over=f" {over}" if over else "")
