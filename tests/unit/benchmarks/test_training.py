"""The benchmark of training sets ends where a set is another than what pure Python finds, be it in one value."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from benchmarks import training as benchmark
from benchmarks.measure import CaseFailedError
from feature_store import training
from feature_store.arrow_readings import schema
from feature_store.energy import ENERGY
from feature_store.training import build
from tests.unit.feature_store.training.tables import day, leaking

pytestmark = pytest.mark.unit

FEATURE = benchmark.FEATURES[0]


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A table of features with gaps and nulls, 300 events, and what pure Python finds for them."""
    random = np.random.default_rng(1)
    rows = [
        {"id": f"H{household}", "day_date": day(number)}
        | {column.name: None if random.random() < 0.1 else int(random.integers(99)) for column in ENERGY.columns[2:]}
        for household in range(5)
        for number in range(20)
        if random.random() < 0.7
    ]
    write_deltalake(tmp_path / "features", pa.Table.from_pylist(rows, schema(ENERGY.columns)))
    pq.write_table(benchmark._events(tmp_path / "features", 300), tmp_path / "events.parquet")
    expected = benchmark._looked_up(tmp_path / "features", tmp_path / "events.parquet")
    pq.write_table(expected, tmp_path / "expected.parquet")
    return tmp_path


def made(asked: Path) -> pa.Table:
    view = training.Asked(ENERGY, str(asked / "features"))
    return training.training_set(str(asked / "events.parquet"), [view]).table


def check(asked: Path, table: pa.Table) -> None:
    pq.write_table(table, asked / "set.parquet")
    benchmark._check("it", asked / "set.parquet", asked / "expected.parquet")


def with_value(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    values = table[column].to_pylist()
    assert values[row] != value
    values[row] = value
    return table.set_column(table.column_names.index(column), column, pa.array(values, table.schema.field(column).type))


def test_what_is_right_passes_in_any_order(asked: Path) -> None:
    table = made(asked)
    check(asked, table)
    check(asked, table.take(pa.array(np.random.default_rng(2).permutation(table.num_rows))))


def test_one_value_of_another_kind_ends_it(asked: Path) -> None:
    table = made(asked)
    values = table[FEATURE].to_pylist()
    there = next(row for row, value in enumerate(values) if value)
    null = next(row for row, value in enumerate(values) if value is None)
    for column, row, value in (
        (FEATURE, there, float(np.nextafter(values[there], np.inf))),
        (FEATURE, there, None),
        (FEATURE, there, float("nan")),
        (FEATURE, null, 0.0),
        (FEATURE, null, float("nan")),
        (benchmark.FOUND, there, day(0) - dt.timedelta(days=1)),
        (benchmark.AGE, there, 99),
        ("label", there, 2.0),
    ):
        with pytest.raises(CaseFailedError, match=f"it differs from what pure Python finds: {column} of 1 events"):
            check(asked, with_value(table, column, row, value))
    for other in (table.slice(1), table.drop_columns([FEATURE])):
        with pytest.raises(CaseFailedError, match="it has "):
            check(asked, other)
    with pytest.raises(CaseFailedError, match="it differs"):
        check(asked, pa.concat_tables([table.slice(0, 1), table.slice(0, table.num_rows - 1)]))


def test_a_leak_of_one_day_ends_it(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "checked", leaking)
    with pytest.raises(CaseFailedError, match=f"it differs from what pure Python finds: {benchmark.FOUND}"):
        check(asked, made(asked))
