"""What a daily run does about late readings: it lets the backfill recompute the features that they are in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException

from feature_store import layout, registry
from feature_store.calendar import parse_day
from feature_store_airflow.choose_days import sign_in
from feature_store_airflow.failures import OutlookFailed, records_failure
from feature_store_airflow.gate import BACKFILL, named
from feature_store_airflow.options import DRY_RUN, REPROCESS, SIZE, SKIP_SYNC, VIEWS
from feature_store_airflow.settings import FEATURES, READINGS, TRY, setting
from feature_store_airflow.sync import BUDGET_PARAM

CAUGHT_UP = "caught_up"  # the XCom in which it says in words what it has triggered


class CatchUpOperator(TriggerDagRunOperator):
    """Trigger the backfill for the days, other than the run's, whose features are of older readings; else be skipped.

    A run of its own: a reading of a year ago changes a year of features, and the day's own are not to wait for them,
    nor to fail with them. One run's retries trigger one.
    """

    template_fields: Sequence[str] = (
        *TriggerDagRunOperator.template_fields,
        "readings",
        "features",
        "region",
    )

    def __init__(self, *, aws_conn_id: str = "aws_default", **kwargs: Any) -> None:  # noqa: ANN401 - whatever BaseOperator takes
        """Make the task."""
        super().__init__(
            trigger_dag_id=BACKFILL,
            # Of the first of the tries that belong together, as STEP_NAME: a run that is cleared may find other days.
            trigger_run_id=f"late__{{{{ run_id }}}}{TRY}",
            logical_date=None,
            skip_when_already_exists=True,
            deferrable=False,
            **kwargs,
        )
        self.aws_conn_id = aws_conn_id
        self.readings, self.features = READINGS, FEATURES
        self.region = setting("region")

    @records_failure
    def execute(self, context: Context) -> None:
        """Look, and trigger.

        Raises:
            AirflowSkipException: there is nothing to catch up with.
            OutlookFailed: a table can't be read.
        """
        ti = context["ti"]
        ingest, plan = ti.xcom_pull(task_ids="ingest"), ti.xcom_pull(task_ids="plan")
        # A task that someone marked a success has returned nothing; verdict fails the run for it.
        days = self._stale(ingest, plan[VIEWS], {*plan["days"]}) if ingest and ingest["days_changed"] else []
        if not days:
            raise AirflowSkipException("No features of other days than the run's are of older readings.")
        self.log.info("Features of %s are of older readings: %s recomputes them.", named(days), self.trigger_run_id)
        # No others of the range, and in the way that was asked for of the run's own.
        self.conf = {"start": days[0], "end": days[-1], REPROCESS: "stale", DRY_RUN: False}
        self.conf |= {name: plan[name] for name in (VIEWS, SIZE, SKIP_SYNC) if name in plan}
        if (budget := context["params"].get(BUDGET_PARAM)) is not None:
            self.conf[BUDGET_PARAM] = budget
        ti.xcom_push(
            key=CAUGHT_UP,
            value=f"Features of {named(days)} ({len(days)} day(s)) are of older readings than came now: run "
            f"{self.trigger_run_id} of {BACKFILL} recomputes them.",
        )
        super().execute(context)

    def _stale(self, ingest: dict[str, Any], views: Sequence[str], own: set[str]) -> list[str]:
        from feature_store import backfill  # noqa: PLC0415 - what reads Delta is for the task

        sign_in(self.aws_conn_id, self.region)
        since = parse_day(ingest["first_day_changed"])
        found: set[str] = set()
        for view in (registry.view(name) for name in views):
            # Whether the days are online plays no part.
            store = backfill.Store(self.readings, self.features.replace(layout.VIEW, view.name), None)
            try:
                found |= {str(day) for day in backfill.stale_days(store, view, since)}
            except backfill.BackfillError as error:
                raise OutlookFailed(
                    f"Which features are of older readings can't be told: {error} Next: see S3, then clear this task."
                ) from error
        return sorted(found - own)
