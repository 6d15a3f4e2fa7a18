"""The first task of a pipeline: which days, and is their input there. What it refuses costs no cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.sdk import Context, PokeReturnValue
from airflow.sdk.exceptions import AirflowSensorTimeout

from feature_store.calendar import DayRange, parse_day
from feature_store_airflow.failures import PlanRejected, records_failure
from feature_store_airflow.landing import csv_objects, landed_for
from feature_store_airflow.options import resolve_options
from feature_store_airflow.release import resolve_release
from feature_store_airflow.settings import BUCKET, LANDING_PREFIX
from feature_store_airflow.sharing import is_shared
from feature_store_airflow.triggers import DEFERRABLE, LandingTrigger, check_event


def resolve_days(
    params: Mapping[str, Any], *, interval_start: datetime | None, run_after: datetime, today: date
) -> DayRange:
    """Return the days of a run, whatever has started it: the one place that decides.

    Args:
        params: the run's `start` and `end` (inclusive), ISO days; without `end` it is the one day `start`.
        interval_start: of the run's data interval: a scheduled run, a native backfill, a manual run with an interval.
        run_after: when the run was due; a run with nothing else computes the day before.
        today: the day, in UTC, that is not over yet.

    Raises:
        PlanRejected: the params are no range of days that are over.
    """
    start, end = params.get("start"), params.get("end")
    if end and not start:
        raise PlanRejected(f"`end` is {end}, but `start` is not given. Next: trigger the run again with both.")
    if start:
        first, last = _param_day("start", start), _param_day("end", end or start)
    else:
        day = interval_start.astimezone(UTC) if interval_start else run_after.astimezone(UTC) - timedelta(days=1)
        first = last = day.date()
    if last < first:
        raise PlanRejected(
            f"The last day, {last}, is before the first, {first}. Next: trigger the run again with them swapped."
        )
    if last >= today:
        raise PlanRejected(
            f"{last} is not over yet (today is {today}, UTC): its features would be of a part of it. "
            f"Next: trigger the run again for days up to {today - timedelta(days=1)}."
        )
    return DayRange(first, last)


def _param_day(name: str, text: str) -> date:
    try:
        return parse_day(text)
    except ValueError as error:
        raise PlanRejected(
            f"`{name}` is {text!r}, which is not a day. Next: trigger the run again with YYYY-MM-DD."
        ) from error


class PlanSensor(AwsBaseSensor[S3Hook]):
    """Resolve the run's days, wait for their input if the run is a scheduled one, and return them.

    A scheduled run waits until a CSV has landed that can hold its last day. Every other run was
    asked for by someone who is there to be told: it goes on with what has landed, or fails at once if nothing has.

    Returns (as XCom): {"start": first day, "end": last day, "days": all of them}, ISO days; if someone releases
    them, "released_by" and "release_reason"; and what else is asked for, as options.py has it.

    Args:
        bucket: the bucket, a template.
        deferrable: wait in Airflow's triggerer; by default what `[operators] default_deferrable` says. Else `mode` says
            how.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = (*AwsBaseSensor.template_fields, "bucket")

    def __init__(self, *, bucket: str = BUCKET, deferrable: bool = DEFERRABLE, **kwargs: Any) -> None:  # noqa: ANN401 - whatever BaseOperator takes
        """Make the task; `poke_interval`, `timeout` and `mode` are a sensor's."""
        super().__init__(**kwargs)
        self.bucket = bucket
        self.defers = deferrable

    @records_failure
    def execute(self, context: Context) -> dict[str, Any]:
        """Return the plan.

        Raises:
            PlanRejected: the days, their release or the landing folder are not fit; or nothing landed in time.
        """
        if self.defers:
            return self._defer_until_landed(context, datetime.now(UTC) + timedelta(seconds=self.timeout))
        try:
            return dict(super().execute(context))
        except AirflowSensorTimeout as error:
            raise self._nothing_landed(context) from error

    def resume(self, context: Context, event: Mapping[str, str], until: datetime) -> dict[str, Any]:
        """Go on after the wait in the triggerer, which may last until a point in time."""
        check_event(event)
        return self._defer_until_landed(context, until)

    @records_failure
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:  # noqa: ANN401 - as Airflow's
        """Go on; what Airflow calls, also when the triggerer's time is over."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout as error:
            raise self._nothing_landed(context) from error

    def _defer_until_landed(self, context: Context, until: datetime) -> dict[str, Any]:
        found = self.poke(context)
        if not found.is_done:
            self.defer(
                trigger=LandingTrigger(
                    bucket=self.bucket,
                    day=self._days(context).end.isoformat(),
                    poll_seconds=self.poke_interval,
                    hook=self._hook_parameters,
                ),
                method_name="resume",
                kwargs={"until": until},
                timeout=until - datetime.now(UTC),
            )
        return dict(found.xcom_value or {})

    def _nothing_landed(self, context: Context) -> PlanRejected:
        return PlanRejected(
            f"No CSV that can hold {self._days(context).end} has landed in s3://{self.bucket}/{LANDING_PREFIX} within "
            f"{timedelta(seconds=self.timeout)}: none came after the end of that day (UTC), or each declares an "
            "earlier last-day. Next: have the file delivered, then clear the run."
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once for the input of the run's days."""
        planned = self._days(context)
        asked = {**resolve_release(context["params"]), **resolve_options(context["params"])}
        last = planned.end
        if context["dag_run"].run_type == "scheduled":
            found = landed_for(self.hook, self.bucket, last)
            if found is None:
                self.log.info("Waiting for a CSV of %s in s3://%s/%s.", last, self.bucket, LANDING_PREFIX)
                return PokeReturnValue(is_done=False)
            self.log.info("s3://%s/%s can hold %s.", self.bucket, found, last)
        elif next(csv_objects(self.hook, self.bucket), None) is None:
            raise PlanRejected(
                f"There is no .csv and no .csv.gz in s3://{self.bucket}/{LANDING_PREFIX}. Next: put the readings "
                f"there, as by `aws s3 cp daily_dataset.csv s3://{self.bucket}/{LANDING_PREFIX}`, then clear the run."
            )
        iso = [day.isoformat() for day in planned]
        self.log.info("%d day(s): %s to %s.", len(iso), iso[0], iso[-1])
        return PokeReturnValue(is_done=True, xcom_value={"start": iso[0], "end": iso[-1], "days": iso, **asked})

    @staticmethod
    def _days(context: Context) -> DayRange:
        run = context["dag_run"]
        if is_shared(context) and context["params"].get("start"):
            raise PlanRejected(
                "A run of Airflow's own backfill is of the day that its date says, and `start` would make all of them "
                "one day's. Next: create the backfill again without `start` and `end`."
            )
        return resolve_days(
            context["params"],
            interval_start=run.data_interval_start,
            run_after=run.run_after,
            today=datetime.now(UTC).date(),
        )
