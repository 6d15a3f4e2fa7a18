"""The setup task of a pipeline: one cluster for the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from airflow.providers.amazon.aws.operators.emr import EmrCreateJobFlowOperator
from airflow.sdk import Context

from feature_store_airflow.aws import emr_client
from feature_store_airflow.clusters import find_clusters
from feature_store_airflow.failures import records_failure


class CreateClusterOperator(EmrCreateJobFlowOperator):
    """Ask EMR for the run's cluster, or take the live one that an earlier try has asked for, and don't wait for it.

    The teardown of a setup that failed never runs, so nothing that can fail later is done here: the wait is a task of
    its own. A retry knows nothing of the cluster that the try before it made (its XCom is wiped), and RunJobFlow has no
    idempotency token: the cluster's name and tags, which are the run's, tell.

    Args:
        request: the RunJobFlow request, with templates in its strings; `Name` and `Tags` name the run.
    """

    # The request is a dict already; and a string in it that ends in .json is a value, not a file to read.
    template_ext: Sequence[str] = ()

    def __init__(self, *, request: Mapping[str, Any], **kwargs: Any) -> None:  # noqa: ANN401 - whatever BaseOperator takes
        """Make the task; everything but the request is an ordinary operator argument."""
        super().__init__(
            job_flow_overrides=dict(request),
            # The default connection of some Airflows carries a whole job flow, which would be merged into ours.
            emr_conn_id=None,
            wait_for_completion=False,
            deferrable=False,
            **kwargs,
        )
        # The provider's on_kill reads it, and sets it only once the cluster is there.
        self._job_flow_id: str | None = None

    @records_failure
    def execute(self, context: Context) -> str | None:
        """Return the id of the run's cluster."""
        request = cast(dict[str, Any], self.job_flow_overrides)
        live = find_clusters(emr_client(self.hook), request["Name"], request["Tags"])
        if not live:
            return super().execute(context)
        self._job_flow_id = live[0]
        self.log.info("An earlier try of this task has made %s; taking %s.", ", ".join(live), live[0])
        return live[0]
