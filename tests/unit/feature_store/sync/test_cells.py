"""Rows as Cassandra has them: the driver's own types read what was encoded, and give back what went in."""

from __future__ import annotations

import datetime as dt
import math
import random
from itertools import pairwise

import pyarrow as pa
import pytest
from cassandra.cqltypes import DateType, DoubleType, Int32Type, LongType, SimpleDateType, UTF8Type
from cassandra.metadata import Murmur3Token

from feature_store.energy import ENERGY
from feature_store.function import Type
from feature_store.sync import cells
from feature_store.sync.online_table import part_of, token, token_ranges
from feature_store.view import Column

pytestmark = pytest.mark.unit

DRIVERS = {
    Type.TEXT: UTF8Type,
    Type.DATE: SimpleDateType,
    Type.INT: Int32Type,
    Type.BIGINT: LongType,
    Type.DOUBLE: DoubleType,
}
COLUMNS = tuple(Column(kind.name.lower(), kind) for kind in Type)
VALUES = [
    ("é", dt.date(1, 1, 1), -(2**31), -(2**63), -0.0),
    ("", dt.date(1969, 12, 31), 2**31 - 1, 2**63 - 1, math.inf),
    (None, None, None, None, None),
    ("MAC000002", dt.date(9999, 12, 31), 0, 0, 5e-324),
    ("x" * 300, dt.date(2014, 2, 28), -1, -1, 0.1),
]


def table(rows: list[tuple]) -> pa.Table:
    kinds = (pa.string(), pa.date32(), pa.int32(), pa.int64(), pa.float64())
    columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
    return pa.table(columns, [column.name for column in COLUMNS])


def decoded(row: cells.Row) -> tuple:
    values = []
    for column, value in zip(COLUMNS, cells.split(row), strict=True):
        if value is None:
            values.append(None)
            continue
        found = DRIVERS[column.type].deserialize(value, 4)
        values.append(dt.date.fromordinal(found.days_from_epoch + 719163) if column.type is Type.DATE else found)
    return tuple(values)


def test_the_driver_reads_what_was_encoded() -> None:
    assert [decoded(row) for row in cells.rows(table(VALUES), COLUMNS)] == VALUES
    assert DateType is not SimpleDateType
    minus = cells.split(next(iter(cells.rows(table(VALUES), COLUMNS))))[4]
    assert minus == b"\x80" + bytes(7), "a negative zero stays one"


def test_more_rows_than_are_taken_at_a_time_and_columns_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "AT_A_TIME", 3)
    pieces = pa.concat_tables([table(VALUES[:2]), table(VALUES[2:]), table(VALUES)])
    assert [decoded(row) for row in cells.rows(pieces, COLUMNS)] == VALUES * 2
    assert list(cells.rows(table(VALUES).slice(0, 0), COLUMNS)) == []


def test_days() -> None:
    for day in (dt.date.min, dt.date(1970, 1, 1), dt.date.max):
        assert cells.day_of(cells.day_bytes(day)) == day
    assert cells.day_bytes(dt.date(1970, 1, 1)) == b"\x80\0\0\0"


def test_entities_come_with_their_rows() -> None:
    day = dt.date(2014, 1, 1)
    rows = [(name, day + dt.timedelta(days=n), n, n, None) for name in ("A", "B", "Ö") for n in range(3)]
    found = list(cells.by_entity(table(rows), "text", COLUMNS))
    assert [entity.decode() for entity, _ in found] == ["A", "B", "Ö"]
    assert [decoded(row) for _, of in found for row in of] == rows
    assert list(cells.by_entity(table(rows).slice(0, 0), "text", COLUMNS)) == []


def test_a_row_without_an_entity_is_refused() -> None:
    rows = [("A", dt.date(2014, 1, 1), 1, 1, 1.0), (None, dt.date(2014, 1, 1), 1, 1, 1.0)]
    with pytest.raises(ValueError, match="a row without text"):
        list(cells.by_entity(table(rows), "text", COLUMNS))


def test_a_null_is_sent_only_where_a_value_goes() -> None:
    new, old = cells.values(b"a", b"d", None, None, b"1"), cells.values(b"a", b"d", b"2", None, None)
    some, unset = cells.values(b"a", b"d"), cells.UNSET
    assert cells.to_send(new, None) == some + unset + unset + cells.values(b"1")
    assert cells.to_send(new, old) == some + cells.NULL + unset + cells.values(b"1")
    full = cells.values(b"a", b"d", b"\xff\xff\xff\xff", b"", b"1")  # a value may look like a null's length
    assert cells.to_send(full, None) == full
    assert cells.split(some + unset + cells.NULL) == [b"a", b"d", None, None]


def test_numbers_between_texts() -> None:
    """A view has its entity first; nothing here relies on all that follows being numbers."""
    rows = [("a", 1, "x", 2.5), ("b", None, None, None), ("", 3, "yy", 0.0)]
    kinds = {"t": Type.TEXT, "i": Type.INT, "u": Type.TEXT, "d": Type.DOUBLE}
    made = pa.table(dict(zip(kinds, map(list, zip(*rows, strict=True)), strict=True)))
    made = made.cast(pa.schema({"t": pa.string(), "i": pa.int32(), "u": pa.string(), "d": pa.float64()}))
    found = [cells.split(row) for row in cells.rows(made, [Column(name, kind) for name, kind in kinds.items()])]
    assert found[0] == [b"a", (1).to_bytes(4), b"x", DoubleType.serialize(2.5, 4)]
    assert found[1] == [b"b", None, None, None]
    assert found[2] == [b"", (3).to_bytes(4), b"yy", bytes(8)]


def test_a_page_is_cut_into_rows_beside_those_that_are_expected() -> None:
    day = dt.date(2014, 2, 27)
    values = [("A", day, 1, None, 0.5), ("A", day + dt.timedelta(days=1), None, 2, None), ("Ö", day, 1, 2, 3.0)]
    online = list(cells.rows(table(values), COLUMNS))
    right = list(cells.rows(table([values[0], ("A", day + dt.timedelta(days=1), 7, 2, None)]), COLUMNS))
    expected = {cells.key(row): row for row in right}
    page = cells.Page(len(online), b"".join(online))
    found = list(page.rows(len(COLUMNS), lambda *key: expected.get(key)))
    assert [(entity.decode(), cells.day_of(of)) for entity, of, *_ in found] == [row[:2] for row in values]
    assert [row for *_, row, _ in found] == online
    assert [wanted for *_, wanted in found] == [*right, None]
    assert found[0][2] == found[0][3]
    assert found[1][2] != found[1][3]


def test_a_row_is_named_by_its_key() -> None:
    (row,) = cells.rows(table([("MAC000002", dt.date(2014, 2, 27), None, None, None)]), COLUMNS)
    assert cells.named(cells.key(row)) == "MAC000002 2014-02-27"


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("steps", [1, 5, 64])
def test_every_entity_is_in_one_step_of_its_part(parts: int, steps: int) -> None:
    random.seed(parts * steps)
    ranges = [token_ranges(part, parts, steps) for part in range(parts)]
    ends = [edge for part in ranges for edge in part]
    assert ends[0][0] == -(2**63)
    assert ends[-1][1] == 2**63 - 1
    assert all(one[1] == two[0] for one, two in pairwise(ends))
    for _ in range(300):
        entity = f"MAC{random.randrange(10**6):06}".encode()
        hashed = token(entity)
        assert hashed == Murmur3Token.from_key(entity).value
        assert [low < hashed <= high for low, high in ends].count(True) == 1
        assert any(low < hashed <= high for low, high in ranges[part_of(entity, parts)])


def test_the_view_of_the_kit() -> None:
    assert {column.type for column in ENERGY.columns} == set(Type)
