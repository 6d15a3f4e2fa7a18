"""The task that brings a run's days online, and what a person may ask of it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context, Param
from airflow.sdk.exceptions import AirflowSkipException

from feature_store_airflow.failures import records_failure
from feature_store_airflow.options import SKIP_SYNC
from feature_store_airflow.step import StepOperator

BUDGET_PARAM, WHOLE_PARAM = "budget", "whole_table"
CERTIFICATE = "certificate"  # .json, in the run's folder of each view: what is online, and proven to be

BUDGET = f"{{{{ '' if params.{BUDGET_PARAM} is none else params.{BUDGET_PARAM} }}}}"
# Of a run in chunks once, after the last of its days.
LAST = "(ti.map_index < 0 or ti.map_index == ti.xcom_pull(task_ids='choose_days') | length - 1)"
WHOLE_TABLE = f"{{{{ 'yes' if params.{WHOLE_PARAM} and {LAST} else 'no' }}}}"


def sync_params() -> dict[str, Param]:
    """Make the params of a DAG about its sync."""
    return {
        BUDGET_PARAM: Param(
            None,
            type=["null", "number"],
            minimum=0,
            title="Budget, dollars",
            description="What writing each view online may cost at most (in a backfill: each view of each chunk), by "
            "Keyspaces' on-demand prices; a sync that would cost more writes nothing and fails. Empty: no limit",
        ),
        WHOLE_PARAM: Param(
            False,
            type="boolean",
            title="Check the whole table",
            description="After the run's days, compare the whole online table with Delta, and mend it",
        ),
    }


class SyncOperator(StepOperator):
    """Run the job that brings the days online, unless the run is to leave the online store as it is."""

    @records_failure
    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override] # as StepOperator
        """Run the step.

        Raises:
            AirflowSkipException: nobody wants it; that is no failure of the run.
            StepFailed: as StepOperator.
        """
        if context["ti"].xcom_pull(task_ids="plan").get(SKIP_SYNC):
            raise AirflowSkipException("The run is not to bring anything online.")
        return super().execute(context)
