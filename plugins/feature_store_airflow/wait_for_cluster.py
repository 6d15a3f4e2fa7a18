"""The wait for the run's cluster, apart from its creation; a retry of it asks for another one if that may help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.sensors.emr import EmrJobFlowSensor
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSensorTimeout
from airflow.sdk.types import RuntimeTaskInstanceProtocol

from feature_store_airflow.aws import emr_client
from feature_store_airflow.causes import another_may_live
from feature_store_airflow.clusters import GONE, describe_cluster, find_clusters, of_try, run_tags, state_and_reason
from feature_store_airflow.failures import ClusterFailed, ClusterLost, records_failure
from feature_store_airflow.logs import bootstrap_log_tail
from feature_store_airflow.settings import CLUSTER_ID, POLL_SECONDS
from feature_store_airflow.sharing import request_of
from feature_store_airflow.triggers import DEFERRABLE, ClusterTrigger, check_event

# RUNNING too: a cluster that works at a step (its task was cleared by hand) is past its bootstrap actions.
READY = ("WAITING", "RUNNING")


class WaitForClusterSensor(EmrJobFlowSensor):
    """Wait until the run's cluster takes steps and return its id; one that ends instead fails the task by EMR's reason.

    If the cause may pass (causes.py) the task is retried, and the retry asks for a new cluster in the place of the one
    that has ended, by the request of create_cluster. It is done here and not there, as create_cluster has done its work
    by then: it is the setup whose success lets the teardown run, so it neither waits nor is it tried again. All that
    has to be seen to, that no cluster is left, the teardown does for this one too: it finds the clusters of the run by
    name and tags.

    Args:
        request: the RunJobFlow request of create_cluster, with templates.
        poll_seconds: seconds between two looks, a template.
        deferrable: wait in Airflow's triggerer; by default what `[operators] default_deferrable` says.
    """

    template_fields: Sequence[str] = (*EmrJobFlowSensor.template_fields, "request", "poll_seconds")

    def __init__(
        self,
        *,
        request: Mapping[str, Any],
        poll_seconds: str = POLL_SECONDS,
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,  # noqa: ANN401 - whatever BaseOperator takes
    ) -> None:
        """Make the task; `timeout` is the seconds a cluster may take to become ready."""
        super().__init__(
            **{"job_flow_id": CLUSTER_ID, **kwargs},
            target_states=READY,
            failed_states=GONE,
            # The provider would hand it to its own trigger.
            deferrable=False,
        )
        self.request = dict(request)
        self.poll_seconds = poll_seconds
        self.defers = deferrable

    @records_failure
    def execute(self, context: Context) -> str:  # type: ignore[override] # which one it is, the provider returns nothing
        """Wait.

        Raises:
            ClusterLost: the cluster has ended, for a cause that may pass.
            ClusterFailed: it has ended for another, or is still not ready after the timeout.
        """
        ti = context["ti"]
        if ti.try_number > 1:
            self.job_flow_id = self._cluster_of_a_retry(context)
        self.poke_interval = float(self.poll_seconds)
        if self.defers:
            return self._defer_until_ready(context, datetime.now(UTC) + timedelta(seconds=self.timeout))
        try:
            super().execute(context)
        except AirflowSensorTimeout as error:
            raise self._not_ready() from error
        return self.job_flow_id

    def resume(self, context: Context, event: Mapping[str, str], cluster_id: str, until: datetime) -> str:
        """Go on after the wait in the triggerer, for cluster `cluster_id`, until a point in time."""
        check_event(event)
        self.job_flow_id = cluster_id
        return self._defer_until_ready(context, until)

    @records_failure
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:  # noqa: ANN401 - as Airflow's
        """Go on; what Airflow calls, also when the triggerer's time is over."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout as error:
            self.job_flow_id = self._newest()
            raise self._not_ready() from error

    def poke(self, context: Context) -> bool:
        """Look once; a cluster that is TERMINATING is looked at again, as its logs are there only when it has ended."""
        response = self.get_emr_response(context)
        cluster = response["Cluster"]
        state = self.state_from_response(response)
        self.log.info("Cluster %s: %s", self.job_flow_id, state_and_reason(cluster))
        if state in self.failed_states:
            raise self._ended(cluster, context["ti"])
        return state in self.target_states

    def _defer_until_ready(self, context: Context, until: datetime) -> str:
        if not self.poke(context):
            self.defer(
                trigger=ClusterTrigger(
                    cluster_ids=[self.job_flow_id],
                    states=[*READY, *GONE],
                    poll_seconds=float(self.poll_seconds),
                    hook=self._hook_parameters,
                ),
                method_name="resume",
                kwargs={"cluster_id": self.job_flow_id, "until": until},
                timeout=until - datetime.now(UTC),
            )
        return self.job_flow_id

    def _cluster_of_a_retry(self, context: Context) -> str:
        """Return the run's live cluster, asking for one where it has none and another may fare better than the last."""
        newest = self._newest()
        emr = emr_client(self.hook)
        cluster = describe_cluster(emr, newest)
        if cluster is None or cluster["Status"]["State"] not in GONE or not another_may_live(cluster):
            return newest
        made = emr.run_job_flow(**request_of(context, of_try(self.request, context["ti"].try_number)))["JobFlowId"]
        self.log.info("Cluster %s is %s; asked for %s instead.", newest, state_and_reason(cluster), made)
        return made

    def _newest(self) -> str:
        """Return the newest live cluster of the run; the one of create_cluster where none lives.

        An earlier try of this task may have asked for another one than create_cluster has.
        """
        live = find_clusters(emr_client(self.hook), self.request["Name"], run_tags(self.request))
        return live[0] if live else self.job_flow_id

    def _ended(self, cluster: Mapping[str, Any], ti: RuntimeTaskInstanceProtocol) -> Exception:
        message = f"Cluster {self.job_flow_id} ended before it was ready: {state_and_reason(cluster)}."
        if tail := bootstrap_log_tail(S3Hook(aws_conn_id=self.aws_conn_id), cluster):
            message += f"\nLast lines of its bootstrap action's stderr:\n{tail}"
        if not another_may_live(cluster):
            return ClusterFailed(f"{message}\nNext: correct what that names (EMR/ of the release), then clear the run.")
        if ti.try_number <= ti.max_tries:
            return ClusterLost(f"{message}\nNext: nothing; this may pass, and a retry asks for another cluster.")
        return ClusterLost(
            f"{message}\nNext: several clusters have ended so. If that names something that is wrong (EMR/ of the "
            "release), correct it; then, or if it is AWS that had no capacity or a fault, clear the run."
        )

    def _not_ready(self) -> ClusterFailed:
        cluster = emr_client(self.hook).describe_cluster(ClusterId=self.job_flow_id)["Cluster"]
        return ClusterFailed(
            f"Cluster {self.job_flow_id} is not ready after {self.timeout:g} s: {state_and_reason(cluster)}. "
            "Next: see the cluster's events in EMR (no capacity for its instance types, or a bootstrap action that "
            "hangs), then clear the run."
        )
