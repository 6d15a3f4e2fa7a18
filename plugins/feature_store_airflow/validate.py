"""The gate of a pipeline: the task that judges the run's days, and tells who waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import BaseOperatorLink, Context

from feature_store import registry
from feature_store_airflow.assets import asset, assets, event_extra
from feature_store_airflow.gate import held_back, next_steps
from feature_store_airflow.links import ValidationReportLink
from feature_store_airflow.settings import FEATURES
from feature_store_airflow.step import StepOperator


class ValidateOperator(StepOperator):
    """Run the job that judges each day of the run, with the link to its reports and the views' assets.

    The views' assets are outlets of this task alone: what featurize wrote is not for use before it is judged. Each gets
    its event when the task succeeds, which it does if of every view some day may go online.
    """

    template_fields: Sequence[str] = (*StepOperator.template_fields, "features")
    operator_extra_links: Sequence[BaseOperatorLink] = (
        ValidationReportLink(),
        *StepOperator.operator_extra_links,
    )

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - whatever StepOperator takes
        """Make the task."""
        super().__init__(outlets=assets(), **kwargs)
        self.features = FEATURES

    def done(self, context: Context, summary: dict[str, Any]) -> None:
        """Leave what the job says of each view for the view's event.

        It did not succeed if of some view no day may go online.
        """
        for view in (view for view in registry.views() if view.name in summary["views"]):
            context["outlet_events"][asset(view.name)].extra = event_extra(view.name, self.features, summary)

    def next_action(self, summary: Mapping[str, Any]) -> str | None:
        """Say how the days come online that the job holds back, if that is all that is wrong."""
        held = held_back(summary)
        failed = {view for view, did in summary.get("views", {}).items() if "error" in did}
        return next_steps(self.dag_id, held) if held and failed <= {each.view for each in held} else None
