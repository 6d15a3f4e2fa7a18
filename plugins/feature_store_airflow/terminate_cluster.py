"""The teardown task of a pipeline: the run's cluster ends, and the task sees it end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.amazon.aws.operators.emr import EmrTerminateJobFlowOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import TaskDeferralTimeout

from feature_store_airflow.aws import emr_client
from feature_store_airflow.clusters import GONE, LIVE, Tag, describe_cluster, find_clusters, state_and_reason
from feature_store_airflow.failures import ClusterStillAlive, records_failure
from feature_store_airflow.settings import CLUSTER_ID, POLL_SECONDS
from feature_store_airflow.sharing import IDLE, is_shared, others_to_come
from feature_store_airflow.triggers import DEFERRABLE, ClusterTrigger, check_event


class TerminateClusterOperator(EmrTerminateJobFlowOperator):
    """Terminate every cluster of the run and wait until each is gone; one that is gone already is no error.

    Clusters are found by the run's name and tags besides the id: the create task may have crashed before its XCom.

    One that is shared (sharing.py) is left while other runs are to come.

    Args:
        cluster_name: the `Name` of the RunJobFlow request, a template.
        cluster_tags: its `Tags`, with templates.
        deadline: how long EMR may take to end a cluster.
        poll_seconds: seconds between two looks, a template.
        deferrable: wait in Airflow's triggerer; by default what `[operators] default_deferrable` says.
    """

    template_fields: Sequence[str] = (
        *EmrTerminateJobFlowOperator.template_fields,
        "cluster_name",
        "cluster_tags",
        "poll_seconds",
    )

    # The create task's links do for the run; without a cluster there would be nothing to link to.
    operator_extra_links = ()  # type: ignore[assignment] # the provider gives a tuple of two

    def __init__(
        self,
        *,
        cluster_name: str,
        cluster_tags: Iterable[Tag],
        deadline: timedelta,
        poll_seconds: str = POLL_SECONDS,
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,  # noqa: ANN401 - whatever BaseOperator takes
    ) -> None:
        """Make the task; `job_flow_id` is the create task's XCom."""
        super().__init__(**{"job_flow_id": CLUSTER_ID, **kwargs}, deferrable=False)
        self.cluster_name = cluster_name
        self.cluster_tags = list(cluster_tags)
        self.deadline = deadline
        self.poll_seconds = poll_seconds
        self.defers = deferrable

    @records_failure
    def execute(self, context: Context) -> None:
        """End the clusters.

        Raises:
            ClusterStillAlive: one of them is still there after the deadline.
        """
        if is_shared(context) and (others := others_to_come(context)):
            self.log.info(
                "The cluster is left warm: %d other run(s) may need it. Idle, it ends after %s.", others, IDLE
            )
            return
        if pending := self._still_there(self._of_the_run()):
            self.log.info("Terminating %s.", ", ".join(pending))
            emr_client(self.hook).terminate_job_flows(JobFlowIds=pending)
        self._see_end(pending, datetime.now(UTC) + self.deadline)

    def resume(self, context: Context, event: Mapping[str, str], pending: list[str], until: datetime) -> None:  # noqa: ARG002 - Airflow's interface
        """Go on after the wait in the triggerer, for the clusters `pending`, until a point in time."""
        check_event(event)
        self._see_end(pending, until)

    @records_failure
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:  # noqa: ANN401 - as Airflow's
        """Go on; what Airflow calls, also when the triggerer's time is over."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            return self._see_end(self._of_the_run(), datetime.now(UTC))

    def _of_the_run(self) -> list[str]:
        found = find_clusters(emr_client(self.hook), self.cluster_name, self.cluster_tags, (*LIVE, "TERMINATING"))
        return sorted({self.job_flow_id, *found} - {""})

    def _see_end(self, pending: list[str], until: datetime) -> None:
        while pending := self._still_there(pending):
            left = until - datetime.now(UTC)
            if left <= timedelta():
                raise ClusterStillAlive(
                    f"{', '.join(pending)} did not end within {self.deadline} and may still cost money. "
                    f"Next: `aws emr terminate-clusters --cluster-ids {' '.join(pending)}`, and see why in EMR."
                )
            if self.defers:
                self.defer(
                    trigger=ClusterTrigger(
                        cluster_ids=pending,
                        states=list(GONE),
                        poll_seconds=float(self.poll_seconds),
                        hook=self._hook_parameters,
                    ),
                    method_name="resume",
                    kwargs={"pending": pending, "until": until},
                    timeout=left,
                )
            time.sleep(float(self.poll_seconds))

    def _still_there(self, cluster_ids: Iterable[str]) -> list[str]:
        return [cluster_id for cluster_id in cluster_ids if not self._is_gone(cluster_id)]

    def _is_gone(self, cluster_id: str) -> bool:
        cluster = describe_cluster(emr_client(self.hook), cluster_id)
        if cluster is None:
            self.log.warning("EMR knows no cluster %s: there is nothing to end.", cluster_id)
            return True
        self.log.info("Cluster %s: %s", cluster_id, state_and_reason(cluster))
        return cluster["Status"]["State"] in GONE
