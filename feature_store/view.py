"""What a feature view is: readings, windows and aggregations. Columns and types follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from itertools import pairwise

from feature_store import keyspaces, layout
from feature_store.expectations import Expectations, Limit
from feature_store.function import Function, Type
from feature_store.source import Measure, Source, ViewError, WholeDay, name_faults, repeated, tuple_fault
from feature_store.window import Window

# All that a declaration is made of is imported from here.
__all__ = [
    "Aggregation",
    "Column",
    "Expectations",
    "FeatureView",
    "Function",
    "Limit",
    "Measure",
    "Source",
    "Type",
    "ViewError",
    "WholeDay",
    "Window",
]


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: Type


@dataclass(frozen=True)
class Aggregation:
    """A function over one measure, computed for each window of the view as NAME_WINDOW."""

    name: str
    function: Function
    measure: str | None = None

    def column(self, window: Window) -> str:
        """The feature's name for a window."""
        return f"{self.name}_{window.name}"


@dataclass(frozen=True)
class FeatureView:
    """A declaration of daily features per entity; ViewError if it contradicts itself.

    Attributes:
        name: of the file that declares it, of the Delta table's folder and of the online table.
        description: one sentence: what the features say, and of whom.
        source: the readings. The view has their entity and day as its key.
        windows: from the shortest to the longest, each of them within the next as of every day. Units can be mixed: 28
            days are always within one month, 30 days are not (as of 1 March, one month has 29).
        aggregations: each over every window.
        takes: names of the source's measures that the view takes: its aggregations are of these, and a row carries
            its own day's values along. None takes them all.
        retention: how many days the online table holds, counted back from the newest day of features that is online;
            None holds all. An entity that was silent for longer is not found online any more. The Delta table keeps
            everything.
        expects: limits that a day of features has to keep to go online, beside what must hold of every row.
    """

    name: str
    _: KW_ONLY
    description: str
    source: Source
    windows: tuple[Window, ...]
    aggregations: tuple[Aggregation, ...]
    takes: tuple[str, ...] | None = None
    retention: int | None = None
    expects: Expectations = Expectations()  # noqa: RUF009 - it is frozen

    def __post_init__(self) -> None:
        """Check the declaration as a whole."""
        for field, fault in self._faults():
            raise ViewError(f"{field} of view {self.name} {fault}")

    def _faults(self) -> Iterator[tuple[str, str]]:
        """Find the fields that are wrong, and how. What comes later relies on what was found to be right before."""
        yield from self._part_faults()
        yield from self._window_faults()
        yield from self._aggregation_faults()
        features = [(f"aggregations.{a.name}", a.column(window)) for a in self.aggregations for window in self.windows]
        taken = self.takes or tuple(measure.name for measure in self.measures)
        carried = [("source", key.name) for key in self.keys] + [("takes", name) for name in taken]
        yield from name_faults([("name", self.name), *features])
        yield from repeated([*carried, *features])
        if self.name in self.source.tables:
            yield "name", f"is a table of source {self.source.name} already"
        if self.name in layout.OWN:
            yield "name", "is a table of the feature store's own"
        if fault := keyspaces.columns_fault(len(self.columns) - len(self.keys)):
            yield "aggregations", fault
        if fault := keyspaces.retention_fault(self.retention):
            yield "retention", fault
        for name, fault in self.expects.faults():
            yield f"expects.{name}", fault

    def _part_faults(self) -> Iterator[tuple[str, str]]:
        if not self.description.strip():
            yield "description", "is empty: it takes one sentence"
        for field, kind in (("windows", Window), ("aggregations", Aggregation), ("takes", str)):
            value = getattr(self, field)
            if not (field == "takes" and value is None) and (fault := tuple_fault(value, kind)):
                yield field, fault
        known = [measure.name for measure in self.source.measures]
        for name in self.takes or ():
            if name not in known:
                yield "takes", f"has {name}, which is none of the measures of source {self.source.name}"

    def _window_faults(self) -> Iterator[tuple[str, str]]:
        if not self.windows:
            yield "windows", "has none: it takes one or more"
        for window in self.windows:
            if fault := window.fault():
                yield f"windows.{window.name}", fault
        for short, long in pairwise(self.windows):
            if long.within(short) or not short.within(long):
                order = "windows go from the shortest to the longest, each within the next as of every day"
                yield f"windows.{short.name}", f"is not within {long.name}: {order}"

    def _aggregation_faults(self) -> Iterator[tuple[str, str]]:
        measures = {measure.name for measure in self.measures}
        for aggregation in self.aggregations:
            field, function, of = f"aggregations.{aggregation.name}", aggregation.function, aggregation.measure
            if of is not None and of not in measures:
                yield field, f"aggregates {of}, which is none of its measures"
            if function.takes_measure != (of is not None):
                needs = "needs a measure" if function.takes_measure else f"takes no measure, so not {of}"
                yield field, f"is {function.name}, which {needs}"

    @property
    def entity(self) -> str:
        """Key column, text: whose features these are."""
        return self.source.entity

    @property
    def day(self) -> str:
        """Key column, date: as of which day."""
        return self.source.day

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The daily readings that a row carries along, and that the aggregations take; in the source's order."""
        return tuple(m for m in self.source.measures if self.takes is None or m.name in self.takes)

    @cached_property
    def keys(self) -> tuple[Column, Column]:
        """The primary key."""
        return Column(self.entity, Type.TEXT), Column(self.day, Type.DATE)

    @cached_property
    def readings(self) -> tuple[Column, ...]:
        """The columns that the view takes of the table of readings."""
        return self.keys + tuple(Column(measure.name, measure.type) for measure in self.measures)

    @cached_property
    def features(self) -> tuple[Column, ...]:
        """The computed columns: each aggregation over its windows."""
        return tuple(
            Column(name, each.function.result_type(self.measure(each.measure).type if each.measure else None))
            for name, (each, _) in self.made_of.items()
        )

    @cached_property
    def made_of(self) -> dict[str, tuple[Aggregation, Window]]:
        """Of each computed column, in their order, the aggregation and the window."""
        return {each.column(window): (each, window) for each in self.aggregations for window in self.windows}

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """All columns, in the tables' order: keys, measures, features."""
        return self.readings + self.features

    @property
    def longest(self) -> Window:
        """The longest window: it holds all the others."""
        return self.windows[-1]

    def measure(self, name: str) -> Measure:
        """Find a measure; ViewError if there is none of that name."""
        for measure in self.measures:
            if measure.name == name:
                return measure
        raise ViewError(f"measures of view {self.name} has none of name {name}")
