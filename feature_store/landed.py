"""What a landed CSV file of readings looks like: its header, and the forms of its days and numbers.

Whoever reads landed files goes by this, on Spark or in one process.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from feature_store.view import FeatureView, Type

# As Java's regular expressions and RE2 both read them.
DAY = r"^\d{4}-\d{2}-\d{2}$"
NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
WHOLE_NUMBER = r"^[+-]?\d+(?:\.0*)?$"
LARGEST = {Type.INT: 2**31 - 1, Type.BIGINT: 2**63 - 1}


class HeaderError(ValueError):
    """A file's header is not that of readings; the message says how."""


@dataclass(frozen=True)
class Header:
    """Where the columns stand in a file: the entity's and the day's position, the measures' in the view's order."""

    entity: int
    day: int
    measures: tuple[int, ...]

    @property
    def fields(self) -> int:
        """How many fields each line has."""
        return len(self.measures) + 2


def read_header(line: str, view: FeatureView) -> Header:
    """Find a view's columns in a file's first line, in whatever order.

    Raises:
        HeaderError: a column is missing, unknown, or there twice.
    """
    return place(read_names(line), view)


def read_names(line: str) -> list[str]:
    """Take a file's first line apart; HeaderError if there is nothing in it, or it is no CSV."""
    text = line.removeprefix("\ufeff")
    if not text.strip():
        raise HeaderError("its first line is empty, where the names of the columns should be")
    try:
        return next(csv.reader([text]))
    except csv.Error as error:
        raise HeaderError(f"its first line is no header: {error}") from error


def place(names: Sequence[str], view: FeatureView) -> Header:
    """Find a view's columns among those of a file; HeaderError as in read_header."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise HeaderError(f"its header has column {twice[0]!r} twice")
    entities = [name for name in names if name in view.source.landed_entities]
    if len(entities) != 1:
        wanted = " or ".join(view.source.landed_entities)
        raise HeaderError(f"its header must have one column {wanted}, and has {', '.join(entities) or 'none'}")
    needed = [view.source.landed_day, *(measure.name for measure in view.measures)]
    if missing := [name for name in needed if name not in names]:
        raise HeaderError(f"its header lacks {', '.join(missing)}")
    if unknown := [name for name in names if name not in needed and name not in entities]:
        raise HeaderError(f"its header has columns that are not known: {', '.join(map(repr, unknown))}")
    entity, day, *measures = (names.index(name) for name in (*entities, *needed))
    return Header(entity, day, tuple(measures))
