"""One look at some days: what SQL finds wrong with their rows, and what it measures of them. DuckDB does the work.

DuckDB shares no code with the kernel that computed the features, reads what the days' windows see once and by streams,
and spills to disk what does not fit into memory.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow.dataset as ds  # type: ignore[import-untyped]  # it has no types, nor are there stubs of its own

from feature_store import files
from feature_store.calendar import DayRange
from feature_store.expectations import Severity
from feature_store.function import NUMBERS
from feature_store.validation import recompute
from feature_store.validation.checks import Check, checks
from feature_store.validation.records import Metrics
from feature_store.validation.sql import date, quoted
from feature_store.view import Column, FeatureView

EXAMPLES = 5
SAMPLED_FROM = 2_000_000  # rows of one day, from which on every second, third, ... entity is computed again
QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
MEMORY = "50%"  # of the machine's: Airflow, Cassandra or YARN are there too


class UnreadableError(Exception):
    """The features' files can't be read; the message is the first line of why."""


@dataclass(frozen=True)
class Finding:
    """A check that failed on a day, or on all of them (None): on how many rows or columns, and some of these."""

    check: str
    severity: Severity
    day: dt.date | None
    count: int
    examples: tuple[str, ...] = ()
    seen: str = ""


@dataclass
class Look:
    """What was found and measured.

    Attributes:
        rows: of features, by day; days that have neither a row nor a reading are not there.
        fingerprints: of each day's rows, whatever their order.
        metrics: of each day.
        findings: what is wrong with rows.
        recomputed: how many rows were computed by the other path too.
    """

    rows: dict[dt.date, int] = field(default_factory=dict)
    fingerprints: dict[dt.date, str] = field(default_factory=dict)
    metrics: dict[dt.date, Metrics] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    recomputed: int = 0


@contextmanager
def opened(readings: ds.Dataset) -> Iterator[Eye]:
    """Open a look at readings, at least those that the windows of the days see; the session ends with it."""
    with tempfile.TemporaryDirectory(prefix="validate-") as folder, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET temp_directory = '{folder}'")
        connection.execute("SET enable_progress_bar = false")
        connection.register("readings_in", readings)
        yield Eye(connection)


class Eye:
    """A session of DuckDB in which the readings are known."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Take the session."""
        self._sql = connection

    def look(self, features: ds.Dataset, view: FeatureView, days: DayRange) -> Look:
        """Look at some days.

        Args:
            features: with the view's columns.
            view: the declaration.
            days: the days; rows of no day are looked at too.

        Raises:
            UnreadableError: the features can't be read.
            duckdb.Error, OSError: the readings can't be read.
        """
        look = Look()
        self._take(features, view, days)
        self._measure(look, view)
        nth = max((rows // SAMPLED_FROM + 1 for rows in look.rows.values()), default=1)
        self._compute_again(view, sorted(look.rows), days, nth)
        self._count_again(look, view)
        look.findings += self._row_findings(view)
        look.findings += self._key_findings(view, days, look)
        return look

    def first_day(self, view: FeatureView) -> dt.date | None:
        """Find the first day of the readings; None if there are none."""
        first: dt.date | None = self._rows(f"SELECT min({quoted(view.day)}) FROM readings_in")[0][0]
        return first

    def readings_rows(self, view: FeatureView, days: DayRange) -> dict[dt.date, int]:
        """Count the readings of some days, by day."""
        day = quoted(view.day)
        within = f"{day} BETWEEN {date(days.start)} AND {date(days.end)}"
        return dict(self._rows(f"SELECT {day}, count(*) FROM readings_in WHERE {within} GROUP BY 1"))

    def readings_metrics(self, view: FeatureView, days: Iterable[dt.date]) -> dict[dt.date, Metrics]:
        """Measure of other days what their readings alone tell: rows, and the measures that the view takes."""
        named = ", ".join(date(day) for day in sorted(days))
        if not named:
            return {}
        day = quoted(view.day)
        source = f"(SELECT * FROM readings_in WHERE {day} IN ({named}))"
        measures = [column for column in view.readings if column.type in NUMBERS]
        found = self._metrics(source, view, measures)
        of_days = self._readings_metrics(source, "readings_in", view)
        return {
            when: {"rows": float(rows), **metrics, **of_days.get(when, {})}
            for when, (rows, _, metrics) in found.items()
            if when
        }

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._sql.execute(sql).fetchall()
        return found

    def _take(self, features: ds.Dataset, view: FeatureView, days: DayRange) -> None:
        """Hold the days' features (f), their readings (r), and those of the day before the first.

        Columns of our own begin with _, as no name of a declaration does.
        """
        day = quoted(view.day)
        self._sql.register("features_in", features)
        columns = ", ".join(quoted(column.name) for column in view.columns)
        try:
            self._sql.execute(
                f"CREATE OR REPLACE TEMP TABLE f AS SELECT {columns} FROM features_in "
                f"WHERE {day} BETWEEN {date(days.start)} AND {date(days.end)} OR {day} IS NULL"
            )
        except (duckdb.Error, OSError) as error:
            raise UnreadableError(files.first_line(error)) from error
        self._sql.unregister("features_in")
        names = [view.entity, view.day, *(measure.name for measure in view.source.measures)]
        before = max(days.start, dt.date.min + dt.timedelta(days=1)) - dt.timedelta(days=1)
        self._sql.execute(
            f"CREATE OR REPLACE TEMP TABLE lately AS SELECT {', '.join(map(quoted, names))}, true AS _present "
            f"FROM readings_in WHERE {day} BETWEEN {date(before)} AND {date(days.end)}"
        )
        self._sql.execute(f"CREATE OR REPLACE TEMP VIEW r AS SELECT * FROM lately WHERE {day} >= {date(days.start)}")

    def _measure(self, look: Look, view: FeatureView) -> None:
        numbers = [column for column in view.columns if column.type in NUMBERS]
        found = self._metrics("f", view, numbers, "sum(hash(_row)::HUGEINT)::VARCHAR")
        of_readings = self._readings_metrics("r", "lately", view)
        for when in sorted({day for day in (*found, *of_readings) if day}):
            rows, fingerprint, metrics = found.get(when, (0, "", {}))
            look.rows[when], look.fingerprints[when] = rows, fingerprint
            look.metrics[when] = {"rows": float(rows), **metrics, **of_readings.get(when, {})}

    def _metrics(
        self, source: str, view: FeatureView, columns: Iterable[Column], more: str = "NULL"
    ) -> dict[dt.date | None, tuple[int, str, Metrics]]:
        """Measure columns by day: rows, one more aggregate, and metrics by COLUMN.NAME."""
        names = [column.name for column in columns]
        parts = [f"{quoted(view.day)} AS day", "count(*) AS rows", f"{more} AS more"]
        for number, name in enumerate(names):
            value = f"{quoted(name)}::DOUBLE"
            only = f"FILTER (WHERE isfinite({value}))"
            quantiles = f"quantile_cont({value}, [{', '.join(map(str, QUANTILES.values()))}]) {only}"
            nulls = f"1 - count({quoted(name)}) / count(*)"
            parts.append(f"{{'nulls': {nulls}, 'mean': avg({value}) {only}, 'q': {quantiles}}} AS c{number}")
        found = {}
        for when, rows, extra, *measured in self._rows(f"SELECT {', '.join(parts)} FROM {source} AS _row GROUP BY 1"):
            metrics: Metrics = {}
            for name, of in zip(names, measured, strict=True):
                named = {"nulls": of["nulls"], "mean": of["mean"], **dict(zip(QUANTILES, of["q"] or (), strict=False))}
                metrics |= {f"{name}.{metric}": value for metric, value in named.items() if value is not None}
            found[when] = (rows, extra or "", metrics)
        return found

    def _readings_metrics(self, source: str, before: str, view: FeatureView) -> dict[dt.date, Metrics]:
        """What days' readings say of the days: how much of them there is, and whether they are the day before's.

        Args:
            source: SQL's readings of the days.
            before: SQL's readings, of the days before them too.
            view: the declaration.
        """
        day, entity = quoted(view.day), quoted(view.entity)
        alike = " AND ".join(
            f"today.{quoted(measure.name)} IS NOT DISTINCT FROM before.{quoted(measure.name)}"
            for measure in view.source.measures
        )
        sql = f"""
            SELECT today.{day}, avg(least(_share, 1)), avg((_share >= 1)::INT),
                avg(({alike})::INT) FILTER (WHERE before.{day} IS NOT NULL), count(before.{day})
            FROM (SELECT *, {_share(view)} AS _share FROM {source}) AS today
            LEFT JOIN {before} AS before ON today.{entity} = before.{entity} AND today.{day} - 1 = before.{day}
            GROUP BY 1
        """
        names = ("filled", "whole", "repeated", "compared")
        return {
            when: {name: float(value) for name, value in zip(names, values, strict=True) if value is not None}
            for when, *values in self._rows(sql)
            if when
        }

    def _compute_again(self, view: FeatureView, found: list[dt.date], days: DayRange, nth: int) -> None:
        """Compute the features of every nth entity (a) from the readings."""
        for statement in recompute.statements(view, found, days, nth):
            self._sql.execute(statement)

    def _count_again(self, look: Look, view: FeatureView) -> None:
        on = _same_key("f", "a", view)
        look.recomputed = self._rows(f"SELECT count(*) FROM f SEMI JOIN a ON {on}")[0][0]

    def _row_findings(self, view: FeatureView) -> Iterator[Finding]:
        """Count the rows that violate each rule in one pass; then take examples of the rules that are violated."""
        entity, day = quoted(view.entity), quoted(view.day)
        joined = f"f LEFT JOIN r ON {_same_key('f', 'r', view)} LEFT JOIN a ON {_same_key('f', 'a', view)}"
        rules = [check for check in checks(view).values() if check.violated]
        counts = ", ".join(f"count(*) FILTER (WHERE {rule.violated})" for rule in rules)
        counted = {row[0]: row[1:] for row in self._rows(f"SELECT f.{day}, {counts} FROM {joined} GROUP BY 1")}
        for number, rule in enumerate(rules):
            of = {when: counts[number] for when, counts in counted.items() if counts[number]}
            if not of:
                continue
            # No r where there is no reading of the key: the example is of the features' row.
            detail = f"' (' || nullif({rule.detail}, '') || ')'" if rule.detail else "''"
            said = (
                f"coalesce(f.{entity}, 'null') || ' ' || coalesce(f.{day}::VARCHAR, 'null') || coalesce({detail}, '')"
            )
            examples = dict(
                self._rows(
                    f"SELECT f.{day}, min_by({said}, coalesce(f.{entity}, ''), {EXAMPLES}) FROM {joined} "
                    f"WHERE {rule.violated} GROUP BY 1"
                )
            )
            for when, count in of.items():
                yield Finding(rule.name, rule.severity, when, count, tuple(examples[when]))

    def _key_findings(self, view: FeatureView, days: DayRange, look: Look) -> Iterator[Finding]:
        entity, day = quoted(view.entity), quoted(view.day)
        both = f"{entity} IS NOT NULL AND {day} IS NOT NULL"
        known = checks(view)
        sources = {
            "rows_missing": f"SELECT {entity}, {day} FROM r ANTI JOIN f ON {_same_key('r', 'f', view)}",
            "rows_unexpected": f"SELECT {entity}, {day} FROM f ANTI JOIN r ON {_same_key('f', 'r', view)} WHERE {both}",
            "key_unique": f"SELECT {entity}, {day} FROM f WHERE {both} GROUP BY ALL HAVING count(*) > 1",
        }
        for name, source in sources.items():
            yield from self._keys(known[name], source, view)
        for when, count, examples in self._repeated_readings(view, days):
            # Its features, and those of every later day whose windows have it.
            last = view.longest.last_day(when)
            for each in (each for each in look.rows if when <= each <= last):
                yield Finding("readings_unique", known["readings_unique"].severity, each, count, tuple(examples))

    def _keys(self, check: Check, source: str, view: FeatureView) -> Iterator[Finding]:
        for when, count, examples in self._rows(_by_day(source, view)):
            yield Finding(check.name, check.severity, when, count, tuple(examples))

    def _repeated_readings(self, view: FeatureView, days: DayRange) -> list[tuple[Any, ...]]:
        """Look at all readings that the windows see: one that is there twice counts twice in each of them."""
        entity, day = quoted(view.entity), quoted(view.day)
        seen = view.longest.seen(days)
        within = f"{day} BETWEEN {date(seen.start)} AND {date(seen.end)}"
        # A bit a day and entity is quicker than a group a key, and as exact: only entities that have one are looked at.
        bits = f"bit_count(bitstring_agg(({day} - {date(seen.start)})::INTEGER, 0, {len(seen)}))"
        some = f"SELECT {entity} FROM readings_in WHERE {within} GROUP BY 1 HAVING count(*) <> {bits}"
        of_these = f"SELECT {entity}, {day} FROM readings_in WHERE {within} AND {entity} IN ({some})"
        return self._rows(_by_day(f"{of_these} GROUP BY ALL HAVING count(*) > 1", view))


def _same_key(one: str, other: str, view: FeatureView) -> str:
    return " AND ".join(f"{one}.{quoted(key.name)} = {other}.{quoted(key.name)}" for key in view.keys)


def _share(view: FeatureView) -> str:
    """SQL's share of its day that a reading holds; null where nobody can tell."""
    whole = view.source.whole_day
    return f"coalesce({quoted(whole.measure)}, 0) / {whole.holds}" if whole else "NULL::DOUBLE"


def _by_day(keys: str, view: FeatureView) -> str:
    """SQL that counts keys by day, with some of them."""
    entity, day = quoted(view.entity), quoted(view.day)
    said = f"{entity} || ' ' || {day}::VARCHAR"
    return f"SELECT {day}, count(*), min_by({said}, {entity}, {EXAMPLES}) FROM ({keys}) GROUP BY 1 ORDER BY 1"
