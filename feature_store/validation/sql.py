"""DuckDB's SQL of names, days and types."""

from __future__ import annotations

import datetime as dt

from feature_store.function import Type

TYPES = {Type.TEXT: "VARCHAR", Type.DATE: "DATE", Type.INT: "INTEGER", Type.BIGINT: "BIGINT", Type.DOUBLE: "DOUBLE"}


def quoted(name: str) -> str:
    """A name; the declaration's have no quotes in them."""
    return f'"{name}"'


def date(day: dt.date) -> str:
    """A day."""
    return f"DATE '{day.isoformat()}'"
