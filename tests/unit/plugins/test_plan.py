"""Which days a run is of, and whether their input is there."""

from __future__ import annotations

import datetime as dt
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowRescheduleException
from feature_store_airflow.failures import FAILURE, PlanRejected
from feature_store_airflow.landing import landed_for
from feature_store_airflow.plan import PlanSensor, resolve_days

from tests.unit.conftest import FakeTaskInstance
from tests.unit.plugins.conftest import time_over, triggerer

pytestmark = pytest.mark.unit

TODAY = date(2014, 3, 1)
NOW = datetime(2014, 3, 1, 4, tzinfo=UTC)
MIDNIGHT = datetime(2014, 2, 27, tzinfo=UTC)
EAST = dt.timezone(timedelta(hours=5))


def resolve(
    params: dict[str, Any], interval_start: datetime | None = None, run_after: datetime = NOW
) -> tuple[date, date]:
    days = resolve_days(params, interval_start=interval_start, run_after=run_after, today=TODAY)
    return days.start, days.end


@pytest.mark.parametrize(
    ("params", "interval_start", "run_after", "first", "last"),
    [
        pytest.param({}, MIDNIGHT, NOW, "2014-02-27", "2014-02-27", id="scheduled, or a native backfill"),
        pytest.param(
            {}, datetime(2014, 2, 28, 2, tzinfo=EAST), NOW, "2014-02-27", "2014-02-27", id="interval in another zone"
        ),
        pytest.param({}, None, NOW, "2014-02-28", "2014-02-28", id="by hand: yesterday"),
        pytest.param({}, None, datetime(2014, 3, 1, 2, tzinfo=EAST), "2014-02-27", "2014-02-27", id="yesterday in UTC"),
        pytest.param({"start": "2014-02-01"}, None, NOW, "2014-02-01", "2014-02-01", id="one day"),
        pytest.param(
            {"start": "2014-02-01", "end": None}, None, NOW, "2014-02-01", "2014-02-01", id="one day, end empty"
        ),
        pytest.param({"start": "2013-12-30", "end": "2014-01-02"}, None, NOW, "2013-12-30", "2014-01-02", id="a range"),
        pytest.param(
            {"start": "2014-02-01"}, MIDNIGHT, NOW, "2014-02-01", "2014-02-01", id="params before the interval"
        ),
        pytest.param({"start": None, "end": None}, MIDNIGHT, NOW, "2014-02-27", "2014-02-27", id="empty params"),
        pytest.param({"start": "2014-02-28"}, None, NOW, "2014-02-28", "2014-02-28", id="the newest day that is over"),
    ],
)
def test_days_of_a_run(params, interval_start, run_after, first, last) -> None:
    assert resolve(params, interval_start, run_after) == (date.fromisoformat(first), date.fromisoformat(last))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"end": "2014-02-01"}, "`end` is 2014-02-01, but `start` is not given"),
        ({"start": "2014-02-02", "end": "2014-02-01"}, "The last day, 2014-02-01, is before the first, 2014-02-02"),
        ({"start": "2014-03-01"}, "2014-03-01 is not over yet"),
        ({"start": "2014-02-01", "end": "2099-01-01"}, "2099-01-01 is not over yet"),
        ({"start": "2014-02-30"}, "`start` is '2014-02-30', which is not a day"),
        ({"start": "2014-02-01", "end": "tomorrow"}, "`end` is 'tomorrow', which is not a day"),
    ],
)
def test_days_that_are_refused(params, message) -> None:
    with pytest.raises(PlanRejected, match=message) as caught:
        resolve(params)
    assert "Next: trigger the run again" in str(caught.value)


def test_an_interval_that_is_not_over_is_refused() -> None:
    with pytest.raises(PlanRejected, match="not over yet"):
        resolve({}, datetime(2014, 3, 1, tzinfo=UTC))


def put(s3: Any, key: str, **metadata: str) -> None:
    s3.put_object(
        Bucket="lake", Key=key, Body=b"id", Metadata={name.replace("_", "-"): text for name, text in metadata.items()}
    )


class TestLanding:
    """All objects land now; a day is over, or not, as of now."""

    yesterday = datetime.now(UTC).date() - timedelta(days=1)

    def landed(self, s3: Any, last: date | None = None) -> str | None:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        return landed_for(S3Hook(), "lake", last or self.yesterday)

    @pytest.mark.parametrize("key", ["Dataset/a.csv", "Dataset/2014/02/a.csv.gz"])
    def test_a_file_that_came_after_the_day(self, s3, key) -> None:
        put(s3, key)
        assert self.landed(s3) == key

    @pytest.mark.parametrize(
        "key",
        [
            "a.csv",
            "Dataset/a.parquet",
            "Dataset/a.csv.part",
            "Dataset/_a.csv",
            "Dataset/b/.a.csv",
            "other/Dataset/a.csv",
        ],
    )
    def test_what_is_no_landed_csv(self, s3, key) -> None:
        put(s3, key)
        assert self.landed(s3) is None

    def test_a_file_that_came_before_the_day_was_over(self, s3) -> None:
        put(s3, "Dataset/a.csv")
        assert self.landed(s3, datetime.now(UTC).date()) is None

    def test_a_file_that_says_it_ends_earlier(self, s3) -> None:
        put(s3, "Dataset/a.csv", last_day=(self.yesterday - timedelta(days=1)).isoformat())
        assert self.landed(s3) is None

    @pytest.mark.parametrize("after", [0, 1])
    def test_a_file_that_says_it_reaches_the_day(self, s3, after) -> None:
        put(s3, "Dataset/a.csv", last_day=(self.yesterday + timedelta(days=after)).isoformat())
        assert self.landed(s3) == "Dataset/a.csv"

    def test_one_of_several_is_enough(self, s3) -> None:
        put(s3, "Dataset/a.csv")
        put(s3, "Dataset/b.csv", last_day="2014-02-27")
        assert self.landed(s3) == "Dataset/a.csv"

    def test_a_declaration_that_is_no_day(self, s3) -> None:
        put(s3, "Dataset/a.csv", last_day="27.02.2014")
        with pytest.raises(PlanRejected, match=r"s3://lake/Dataset/a.csv declares last-day='27.02.2014'.*Next: upload"):
            self.landed(s3)

    def test_the_very_midnight_counts(self) -> None:
        midnight = datetime(2014, 2, 28, tzinfo=UTC)
        assert landed_for(FakeHook(midnight), "lake", date(2014, 2, 27)) == "Dataset/a.csv"
        assert landed_for(FakeHook(midnight - timedelta(seconds=1)), "lake", date(2014, 2, 27)) is None


class FakeHook:
    """An S3 with one CSV that landed at a given time, which no in-memory S3 lets a test choose."""

    def __init__(self, landed: datetime) -> None:
        self.landed = landed
        self.conn = SimpleNamespace(head_object=lambda **_: {"Metadata": {}})

    def iter_file_metadata(self, prefix: str, _: str) -> Any:
        yield {"Key": f"{prefix}a.csv", "LastModified": self.landed}


class TestSensor:
    @pytest.fixture(params=[False, True], ids=["polling", "deferred"])
    def deferrable(self, request) -> bool:
        return bool(request.param)

    @pytest.fixture
    def plan(self, s3, perform, monkeypatch, deferrable) -> Any:
        """Run the task once: plan(run_type, **params)."""

        def run(run_type: str, **params: str) -> Any:
            with DAG("daily"):
                task = PlanSensor(
                    task_id="plan", mode="reschedule", poke_interval=60, timeout=3600, deferrable=deferrable
                )
            start = datetime.combine(TestLanding.yesterday, dt.time(), UTC)
            dag_run = SimpleNamespace(run_type=run_type, data_interval_start=start, run_after=start + timedelta(days=1))
            result, self.context = perform(task, about={"params": params, "dag_run": dag_run}, waiting=self.waiting)
            return result

        monkeypatch.setattr(FakeTaskInstance, "get_first_reschedule_date", lambda *_: self.first_poke, raising=False)
        return run

    first_poke: datetime | None = None
    waiting: Any = staticmethod(triggerer)
    context: Any = None

    def test_a_scheduled_run_goes_on_when_its_day_has_landed(self, plan, s3) -> None:
        put(s3, "Dataset/a.csv")
        day = TestLanding.yesterday.isoformat()
        assert plan("scheduled") == {"start": day, "end": day, "days": [day]}

    @pytest.mark.parametrize("deferrable", [False], indirect=True)
    def test_a_scheduled_run_waits_without_a_worker_and_without_an_alarm(self, plan, s3) -> None:
        put(s3, "Dataset/a.csv", last_day="2014-02-27")
        with pytest.raises(AirflowRescheduleException) as caught:
            plan("scheduled")
        assert ("plan", FAILURE) not in caught.value.context["ti"].xcoms

    @pytest.mark.parametrize("deferrable", [True], indirect=True)
    def test_or_in_the_triggerer(self, plan, s3) -> None:
        put(s3, "Dataset/a.csv", last_day="2014-02-27")

        def landing(deferred: Any) -> Any:
            put(s3, "Dataset/b.csv")
            return triggerer(deferred)

        self.waiting = landing
        day = TestLanding.yesterday.isoformat()
        assert plan("scheduled") == {"start": day, "end": day, "days": [day]}
        (deferred,) = self.context["deferred"]
        path, arguments = deferred.trigger.serialize()
        assert path == "feature_store_airflow.triggers.LandingTrigger"
        assert (arguments["bucket"], arguments["day"], arguments["poll_seconds"]) == ("lake", day, 60)
        assert timedelta(minutes=59) < deferred.timeout <= timedelta(hours=1)
        assert ("plan", FAILURE) not in self.context["ti"].xcoms

    @pytest.mark.parametrize("deferrable", [True], indirect=True)
    def test_a_file_that_it_refuses_ends_the_wait(self, plan, s3) -> None:
        def landing(deferred: Any) -> Any:
            put(s3, "Dataset/b.csv", last_day="27.02.2014")
            return triggerer(deferred)

        self.waiting = landing
        with pytest.raises(PlanRejected, match="which is not a day") as caught:
            plan("scheduled")
        assert caught.value.context["ti"].xcoms["plan", FAILURE] == str(caught.value)

    @pytest.mark.parametrize("deferrable", [True], indirect=True)
    def test_a_file_that_is_gone_again_is_waited_for(self, plan, s3) -> None:
        gone = iter([True, False])

        def landing(deferred: Any) -> Any:
            put(s3, "Dataset/b.csv")
            resumed = triggerer(deferred)
            if next(gone):
                s3.delete_object(Bucket="lake", Key="Dataset/b.csv")
            return resumed

        self.waiting = landing
        plan("scheduled")
        first, second = self.context["deferred"]
        assert second.kwargs["until"] == first.kwargs["until"]
        assert second.timeout < first.timeout

    def test_a_scheduled_run_gives_up(self, plan) -> None:
        """The same words, whoever was waiting."""
        self.first_poke = datetime.now(UTC) - timedelta(hours=2)
        self.waiting = time_over
        with pytest.raises(
            PlanRejected, match=r"can hold .* has landed in s3://lake/Dataset/ within 1:00:00.*Next: "
        ) as caught:
            plan("scheduled")
        assert caught.value.context["ti"].xcoms["plan", FAILURE] == str(caught.value)

    @pytest.mark.parametrize("run_type", ["manual", "backfill"])
    def test_other_runs_do_not_wait(self, plan, s3, run_type) -> None:
        put(s3, "Dataset/a.csv", last_day="2013-01-01")
        days = {"start": "2014-02-26", "end": "2014-02-27"} if run_type == "manual" else {}
        assert len(plan(run_type, **days)["days"]) == (2 if days else 1)

    def test_all_runs_of_a_backfill_would_be_of_one_day(self, plan, s3) -> None:
        put(s3, "Dataset/a.csv", last_day="2013-01-01")
        with pytest.raises(PlanRejected, match="create the backfill again without `start`"):
            plan("backfill", start="2014-02-26")

    def test_other_runs_fail_at_once_with_nothing_landed(self, plan) -> None:
        with pytest.raises(
            PlanRejected, match=r"no .csv and no .csv.gz in s3://lake/Dataset/. Next: put the readings there"
        ):
            plan("manual")

    def test_bad_days_are_refused_before_anything_is_looked_at(self, plan) -> None:
        with pytest.raises(PlanRejected, match="before the first"):
            plan("manual", start="2014-02-27", end="2014-02-26")

    def test_a_release_goes_with_the_days(self, plan, s3) -> None:
        put(s3, "Dataset/a.csv")
        planned = plan("manual", start="2014-02-27", released_by=" Ada ", release_reason="the last day")
        assert planned == {
            "start": "2014-02-27",
            "end": "2014-02-27",
            "days": ["2014-02-27"],
            "released_by": "Ada",
            "release_reason": "the last day",
        }

    @pytest.mark.parametrize("run_type", ["manual", "scheduled"])
    def test_half_a_release_is_refused_before_anything_is_looked_at(self, plan, run_type) -> None:
        with pytest.raises(PlanRejected, match="`release_reason` is not, or is blank") as caught:
            plan(run_type, released_by="Ada", release_reason=" ")
        assert caught.value.context["ti"].xcoms["plan", FAILURE] == str(caught.value)
