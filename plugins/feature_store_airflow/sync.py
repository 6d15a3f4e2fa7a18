"""What a person may ask of a run's sync: what it may cost at most, and a look at the whole online table."""

from __future__ import annotations

from airflow.sdk import Param

BUDGET_PARAM, WHOLE_PARAM = "budget", "whole_table"
CERTIFICATE = "certificate"  # .json, in the run's folder of each view: what is online, and proven to be

BUDGET = f"{{{{ '' if params.{BUDGET_PARAM} is none else params.{BUDGET_PARAM} }}}}"
WHOLE_TABLE = f"{{{{ 'yes' if params.{WHOLE_PARAM} else 'no' }}}}"


def sync_params() -> dict[str, Param]:
    """Make the params of a DAG about its sync."""
    return {
        BUDGET_PARAM: Param(
            None,
            type=["null", "number"],
            minimum=0,
            title="Budget, dollars",
            description="What writing each view online may cost at most, by Keyspaces' on-demand prices; a sync that "
            "would cost more writes nothing and fails. Empty: no limit",
        ),
        WHOLE_PARAM: Param(
            False,
            type="boolean",
            title="Check the whole table",
            description="After the run's days, compare the whole online table with Delta, and mend it",
        ),
    }
