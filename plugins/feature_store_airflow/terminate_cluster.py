"""The teardown task of a pipeline: the run's cluster ends, and the task sees it end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.operators.emr import EmrTerminateJobFlowOperator
from airflow.sdk import Context

from feature_store_airflow.aws import emr_client
from feature_store_airflow.clusters import GONE, LIVE, Tag, describe_cluster, find_clusters, state_and_reason
from feature_store_airflow.failures import ClusterStillAlive, records_failure
from feature_store_airflow.settings import CLUSTER_ID, POLL_SECONDS
from feature_store_airflow.sharing import IDLE, is_shared, others_to_come


class TerminateClusterOperator(EmrTerminateJobFlowOperator):
    """Terminate every cluster of the run and wait until each is gone; one that is gone already is no error.

    Clusters are found by the run's name and tags besides the id: the create task may have crashed before its XCom.

    One that is shared (sharing.py) is left while other runs are to come.

    Args:
        cluster_name: the `Name` of the RunJobFlow request, a template.
        cluster_tags: its `Tags`, with templates.
        deadline: how long EMR may take to end a cluster.
        poll_seconds: seconds between two looks, a template.
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
        **kwargs: Any,  # noqa: ANN401 - whatever BaseOperator takes
    ) -> None:
        """Make the task; `job_flow_id` is the create task's XCom."""
        super().__init__(**{"job_flow_id": CLUSTER_ID, "deferrable": False, **kwargs})
        self.cluster_name = cluster_name
        self.cluster_tags = list(cluster_tags)
        self.deadline = deadline
        self.poll_seconds = poll_seconds

    @records_failure
    def execute(self, context: Context) -> None:
        """End the clusters.

        Raises:
            ClusterStillAlive: one of them is still there after the deadline.
        """
        emr = emr_client(self.hook)
        if is_shared(context) and (others := others_to_come(context)):
            self.log.info(
                "The cluster is left warm: %d other run(s) may need it. Idle, it ends after %s.", others, IDLE
            )
            return
        found = find_clusters(emr, self.cluster_name, self.cluster_tags, (*LIVE, "TERMINATING"))
        pending = self._still_there(sorted({self.job_flow_id, *found} - {""}))
        if pending:
            self.log.info("Terminating %s.", ", ".join(pending))
            emr.terminate_job_flows(JobFlowIds=pending)
        end = time.monotonic() + self.deadline.total_seconds()
        while pending := self._still_there(pending):
            if time.monotonic() > end:
                raise ClusterStillAlive(
                    f"{', '.join(pending)} did not end within {self.deadline} and may still cost money. "
                    f"Next: `aws emr terminate-clusters --cluster-ids {' '.join(pending)}`, and see why in EMR."
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
