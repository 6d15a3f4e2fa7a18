"""The leak gate: what has seen the future is found, whoever computed it; what has not passes."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_store import compute, kernel, leaks
from feature_store.arrow_readings import ReadingsError, schema
from feature_store.energy import ENERGY
from feature_store.view import Function, Window
from tests.unit.feature_store.in_process import household, write_csv

pytestmark = pytest.mark.unit

READINGS = pa.concat_tables([household("MAC3", 60, 7), household("MAC1", 150), household("MAC2", 40, 2)])
FEATURES = compute.features(ENERGY, READINGS)
ALL = 10_000  # samples: more than there are rows
Row = dict[str, Any]


def features_of(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema(ENERGY.columns))


def forward(readings: pa.Table) -> pa.Table:
    """The original kit's cells: each row's windows go from it to the newest day of all, days before them count as 0."""
    functions: dict[Function, Callable[[list[float]], float]] = {
        Function.SUM: sum,
        Function.MAX: max,
        Function.MEAN: statistics.fmean,
        Function.STDDEV: lambda values: statistics.stdev(values) if len(values) > 1 else 0.0,
    }
    newest = pc.max(readings["day_date"]).as_py()
    rows: list[Row] = []
    for row in readings.sort_by([("id", "ascending"), ("day_date", "ascending")]).to_pylist():
        later = [other for other in READINGS_BY_ID[row["id"]] if other["day_date"] >= row["day_date"]]
        made = dict(row)
        for aggregation in ENERGY.aggregations:
            for window in ENERGY.windows:
                first = window.first_day(newest)
                recent = [other[aggregation.measure] if other["day_date"] >= first else 0 for other in later]
                there = [value for value in recent if value is not None]
                made[aggregation.column(window)] = functions[aggregation.function](there) if there else None
        rows.append({name: 0 if value is None else value for name, value in made.items()})
    return features_of(rows)


READINGS_BY_ID: dict[str, list[Row]] = {}
for _row in READINGS.to_pylist():
    READINGS_BY_ID.setdefault(_row["id"], []).append(_row)


def in_sql(ahead: str = "CURRENT ROW") -> pa.Table:
    """DuckDB's windows, by the SQL that views, functions and windows give."""
    carried = [column.name for column in ENERGY.readings]
    columns = ", ".join(
        f"{aggregation.function.sql(aggregation.measure, 'day_date', f'OVER w{window.name}')}"
        f" AS {aggregation.column(window)}"
        for aggregation in ENERGY.aggregations
        for window in ENERGY.windows
    )
    frames = ", ".join(
        f"w{w.name} AS (PARTITION BY id ORDER BY day_date {w.frame_sql().replace('CURRENT ROW', ahead)})"
        for w in ENERGY.windows
    )
    connection = duckdb.connect()
    connection.register("readings", READINGS)
    made = connection.sql(f"SELECT {', '.join(carried)}, {columns} FROM readings WINDOW {frames}").to_arrow_table()
    return made.cast(schema(ENERGY.columns))


# --- what has not seen the future passes


def test_ours_has_no_leak_whatever_the_readings_are_kept_in(tmp_path: Path) -> None:
    write_csv(tmp_path / "landed" / "readings.csv.gz", READINGS)
    write_deltalake(tmp_path / "delta", READINGS)
    for source in (READINGS, tmp_path / "landed", tmp_path / "delta"):
        report = leaks.check(ENERGY, source, samples=60)
        assert report.clean
        assert (report.view, report.seed, report.entities) == (ENERGY.name, 0, 3)
        assert 50 < report.rows <= 60
        assert report.values == report.rows * 22
        assert "no leak" in str(report)


def test_our_table_has_none_in_any_row(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "features", FEATURES)
    report = leaks.check(ENERGY, READINGS, str(tmp_path / "features"), samples=ALL)
    assert (report.clean, report.rows) == (True, len(READINGS))


def test_windows_of_another_engine_pass() -> None:
    assert leaks.check(ENERGY, READINGS, in_sql(), samples=ALL).clean


# --- what has seen it is found


def test_the_original_kits_windows_are_found() -> None:
    report = leaks.check(ENERGY, READINGS, forward(READINGS), samples=50, seed=3)
    assert not report.clean
    assert set(report.leaks) >= {column.name for column in ENERGY.features if "count" not in column.name}
    leak = report.examples[0]
    (right,) = [row for row in FEATURES.to_pylist() if (row["id"], row["day_date"]) == (leak.entity, leak.day)]
    assert leak.value_without == right[leak.column] != leak.value_with
    assert len(report.examples) == leaks.EXAMPLES
    assert f"{leak.entity} {leak.day} {leak.column}: {leak.value_with}, and {leak.value_without}" in str(report)


def test_one_day_ahead_is_found_in_every_column_that_aggregates() -> None:
    report = leaks.check(ENERGY, READINGS, in_sql("INTERVAL 1 DAY FOLLOWING"), samples=ALL)
    assert set(report.leaks) == {column.name for column in ENERGY.features}


@pytest.mark.parametrize(
    ("column", "wrong"),
    [
        ("energy_sum_3months", lambda value: value * (1 + 1e-8)),
        ("energy_count_1yr", lambda value: value + 1),
        ("energy_max_6months", lambda value: None),
        ("energy_stddev_1yr", lambda value: float("nan")),
        ("energy_sum", lambda value: value + 1),
    ],
)
def test_one_wrong_value_is_found(column: str, wrong: Callable[[Any], Any]) -> None:
    rows = FEATURES.to_pylist()
    place = next(place for place, row in enumerate(rows) if place > 100 and row[column] is not None)
    rows[place] |= {column: wrong(rows[place][column])}
    report = leaks.check(ENERGY, READINGS, features_of(rows), samples=ALL)
    assert report.leaks == {column: 1}
    (leak,) = report.examples
    assert (leak.entity, leak.day, leak.column) == (rows[place]["id"], rows[place]["day_date"], column)


def test_the_last_digits_of_others_do_not_count_and_ours_do(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = FEATURES.to_pylist()
    for row in rows:
        if row["energy_sum_1yr"] is not None:
            row["energy_sum_1yr"] *= 1 + 1e-12
    assert leaks.check(ENERGY, READINGS, features_of(rows), samples=ALL).clean
    monkeypatch.setattr(compute, "features", lambda view, source: features_of(rows))
    assert set(leaks.check(ENERGY, READINGS, samples=ALL).leaks) == {"energy_sum_1yr"}


def test_a_row_without_a_reading_is_found() -> None:
    rows = FEATURES.to_pylist()
    rows.append(rows[-1] | {"day_date": dt.date(2020, 1, 1)})
    rows.append(rows[-1] | {"id": "nobody"})
    report = leaks.check(ENERGY, READINGS, features_of(rows), samples=ALL)
    assert report.leaks == {"day_date": 2}


def test_a_kernel_that_looks_at_what_comes_after_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if all that it computes is wrong in the same way."""
    features = kernel.features

    def ahead(readings: pa.Table, view: Any, asked: Any = None) -> pa.Table:
        made = features(readings, view, asked)
        most = pc.fill_null(pc.max(readings["energy_max"]), 0.0)
        place = made.schema.get_field_index("energy_max_1yr")
        return made.set_column(place, made.schema.field(place), pa.array([most.as_py()] * len(made), pa.float64()))

    monkeypatch.setattr(kernel, "features", ahead)
    monkeypatch.setattr(compute.kernel, "features", ahead)
    assert set(leaks.check(ENERGY, READINGS, samples=50).leaks) == {"energy_max_1yr"}
    # A table that the readings up to each day do give, but this kernel only because nothing comes after.
    garbage = leaks.check(ENERGY, READINGS, FEATURES, samples=50)
    assert set(garbage.leaks) == {"energy_max_1yr"}


def test_a_view_of_longer_windows_finds_what_a_shorter_one_computed() -> None:
    short = replace(ENERGY, windows=(Window("3months", months=2), *ENERGY.windows[1:]))
    report = leaks.check(ENERGY, READINGS, compute.features(short, READINGS), samples=100)
    assert {name.rpartition("_")[2] for name in report.leaks} == {"3months"}


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    value = st.none() | st.floats(0, 1e6) | st.sampled_from([0.0, 1e-300, 1e15])
    rows = []
    for name in draw(st.lists(st.sampled_from(["A", "B", "é"]), min_size=1, max_size=3, unique=True)):
        first = draw(st.sampled_from([dt.date(2012, 2, 20), dt.date(2012, 12, 25), dt.date(1969, 12, 25)]))
        step = draw(st.sampled_from([1, 13, 40]))
        for place in draw(st.lists(st.integers(0, 12), min_size=1, max_size=8, unique=True)):
            measures: Row = {measure.name: draw(value) for measure in ENERGY.measures}
            measures["energy_count"] = draw(st.none() | st.integers(0, 48))
            rows.append({"id": name, "day_date": first + dt.timedelta(days=place * step)} | measures)
    return draw(st.permutations(rows))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(), st.data())
def test_any_history_is_clean_until_one_value_is_touched(rows: list[Row], data: st.DataObject) -> None:
    readings = pa.Table.from_pylist(rows, schema(ENERGY.readings))
    seed = data.draw(st.integers(0, 9))
    assert leaks.check(ENERGY, readings, samples=20, seed=seed).clean
    made = compute.features(ENERGY, readings).to_pylist()
    assert leaks.check(ENERGY, readings, features_of(made), samples=20, seed=seed).clean
    touched = data.draw(st.sampled_from(made))
    column = data.draw(st.sampled_from([column.name for column in ENERGY.features]))
    more = 1 if "count" in column else 1e16  # what is added up to 1e15 is judged as precisely as 1e6 at best
    touched[column] = 7 if touched[column] is None else 2 * touched[column] + more
    assert leaks.check(ENERGY, readings, features_of(made), samples=ALL).leaks == {column: 1}


# --- the sample


def test_a_seed_draws_the_same_rows_however_a_table_lies(tmp_path: Path) -> None:
    wrong = forward(READINGS)
    write_deltalake(tmp_path, wrong.take(pa.array(range(len(wrong) - 1, -1, -1))))
    one = leaks.check(ENERGY, READINGS, wrong, samples=9, seed=5)
    assert leaks.check(ENERGY, READINGS, str(tmp_path), samples=9, seed=5) == one
    assert leaks.check(ENERGY, READINGS, wrong, samples=9, seed=6).examples != one.examples


# --- errors, and the command


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (FEATURES.drop_columns(["energy_sum_1yr"]), "column energy_sum_1yr is missing in the features of view energy"),
        (FEATURES.append_column("id", FEATURES["id"]), "column id is there twice in the features"),
        (FEATURES.set_column(1, "day_date", FEATURES["day_date"].cast(pa.string())), "day_date .* is string, not date"),
        (FEATURES.slice(0, 0), "there are no features of view energy_data_features to judge"),
        (features_of([FEATURES.to_pylist()[0] | {"id": None}]), "features of view energy_data_features without id: 1"),
    ],
)
def test_features_that_can_t_be_judged_are_refused(features: pa.Table, says: str) -> None:
    with pytest.raises(ReadingsError, match=says):
        leaks.check(ENERGY, READINGS, features)


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readings, features, wrong = (str(tmp_path / name) for name in ("readings", "features", "wrong"))
    write_deltalake(readings, READINGS)
    write_deltalake(features, FEATURES)
    write_deltalake(wrong, forward(READINGS))
    assert leaks.main(["--readings", readings, "--samples", "20"]) == 0
    assert leaks.main(["--readings", readings, "--features", features, "--samples", "20", "--seed", "1"]) == 0
    assert "no leak: 440 values in 20 rows of 3 entities" in capsys.readouterr().out
    assert leaks.main(["--readings", readings, "--features", wrong, "--view", ENERGY.name]) == 1
    assert "energy_max_3months" in capsys.readouterr().out


def test_the_command_refuses_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_deltalake(tmp_path / "readings", READINGS)
    write_deltalake(tmp_path / "gone", FEATURES)
    for file in (tmp_path / "gone").glob("*.parquet"):
        file.unlink()
    readings = ["--readings", str(tmp_path / "readings")]
    for wrong in (
        ["--readings", str(tmp_path / "nowhere")],
        [*readings, "--features", str(tmp_path / "nowhere")],
        [*readings, "--features", str(tmp_path / "readings")],
        [*readings, "--features", str(tmp_path / "gone")],
        [*readings, "--view", "unknown"],
    ):
        assert leaks.main(wrong) == 2
        said = capsys.readouterr().err
        assert said.startswith("leaks: ")
        assert said.count("\n") == 1
    for wrong in ([], [*readings, "--samples", "0"], [*readings, "--seed", "-1"]):
        with pytest.raises(SystemExit) as ended:
            leaks.main(wrong)
        assert ended.value.code == 2
