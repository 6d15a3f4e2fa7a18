"""What events may come as, and what is said of those that are unfit."""

from __future__ import annotations

import datetime as dt
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from feature_store.calendar import DayRange
from feature_store.training import (
    Asked,
    EventsError,
    Options,
    OptionsError,
    TableError,
    read_events,
    training_set,
    training_set_by_day,
)
from tests.unit.feature_store.training.tables import OTHER, USE, day, events, found_in, moment, rows, write

pytestmark = pytest.mark.unit

CSV = "event_time,id,label\n2014-02-03,007,0.5\n2014-02-02,008,\n"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return write(tmp_path / "usage", {("007", day(0)): 1.0, ("007", day(2)): 2.0, ("008", day(1)): 3.0})


def test_a_csv_file_has_its_entities_as_text(uri: str, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(CSV)
    (tmp_path / "events.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    sets = [training_set(str(tmp_path / name), [Asked(USE, uri)]) for name in ("events.csv", "events.csv.gz")]
    assert sets[0].table["id"].to_pylist() == ["007", "008"]
    assert sets[0].table["label"].to_pylist() == [0.5, None]
    assert sets[0].table["used"].to_pylist() == [2.0, 3.0]
    assert sets[0].record == sets[1].record


def test_moments_of_a_csv_file(uri: str, tmp_path: Path) -> None:
    (tmp_path / "naive.csv").write_text("id,event_time\n007,2014-02-03 23:59:59\n007,2014-02-04 00:00:00\n")
    (tmp_path / "zoned.csv").write_text("id,event_time\n007,2014-02-04T00:59:59+01:00\n007,2014-02-04T00:00:00Z\n")
    for name in ("naive.csv", "zoned.csv"):
        made = training_set(tmp_path / name, [Asked(USE, uri)]).table
        assert made["used"].to_pylist() == [1.0, 2.0]


def test_parquet_data_frames_and_arrow_come_to_the_same(uri: str, tmp_path: Path) -> None:
    table = pa.table({"id": ["007", "008"], "event_time": [day(2), day(1)], "label": [1, 2]})
    pq.write_table(table, tmp_path / "events.parquet")
    frame = pd.DataFrame({"id": ["007", "008"], "event_time": [day(2), day(1)], "label": [1, 2]}, index=[7, 9])
    categories = frame.assign(id=frame["id"].astype("category"))
    polars = pl.DataFrame(table)
    given = [
        *(table, table.to_batches()[0], table.to_pydict(), str(tmp_path / "events.parquet"), frame, categories, polars),
        *(polars.with_columns(pl.col("id").cast(kind)) for kind in (pl.Categorical, pl.Enum(["008", "007"]))),
    ]
    sets = [training_set(each, [Asked(USE, uri)]) for each in given]
    assert {made.record.events for made in sets} == {sets[0].record.events}
    assert {made.record.digest for made in sets} == {sets[0].record.digest}
    assert sets[0].table["used"].to_pylist() == [2.0, 3.0]
    assert all(made.table.equals(sets[0].table) for made in sets)
    moments = frame.assign(
        event_time=pd.to_datetime(["2014-02-03 10:00", "2014-02-03 00:00"]).tz_localize("Europe/London")
    )
    assert training_set(moments, [Asked(USE, uri)], Options(zone="Europe/London")).table["used"].to_pylist() == [
        1.0,
        3.0,
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (pa.table({"event_time": [day(0)]}), "the events have no entity column id: their columns are event_time"),
        (pa.table({"id": ["A"]}), "the events have no time column event_time: their columns are id"),
        (pa.table({"id": [7], "event_time": [day(0)]}), "the events' entity column id is int64, and not text"),
        (events(("A", "2014-02-01")), "the events' time column event_time is string: it takes dates, or timestamps"),  # type: ignore[arg-type]
        (events(("A", 20140201)), "the events' time column event_time is int64: it takes dates, or timestamps"),  # type: ignore[arg-type]
        (events((None, day(0)), ("A", day(0))), "events without id: 1"),  # type: ignore[arg-type]
        (events(("A", None), ("A", None), ("A", day(0))), "events without event_time: 2"),  # type: ignore[arg-type]
        (pa.table([["A"], [day(0)], ["B"]], ["id", "event_time", "id"]), "the events have two columns of name id"),
        (
            {"id": ["A"], "event_time": pa.array([2**31 - 1], pa.int32()).view(pa.date32())},
            "events with event_time before the year 1 or after 9999: 1",
        ),
        (
            # So many days that the last 32 bits of their number are 2014-02-03.
            {"id": ["A"], "event_time": pa.array([(2**32 + 16104) * 86400], pa.timestamp("s"))},
            "events with event_time before the year 1 or after 9999: 1",
        ),
        (7, "the events can't be read from an object of type int: "),
        (pd.Series(["A"]), "the events can't be read from an object of type Series: "),
        ({"id": ["A"], "event_time": [day(0)], "n": [2**70]}, "the events can't be read from an object of type dict: "),
        ("events.txt", "the events can't be read from events.txt: its name ends with none of .csv, .csv.gz, .parquet"),
        ("nowhere.csv", "the events can't be read from nowhere.csv: "),
        ("ftp://host/nowhere.csv", "is neither a path, nor a URI of a file or of S3"),
    ],
)  # fmt: skip
def test_unfit_events_are_one_sentence(uri: str, given: Any, said: str) -> None:
    with pytest.raises(EventsError) as refused:
        training_set(given, [Asked(USE, uri)])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "times",
    [
        (day(2), moment(3, 4)),
        (day(2), None, moment(3, 4).replace(tzinfo=dt.UTC)),
        (moment(3, 4), moment(3, 4).replace(tzinfo=dt.UTC)),
        (moment(3, 4).replace(tzinfo=dt.UTC), moment(3, 4)),
    ],
)
def test_times_of_several_kinds_are_refused(uri: str, times: Any) -> None:
    """Arrow would take 4:00 of a day for the date, which knows all of the day."""
    columns = {"id": ["007"] * len(times), "event_time": list(times)}
    for given in (columns, pd.DataFrame(columns | {"event_time": pd.Series(times, dtype=object)})):
        with pytest.raises(
            EventsError, match="event_time holds dates and moments, or some with a zone and some without"
        ):
            training_set(given, [Asked(USE, uri)])


def test_times_without_a_value_are_of_no_kind(uri: str) -> None:
    frame = pd.DataFrame({"id": ["007"], "event_time": [day(2)], "paid": pd.Series([pd.NaT], dtype=object)})
    assert training_set(frame, [Asked(USE, uri)]).table["used"].to_pylist() == [2.0]


def test_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("id,event_time\nA,2014-02-01,more\n")
    (tmp_path / "events.parquet").write_text("hello")
    (tmp_path / "empty.csv").write_text("")
    for name in ("events.csv", "events.parquet", "empty.csv"):
        with pytest.raises(EventsError, match=name) as refused:
            read_events(str(tmp_path / name), "id")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lag": dt.timedelta(hours=-1)}, "the lag is negative"),
        ({"lag": dt.timedelta(microseconds=1)}, "the lag is no whole number of seconds"),
        ({"max_age": -1}, "the maximal age is negative"),
        ({"max_age": 2**31}, "the maximal age is no number of days"),
        ({"max_age": "7"}, "max_age takes int or None, and no str"),
        ({"max_age": 7.5}, "max_age takes int or None, and no float"),
        ({"max_age": np.int64(7)}, "max_age takes int or None, and no int64"),
        ({"max_age": True}, "max_age takes int or None, and no bool"),
        ({"lag": 6}, "lag takes timedelta, and no int"),
        ({"known_on": "2014-02-01"}, "known_on takes date or None, and no str"),
        ({"known_on": moment(0)}, "known_on takes date or None, and no datetime"),
        ({"as_known": "no"}, "as_known takes bool, and no str"),
        ({"zone": dt.UTC}, "zone takes str, and no timezone"),
        ({"entity": 5}, "entity takes str or None, and no int"),
        ({"zone": "Europe/Atlantis"}, "there is no time zone 'Europe/Atlantis'"),
        ({"zone": "../../etc/passwd"}, "there is no time zone"),
        ({"zone": ""}, "there is no time zone"),
        ({"as_known": True, "known_on": day(0)}, "give one of them"),
    ],
)
def test_options_that_make_no_sense(options: Any, said: str) -> None:
    with pytest.raises(OptionsError, match=said):
        Options(**options)


def test_features_that_are_not_there(uri: str) -> None:
    known = "it has used, total_7days"
    for features, said in (
        (("totl",), f"view usage has no feature 'totl': {known}"),
        (("id",), f"view usage has no feature 'id': {known}"),
        ((), "no feature of view usage is asked for"),
        (("used", "used"), "feature used of view usage is asked for twice"),
        ("used", "features of usage take a tuple of names, and no str"),
        ({"used"}, "features of usage take a tuple of names, and no set"),
    ):
        with pytest.raises(OptionsError) as refused:
            Asked(USE, uri, features)  # type: ignore[arg-type]  # what a caller without types may give
        assert str(refused.value) == said


@pytest.mark.parametrize("version", [-1, "0", np.int64(0), 2**70])
def test_what_is_no_version_and_no_place(uri: str, version: Any) -> None:
    with pytest.raises(OptionsError, match="the version of usage takes a whole number from 0, and not "):
        Asked(USE, uri, version=version)
    with pytest.raises(OptionsError, match="where the table of usage is takes text, and no PosixPath"):
        Asked(USE, Path(uri))  # type: ignore[arg-type]  # the same


def test_views_that_do_not_go_together(uri: str) -> None:
    of = events(("007", day(1)))
    with pytest.raises(OptionsError, match="no view is asked for"):
        training_set(of, [])
    with pytest.raises(OptionsError, match="view usage is asked for twice"):
        training_set(of, [Asked(USE, uri), Asked(USE, uri)])
    for every in (0, 1.5, np.int64(2)):
        with pytest.raises(OptionsError, match=f"every {every} days: it takes a whole number from 1"):
            training_set_by_day(DayRange(day(0), day(1)), [Asked(USE, uri)], every=every)  # type: ignore[arg-type]
    with pytest.raises(OptionsError, match="two columns of the set would be called usage__day: rename the events' own"):
        training_set(events(("007", day(1)), usage__day=[1]), [Asked(USE, uri)])
    with pytest.raises(TableError, match="a version of usage is given, and what was known then is another"):
        training_set(of, [Asked(USE, uri, version=0)], Options(as_known=True))
    with pytest.raises(TableError, match="is not over yet"):
        training_set(of, [Asked(USE, uri)], Options(known_on=dt.date.max))


def test_another_column_of_entities(uri: str) -> None:
    of = pa.table({"LCLid": ["008"], "id": [7], "on": [moment(3)]})
    made = training_set(of, [Asked(USE, uri)], Options(entity="LCLid", time="on")).table
    assert found_in(made)[0][:3] == (day(1), 2, 3.0)


def test_tables_that_are_not_the_views(uri: str, tmp_path: Path) -> None:
    of = events(("007", day(1)))
    with pytest.raises(TableError, match="nowhere is not a Delta table"):
        training_set(of, [Asked(USE, str(tmp_path / "nowhere"))])
    with pytest.raises(TableError, match="delta-rs takes the %"):
        training_set(of, [Asked(USE, f"{uri}%20")])
    with pytest.raises(TableError, match="has no column sum_7days at version 0"):
        training_set(of, [Asked(OTHER, uri)])
    write_deltalake(tmp_path / "text", rows({}).set_column(2, "used", pa.array([], pa.string())))
    with pytest.raises(TableError, match=r"column used of .*text is string at version 0, not double"):
        training_set(of, [Asked(USE, str(tmp_path / "text"))])
    assert training_set(of, [Asked(USE, str(tmp_path / "text"), ("total_7days",))]).table.num_rows == 1


def test_a_table_with_partitions(tmp_path: Path) -> None:
    """Such as another writer's."""
    values = {("A", day(0)): 1.0, ("A", day(1)): 2.0}
    write_deltalake(tmp_path, rows(values), partition_by=["day_date"])
    made = training_set(events(("A", day(0)), ("A", day(5))), [Asked(USE, str(tmp_path))]).table
    assert made["used"].to_pylist() == [1.0, 2.0]
