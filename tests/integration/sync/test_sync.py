"""sync against a real Cassandra: only what changed is written, and what is online afterwards is what Delta has."""

from __future__ import annotations

import datetime as dt
import json
import random
from pathlib import Path

import pyarrow as pa
import pytest

from feature_store import cost
from feature_store.energy import ENERGY
from feature_store.sync import plan, proof, whole
from feature_store.validation import records
from spark_jobs.errors import JobError
from tests.integration.sync.conftest import Store, day, features

pytestmark = pytest.mark.integration

IDS = [f"H{number}" for number in range(40)]
DAYS = f"{day(0)}..{day(2)}"
THREE = [day(0), day(1), day(2)]


def changed(rows: pa.Table, count: int, value: float = -7.0) -> pa.Table:
    """The same rows, the first of which have another sum."""
    return with_sums(rows, [value] * count + rows["energy_sum"].to_pylist()[count:])


def with_sums(rows: pa.Table, sums: list[float | None]) -> pa.Table:
    place = rows.schema.get_field_index("energy_sum")
    return rows.set_column(place, "energy_sum", pa.array(sums, pa.float64()))


def test_what_is_online_is_what_delta_has(store: Store) -> None:
    store.lake.put(features(IDS, THREE))
    done = store.sync(DAYS)
    store.equal(THREE)
    assert (done["rows_online"], done["rows_written"], done["rows_deleted"], done["rows_compared"]) == (
        120,
        120,
        0,
        120,
    )
    assert (done["write_units"], done["requests_refused"], done["days_online"]) == (120, 0, 3)
    assert done["dollars"] == pytest.approx((120 * 0.7423 + done["read_units"] * 0.1487) / 1e6, rel=0.01)
    assert {each.features_version for each in store.known.values()} == {0}
    assert {each.rows for each in store.known.values()} == {40}
    assert not any(each.open for each in store.known.values())
    latest = store.online.rows()["H7", day(2)]
    assert type(latest["day_date"]) is dt.date


def test_a_rerun_writes_nothing(store: Store) -> None:
    store.lake.put(features(IDS, THREE))
    store.sync(DAYS)
    before = store.online.written()
    done = store.sync(DAYS)
    assert (done["rows_online"], done["rows_written"], done["write_units"], done["rows_compared"]) == (120, 0, 0, 120)
    assert store.online.written() == before


def test_a_day_that_changes_ten_rows_writes_ten_rows(store: Store) -> None:
    rows = features(IDS, [day(1)], seed=1)
    store.lake.put(features(IDS, THREE))
    store.lake.put(rows)
    store.sync(DAYS)
    before, counted = store.online.written(), store.online.counted()
    # The whole day is written again, as featurize does.
    store.lake.put(changed(rows, 10))
    done = store.sync(str(day(1)))
    after, counted_now = store.online.written(), store.online.counted()
    assert counted_now["writes"] - counted["writes"] == 10
    # Keyspaces' own bytes of a row, which are of all its columns, bound what the server's values take.
    assert 0 < counted_now["bytes_written"] - counted["bytes_written"] <= 10 * cost.row_bytes(ENERGY, len("H0"))
    assert (done["rows_planned"], done["rows_written"], done["write_units"]) == (10, 10, 10)
    assert {key for key in after if after[key] != before[key]} == {(f"H{number}", day(1)) for number in range(10)}
    store.equal(THREE)


def test_rows_that_delta_no_longer_has_are_deleted(store: Store) -> None:
    store.lake.put(features(IDS, THREE))
    store.sync(DAYS)
    store.lake.put(features(IDS[:38], [day(1)], seed=3))
    done = store.sync(str(day(1)))
    assert done["rows_deleted"] == 2
    store.equal(THREE)
    store.lake.replace(features([], []), day(2), day(2))
    done = store.sync(DAYS)
    assert (done["rows_deleted"], done["rows_online"]) == (40, 78)
    store.equal(THREE)


def test_a_null_takes_a_value_away_and_leaves_no_stone_where_there_was_none(store: Store) -> None:
    rows = features(["A", "B"], [day(0)])
    one = rows.set_column(rows.schema.get_field_index("energy_sum"), "energy_sum", pa.array([1.0, None], pa.float64()))
    other = rows.set_column(
        rows.schema.get_field_index("energy_sum"), "energy_sum", pa.array([None, 2.0], pa.float64())
    )
    store.lake.put(one)
    store.sync(str(day(0)))
    store.lake.put(other)
    assert store.sync(str(day(0)))["rows_written"] == 2
    store.equal([day(0)])


def test_what_was_online_before_the_first_sync_does_not_stay(store: Store) -> None:
    """A value where Delta has a null, as another tool may have left it."""
    store.lake.put(with_sums(features(["A"], [day(0)]), [None]))
    store.online.run(f"INSERT INTO TABLE (id, day_date, energy_sum) VALUES ('A', '{day(0)}', 5)")
    done = store.sync(str(day(0)))
    assert (done["differences"], done["repaired"]) == (1, 1)
    store.equal([day(0)])


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_runs_ends_in_the_same_table(store: Store, seed: int) -> None:
    """A day, the next, late readings of both, an older backfill, and replays of what was pinned before."""
    first = store.lake.put(features(IDS, [day(1)], seed=1))
    second = store.lake.put(features(IDS, [day(2)], seed=2))
    late = store.lake.put(changed(features(IDS[:35], [day(1), day(2)], seed=3), 7))
    old = store.lake.put(features(IDS, [day(0)], seed=4))
    runs = [(str(day(1)), first), (str(day(2)), second), (f"{day(1)}..{day(2)}", late), (str(day(0)), old)]
    runs += [(str(day(1)), first), (DAYS, old)]
    random.Random(seed).shuffle(runs)
    for days, version in runs:
        store.sync(days, features_version=version)
    store.equal(THREE)
    assert store.sync(DAYS)["rows_written"] == 0


def test_what_another_run_has_brought_up_to_date_is_left(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    older = store.lake.put(features(IDS, [day(0)]))
    store.lake.put(features(IDS, [day(0)], seed=9))
    store.sync(str(day(0)))
    done = store.sync(str(day(0)), features_version=older)
    assert (done["rows_written"], done["days_online"]) == (0, 0)
    assert f"Another run has brought later features of {day(0)} online" in caplog.text
    store.equal([day(0)])


def test_changed_brings_up_to_date_what_is_online_and_nothing_else(store: Store) -> None:
    store.lake.put(features(IDS, THREE))
    store.sync(f"{day(0)}..{day(1)}")
    assert store.sync(changed=True)["rows_written"] == 0
    store.lake.put(changed(features(IDS, THREE), 5))
    done = store.sync(changed=True)
    # The third day of the first household is not online.
    assert (done["rows_written"], done["rows_deleted"]) == (4, 0)
    store.equal(THREE[:2])


def test_days_held_back_keep_what_they_have(store: Store) -> None:
    store.lake.put(features(IDS, THREE))
    store.sync(DAYS)
    before = store.online.rows()
    store.lake.put(features(IDS, THREE, seed=5))
    judged = records.Judged(day(1), records.Verdict.QUARANTINED, 40, "f", failed=("rows",))
    source = records.Source(0, "id", 1, dt.datetime.now(dt.UTC), "report")
    records.record(store.lake.uri, store.lake.view, [day(1)], {}, [judged], source)
    done = store.sync(DAYS)
    assert (done["rows_online"], done["days_held_back"]) == (80, [str(day(1))])
    online = store.online.rows()
    assert {key: row for key, row in online.items() if key[1] == day(1)} == {
        key: row for key, row in before.items() if key[1] == day(1)
    }
    with pytest.raises(JobError, match=r"no features of .* but those that validation holds back"):
        store.sync(str(day(1)))


class TestRetention:
    def test_days_leave_as_newer_ones_come(self, brief: Store) -> None:
        brief.lake.put(features(IDS, [day(number) for number in range(6)]))
        brief.sync(f"{day(0)}..{day(2)}")
        brief.equal(THREE)
        done = brief.sync(str(day(4)))
        assert (done["days_left"], done["rows_deleted"], done["rows_written"]) == (2, 80, 40)
        brief.equal([day(2), day(4)])

    def test_an_older_backfill_writes_nothing_and_says_so(self, brief: Store, caplog: pytest.LogCaptureFixture) -> None:
        brief.lake.put(features(IDS, [day(number) for number in range(6)]))
        brief.sync(str(day(5)))
        done = brief.sync(DAYS)
        assert (done["rows_written"], done["rows_online"], done["days_too_old"]) == (0, 0, 3)
        assert "older than the newest 3 days, which the online table holds: nothing is written of them" in caplog.text
        brief.equal([day(5)])

    @pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 5, 0, 4, 1, 3]])
    def test_in_any_order(self, brief: Store, order: list[int]) -> None:
        brief.lake.put(features(IDS, [day(number) for number in range(6)]))
        for number in order:
            brief.sync(str(day(number)))
        brief.equal([day(3), day(4), day(5)])
        assert sorted(brief.known) == [day(3), day(4), day(5)]


class TestCertificate:
    def test_a_wrong_value_online_is_found_and_repaired(self, store: Store) -> None:
        store.lake.put(features(IDS, THREE))
        store.sync(DAYS)
        store.online.run(f"UPDATE TABLE SET energy_mean = 1 WHERE id = 'H3' AND day_date = '{day(1)}'")
        store.online.run(f"DELETE FROM TABLE WHERE id = 'H4' AND day_date = '{day(1)}'")
        store.online.run(f"INSERT INTO TABLE (id, day_date) VALUES ('H5', '{day(9)}')")
        done = store.sync(DAYS)
        assert (done["differences"], done["repaired"], done["rows_written"]) == (2, 2, 2)
        store.online.run(f"DELETE FROM TABLE WHERE id = 'H5' AND day_date = '{day(9)}'")
        store.equal(THREE)
        assert {each.day: each.repaired for each in store.known.values()} == {day(0): 0, day(1): 2, day(2): 0}

    def test_the_whole_table_is_compared_and_rows_that_should_not_be_there_go(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.lake.put(features(IDS, THREE))
        store.sync(DAYS)
        store.online.run(f"INSERT INTO TABLE (id, day_date) VALUES ('GHOST', '{day(1)}')")
        store.online.run(f"INSERT INTO TABLE (id, day_date) VALUES ('H1', '{day(9)}')")
        store.online.run(f"UPDATE TABLE SET energy_mean = 1 WHERE id = 'H3' AND day_date = '{day(1)}'")
        store.online.run(f"DELETE FROM TABLE WHERE id = 'H4' AND day_date = '{day(1)}'")
        monkeypatch.setattr(whole, "PART_ROWS", 50)  # in three parts
        found = store.sync(whole="yes")["whole"]
        assert (found["rows"], found["missing"], found["different"], found["left_over"]) == (120, 1, 1, 2)
        store.equal(THREE)
        again = store.sync(whole="yes")["whole"]
        assert (again["missing"], again["different"], again["left_over"]) == (0, 0, 0)

    def test_of_many_rows_that_did_not_change_a_sample_is_compared(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(proof, "SAMPLE_ROWS", 30)
        store.lake.put(features(IDS, THREE))
        assert store.sync(DAYS)["rows_compared"] == 120  # all that was written
        assert store.sync(DAYS)["rows_compared"] == 30
        store.lake.put(changed(features(IDS, THREE), 3))
        assert store.sync(DAYS)["rows_compared"] == 33

    def test_days_are_dealt_with_in_chunks_the_newest_first(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plan, "CHUNK_ROWS", 80)
        store.lake.put(features(IDS, THREE))
        store.sync(DAYS)
        store.equal(THREE)
        times = {each.day: each.certified_at for each in store.known.values()}
        assert times[day(2)] == times[day(1)] < times[day(0)]

    def test_it_is_kept_as_a_file_too(self, store: Store, tmp_path: Path) -> None:
        store.lake.put(features(IDS, [day(0)]))
        store.sync(str(day(0)), certificate=str(tmp_path / "run" / "certificate.json"))
        said = json.loads((tmp_path / "run" / "certificate.json").read_text())
        assert (said["rows_online"], said["rows_compared"], said["differences"]) == (40, 40, 0)
        assert (said["view"], said["passed"], said["error"]) == (store.lake.view.name, True, None)
        assert (said["days"], said["features_version"]) == ([str(day(0))], 0)
        assert dt.datetime.fromisoformat(said["certified_at"]).tzinfo is not None


def test_a_budget_stops_a_sync_before_it_writes(store: Store) -> None:
    store.lake.put(features(IDS, THREE))
    with pytest.raises(JobError, match=r"120 row\(s\) online would take 120 write units, \$0.000089 on demand, and"):
        store.sync(DAYS, budget=1e-9)
    assert store.online.rows() == {}
    assert store.known == {}
    assert store.sync(DAYS, budget=1.0)["rows_written"] == 120


@pytest.mark.parametrize("entity", ["", "x" * 2049])
def test_a_key_that_keyspaces_can_not_hold_is_refused_before_anything_is_written(store: Store, entity: str) -> None:
    store.lake.put(features([*IDS, entity], [day(0)]))
    with pytest.raises(JobError, match=r"1 row\(s\) have a key that Keyspaces can't hold .* Nothing was written"):
        store.sync(str(day(0)))
    assert store.online.rows() == {}


def test_there_is_nothing_of_a_day_that_was_never_computed(store: Store) -> None:
    store.lake.put(features(IDS, [day(0)]))
    with pytest.raises(JobError, match=f"no features of {day(3)}: there is nothing to bring online"):
        store.sync(str(day(3)))


def test_rows_that_are_written_are_of_the_servers_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose clock is an hour behind must not lose its writes to those before."""
    store.lake.put(features(["A"], [day(0)]))
    store.sync(str(day(0)))
    skewed = dt.datetime.now(dt.UTC).timestamp() - 3600
    monkeypatch.setattr("cassandra.timestamps.time.time", lambda: skewed)
    store.lake.put(changed(features(["A"], [day(0)]), 1, value=3.5))
    store.sync(str(day(0)))
    store.equal([day(0)])
    assert min(store.online.written().values()) / 1e6 > skewed + 3000


def test_the_first_and_the_last_day_that_there_are(store: Store) -> None:
    store.lake.put(features(["é" * 10], [dt.date(1, 1, 1), dt.date(9999, 12, 31)]))
    store.sync("0001-01-01..9999-12-31")
    store.equal([dt.date(1, 1, 1), dt.date(9999, 12, 31)])
