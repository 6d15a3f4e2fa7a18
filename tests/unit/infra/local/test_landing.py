"""What ingest would take, `make run DATA=` takes; what it could not read is refused by name; who has no day says so."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.landed import HeaderError, read_header
from infra.local import landing
from infra.local.settings import BUCKET, StackError

pytestmark = pytest.mark.unit

MEASURES = "energy_median,energy_mean,energy_max,energy_count,energy_std,energy_sum,energy_min"
HEADER = f"LCLid,day,{MEASURES}"
VALUES = "1,1,1,48,1,48,1"
DAY = dt.date(2014, 2, 27)
ONE = DayRange(DAY, DAY)


def row(day: str, entity: str = "MAC1") -> str:
    return f"{entity},{day},{VALUES}"


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Write lines to a file of a folder of its own; gzipped if its name says so."""

    def write(*lines: str, name: str = "a.csv", end: str = "\n") -> Path:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}{end}" for line in lines).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return path

    return write


class TestDaysOfAFile:
    @pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
    def test_from_the_oldest_to_the_newest(self, file, name: str) -> None:
        made = file(HEADER, row("2014-02-27"), row("2013-12-31"), row("2014-01-01"), name=name)
        assert landing.days_of(made) == DayRange(dt.date(2013, 12, 31), DAY)

    def test_a_quoted_header_and_quoted_fields(self, file) -> None:
        quoted = ",".join(f'"{name}"' for name in HEADER.split(","))
        made = file(quoted, '"MAC, ""1""","2014-02-27",1,1,1,48,1,48,1')
        assert landing.days_of(made) == ONE

    def test_a_byte_order_mark_and_windows_line_ends(self, file) -> None:
        assert landing.days_of(file("\ufeff" + HEADER, row("2014-02-27"), end="\r\n")) == ONE

    def test_a_day_in_the_last_column(self, file) -> None:
        assert landing.days_of(file(f"{MEASURES},LCLid,day", f"{VALUES},MAC1,2014-02-27", end="\r\n")) == ONE

    def test_members_of_a_gzip_file_are_read_one_after_the_other(self, file) -> None:
        made = file(HEADER, row("2014-02-26"), name="a.csv.gz")
        made.write_bytes(made.read_bytes() + gzip.compress(f"{row('2014-02-27')}\n".encode()))
        assert landing.days_of(made).end == DAY

    @pytest.mark.parametrize(
        "malformed",
        [
            row("2014-02-30"),
            row("20140301"),
            row("0000-01-01"),
            row("2014-03-01 00:00"),
            row(""),
            f"MAC1,2014-03-01,{VALUES},1",
            "MAC1,2014-03-01",
            f'"MAC1,2014-03-01,{VALUES}',
            f'MAC1,"2014-03-01,{VALUES}',
            'MAC1,2014-03-01,1,1,1,48,1,48,"1',
            "",
            "   ",
        ],
    )
    def test_a_malformed_row_has_no_day_and_hides_none(self, file, malformed: str) -> None:
        assert landing.days_of(file(HEADER, row("2014-02-26"), malformed, row("2014-02-27"))).end == DAY

    def test_a_byte_that_is_no_text_hides_no_day(self, file) -> None:
        made = file(HEADER, row("2014-02-27"))
        made.write_bytes(made.read_bytes().replace(b"MAC1", b"MAC\xff"))
        assert landing.days_of(made) == ONE


class TestAFileWithoutADay:
    @pytest.mark.parametrize(
        ("lines", "remark"),
        [
            ([], "no header of readings: it goes to quarantine as a whole"),
            ([f"LCLid,date,{MEASURES}", row("2014-02-27")], "no header of readings"),
            ([row("2014-02-27")], "no header of readings"),
            ([f"{HEADER},tariff", f"{row('2014-02-27')},1"], "no header of readings"),
            ([HEADER], "a header and no row"),
            ([HEADER, "", "  "], "a header and no row"),
            ([HEADER, row("27.02.2014")], "no row with a day as YYYY-MM-DD: its rows go to quarantine"),
            ([HEADER, "MAC1,2014-02-27"], "no row with a day"),
        ],
    )
    def test_says_why(self, file, lines: list[str], remark: str) -> None:
        with pytest.raises(landing.NoDayError, match=remark):
            landing.days_of(file(*lines))

    @pytest.mark.parametrize(
        "line",
        [
            HEADER,
            f"household_id,day,{MEASURES}",
            f"{MEASURES},day,LCLid",
            f'\ufeff"LCLid","day",{MEASURES}',
            f'LCLid,day,{MEASURES.removesuffix("energy_min")}"energy_min',
            f"\ufeff\ufeff{HEADER}",
            f"day,{MEASURES}",
            f"LCLid,household_id,day,{MEASURES}",
            "LCLid,day,energy_median",
            f"{HEADER},tariff",
            f"{HEADER},",
            f"LCLid,day,day,{MEASURES}",
            f"LCLid, day,{MEASURES}",
            HEADER.replace(",", ";"),
            HEADER.upper(),
            "",
            " ",
        ],
    )
    def test_headers_are_taken_and_refused_as_by_ingest(self, file, line: str) -> None:
        try:
            width = read_header(line, ENERGY).fields
        except HeaderError:
            width = None
        if width is None:
            with pytest.raises(landing.NoDayError, match="has no header of readings"):
                landing.days_of(file(line, row("2014-02-27")))
        else:
            day = dt.date(2014, 2, 27)
            assert landing.days_of(file(line, ",".join([str(day)] * width))) == DayRange(day, day)


class TestAFileThatCantBeRead:
    def test_a_truncated_gzip_file(self, file) -> None:
        made = file(HEADER, *(row("2014-02-27", f"MAC{number}") for number in range(999)), name="cut.csv.gz")
        made.write_bytes(made.read_bytes()[:-20])
        with pytest.raises(StackError, match=r"cut\.csv\.gz is cut short"):
            landing.days_of(made)

    def test_an_empty_gzip_file(self, file) -> None:
        made = file(name="none.csv.gz")
        made.write_bytes(b"")
        with pytest.raises(StackError, match=r"none\.csv\.gz is cut short"):
            landing.days_of(made)

    def test_a_file_that_is_no_gzip(self, file) -> None:
        made = file(name="plain.csv.gz")
        made.write_text(HEADER)
        with pytest.raises(StackError, match=r"plain\.csv\.gz can't be read: Not a gzipped file"):
            landing.days_of(made)

    def test_a_damaged_gzip_file(self, file) -> None:
        made = file(HEADER, *(row("2014-02-27", f"MAC{number}") for number in range(999)), name="bad.csv.gz")
        content = bytearray(made.read_bytes())
        content[len(content) // 2] ^= 0xFF
        made.write_bytes(content)
        with pytest.raises(StackError, match=r"bad\.csv\.gz"):
            landing.days_of(made)


class TestTheInput:
    def test_what_ingest_passes_over_is_passed_over(self, file) -> None:
        good = file(HEADER, row("2014-02-27"), name="2014/02/a.csv")
        for name in ("._a.csv", ".a.csv", "_a.csv", "2014/._b.csv.gz", "a.txt"):
            file("no readings", name=name)
        folder = good.parents[2]
        assert landing.csv_files(folder) == [good]
        found = landing.look([good], folder)
        assert found == landing.Input((landing.Source(good, "Dataset/2014/02/a.csv", ONE),), ONE)

    @pytest.mark.parametrize("name", ["_a.csv", "._a.csv", "a.txt"])
    def test_a_file_that_ingest_would_pass_over_is_refused(self, file, name: str) -> None:
        with pytest.raises(StackError, match=r"holds no \.csv"):
            landing.csv_files(file(HEADER, row("2014-02-27"), name=name))

    def test_nothing_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StackError, match="does not exist"):
            landing.csv_files(tmp_path / "nowhere")

    def test_a_folder_that_one_may_not_look_into_is_not_passed_over(
        self, file, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = file(HEADER, row("2014-02-27")).parent
        inner = file(HEADER, row("2014-02-27"), name="closed/b.csv").parent
        scandir = os.scandir

        def closed(path: Any) -> Any:  # a mode would not keep root out
            if Path(path) == inner:
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", closed)
        with pytest.raises(StackError, match=r"DATA=.*data can't be looked into: .*Permission denied: '.*closed'\.$"):
            landing.csv_files(folder)

    def test_a_file_without_a_day_comes_along_with_a_remark(self, file) -> None:
        files = [file(name="empty.csv"), file(HEADER, row("2014-02-27"), name="good.csv")]
        found = landing.look(files, files[0].parent)
        assert found.days == ONE
        assert [(source.days, bool(source.remark)) for source in found.sources] == [(None, True), (ONE, False)]

    def test_no_day_in_any_file_is_refused(self, file) -> None:
        files = [file(name="empty.csv"), file(HEADER, row("soon"), name="words.csv")]
        with pytest.raises(StackError, match=r"empty\.csv has no header.*words\.csv has no row with a day.*LCLid, day"):
            landing.look(files, files[0].parent)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        client = boto3.client("s3", "eu-west-2")
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-2"})
        yield client


def test_each_file_is_landed_once_and_declares_its_newest_day_if_it_has_one(file, s3) -> None:
    files = [file(name="empty.csv"), file(HEADER, row("2014-01-01"), row("2014-02-27"), name="b/good.csv.gz")]
    sources = landing.look(files, files[0].parent).sources
    said: list[str] = []
    assert landing.land(s3, sources, said.append) == 2
    declared = {source.key: s3.head_object(Bucket=BUCKET, Key=source.key)["Metadata"] for source in sources}
    assert "last-day" not in declared["Dataset/empty.csv"]
    assert declared["Dataset/b/good.csv.gz"]["last-day"] == "2014-02-27"
    assert s3.get_object(Bucket=BUCKET, Key="Dataset/b/good.csv.gz")["Body"].read() == files[1].read_bytes()
    assert [line.split(" (")[0] for line in said] == [f"s3://{BUCKET}/{source.key}" for source in sources]
    assert landing.land(s3, sources, said.append) == 0
    file(HEADER, row("2014-02-26"), name="empty.csv")
    assert landing.land(s3, landing.look(files, files[0].parent).sources, said.append) == 1
    assert s3.head_object(Bucket=BUCKET, Key="Dataset/empty.csv")["Metadata"]["last-day"] == "2014-02-26"


def test_a_file_that_replaces_another_one_says_so(file, s3) -> None:
    said: list[str] = []

    def land(day: str) -> None:
        made = file(HEADER, row(day))
        landing.land(s3, landing.look([made], made.parent).sources, said.append)

    land("2014-02-26")
    land("2014-02-26")
    land("2014-02-27")
    first, second = said
    assert first == f"s3://{BUCKET}/Dataset/a.csv (0.0 MB)"
    assert re.fullmatch(
        re.escape(first) + r"; replaces the one of \d{4}-\d\d-\d\d \d\d:\d\d UTC, with other content: "
        "its former readings are withdrawn where it has them no more",
        second,
    )
