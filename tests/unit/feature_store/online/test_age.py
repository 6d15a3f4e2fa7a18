"""An answer is as old, and as stale, as a training set says of an event of that moment."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from pathlib import Path

import pyarrow as pa
import pytest

from feature_store import training
from feature_store.online import Options, Reader, State
from tests.unit.feature_store.online.test_reader import Server, row
from tests.unit.feature_store.training.tables import USE, day, write

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("zone", ["UTC", "Europe/London", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("hour", [0, 4, 5, 14, 15, 23])
def test_age_is_that_of_an_event_of_the_moment(tmp_path: Path, zone: str, hour: int) -> None:
    """Days of the zone, moments of UTC; at its midnights, both are a day older."""
    now = dt.datetime.combine(day(3), dt.time(hour), dt.UTC)
    asked = training.Asked(USE, write(tmp_path, {("A", day(1)): 1.0}))
    events = pa.table({"id": ["A"], "event_time": pa.array([now], pa.timestamp("us", "UTC"))})
    for max_age in (1, 2, 3):
        made = training.training_set(events, [asked], training.Options(zone=zone, max_age=max_age)).table
        online = Reader(
            Server({"A": [row(str(day(1)), 1.0, 10.0)]}),  # type: ignore[arg-type]
            USE,
            "feature_store",
            Options(zone=zone, max_age=max_age),
            now.timestamp,
        ).get("A")
        assert online.age == (now.astimezone(zoneinfo.ZoneInfo(zone)).date() - day(1)).days
        assert made["usage__age"].to_pylist() == [online.age]
        assert (made["total_7days"].to_pylist() == [None]) == (online.state is State.STALE)
