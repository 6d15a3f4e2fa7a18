"""The checks that a view's declaration implies: names, what they say, and, for those of single rows, their SQL.

In a rule, `f` is a row of features, `r` the reading of its key, and `a` what another path has computed for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from feature_store.expectations import Severity
from feature_store.validation.recompute import RANGED, least, most
from feature_store.validation.sql import quoted
from feature_store.view import Aggregation, FeatureView, Function, Type, ViewError, Window

RELATIVE = 1e-9  # of the larger value, or of SMALLEST where both are smaller
SMALLEST = 1e-3  # a watt hour in kWh: below it, what is left of rounding counts as equal
# Of the window's largest value: by so much SQL's own arithmetic can be off where values cancel. Its deviation is one of
# running means, whose error is a part of the values themselves, however little they deviate; a sum's grows with its
# terms (Higham, Accuracy and Stability of Numerical Algorithms, 4.2).
ROUNDED = 1e-14
# Of these each window has a value where the row's own day has one.
FILLED_BY_ITS_DAY = (Function.SUM, Function.MIN, Function.MAX, Function.MEAN, Function.LAST)


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: as reports, messages and metrics have it.
        what: what is wrong where it fails.
        expected: what should be.
        severity: of a failure; checks with limits say it by them.
        releasable: whether a person may let a day go online in spite of it.
        violated: SQL's condition of a row that fails; None where it is not about single rows.
        detail: SQL's text on such a row, for examples.
    """

    name: str
    what: str
    expected: str
    severity: Severity = Severity.ERROR
    releasable: bool = True
    violated: str | None = None
    detail: str | None = None


@cache
def checks(view: FeatureView) -> dict[str, Check]:
    """All checks of a view, in the order of reports; ViewError if its `warn_only` names another."""
    known: dict[str, Check] = {}
    for check in (*_of_table(), *_of_rows(view), *_of_days(view)):
        if check.name in known:
            raise ViewError(f"aggregations of view {view.name} make check {check.name} twice: give one another name")
        known[check.name] = check
    for name in view.expects.warn_only:
        if name not in known:
            raise ViewError(f"expects.warn_only of view {view.name} has {name}, which is no check of it")
        if not known[name].releasable:
            raise ViewError(f"expects.warn_only of view {view.name} has {name}, without which there are no right rows")
        known[name] = replace(known[name], severity=Severity.WARN)
    return known


def differs(one: str, other: str, kind: Type, allowance: str = "0") -> str:
    """SQL's condition that two values differ, by more than rounding and an allowance if they are doubles."""
    if kind is not Type.DOUBLE:
        return f"({one} IS DISTINCT FROM {other})"
    allowed = f"{RELATIVE} * greatest(abs({one}), abs({other}), {SMALLEST}) + {allowance}"
    # Of what is no number nothing is true: NaN counts as larger than all, and so as too far apart.
    return f"(({one} IS NULL) <> ({other} IS NULL) OR abs({one} - {other}) > {allowed})"


def _allowance(of: Aggregation, window: Window) -> str:
    """SQL's rounding of an aggregate of doubles, as the other path computes it."""
    if of.function not in RANGED or of.measure is None:
        return "0"
    ends = (f"a.{quoted(end(of.measure, window))}" for end in (least, most))
    terms = window.longest if of.function is Function.SUM else 1
    return f"{ROUNDED * terms} * coalesce(greatest({', '.join(f'abs({end}::DOUBLE)' for end in ends)}), 0)"


def _of_table() -> Iterator[Check]:
    """Checks that are not about values."""
    yield Check("rows_present", "there is neither a row nor a reading in the range", "rows", releasable=False)
    yield Check("readable", "the rows can't be read", "every file of the days can be read", releasable=False)
    yield Check(
        "columns",
        "the table's columns are not the view's",
        "the view's columns, in names, order and types",
        releasable=False,
    )
    yield Check("key_unique", "keys that have more than one row", "one row per entity and day", releasable=False)
    yield Check(
        "readings_unique",
        "keys that have more than one reading (ingest with --start and --end rebuilds such days)",
        "one reading per entity and day, in all windows",
        releasable=False,
    )
    yield Check("rows_missing", "readings that have no features", "a row for every reading")
    yield Check("rows_unexpected", "features that have no reading", "no row without a reading", releasable=False)


def _of_rows(view: FeatureView) -> Iterator[Check]:
    entity, day = (f"f.{quoted(key.name)}" for key in view.keys)
    yield Check(
        "key_not_null",
        "rows without entity or day",
        "no row without its key",
        releasable=False,
        violated=f"({entity} IS NULL OR {day} IS NULL)",
    )
    doubles = [f"f.{quoted(column.name)}" for column in view.columns if column.type is Type.DOUBLE]
    yield Check(
        "values_finite",
        "rows with a value that is NaN or infinite",
        "finite numbers",
        releasable=False,
        violated=_any(f"NOT isfinite({value})" for value in doubles),
    )
    carried = [column for column in view.readings if column.name not in (view.entity, view.day)]
    yield Check(
        "readings_carried",
        "rows whose measures are not their reading's",
        "the day's measures as they were read",
        violated=f"r._present AND {_any(_unlike(c.name) for c in carried)}" if carried else "false",
        detail=_listed({c.name: _unlike(c.name) for c in carried}, "r.{}"),
    )
    yield from _of_readings(view)
    for aggregation in view.aggregations:
        yield from _of_aggregation(view, aggregation)
    yield from _between(view)
    computed = {
        column.name: differs(
            f"f.{quoted(column.name)}", f"a.{quoted(column.name)}", column.type, _allowance(*view.made_of[column.name])
        )
        for column in view.features
    }
    yield Check(
        "values_recomputed",
        "rows whose values differ from those computed by another path",
        f"what SQL computes from the readings, to {RELATIVE:g}",
        violated=f"a._computed AND {_any(computed.values())}",
        detail=_listed(computed, "a.{}"),
    )


def _unlike(measure: str) -> str:
    return f"(f.{quoted(measure)} IS DISTINCT FROM r.{quoted(measure)})"


def _of_readings(view: FeatureView) -> Iterator[Check]:
    """What the source says of each of its readings."""
    for measure in view.source.measures:
        if measure.minimum is not None:
            value = f"r.{quoted(measure.name)}"
            yield Check(
                f"{measure.name}_minimum",
                f"readings whose {measure.name} is less than it can be",
                f"{measure.name} from {measure.minimum}",
                violated=f"{value} < {measure.minimum}",
                detail=f"'{measure.name} ' || {value}",
            )
    for order in view.source.ascending:
        pairs = list(pairwise(order))
        yield Check(
            f"{'_'.join((order[0], 'to', order[-1], 'by', order[1]))}"
            if len(order) > 2
            else f"{order[0]}_to_{order[-1]}",
            f"readings in which {', '.join(order)} do not ascend",
            " <= ".join(order),
            violated=_any(f"r.{quoted(low)} > {_loose('r.' + quoted(high))}" for low, high in pairs),
            detail=" || ' ' || ".join(f"'{name} ' || coalesce(r.{quoted(name)}::VARCHAR, 'null')" for name in order),
        )


def _of_aggregation(view: FeatureView, of: Aggregation) -> Iterator[Check]:
    names = [of.column(window) for window in view.windows]
    columns = [f"f.{quoted(name)}" for name in names]
    shown = " || ' ' || ".join(
        f"'{name} ' || coalesce({column}::VARCHAR, 'null')" for name, column in zip(names, columns, strict=True)
    )
    own = f"f.{quoted(of.measure)}" if of.measure else None
    minimum = view.measure(of.measure).minimum if of.measure else None
    function = of.function
    if function in FILLED_BY_ITS_DAY:
        yield Check(
            f"{of.name}_null",
            f"rows in which {of.name} is null though their own day has a value",
            "null only where no value is",
            violated=f"{own} IS NOT NULL AND {_any(f'{column} IS NULL' for column in columns)}",
            detail=shown,
        )
    elif not function.least:
        yield Check(
            f"{of.name}_null",
            f"rows in which {of.name} is null",
            "never null",
            violated=_any(f"{column} IS NULL" for column in columns),
            detail=shown,
        )
    if function is Function.STDDEV:
        yield Check(
            f"{of.name}_not_negative",
            f"rows in which {of.name} is negative",
            "from 0",
            violated=_any(f"{c} < 0" for c in columns),
            detail=shown,
        )
    grows = function in (Function.MAX, Function.COUNT, Function.DAYS_SEEN) or (
        function is Function.SUM and minimum is not None and minimum >= 0
    )
    if grows and len(columns) > 1:
        yield Check(
            f"{of.name}_grows",
            f"rows in which {of.name} falls from a window to a longer one",
            " <= ".join(w.name for w in view.windows),
            violated=_any(_less(long, short) for short, long in pairwise(columns)),
            detail=shown,
        )
    if function is Function.MIN and len(columns) > 1:
        yield Check(
            f"{of.name}_falls",
            f"rows in which {of.name} grows from a window to a longer one",
            " >= ".join(w.name for w in view.windows),
            violated=_any(_more(long, short) for short, long in pairwise(columns)),
            detail=shown,
        )
    if own and (function is Function.MIN or (grows and function is not Function.COUNT)):
        low, high = (columns[0], own) if function is Function.MIN else (own, columns[0])
        yield Check(
            f"{of.name}_holds_day",
            f"rows in which {of.name} leaves the row's own day out",
            f"{view.windows[0].name} holds the day itself",
            violated=f"{low} > {_loose(high)}",
            detail=shown,
        )
    if (a_day := _most_a_day(view, of)) is not None:
        most_of = [f"{column} > {window.longest * a_day}" for column, window in zip(columns, view.windows, strict=True)]
        limits = ", ".join(f"{window.longest * a_day:,} in {window.name}" for window in view.windows)
        yield Check(
            f"{of.name}_possible",
            f"rows in which {of.name} is more than the window can hold",
            f"at most {limits}",
            violated=_any(most_of),
            detail=shown,
        )
    if function is Function.MEAN and of.measure:
        out = []
        for column, window in zip(columns, view.windows, strict=True):
            low, high = (f"a.{quoted(end(of.measure, window))}" for end in (least, most))
            out += [f"{column} < {low} - {RELATIVE} * abs({low})", f"{column} > {_loose(high)}"]
        yield Check(
            f"{of.name}_within",
            f"rows in which {of.name} is not within the window's readings",
            "from the window's least to its largest reading",
            violated=_any(out),
            detail=shown,
        )


def _most_a_day(view: FeatureView, of: Aggregation) -> int | None:
    """How much a day can add to an aggregate; None if nobody knows."""
    if of.function in (Function.COUNT, Function.DAYS_SEEN):
        return 1
    whole = view.source.whole_day
    return whole.holds if whole and of.function is Function.SUM and of.measure == whole.measure else None


def _between(view: FeatureView) -> Iterator[Check]:
    """Where a view has the least and the largest of a measure, other aggregates of it lie between them."""
    for low, middle, high in _triples(view.aggregations):
        out = []
        for window in view.windows:
            smallest, value, largest = (f"f.{quoted(each.column(window))}" for each in (low, middle, high))
            out += [f"{smallest} > {_loose(value)}", f"{value} > {_loose(largest)}"]
        yield Check(
            f"{middle.name}_between",
            f"rows in which {middle.name} is not between {low.name} and {high.name}",
            f"{low.name} <= {middle.name} <= {high.name}",
            violated=_any(out),
        )


def _triples(aggregations: Sequence[Aggregation]) -> Iterator[tuple[Aggregation, Aggregation, Aggregation]]:
    for middle in aggregations:
        if middle.function in (Function.MEAN, Function.LAST):
            alike = [each for each in aggregations if each.measure == middle.measure]
            lows = [each for each in alike if each.function is Function.MIN]
            highs = [each for each in alike if each.function is Function.MAX]
            if lows and highs:
                yield lows[0], middle, highs[0]


def _of_days(view: FeatureView) -> Iterator[Check]:
    """What is judged by the day, by the view's limits."""
    expects, whole = view.expects, view.source.whole_day
    at_least, at_most = "at least", "at most"
    if whole:
        holds = f"{whole.holds} of {whole.measure}"
        filled = expects.filled.text(at_least, f"of what whole days hold ({holds})")
        yield Check("day_filled", "the readings hold too little of the day", filled)
        entities = expects.whole.text(at_least, "of the entities")
        yield Check("entities_whole", f"too few entities have a whole day ({holds})", entities)
    past = f"the {expects.trailing_days} days before"
    usual = f"median of {past}"
    yield Check("rows_steady", f"fewer rows than in {past}", expects.rows.text(at_least, f"of the {usual}"))
    yield Check("rows_growth", f"more rows than in {past}", expects.growth.text(at_most, f"times the {usual}"))
    nulls = expects.nulls.text(at_most, f"of the rows more than the {usual}")
    yield Check("nulls_steady", f"columns with more nulls than in {past}", nulls)
    shift = expects.shift.text(at_most, "interquartile ranges away")
    yield Check("values_steady", f"columns whose median is far from that of {past}", shift)
    spread = expects.spread.text(at_most, "times as wide, or as narrow")
    yield Check("spread_steady", f"columns whose interquartile range is not that of {past}", spread)
    copied = expects.repeated.text(at_most, "of the entities more than usual the same in all measures")
    yield Check("not_a_copy", "the readings are those of the day before", copied)
    yield Check("fresh", "days that have no row", "rows on every day, up to the last", severity=Severity.WARN)


def _loose(value: str) -> str:
    """A value and what rounding may have added to it."""
    return f"({value} + {RELATIVE} * abs({value}))"


def _less(one: str, other: str) -> str:
    """SQL's condition that a value is less than another by more than rounding, or null where that is not."""
    # Sums of more terms are rounded otherwise: equal up to that is no fall.
    return f"coalesce({other} - {one} > {RELATIVE} * abs({other}), {other} IS NOT NULL AND {one} IS NULL)"


def _more(one: str, other: str) -> str:
    """SQL's condition that a value is more than another, or null where that is not."""
    return f"coalesce({one} > {_loose(other)}, {other} IS NOT NULL AND {one} IS NULL)"


def _any(conditions: Iterable[str]) -> str:
    """SQL's condition that one of them is true; what is null is not."""
    return "(" + " OR ".join(f"coalesce({each}, false)" for each in conditions) + ")"


def _listed(conditions: dict[str, str], other: str) -> str:
    """SQL's text that names the columns whose condition is true, each with its value and the other's."""
    said = ", ".join(
        f"CASE WHEN {condition} THEN '{name} is ' || coalesce(f.{quoted(name)}::VARCHAR, 'null')"
        f" || ' instead of ' || coalesce({other.format(quoted(name))}::VARCHAR, 'null') END"
        for name, condition in conditions.items()
    )
    return f"concat_ws(', ', {said})"
