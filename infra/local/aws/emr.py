"""The graft on moto: its EMR, with clusters that run.

moto (5.2.5) keeps the books (what was asked, described and tagged) and speaks the protocol; three of its classes are
replaced by subclasses, no function of it is patched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any, ClassVar, NoReturn

from moto.core.common_types import TYPE_RESPONSE
from moto.core.request import Request
from moto.core.responses import ActionResult, BaseResponse, EmptyResult
from moto.ec2.utils import random_instance_id
from moto.emr import models, urls
from moto.emr.exceptions import InvalidCluster, InvalidRequestException, ValidationException
from moto.emr.responses import ElasticMapReduceResponse

from infra.local.aws import requests
from infra.local.aws.cluster import ClusterEndedError, ClusterRunner
from infra.local.aws.faults import CAPACITY, SPOT_LOST, Faults, out_of_capacity
from infra.local.aws.models import STOPPED, LocalCluster, LocalStep
from infra.local.aws.node import Node, Settings
from infra.local.aws.s3 import S3
from infra.local.settings import Stack

CLUSTER_ENDED = "A job flow that is shutting down, terminated, or finished may not be modified."


class LocalEmr:
    """The clusters that run."""

    def __init__(self, stack: Stack, faults: Faults, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the stack whose AWS this is and what is to go wrong in it; `clock` measures idle time, in seconds."""
        self._stack = stack
        self._faults = faults
        self._clock = clock
        self._s3 = S3(stack)
        # Beside moto's clusters, not in them: moto's own pages serialise what is in its models.
        self._runners: dict[str, ClusterRunner] = {}
        self.closing = False

    def launch(self, cluster: LocalCluster, settings: Settings, idle_timeout: int | None) -> None:
        """Run a new cluster."""
        masters = [i.ec2_instance_id for i in cluster.ec2_instances if i.instance_group.role == "MASTER"]
        node = Node(self._stack, cluster.id, masters[0] if masters else random_instance_id(), settings)
        runner = ClusterRunner(cluster, node, self._s3, idle_timeout=idle_timeout, clock=self._clock)
        self._runners[cluster.id] = runner
        if self._faults.strikes(CAPACITY):
            runner.terminate(out_of_capacity(str(cluster.master_instance_type), str(cluster.availability_zone)))
        runner.start()

    def lose_instances(self, cluster_id: str) -> None:
        """Take a cluster's instances away under it; InvalidCluster if there is no such cluster."""
        self.runner(cluster_id).terminate(SPOT_LOST, grace=0.0)

    def runner(self, cluster_id: str) -> ClusterRunner:
        """Find a cluster's runner; InvalidCluster if there is no such cluster."""
        if cluster_id not in self._runners:
            raise InvalidCluster(cluster_id)
        return self._runners[cluster_id]

    def close(self, grace: float, timeout: float) -> None:
        """End every cluster: TERM, after `grace` seconds KILL; wait for all of them, `timeout` seconds at most."""
        self.closing = True
        for runner in list(self._runners.values()):
            runner.terminate(STOPPED, grace)
        deadline = time.monotonic() + timeout
        for runner in list(self._runners.values()):
            runner.join(max(0.0, deadline - time.monotonic()))


class _RunningCluster(LocalCluster):
    """A cluster of moto's books, whose end is its runner's matter."""

    emr_backend: LocalBackend

    def terminate(self) -> None:
        self.emr_backend.emr.runner(self.id).terminate()


class _Clusters(dict[str, LocalCluster]):
    """moto's clusters by id; one that is not there is the API's error, not a KeyError and a 500."""

    def __missing__(self, cluster_id: str) -> NoReturn:
        raise InvalidCluster(cluster_id)


class LocalBackend(models.ElasticMapReduceBackend):
    """moto's EMR of one account and region."""

    emr: ClassVar[LocalEmr]
    clusters: _Clusters  # type: ignore[assignment] # of our own class of clusters

    def __init__(self, region_name: str, account_id: str) -> None:
        """Start with no clusters."""
        super().__init__(region_name, account_id)
        self.clusters = _Clusters()

    @property
    def _url_module(self) -> ModuleType:
        return urls  # moto looks for one beside the class's own module

    def add_job_flow_steps(  # type: ignore[override] # of our own class of steps
        self, job_flow_id: str, steps: Sequence[Mapping[str, Any]]
    ) -> list[LocalStep]:
        """Add steps to a living cluster."""
        try:
            return self.emr.runner(job_flow_id).add_steps(steps)
        except ClusterEndedError as error:
            raise ValidationException(CLUSTER_ENDED) from error

    def describe_step(self, cluster_id: str, step_id: str) -> LocalStep:
        """Find a step; moto answers with an empty one where there is none."""
        for step in self.clusters[cluster_id].steps:
            if step.id == step_id:
                return step
        raise InvalidRequestException(f"Step id '{step_id}' is not valid.")

    def list_clusters(
        self,
        cluster_states: list[str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> list[models.Cluster]:
        """List clusters, the newest first, as EMR does."""
        found: list[models.Cluster] = super().list_clusters(cluster_states, created_after, created_before)
        return sorted(found, key=lambda cluster: cluster.creation_datetime, reverse=True)


class LocalResponse(ElasticMapReduceResponse):
    """The API's actions: a method is an action, moto dispatches by its name."""

    backend: LocalBackend  # `install` gives moto this class

    def get_region_from_url(self, request: Request, full_url: str) -> str:
        """Read the region from the request's signature; moto reads EMR's from the host name, here 127.0.0.1."""
        return BaseResponse.get_region_from_url(self, request, full_url)

    def call_action(self) -> TYPE_RESPONSE:
        """Do an action; what neither moto nor we do is refused as an answer, not as a 500."""
        try:
            return super().call_action()
        except NotImplementedError:
            refusal = ValidationException(f"The local EMR does not do this: {self._get_action()}.")
            return self.serialized(ActionResult(refusal))

    def run_job_flow(self) -> ActionResult:
        """Make a cluster, and run it."""
        if self.backend.emr.closing:
            raise ValidationException("The local AWS is being stopped: it takes no more clusters.")
        request = requests.plain(self.params)
        settings = requests.check_run_job_flow(request)
        if fleets := request["Instances"].get("InstanceFleets"):
            self.params["Instances"]["InstanceGroups"] = requests.as_groups(fleets)
        policy = request.get("AutoTerminationPolicy")
        answer: ActionResult = super().run_job_flow()
        cluster = self.backend.clusters[answer.result["JobFlowId"]]  # type: ignore[index] # moto types it as object
        self.backend.emr.launch(cluster, settings, requests.check_idle_timeout(policy) if policy else None)
        return answer

    def add_job_flow_steps(self) -> ActionResult:
        """Add steps."""
        request = requests.plain(self.params)
        if "ExecutionRoleArn" in request:
            raise ValidationException("The local EMR does not do this: ExecutionRoleArn.")
        requests.check_steps(request.get("Steps", []))
        answer: ActionResult = super().add_job_flow_steps()
        return answer

    def cancel_steps(self) -> ActionResult:
        """Cancel steps, pending or running (StepCancellationOption: TERM and later KILL, or KILL at once)."""
        cluster_id = self._get_param("ClusterId")
        runner = self._runner()
        force = self._get_param("StepCancellationOption") == "TERMINATE_PROCESS"
        answers = []
        for step_id in self._get_param("StepIds", []):
            step = self.backend.describe_step(cluster_id, step_id)
            if runner.cancel_step(step, force=force):
                answers.append({"StepId": step_id, "Status": "SUBMITTED"})
            else:
                answers.append({"StepId": step_id, "Status": "FAILED", "Reason": f"The step is {step.state} already."})
        return ActionResult({"CancelStepsInfoList": answers})

    def modify_cluster(self) -> ActionResult:
        """Set how many steps may run at a time."""
        level = requests.check_concurrency(self._get_param("StepConcurrencyLevel", 0))
        self._runner().set_concurrency(level)
        return ActionResult({"StepConcurrencyLevel": level})

    def put_auto_termination_policy(self) -> ActionResult:
        """End the cluster after so many idle seconds."""
        policy = requests.plain(self._get_param("AutoTerminationPolicy", {}))
        self._runner().set_idle_timeout(requests.check_idle_timeout(policy))
        return EmptyResult()

    def get_auto_termination_policy(self) -> ActionResult:
        """Say after how many idle seconds the cluster ends, if it does."""
        seconds = self._runner().idle_timeout
        return ActionResult({"AutoTerminationPolicy": {"IdleTimeout": seconds}} if seconds else {})

    def remove_auto_termination_policy(self) -> ActionResult:
        """Let the cluster live however long it is idle."""
        self._runner().set_idle_timeout(None)
        return EmptyResult()

    def _runner(self) -> ClusterRunner:
        return self.backend.emr.runner(self._get_param("ClusterId"))


def install(emr: LocalEmr) -> None:
    """Put the local EMR in moto's place. Clusters of an EMR that was installed before are forgotten."""
    LocalBackend.emr = emr
    models.Cluster = _RunningCluster  # type: ignore[misc] # the backend makes clusters by this name
    models.emr_backends.clear()
    models.emr_backends.backend = LocalBackend
    urls.url_paths = {"{0}/$": LocalResponse.dispatch}
