"""Where a view's readings come from: the landed files' columns, and the table of readings that is made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from feature_store.function import NUMBERS, Type
from feature_store.keyspaces import name_fault


class ViewError(ValueError):
    """A declaration that makes no sense; the message names the view or source and its field, and says why."""


@dataclass(frozen=True)
class Measure:
    """A daily value of an entity. A reading below the minimum, where there is one, is malformed."""

    name: str
    type: Type = Type.DOUBLE
    minimum: int | None = None


@dataclass(frozen=True)
class WholeDay:
    """How much a whole day of an entity holds: so much of a measure, such as 48 half hours."""

    measure: str
    holds: int


@dataclass(frozen=True)
class Source:
    """Daily readings: one row per entity and day. Declared once, for all views over them; ViewError if it is wrong.

    Attributes:
        name: of the Delta table of readings.
        entity: key column of the readings, text: whose they are.
        day: key column, date: of which day.
        measures: the daily values. Landed files have them under the same names.
        landed_entities: names that the entity column has in landed files, in one of them one of these.
        landed_day: name that the day column has there.
        whole_day: which measure tells how much of its day a reading holds; None where none does, and then nobody can
            tell that a day is incomplete.
        ascending: measures of which, in each reading, none is less than the one before it.
    """

    name: str
    entity: str
    day: str
    measures: tuple[Measure, ...]
    landed_entities: tuple[str, ...]
    landed_day: str
    whole_day: WholeDay | None = None
    ascending: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        """Check the declaration as a whole."""
        for field, fault in self._faults():
            raise ViewError(f"{field} of source {self.name} {fault}")

    @property
    def tables(self) -> tuple[str, str]:
        """The tables that are the source's own: the readings, and the landed rows that are none."""
        return self.name, f"{self.name}_quarantine"

    def _faults(self) -> Iterator[tuple[str, str]]:
        for field, kind in (("measures", Measure), ("landed_entities", str)):
            if fault := tuple_fault(getattr(self, field), kind):
                yield field, fault
        columns = [("entity", self.entity), ("day", self.day)]
        columns += [(f"measures.{measure.name}", measure.name) for measure in self.measures]
        yield from name_faults([("name", self.name), *columns])
        yield from repeated(columns)
        for measure in self.measures:
            if measure.type not in NUMBERS:
                yield f"measures.{measure.name}", "is not a number"
        known = {measure.name for measure in self.measures}
        if self.whole_day and self.whole_day.measure not in known:
            yield "whole_day", f"is of {self.whole_day.measure}, which is none of the measures"
        if self.whole_day and (type(self.whole_day.holds) is not int or self.whole_day.holds < 1):
            yield "whole_day", f"holds {self.whole_day.holds!r}: it takes a whole number from 1"
        for order in self.ascending:
            if fault := tuple_fault(order, str):
                yield "ascending", fault
            elif unknown := [name for name in order if name not in known]:
                yield "ascending", f"has {unknown[0]}, which is none of the measures"
        if not self.landed_entities:
            yield "landed_entities", "names no entity column of the landed files"
        landed = [("landed_entities", name) for name in self.landed_entities]
        yield from repeated([*columns[2:], *landed, ("landed_day", self.landed_day)])


def tuple_fault(value: object, kind: type) -> str | None:
    """Say why a field is no tuple of a kind, if it is not; the comma of a tuple of one is easily forgotten."""
    if isinstance(value, tuple) and all(isinstance(part, kind) for part in value):
        return None
    return f"takes a tuple of {kind.__name__}, with a comma after a single one: ({kind.__name__.lower()},)"


def name_faults(named: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Find the fields whose names Keyspaces can't hold."""
    for field, name in named:
        if fault := name_fault(name):
            yield field, fault


def repeated(columns: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Find the fields whose column is there already, the last first."""
    times = Counter(name for _, name in columns)
    for field, name in reversed(columns):
        if times[name] > 1:
            yield field, f"has column {name} twice"
