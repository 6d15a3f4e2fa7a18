"""The wait for the run's cluster, apart from its creation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.sensors.emr import EmrJobFlowSensor
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSensorTimeout

from feature_store_airflow.aws import emr_client
from feature_store_airflow.clusters import GONE, state_and_reason
from feature_store_airflow.failures import ClusterFailed, records_failure
from feature_store_airflow.logs import bootstrap_log_tail
from feature_store_airflow.settings import POLL_SECONDS


class WaitForClusterSensor(EmrJobFlowSensor):
    """Wait until the cluster takes steps; a cluster that ends instead fails the task with EMR's own reason.

    Not deferrable: the provider's trigger ignores the target states and waits for the cluster's end.

    Args:
        poll_seconds: seconds between two looks, a template.
    """

    template_fields: Sequence[str] = (*EmrJobFlowSensor.template_fields, "poll_seconds")

    def __init__(self, *, poll_seconds: str = POLL_SECONDS, **kwargs: Any) -> None:  # noqa: ANN401 - whatever BaseOperator takes
        """Make the task; `timeout` is the seconds a cluster may take to become ready."""
        # RUNNING too: a cluster that works at a step (its task was cleared by hand) is past its bootstrap actions.
        super().__init__(target_states=["WAITING", "RUNNING"], failed_states=GONE, deferrable=False, **kwargs)
        self.poll_seconds = poll_seconds

    @records_failure
    def execute(self, context: Context) -> None:
        """Wait.

        Raises:
            ClusterFailed: the cluster has ended, or is still not ready after the timeout.
        """
        self.poke_interval = float(self.poll_seconds)
        try:
            super().execute(context)
        except AirflowSensorTimeout as error:
            cluster = emr_client(self.hook).describe_cluster(ClusterId=self.job_flow_id)["Cluster"]
            raise ClusterFailed(
                f"Cluster {self.job_flow_id} is not ready after {self.timeout:g} s: {state_and_reason(cluster)}. "
                "Next: see the cluster's events in EMR (no capacity for its instance types, or a bootstrap action that "
                "hangs), then clear the run."
            ) from error

    def poke(self, context: Context) -> bool:
        """Look once; a cluster that is TERMINATING is looked at again, as its logs are there only when it has ended."""
        response = self.get_emr_response(context)
        cluster = response["Cluster"]
        state = self.state_from_response(response)
        self.log.info("Cluster %s: %s", self.job_flow_id, state_and_reason(cluster))
        if state in self.failed_states:
            message = f"Cluster {self.job_flow_id} ended before it was ready: {state_and_reason(cluster)}."
            if tail := bootstrap_log_tail(S3Hook(aws_conn_id=self.aws_conn_id), cluster):
                message += f"\nLast lines of its bootstrap action's stderr:\n{tail}"
            raise ClusterFailed(f"{message}\nNext: correct what that names (EMR/ of the release), then clear the run.")
        return state in self.target_states
