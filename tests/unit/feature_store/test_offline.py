"""Where a view's table is, by the environment."""

from __future__ import annotations

import pytest

from feature_store import offline
from feature_store.energy import ENERGY

pytestmark = pytest.mark.unit


def test_the_table_of_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURE_STORE_BUCKET", "bucket")
    assert offline.uri(ENERGY) == "s3://bucket/delta/energy_data_features"


@pytest.mark.parametrize("value", [None, ""])
def test_no_store_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("FEATURE_STORE_BUCKET", raising=False)
    if value is not None:
        monkeypatch.setenv("FEATURE_STORE_BUCKET", value)
    with pytest.raises(offline.OfflineError, match=r"^FEATURE_STORE_BUCKET is not set: `eval .* while the stack is up"):
        offline.table(ENERGY)
