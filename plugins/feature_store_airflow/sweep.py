"""The last net under the clusters: end those that are older than they may become, whatever made them stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.amazon.aws.hooks.emr import EmrHook
from airflow.sdk import BaseOperator, Context

from feature_store_airflow.aws import emr_client
from feature_store_airflow.clusters import Tag, age, state_and_reason, tagged_clusters
from feature_store_airflow.failures import OrphansFound, records_failure
from feature_store_airflow.measures import NAMESPACE, ORPHANED_CLUSTERS, publish, value
from feature_store_airflow.sharing import lifetime

HOUR = timedelta(hours=1)


class SweepClustersOperator(BaseOperator):
    """Terminate every cluster of this deployment that is older than its tag `lifetime-hours` says.

    A cluster is ended by its run, else by its own idle time; one that outlives both (a step that hangs, a run that was
    deleted) is found here. That is a fault somewhere, so the task fails when it has ended them, and names them.

    Args:
        cluster_tags: by which a deployment knows its clusters, with templates.
    """

    template_fields: Sequence[str] = ("cluster_tags", "aws_conn_id", "namespace")

    def __init__(self, *, cluster_tags: Iterable[Tag], aws_conn_id: str = "aws_default", **kwargs: Any) -> None:  # noqa: ANN401 - whatever BaseOperator takes
        """Make the task."""
        super().__init__(**kwargs)
        self.cluster_tags = list(cluster_tags)
        self.aws_conn_id = aws_conn_id
        self.namespace = NAMESPACE

    @records_failure
    def execute(self, context: Context) -> str:  # noqa: ARG002 - the operator's interface
        """Return in words what is there.

        Raises:
            OrphansFound: clusters were too old, and are being terminated.
        """
        emr = emr_client(EmrHook(aws_conn_id=self.aws_conn_id))
        now = datetime.now(UTC)
        young, old = [], []
        for cluster in tagged_clusters(emr, self.cluster_tags):
            since, most = age(cluster, now), lifetime(cluster)
            said = f"{cluster['Id']} ({cluster['Name']}), {since / HOUR:.1f} h old of {most / HOUR:g}"
            self.log.info("%s: %s", said, state_and_reason(cluster))
            if since > most:
                # Or EMR would refuse to end it: someone may have switched it on by hand.
                emr.set_termination_protection(JobFlowIds=[cluster["Id"]], TerminationProtected=False)
                old.append((cluster["Id"], said))
            else:
                young.append(said)
        ids = [cluster_id for cluster_id, _ in old]
        if old:
            emr.terminate_job_flows(JobFlowIds=ids)
        publish(self.namespace, [value(ORPHANED_CLUSTERS, len(old))], self.aws_conn_id)
        if old:
            raise OrphansFound(
                f"{len(old)} cluster(s) were older than they may become, and are being terminated: "
                f"{'; '.join(said for _, said in old)}. Next: see why each was not ended by its run (terminate_cluster "
                "of that run) nor by its idle time, and that they are gone: "
                f"`aws emr list-clusters --active`, `aws emr describe-cluster --cluster-id {ids[0]}`."
            )
        return f"{len(young)} cluster(s), none too old{': ' if young else '.'}{'; '.join(young)}"
