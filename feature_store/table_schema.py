"""The schema of a view's Delta table, and how that of a live table differs from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from feature_store.function import Type
from feature_store.view import FeatureView

SPARK_NAMES = {kind.delta: kind.spark for kind in Type}


@dataclass(frozen=True)
class Difference:
    """One way in which a live table's columns are not the declared ones, and what that takes."""

    kind: str
    columns: tuple[str, ...]
    meaning: str


MEANINGS = {
    "added": "declared, and not in the table. Recompute: no row has them yet, and no job adds a column to a table. "
    "Featurize the whole history into a new table, and ALTER TABLE ... ADD them online before the next sync.",
    "missing": "in the table, and declared no more. Refused: no job takes a column away that somebody may read. "
    "Declare them again; or declare a view of another name without them, move its readers there, and drop this one.",
    "retyped": "of another type than declared. Refused: neither Delta nor Keyspaces changes a column's type in place. "
    "Give the feature, or the view, another name, and move its readers there.",
    "moved": "declared in another order. Recompute: validation refuses another order than the declared one. "
    "Declare them in the table's order, or featurize the whole history into a new table.",
}


def ddl(view: FeatureView) -> str:
    """Render the Spark SQL statement that would make the view's Delta table; the featurize job makes it by itself."""
    columns = ",\n".join(f"  {column.name} {column.type.spark.upper()}" for column in view.columns)
    return f"CREATE TABLE {view.name} (\n{columns}\n) USING DELTA\n"


def as_json(view: FeatureView) -> str:
    """Render the schema as a Delta table's log and Spark's StructType have it."""
    fields = [
        {"name": column.name, "type": column.type.delta, "nullable": True, "metadata": {}} for column in view.columns
    ]
    return json.dumps({"type": "struct", "fields": fields}, indent=2) + "\n"


def differences(view: FeatureView, live: str) -> list[Difference]:
    """Compare the view with a live table's schema, given as JSON."""
    there = {field["name"]: _spark(field["type"]) for field in json.loads(live)["fields"]}
    declared = {column.name: column.type.spark for column in view.columns}
    shared = [name for name in there if name in declared]
    ordered = [name for name in declared if name in there]
    found = {
        "added": [f"{name} {kind}" for name, kind in declared.items() if name not in there],
        "missing": [f"{name} {kind}" for name, kind in there.items() if name not in declared],
        "retyped": [
            f"{name} {there[name]}, declared {declared[name]}" for name in ordered if there[name] != declared[name]
        ],
        "moved": _moved(ordered, shared),
    }
    return [Difference(kind, tuple(columns), MEANINGS[kind]) for kind, columns in found.items() if columns]


def _moved(declared: Sequence[str], there: Sequence[str]) -> list[str]:
    moved = [(name, other) for name, other in zip(declared, there, strict=True) if name != other]
    return [f"{other}, where {name} is declared" for name, other in moved]


def _spark(kind: Any) -> str:  # noqa: ANN401 - a type's name, or an object of JSON for a nested one
    return SPARK_NAMES.get(kind, kind) if isinstance(kind, str) else str(kind["type"])
