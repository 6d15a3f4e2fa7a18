"""What went before a sync: runs that were killed or overtaken, versions that are gone, tables that are not the same."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from feature_store.energy import ENERGY
from feature_store.sync import changes, proof, synchronise
from feature_store.sync.online_table import OnlineTable
from feature_store.validation import records
from feature_store.view import Aggregation, Function
from spark_jobs import schema
from spark_jobs.errors import JobError, VerdictError
from tests.integration.sync.conftest import Store, day, features
from tests.integration.sync.test_sync import DAYS, IDS, THREE, changed

pytestmark = pytest.mark.integration

FEWER = IDS[:30]


class KilledError(BaseException):
    """As if the process was gone."""


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str, Callable[[], object]], None]:
    """Let what is done end in a kill after the first call of a method, and nothing else."""

    def after(owner: type, method: str, act: Callable[[], object]) -> None:
        real = getattr(owner, method)

        def killing(*arguments: object) -> None:
            real(*arguments)
            raise KilledError

        with monkeypatch.context() as patch:
            patch.setattr(owner, method, killing)
            with pytest.raises(KilledError):
                act()

    return after


def meanwhile(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, act: Callable[[], object]) -> None:
    """Let another run do something just before the next call of a method, once."""
    real = getattr(owner, method)

    def first(*arguments: object, **named: object) -> object:
        monkeypatch.setattr(owner, method, real)
        act()
        return real(*arguments, **named)

    monkeypatch.setattr(owner, method, first)


def vacuum(store: Store) -> None:
    DeltaTable(store.lake.uri).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def empty(store: Store) -> None:
    for entity in {entity for entity, _ in store.online.rows()}:
        store.online.run(f"DELETE FROM TABLE WHERE id = '{entity}'")


def test_what_is_found_wrong_in_a_sample_has_all_of_it_looked_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "SAMPLE_ROWS", 20)
    store.lake.put(features(IDS, THREE))
    store.sync(DAYS)
    empty(store)
    done = store.sync(DAYS)
    assert (done["differences"], done["repaired"], done["rows_written"]) == (120, 120, 120)
    store.equal(THREE)


class TestGone:
    """The version that was certified can't be read any more, and rows have left since."""

    def test_its_files_are_vacuumed(self, store: Store) -> None:
        store.lake.put(features(IDS, THREE))
        store.sync(DAYS)
        store.lake.put(changed(features(FEWER, THREE), 4))
        vacuum(store)
        done = store.sync(DAYS)
        assert (done["rows_written"], done["rows_deleted"]) == (90, 30)
        store.equal(THREE)

    def test_a_whole_day_is_gone_too(self, store: Store) -> None:
        store.lake.put(features(IDS, THREE))
        store.sync(DAYS)
        store.lake.replace(features([], []), day(1), day(1))
        vacuum(store)
        assert store.sync(DAYS)["rows_deleted"] == 40
        store.equal(THREE)

    def test_another_table_is_at_its_place(self, store: Store) -> None:
        store.lake.put(features(IDS, THREE))
        store.sync(DAYS)
        shutil.rmtree(store.lake.uri)
        store.lake.put(changed(features(FEWER, THREE), 2))
        done = store.sync(DAYS)
        assert done["rows_deleted"] == 30
        store.equal(THREE)

    def test_a_day_that_leaves_was_of_it(self, brief: Store) -> None:
        brief.lake.put(features(IDS, [day(number) for number in range(6)]))
        brief.sync(str(day(0)))
        brief.lake.put(features(FEWER, [day(number) for number in range(6)]))
        vacuum(brief)
        done = brief.sync(str(day(5)))
        assert (done["days_left"], done["rows_deleted"]) == (1, 40)
        brief.equal([day(5)])

    def test_a_file_that_can_not_be_read_just_now_is_not_gone(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.lake.put(features(IDS, THREE))
        store.sync(DAYS)
        store.lake.put(features(FEWER, THREE))
        read = changes.Features._read

        def broken(self: changes.Features, *arguments: object) -> pa.Table:
            if self.version == 0:
                raise changes.FeaturesError("the network is down")
            return read(self, *arguments)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(changes.Features, "_read", broken)
            with pytest.raises(JobError, match="the network is down"):
                store.sync(DAYS)
        assert {each.features_version for each in store.known.values()} == {0}
        store.sync(DAYS)
        store.equal(THREE)


class TestKilled:
    def test_twice_by_runs_of_different_versions(
        self, store: Store, killed_after: Callable[[type, str, Callable[[], object]], None]
    ) -> None:
        store.lake.put(features(IDS, [day(0)]))
        store.sync(str(day(0)))
        store.lake.put(features([*IDS, "NEW"], [day(0)]))
        killed_after(OnlineTable, "write", lambda: store.sync(str(day(0))))
        store.lake.put(changed(features(IDS, [day(0)]), 1))
        killed_after(synchronise.Sync, "_begin", lambda: store.sync(str(day(0))))
        store.lake.put(changed(features(IDS, [day(0)]), 2))
        store.sync(str(day(0)))
        store.equal([day(0)])

    def test_an_older_version_does_not_pass_for_done(
        self, store: Store, killed_after: Callable[[type, str, Callable[[], object]], None]
    ) -> None:
        older = store.lake.put(features(IDS, [day(0)]))
        store.sync(str(day(0)))
        store.lake.put(features(IDS, [day(0)], seed=2))
        killed_after(OnlineTable, "write", lambda: store.sync(str(day(0))))
        with pytest.raises(JobError, match=r"has not ended: what is online of them is a mixture\. Nothing was written"):
            store.sync(str(day(0)), features_version=older)
        store.sync(str(day(0)))
        store.equal([day(0)])


class TestTwoAtOnce:
    def test_one_that_comes_late_does_not_undo_what_was_certified(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.lake.put(features(IDS, [day(0)]))
        store.sync(str(day(0)))
        older = store.lake.put(changed(features(IDS, [day(0)]), 5, 1.0))
        store.lake.put(changed(features(IDS, [day(0)]), 5, 2.0))
        meanwhile(monkeypatch, synchronise.Sync, "_begin", lambda: store.sync(str(day(0))))
        with pytest.raises(JobError, match=f"Another run has been at {day(0)} meanwhile"):
            store.sync(str(day(0)), features_version=older)
        assert store.known[day(0)].features_version == older + 1
        store.equal([day(0)])

    def test_neither_certifies_what_both_have_written(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        store.lake.put(features(IDS, [day(0)]))
        meanwhile(monkeypatch, OnlineTable, "write", lambda: store.sync(str(day(0))))
        with pytest.raises(JobError, match="what is online of them is not certain"):
            store.sync(str(day(0)))
        assert store.known[day(0)].open
        store.sync(str(day(0)))
        assert not store.known[day(0)].open
        store.equal([day(0)])

    def test_one_that_writes_nothing_leaves_the_mark_of_the_other(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.lake.put(features(IDS, [day(0)]))
        store.sync(str(day(0)))
        before = store.known
        marked = before[day(0)].begun_by("another", 3, "theirs")
        begun = {day(0): marked}
        certify = synchronise.Sync._record
        table = f"{store.online.keyspace}.{store.lake.view.name}"

        def theirs() -> None:
            synchronise.certificates.record(store.lake.uri, table, begun.values(), before)

        meanwhile(monkeypatch, synchronise.Sync, "_record", theirs)
        with pytest.raises(JobError, match="Another run has been at"):
            store.sync(str(day(0)))
        assert store.known == begun
        assert synchronise.Sync._record is certify

    def test_a_look_at_the_whole_table_deletes_nothing_that_was_certified_meanwhile(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.lake.put(features(IDS, THREE))
        store.sync(str(day(0)))
        meanwhile(monkeypatch, OnlineTable, "compare_all", lambda: store.sync(str(day(1))))
        with pytest.raises(JobError, match=f"Another run has been at {day(1)} meanwhile"):
            store.sync(whole="yes")
        store.equal(THREE[:2])


class TestWhole:
    def test_days_whose_version_is_gone_are_compared_with_what_there_is(self, store: Store) -> None:
        store.lake.put(features(IDS, THREE))
        store.sync(DAYS)
        store.online.run(f"INSERT INTO TABLE (id, day_date) VALUES ('GHOST', '{day(1)}')")
        DeltaTable(store.lake.uri).optimize.compact()
        store.lake.put(changed(features(IDS, [day(2)]), 3))
        vacuum(store)
        found = store.sync(whole="yes")["whole"]
        assert (found["left_over"], found["days_not_compared"]) == (1, [])
        store.equal(THREE)
        assert {each.features_version for each in store.known.values()} == {store.lake.version}

    def test_what_is_held_back_and_not_known_any_more_fails_it(self, store: Store, tmp_path: Path) -> None:
        store.lake.put(features(IDS, THREE))
        store.sync(DAYS)
        store.lake.put(features(IDS, THREE, seed=3))
        vacuum(store)
        held = records.Judged(day(1), records.Verdict.QUARANTINED, 40, "f", failed=("rows",))
        about = records.Source(0, "id", 1, dt.datetime.now(dt.UTC), "report")
        records.record(store.lake.uri, store.lake.view, [day(1)], {}, [held], about)
        before = {key: row for key, row in store.online.rows().items() if key[1] == day(1)}
        with pytest.raises(VerdictError, match=r"1 day\(s\) of .* could not be compared"):
            store.sync(whole="yes", certificate=str(tmp_path / "c.json"))
        said = json.loads((tmp_path / "c.json").read_text())
        assert said["passed"] is False
        assert said["whole"]["days_not_compared"] == [str(day(1))]
        assert {key: row for key, row in store.online.rows().items() if key[1] == day(1)} == before
        assert not [
            key for key, row in store.online.rows().items() if row != store.lake.rows()[key] and key[1] != day(1)
        ]

    def test_a_feature_was_added_since(self, store: Store) -> None:
        store.lake.put(features(IDS, THREE))
        store.sync(DAYS)
        wider = replace(ENERGY, aggregations=(*ENERGY.aggregations, Aggregation("days_seen", Function.DAYS_SEEN)))
        arguments = {"features": store.lake.uri, "keyspace": store.online.keyspace, "table": ENERGY.name}
        schema.run(Namespace(view=wider, **arguments))
        store.lake.view = store.online.view = wider
        rows = features(IDS, THREE, view=wider)
        write_deltalake(store.lake.uri, rows, mode="overwrite", schema_mode="overwrite")
        assert store.sync(whole="yes")["whole"]["different"] > 100  # some have nulls in all that is new
        store.equal(THREE)


def test_what_did_not_change_is_noted_as_this_version_too(store: Store) -> None:
    """Else a version between, which a run comes late with, would follow the older one."""
    rows = features(IDS, THREE)
    store.lake.put(rows)
    store.sync(DAYS)
    between = store.lake.put(changed(rows, 5))
    store.lake.put(rows)
    assert store.sync(changed=True)["rows_written"] == 0
    assert {each.features_version for each in store.known.values()} == {store.lake.version}
    done = store.sync(DAYS, features_version=between)
    assert done["days_newer"] == [str(each) for each in THREE]
    store.equal(THREE)


def test_a_zero_that_changes_its_sign_is_a_change(store: Store) -> None:
    rows = features(["A"], [day(0)])
    place = rows.schema.get_field_index("energy_sum")
    store.lake.put(rows.set_column(place, "energy_sum", pa.array([0.0])))
    store.sync(str(day(0)))
    store.lake.put(rows.set_column(place, "energy_sum", pa.array([-0.0])))
    done = store.sync(str(day(0)))
    assert (done["rows_planned"], done["rows_written"], done["differences"]) == (1, 1, 0)
    assert pc.all(pc.is_finite(pa.array([store.online.rows()["A", day(0)]["energy_sum"]]))).as_py()


class TestBudget:
    def test_it_holds_for_what_is_mended_too(self, store: Store) -> None:
        store.lake.put(features(IDS, THREE))
        store.sync(DAYS)
        empty(store)
        for asked in ({"days": DAYS}, {"whole": "yes"}):
            with pytest.raises(JobError, match="and the budget is"):
                store.sync(asked.get("days"), budget=1e-6, whole=asked.get("whole", "no"))
            assert store.online.rows() == {}

    def test_a_retry_is_not_refused_for_rows_that_are_there(
        self, store: Store, killed_after: Callable[[type, str, Callable[[], object]], None]
    ) -> None:
        rows = features(IDS, THREE)
        store.lake.put(rows)
        store.sync(DAYS)
        store.lake.put(changed(rows, 2))
        enough = 5e-6  # for six rows
        killed_after(synchronise.Sync, "_begin", lambda: store.sync(DAYS, budget=enough))
        assert store.sync(DAYS, budget=enough)["rows_written"] == 2
        store.equal(THREE)
