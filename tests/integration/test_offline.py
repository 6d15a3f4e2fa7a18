"""A view's table in a bucket."""

from __future__ import annotations

import datetime as dt
import os

import pytest
from deltalake import write_deltalake

from feature_store import live_table, offline, registry
from tests.integration.conftest import RunningS3
from tests.integration.sync.conftest import features

pytestmark = pytest.mark.integration

VIEW = registry.view("energy_recent_features")
DAYS = dt.date(2014, 2, 1), dt.date(2014, 2, 2)


def test_the_newest_version_and_an_older_one(s3: RunningS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**s3.env, "FEATURE_STORE_BUCKET": f"{s3.bucket}/offline"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(offline.OfflineError, match="is not a Delta table: no day of energy_recent_features was"):
        offline.table(VIEW)
    for day in DAYS:
        rows = features(["A"], [day], view=VIEW)
        write_deltalake(offline.uri(VIEW), rows, mode="append", storage_options=live_table.storage_options(os.environ))
    assert [row["day_date"] for row in offline.table(VIEW).to_pyarrow_table().to_pylist()] == [DAYS[1], DAYS[0]]
    assert [row["day_date"] for row in offline.table(VIEW, 0).to_pyarrow_table().to_pylist()] == [DAYS[0]]
    with pytest.raises(offline.OfflineError, match=r"s3://.*/energy_recent_features can't be opened: "):
        offline.table(VIEW, 7)
