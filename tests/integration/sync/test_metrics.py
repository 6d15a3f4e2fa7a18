"""What a sync leaves for the page in Airflow: the days that are proven to be online, and what it has used."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from feature_store import metrics
from feature_store.endpoint import OnlineError
from feature_store.energy import ENERGY
from feature_store.metrics import Certified, ViewMetrics
from feature_store.sync import plan
from feature_store.sync.online_table import Compared, OnlineTable
from spark_jobs.errors import JobError
from tests.integration.sync.conftest import Store, day, features

pytestmark = pytest.mark.integration

IDS = [f"H{number}" for number in range(40)]
THREE = [day(0), day(1), day(2)]


def of(file: Path) -> ViewMetrics:
    return metrics.load(file.read_text(), ENERGY.name)


def proven(store: Store) -> dict[object, Certified]:
    """What the table of certificates has."""
    return {
        each.day: Certified(each.rows, each.features_version, each.certified_at)
        for each in store.known.values()
        if not each.open and each.features_version is not None and each.certified_at
    }


def test_each_run_is_in_them_and_all_days_that_are_certified(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "metrics" / "v.json"
    store.lake.put(features(IDS, THREE))
    store.sync(str(day(0)))  # one that nobody is told of
    done = [store.sync(str(each), metrics=str(file)) for each in (day(1), day(2), day(2))]
    made = of(file)
    assert made.certified == proven(store)
    assert list(made.certified) == THREE
    names = ("rows_written", "rows_deleted", "write_units", "read_units", "dollars")
    assert [[getattr(each, name) for name in names] for each in made.syncs] == [
        [summary[name] for name in names] for summary in done
    ]
    assert [(each.days, each.rows_written) for each in made.syncs] == [(1, 40), (1, 40), (1, 0)]
    # Lost: the days are back with the next run, what earlier runs have used is not.
    file.unlink()
    store.sync(str(day(1)), metrics=str(file))
    assert list(of(file).certified) == THREE
    assert len(of(file).syncs) == 1


def test_a_run_that_breaks_off_leaves_what_it_has_proven_and_used(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest day is written and certified, the next one is written, and then the connection is lost."""
    store.lake.put(features(IDS, THREE))
    file = tmp_path / "v.json"
    compare, asked = OnlineTable.compare, []

    def breaks(*arguments: object) -> Compared:
        asked.append(arguments)
        if len(asked) > 1:
            raise OnlineError("the connection is lost")
        return compare(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(plan, "CHUNK_ROWS", 40)
    monkeypatch.setattr(OnlineTable, "compare", breaks)
    with pytest.raises(JobError, match="the connection is lost"):
        store.sync(f"{day(0)}..{day(2)}", metrics=str(file))
    made = of(file)
    assert list(made.certified) == [day(2)]
    assert made.certified == proven(store)
    (used,) = made.syncs
    assert (used.days, used.rows_written) == (1, 80)


def test_the_reason_of_a_run_counts_for_more_than_that_of_its_metrics(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    store.lake.put(features(IDS, THREE))
    unwritable = str(tmp_path / "file" / "v.json")
    with caplog.at_level(logging.WARNING), pytest.raises(JobError, match=r"budget is \$0\.00"):
        store.sync(f"{day(0)}..{day(2)}", budget=0.0, metrics=unwritable)
    assert "What this run has used is not in" in caplog.text
    with pytest.raises(JobError, match=r"v\.json can't be brought up to date"):
        store.sync(f"{day(0)}..{day(2)}", metrics=unwritable)
    assert len(proven(store)) == 3
