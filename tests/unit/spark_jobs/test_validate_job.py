"""validate: verdicts day by day, what is kept of them, releases, the report beside them, and bad input."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from feature_store import __main__ as feature_store_command
from feature_store import layout, metrics
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.validation import records
from feature_store.validation.records import Verdict
from spark_jobs import validate
from spark_jobs.errors import JobError, VerdictError
from tests.unit.feature_store.validation import planted
from tests.unit.feature_store.validation.planted import DAY

pytestmark = pytest.mark.unit

DAYS = DayRange(DAY - dt.timedelta(days=2), DAY)
BAD = DAY - dt.timedelta(days=1)
IS_BAD = pl.col("day_date") == BAD


@pytest.fixture(scope="module")
def readings() -> planted.Frame:
    return planted.readings()


@pytest.fixture(scope="module")
def made(readings: planted.Frame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days, of which the middle one holds but one half hour: its features are right, and the day is not whole."""
    folder = tmp_path_factory.mktemp("three")
    one = pl.when(IS_BAD).then(1).otherwise(pl.col("energy_count")).cast(pl.Int32)
    spoiled = readings.with_columns(energy_count=one)
    planted.save(folder, spoiled, planted.features(spoiled, days=DAYS))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return planted.copy(made, tmp_path / "store")


def run(folder: Path, start: dt.date = DAYS.start, end: dt.date = DAYS.end, **more: object) -> dict:
    return validate.run(planted.arguments(folder, start, end, **more))


def kept(folder: Path) -> dict[dt.date, records.Judged]:
    return records.verdicts(str(folder / "features"), ENERGY, DAYS)


def spoil(folder: Path, **values: pl.Expr) -> None:
    """Write the bad day's features again, otherwise."""
    there = pl.from_arrow(DeltaTable(folder / "features").to_pyarrow_table())
    other = there.filter(IS_BAD).with_columns(**values)
    write_deltalake(folder / "features", other.to_arrow(), mode="overwrite", predicate=f"day_date = '{BAD}'")


def test_the_good_days_of_a_range_go_on_and_the_bad_one_is_held_back(folder: Path) -> None:
    done = run(folder)
    assert done["verdict"] == "failed"
    good = [str(DAYS.start), str(DAYS.end)]
    assert done["days"] == {"passed": good, "warned": [], "quarantined": [str(BAD)], "released": []}
    assert done["failed"][0]["check"] == "day_filled"
    assert str(BAD) in done["failed"][0]["message"]
    assert {day: judged.verdict for day, judged in kept(folder).items()} == {
        DAYS.start: Verdict.PASSED,
        BAD: Verdict.QUARANTINED,
        DAYS.end: Verdict.PASSED,
    }
    assert list(records.held_back(str(folder / "features"), ENERGY, DAYS)) == [BAD]


def test_where_no_day_may_go_online_the_job_fails_and_says_all(folder: Path) -> None:
    with pytest.raises(VerdictError, match=rf"Validation failed: day_filled: .* \(0\.021 on {BAD}; expected") as caught:
        run(folder, BAD, BAD)
    assert caught.value.summary["days"]["quarantined"] == [str(BAD)]
    assert kept(folder)[BAD].failed[0] == "day_filled"
    assert (folder / "report.html").exists()


def test_a_release_is_recorded_and_lasts_while_nothing_changes(folder: Path) -> None:
    with pytest.raises(VerdictError):
        run(folder, BAD, BAD)
    done = run(folder, BAD, BAD, released_by=" Ada ", release_reason="the meters' clock: ticket 7")
    assert (done["verdict"], done["days"]["released"]) == ("warned", [str(BAD)])
    judged = kept(folder)[BAD]
    assert (judged.verdict, judged.release) == (Verdict.RELEASED, records.Release("Ada", "the meters' clock: ticket 7"))
    assert judged.failed
    # Again, as a range that has it among its days: nobody has to release it anew.
    assert run(folder)["days"]["released"] == [str(BAD)]
    assert json.loads((folder / "report.json").read_text())["days"][1]["released_by"] == "Ada"
    # Other rows are nothing that anyone has released.
    spoil(folder, energy_mean=pl.col("energy_mean") + 1)
    assert run(folder)["days"]["quarantined"] == [str(BAD)]


def test_what_is_wrong_with_keys_can_not_be_released(folder: Path) -> None:
    there = pl.from_arrow(DeltaTable(folder / "features").to_pyarrow_table())
    write_deltalake(folder / "features", there.filter(IS_BAD).head(1).to_arrow(), mode="append")
    with pytest.raises(VerdictError, match="key_unique"):
        run(folder, BAD, BAD, released_by="Ada", release_reason="hurry")


def test_a_day_that_is_recomputed_and_passes_is_no_longer_held_back(
    folder: Path, readings: planted.Frame, tmp_path: Path
) -> None:
    with pytest.raises(VerdictError):
        run(folder, BAD, BAD)
    planted.save(tmp_path / "mended", readings, planted.features(readings, days=DAYS))
    for table in ("readings", "features"):
        shutil.rmtree(folder / table)
        shutil.copytree(tmp_path / "mended" / table, folder / table)
    assert run(folder)["verdict"] == "passed"
    assert records.held_back(str(folder / "features"), ENERGY, DAYS) == {}


def test_a_rerun_leaves_one_row_per_view_day_and_metric(folder: Path) -> None:
    for _ in range(2):
        run(folder)
    metrics = pl.from_arrow(DeltaTable(folder / layout.METRICS).to_pyarrow_table())
    assert metrics.height == metrics.select("view", "day_date", "metric").n_unique() > 300
    verdicts = pl.from_arrow(DeltaTable(folder / layout.VERDICTS).to_pyarrow_table())
    assert verdicts.height == len(DAYS)
    rows = metrics.filter(pl.col("metric") == "rows", pl.col("day_date") == DAY)["value"].item()
    assert rows == verdicts.filter(pl.col("day_date") == DAY)["rows"].item() > 100


def test_days_are_judged_by_what_was_measured_and_not_by_days_that_were_held_back(folder: Path) -> None:
    """Metrics of 30 days that had another unit were kept: the day looks wrong against them, unless they were wrong."""
    features = str(folder / "features")
    past = DayRange(DAYS.start - dt.timedelta(days=30), DAYS.start - dt.timedelta(days=1))
    columns = {"p05": 1e3, "p25": 4e3, "p50": 1e4, "p75": 2e4, "p95": 4e4, "nulls": 0.0}
    metrics = {"rows": 150.0, **{f"energy_sum.{name}": value for name, value in columns.items()}}
    source = records.Source(0, "id", 0, dt.datetime.now(dt.UTC), "report")

    def keep(verdict: Verdict) -> None:
        judged = [records.Judged(day, verdict, 150, "", ("values_steady",)) for day in past]
        records.record(features, ENERGY, past, dict.fromkeys(past, metrics), judged, source)

    keep(Verdict.PASSED)
    with pytest.raises(VerdictError, match=r"spread_steady: .*energy_sum"):
        run(folder, DAY, DAY)
    keep(Verdict.QUARANTINED)
    done = run(folder, DAY, DAY)
    (skipped,) = [c for c in json.loads((folder / "report.json").read_text())["checks"] if c["check"] == "rows_steady"]
    assert (done["verdict"], skipped["verdict"]) == ("passed", "skipped")
    assert "2 judged day(s) before it: 7 of 30 are needed" in skipped["seen"]


def test_a_range_of_many_days_is_computed_again_as_single_days_are(folder: Path, readings: planted.Frame) -> None:
    days = DayRange(DAY - dt.timedelta(days=20), DAY)
    many = folder.parent / "many"
    made = planted.features(readings, days=days)
    wrong = (pl.col("id") == "SYN000007") & (pl.col("day_date") == DAY)
    assert made.filter(wrong).height == 1
    planted.save(
        many,
        readings,
        made.with_columns(energy_sum_1yr=pl.col("energy_sum_1yr") * pl.when(wrong).then(1 + 1e-8).otherwise(1)),
    )
    done = run(many, days.start, days.end)
    assert (len(done["days"]["passed"]), done["days"]["quarantined"]) == (20, [str(DAY)])
    assert [entry["check"] for entry in done["failed"]] == ["values_recomputed"]
    assert done["failed"][0]["examples"][0].startswith(f"SYN000007 {DAY} (energy_sum_1yr is ")


def test_of_millions_of_rows_a_day_every_nth_entity_is_computed_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feature_store.validation.look.SAMPLED_FROM", 50)
    run(folder, DAY, DAY)
    report = json.loads((folder / "report.json").read_text())
    assert 0 < report["rows_recomputed"] < report["rows"] / 2
    assert f"{report['rows_recomputed']:,} of {report['rows']:,} rows" in str(report["checks"])


def test_a_day_that_did_not_come_is_named(folder: Path) -> None:
    done = run(folder, DAYS.start, DAYS.end + dt.timedelta(days=40))
    assert done["warned"][-1]["check"] == "fresh"
    assert done["warned"][-1]["count"] == 30  # ten more days have readings, and no features
    with pytest.raises(VerdictError, match="rows_present: there is neither a row nor a reading in the range"):
        run(folder, DAY + dt.timedelta(days=90), DAY + dt.timedelta(days=91))


def test_limits_are_a_views_own(folder: Path) -> None:
    from feature_store.view import Expectations, Limit

    lenient = replace(
        ENERGY,
        expects=Expectations(filled=Limit(0.5, None), warn_only=("values_steady", "nulls_steady", "spread_steady")),
    )
    done = run(folder, BAD, BAD, view=lenient)
    assert done["verdict"] == "warned"
    assert {"day_filled", "values_steady"} <= {entry["check"] for entry in done["warned"]}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--released-by", "Ada"], "--released-by and --release-reason go together"),
        (["--released-by", "Ada", "--release-reason", " "], "--released-by and --release-reason go together"),
        (["--released-by", "A" * 501, "--release-reason", "x"], "up to 500 characters"),
    ],
)
def test_bad_arguments_are_refused(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    always = [
        "--readings",
        "r",
        "--features",
        "f",
        "--start",
        "2026-01-01",
        "--end",
        "2026-01-01",
        "--report",
        "r.json",
    ]
    with pytest.raises(SystemExit) as ended:
        validate.main([*always, *argv])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_person_can_ask_for_the_verdicts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["verdicts", ENERGY.name, "--table", str(folder / "features")]
    assert feature_store_command.main(asked) == 0
    assert "No day of energy_data_features was judged yet." in capsys.readouterr().out
    run(folder, BAD, BAD, released_by="Ada", release_reason="ticket 7")
    run(folder, DAY, DAY)
    assert feature_store_command.main(asked) == 0
    released, passed = capsys.readouterr().out.splitlines()[1:]
    assert re.fullmatch(rf"{BAD}  released +\d+ +day_filled, .*  by Ada: ticket 7", released), released
    assert re.fullmatch(rf"{DAY}  passed +\d+ +- +-", passed)
    assert feature_store_command.main([*asked, "--start", str(DAY)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_without_verdicts_nothing_goes_online(folder: Path) -> None:
    (folder / layout.VERDICTS).mkdir()
    (folder / layout.VERDICTS / "_delta_log").write_text("no folder")
    with pytest.raises(
        JobError, match=r"verdicts can't be kept: .*validation_verdicts can't be .* Nothing goes online"
    ):
        run(folder)


def test_tables_that_are_not_there_are_named(folder: Path) -> None:
    with pytest.raises(JobError, match=r"nowhere is not a Delta table"):
        run(folder, features=str(folder / "nowhere"))
    with pytest.raises(JobError, match="features has no version 9: its newest is 0"):
        run(folder, features_version=9)


def test_the_command_says_what_it_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [f"--{name}={folder / name}" for name in ("readings", "features")]
    argv += [f"--report={folder / 'report.json'}", f"--start={BAD}", f"--end={BAD}"]
    assert validate.main(argv) == 1
    out, err = capsys.readouterr()
    summary = json.loads(out.splitlines()[-1])
    assert (summary["job"], summary["verdict"]) == ("validate", "failed")
    assert "validate: Validation failed: day_filled" in err
    assert validate.main([*argv, "--released-by=Ada", "--release-reason=known"]) == 0


@pytest.mark.parametrize(
    ("known", "compared"), [(480, True), (300, False)], ids=["a year and more", "less than a year"]
)
def test_features_are_compared_once_their_window_is_whole(tmp_path: Path, known: int, compared: bool) -> None:
    """Against a history of another unit, kept by hand: only the readings' measures would be without it."""
    readings = planted.readings(known)
    planted.save(tmp_path, readings, planted.features(readings))
    # In files of their own, as they come: those that no window of the day sees are not opened.
    earlier = pl.col("day_date") < DAY - dt.timedelta(days=370)
    for part, mode in ((readings.filter(earlier), "overwrite"), (readings.filter(~earlier), "append")):
        write_deltalake(tmp_path / "readings", part.to_arrow().cast(planted.SOURCE), mode=mode)
    past = DayRange(DAY - dt.timedelta(days=30), DAY - dt.timedelta(days=1))
    values = {"p05": 1e5, "p25": 4e5, "p50": 1e6, "p75": 2e6, "p95": 4e6, "nulls": 0.0}
    metrics = {"rows": 130.0, **{f"energy_sum_1yr.{name}": value for name, value in values.items()}}
    judged = [records.Judged(day, Verdict.PASSED, 130, "") for day in past]
    source = records.Source(0, "id", 0, dt.datetime.now(dt.UTC), "report")
    records.record(str(tmp_path / "features"), ENERGY, past, dict.fromkeys(past, metrics), judged, source)
    done = run(tmp_path, DAY, DAY)
    assert ("spread_steady" in {entry["check"] for entry in done["warned"]}) is compared
    assert done["failed"] == []


class TestMetrics:
    """What the page in Airflow shows of the days: put in at the end, whatever the verdict."""

    @pytest.fixture
    def file(self, folder: Path) -> Path:
        return folder / "metrics" / "energy_data_features.json"

    def of(self, file: Path) -> metrics.ViewMetrics:
        return metrics.load(file.read_text(), ENERGY.name)

    def test_have_each_day_with_what_was_found_of_it(self, folder: Path, file: Path) -> None:
        done = run(folder, metrics=str(file))
        found = self.of(file).validated
        assert {day: each.verdict for day, each in found.items()} == {
            DAYS.start: Verdict.PASSED,
            BAD: Verdict.QUARANTINED,
            DAYS.end: Verdict.PASSED,
        }
        assert sum(each.rows for each in found.values()) == done["rows"]
        assert found[BAD].failed == {entry["check"]: entry["message"] for entry in done["failed"]}
        assert found[DAY].failed == {}
        assert found[DAY].report == str(folder / "report.json")
        measured = records.metrics(str(folder / "features"), ENERGY, DAYS)[DAY]
        assert found[DAY].nulls["energy_sum_1yr"] == round(measured["energy_sum_1yr.nulls"], metrics.PLACES)
        assert len(found[DAY].nulls) == len(ENERGY.columns) - len(ENERGY.keys)

    def test_say_what_each_day_fails_by_and_not_what_another_does(self, folder: Path, file: Path) -> None:
        spoil(folder, energy_mean=pl.col("energy_mean") + 1)
        run(folder, DAYS.start, BAD, metrics=str(file))
        of_both = self.of(file).validated[BAD].failed
        assert set(of_both) > {"day_filled", "readings_carried"}
        assert f"on {BAD}" in str(of_both["day_filled"])
        assert self.of(file).validated[DAYS.start].failed == {}

    def test_of_a_run_that_fails_are_there_too_and_say_who_released(self, folder: Path, file: Path) -> None:
        with pytest.raises(VerdictError):
            run(folder, BAD, BAD, metrics=str(file))
        assert self.of(file).validated[BAD].released_by is None
        run(folder, BAD, BAD, metrics=str(file), released_by="Ada", release_reason="the meters' clock")
        judged = self.of(file).validated[BAD]
        assert (judged.verdict, judged.released_by, judged.release_reason) == (
            Verdict.RELEASED,
            "Ada",
            "the meters' clock",
        )
        assert "day_filled" in judged.failed

    @pytest.mark.parametrize("left", [None, "half a docum"])
    def test_that_are_lost_come_back_by_what_the_tables_remember(
        self, folder: Path, file: Path, left: str | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        run(folder, metrics=str(file))
        before = self.of(file).validated
        file.unlink()
        if left:
            file.write_text(left)
        run(folder, DAY, DAY, metrics=str(file))
        after = self.of(file).validated
        assert list(after) == list(before)
        for day in (DAYS.start, BAD):
            lost = {name: dict.fromkeys(getattr(before[day], name)) for name in ("failed", "warned")}
            assert after[day] == replace(before[day], **lost)
        assert ("is made anew" in caplog.text) is bool(left)

    def test_keep_what_the_sync_has_put_in(self, folder: Path, file: Path) -> None:
        moment = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
        file.parent.mkdir()
        there = metrics.ViewMetrics(ENERGY.name, {}, {DAY: metrics.Certified(7, 3, moment)})
        file.write_text(there.dump())
        run(folder, DAY, DAY, metrics=str(file))
        assert self.of(file).certified == there.certified

    def test_that_can_not_be_written_fail_the_job_whose_verdicts_are_kept(self, folder: Path, file: Path) -> None:
        file.parent.write_text("no folder")
        with pytest.raises(JobError, match="can't be brought up to date"):
            run(folder, DAY, DAY, metrics=str(file))
        assert kept(folder)[DAY].verdict is Verdict.PASSED
