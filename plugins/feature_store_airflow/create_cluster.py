"""The setup task of a pipeline: one cluster for the run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.amazon.aws.operators.emr import EmrCreateJobFlowOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout
from botocore.exceptions import BotoCoreError, ClientError

from feature_store_airflow.aws import emr_client
from feature_store_airflow.causes import may_pass
from feature_store_airflow.clusters import TRY, describe_cluster, find_clusters, of_try, run_tags
from feature_store_airflow.failures import ClusterNotMade, ClusterRefused, records_failure
from feature_store_airflow.options import DRY_RUN
from feature_store_airflow.settings import POLL_SECONDS
from feature_store_airflow.sharing import IDLE, is_fresh, is_shared, request_of

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient

# How long to look for a cluster whose RunJobFlow has lost its answer. EMR promises nothing about how soon ListClusters
# has a new cluster. boto3 itself gives an answer one minute, after which the request is done or has never arrived; and
# one minute more for the list. What appears later still ends by its own idle time (AutoTerminationPolicy).
LISTED_WITHIN = timedelta(minutes=2)


class CreateClusterOperator(EmrCreateJobFlowOperator):
    """Ask EMR for the run's cluster, or take the live one that an earlier try has asked for, and don't wait for it.

    A retry knows nothing of the cluster that the try before it made (its XCom is wiped), and RunJobFlow has no
    idempotency token: the cluster's name and tags, which are the run's, tell.

    The teardown of a setup that failed never runs (trigger rule ALL_DONE_SETUP_SUCCESS). So nothing that can fail later
    is done here, the wait is a task of its own; and a last try that fails ends what clusters the run has itself, as
    does one that AWS refuses for good, which is the last whatever `retries` says. A try that is not the last leaves
    them to the next one. A cluster that is in use is ended by no try but the one that has asked for it: a step is at
    work on it (this task was cleared alone), or a later try has asked for it (this one had been given up for lost).

    The runs of Airflow's own backfill share a cluster (sharing.py): any of them takes it, and none ends it here, where
    nobody knows what the others do. Only one such task may run at a time, and it returns when the cluster that it has
    asked for is listed, so that the next one finds it.

    Args:
        request: the RunJobFlow request, with templates in its strings; `Name` and `Tags` name the run.
        listed_within: how long to look for a cluster whose request may have reached EMR although no answer came.
        poll_seconds: seconds between two looks, a template.
    """

    template_fields: Sequence[str] = (*EmrCreateJobFlowOperator.template_fields, "poll_seconds")
    # The request is a dict already; and a string in it that ends in .json is a value, not a file to read.
    template_ext: Sequence[str] = ()

    def __init__(
        self,
        *,
        request: Mapping[str, Any],
        listed_within: timedelta = LISTED_WITHIN,
        poll_seconds: str = POLL_SECONDS,
        **kwargs: Any,  # noqa: ANN401 - whatever BaseOperator takes
    ) -> None:
        """Make the task; everything else is an ordinary operator argument."""
        super().__init__(
            job_flow_overrides=dict(request),
            # The default connection of some Airflows carries a whole job flow, which would be merged into ours.
            emr_conn_id=None,
            wait_for_completion=False,
            deferrable=False,
            **kwargs,
        )
        self.listed_within = listed_within
        self.poll_seconds = poll_seconds
        # The provider sets it when EMR has answered.
        self._job_flow_id: str | None = None
        self._emr: EMRClient | None = None
        self._try_number = 0
        self._asked = False
        self._killed = False
        self._left_to_retry = False
        self._shared = False

    @records_failure
    def execute(self, context: Context) -> str | None:
        """Return the id of the run's cluster.

        Raises:
            AirflowSkipException: it is a dry run.
            ClusterNotMade: it has none, and won't get one: no try is left, or the task was killed.
            ClusterRefused: nor would it get one by another try.
        """
        ti = context["ti"]
        plan = ti.xcom_pull(task_ids="plan") or {}
        if plan.get(DRY_RUN):  # someone has cleared this task, or marked the one before it
            raise AirflowSkipException("This is a dry run: it makes no cluster.")
        self._try_number = ti.try_number
        self._shared = is_shared(context)
        emr = self._emr = emr_client(self.hook)
        try:
            return self._take_or_ask(emr, context)
        except ClusterRefused:
            raise  # by ourselves: there is no cluster, and nothing was asked for
        except (Exception, AirflowTaskTimeout) as error:
            passing = may_pass(error)
            if passing and ti.try_number <= ti.max_tries and not self._killed:
                self._left_to_retry = True
                raise
            failure = ClusterNotMade if passing else ClusterRefused
            raise failure(f"{error}\n{self._end_what_is_left(emr, error)}") from error

    def on_kill(self) -> None:
        """End what clusters of the run nobody uses: if someone marked the task failed, no retry comes for them."""
        # Airflow calls this from its signal handler, lets the task go on and kills the process five seconds later: one
        # look, no wait. An error that left it would break off a RunJobFlow that is just getting its answer, with which
        # execute ends the cluster. Without a client nothing was asked for yet; and making one here could be a deadlock,
        # as the handler may have interrupted that very conversation with Airflow.
        if self._left_to_retry or self._emr is None:  # after a timeout Airflow calls this too
            return
        self._killed = True
        if self._shared:
            return
        ended: list[str] = []
        left: dict[str, str] = {}
        problem = self._end_listed(self._emr, ended, left)
        self.log.info("Killed. Clusters terminated: %s.", ", ".join(ended) or problem or "none")
        for cluster_id, use in left.items():
            self.log.info("Left %s: %s.", cluster_id, use)

    def _take_or_ask(self, emr: EMRClient, context: Context) -> str | None:
        if live := self._find(emr):
            self._job_flow_id = live[0]
            self.log.info("An earlier try of this task has made %s; taking %s.", ", ".join(live), live[0])
        elif not self._killed:
            self.job_flow_overrides = request_of(context, of_try(self._request, self._try_number))
            self._asked = True
            super().execute(context)
            if self._shared:
                self._wait_until_listed(emr)
        if self._killed:
            raise ClusterNotMade("The task was killed.")
        return self._job_flow_id

    @property
    def _request(self) -> dict[str, Any]:
        return cast(dict[str, Any], self.job_flow_overrides)

    def _find(self, emr: EMRClient) -> list[str]:
        found = find_clusters(emr, self._request["Name"], run_tags(self._request))
        return (
            [each for each in found if is_fresh(emr.describe_cluster(ClusterId=each)["Cluster"])]
            if self._shared
            else found
        )

    def _wait_until_listed(self, emr: EMRClient) -> None:
        end = time.monotonic() + self.listed_within.total_seconds()
        while self._job_flow_id not in self._find(emr):
            if time.monotonic() >= end:
                self.log.warning("%s is not listed yet: the next run may make one more.", self._job_flow_id)
                return
            time.sleep(float(self.poll_seconds))

    def _end_what_is_left(self, emr: EMRClient, error: BaseException) -> str:
        """End the run's clusters that are not in use, those too that appear a little later, and say so."""
        answer_lost = self._asked and self._job_flow_id is None and not _is_refusal(error)
        again = "" if may_pass(error) else "correct what AWS refuses (EMR/cluster.json, Airflow's rights), then "
        if self._shared:
            return (
                f"What there is of a shared cluster is left to the other runs; it ends when it was idle for {IDLE}. "
                f"Next: {again}clear the run."
            )
        ended: list[str] = []
        left: dict[str, str] = {}
        end = time.monotonic() + self.listed_within.total_seconds()
        # Even when one is found: boto3 sends a request anew whose answer is lost, and each may have made a cluster.
        while (problem := self._end_listed(emr, ended, left)) or answer_lost:
            if time.monotonic() >= end:
                break
            time.sleep(float(self.poll_seconds))
        said = [f"Terminated {', '.join(ended)}, as no teardown runs after a failed setup."] if ended else []
        said += [f"Left {cluster_id}: {use}." for cluster_id, use in left.items()]
        if problem:
            said.append(
                f"EMR could not be asked for all of the run's clusters ({problem}): one may be live, and costs money "
                "until its idle time is over. Next: `aws emr list-clusters --active`, terminate what is called "
                f"{self._request['Name']!r} and has no step at work, then clear the run."
            )
        elif left:
            said.append(
                f"Next: clear {self.task_id} alone, which takes the cluster that is left; else no teardown may come, "
                "and it costs money until its idle time is over."
            )
        else:
            nothing = f"No live cluster of the run was listed{f' within {self.listed_within}' if answer_lost else ''}."
            said.append(f"{'' if ended else nothing} Next: {again}clear the run.".strip())
        return " ".join(said)

    def _end_listed(self, emr: EMRClient, ended: list[str], left: dict[str, str]) -> str:
        """Terminate the run's live clusters that are not in use; what went wrong, if anything did.

        Args:
            emr: the client.
            ended: gets the clusters that were terminated.
            left: what it holds is replaced by the clusters that are in use, each with what uses it.
        """
        try:
            # The one that this try has made first, as the look for others may fail. It is too new to be in use.
            self._end(emr, [self._job_flow_id] if self._asked and self._job_flow_id else [], ended)
            others = [cluster_id for cluster_id in self._find(emr) if cluster_id not in ended]
            uses = {cluster_id: self._use(emr, cluster_id) for cluster_id in others}
            left.clear()
            left.update({cluster_id: use for cluster_id, use in uses.items() if use})
            self._end(emr, [cluster_id for cluster_id in others if cluster_id not in left], ended)
        except (BotoCoreError, ClientError) as error:
            self.log.warning("The run's clusters can't be found or ended just now: %s", error)
            return f"{error}"
        return ""

    def _use(self, emr: EMRClient, cluster_id: str) -> str:
        """Say what uses a cluster of the run; nothing if nothing does."""
        cluster = describe_cluster(emr, cluster_id)
        tags = {tag["Key"]: tag["Value"] for tag in cluster.get("Tags", [])} if cluster else {}
        if int(tags.get(TRY, 0)) > self._try_number:
            return "a later try of this task has asked for it"
        active = emr.list_steps(ClusterId=cluster_id, StepStates=["PENDING", "RUNNING"])["Steps"]
        return f"its step {active[0]['Name']} is {active[0]['Status']['State']}" if active else ""

    @staticmethod
    def _end(emr: EMRClient, found: list[str], ended: list[str]) -> None:
        if pending := [cluster_id for cluster_id in found if cluster_id not in ended]:
            emr.terminate_job_flows(JobFlowIds=pending)
            ended += pending


def _is_refusal(error: BaseException) -> bool:
    """Whether EMR has said no, and so has made no cluster.

    After an error of its own it may have made one; and where boto3 has asked more than once, it may have made one the
    time before.
    """
    if not isinstance(error, ClientError):
        return False
    answer = error.response["ResponseMetadata"]
    return answer["HTTPStatusCode"] < HTTPStatus.INTERNAL_SERVER_ERROR and not answer.get("RetryAttempts")
