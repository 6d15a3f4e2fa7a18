"""moto's EMR cluster and step as data only: what moto fakes at once is here done by the runner, in its own time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from moto.core.utils import utcnow
from moto.emr import models

LIVE = frozenset({"STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"})


@dataclass(frozen=True)
class Ending:
    """Why and how a cluster ends.

    Attributes:
        code: of EMR's ClusterStateChangeReason.
        message: of the same.
        state: that the cluster ends in.
        steps: the state in which a step ends that it breaks off.
        details: EMR's ErrorDetails, which only some errors have.
    """

    code: str
    message: str
    state: str = "TERMINATED_WITH_ERRORS"
    steps: str = "INTERRUPTED"
    details: tuple[Mapping[str, Any], ...] = ()


BY_USER = Ending("USER_REQUEST", "Terminated by user request", "TERMINATED")
STEPS_DONE = Ending("ALL_STEPS_COMPLETED", "Steps completed", "TERMINATED")
STEP_FAILED = Ending("STEP_FAILURE", "Shut down as step failed")
CRASHED = Ending("INTERNAL_ERROR", "The local EMR failed: its log has the reason")
STOPPED = Ending("INTERNAL_ERROR", "The local AWS was stopped")


class LocalStep(models.Step):
    """A step; it waits until the runner starts it."""

    end_date_time: datetime | None  # type: ignore[assignment] # moto declares it None: its steps never end

    def __init__(
        self, name: str, hadoop_jar_step: dict[str, Any], action_on_failure: str = "TERMINATE_CLUSTER"
    ) -> None:
        """Take a step of a request; every one is PENDING at first (moto's first is RUNNING, and stays so)."""
        super().__init__("PENDING", name, hadoop_jar_step, action_on_failure)
        self.cancel_asked = False
        self.failure_details: dict[str, str] = {}

    def start(self) -> None:
        """Do nothing: moto would stamp a start time on a step that waits."""

    def begin(self) -> None:
        """Bring the step from waiting to running."""
        self.start_date_time = utcnow()
        self.state = "RUNNING"

    def settle(self, state: str) -> None:
        """Bring the step to its end."""
        self.end_date_time = utcnow()
        self.state = state

    @property
    def status(self) -> dict[str, Any]:
        """The Status of DescribeStep and ListSteps, with FailureDetails as EMR gives them."""
        status: dict[str, Any] = super().status
        return {**status, "FailureDetails": self.failure_details} if self.failure_details else status


class LocalCluster(models.Cluster):
    """A cluster; its runner moves its state."""

    steps: list[LocalStep]  # type: ignore[assignment] # moto declares the parent's; `add_steps` is the only one that adds

    state_change_code = ""
    last_state_change_reason = ""
    error_details: Sequence[Mapping[str, Any]] = ()

    def run_bootstrap_actions(self) -> None:
        """Do nothing: moto would say WAITING before anything has run."""

    def add_steps(self, steps: Sequence[Mapping[str, Any]]) -> list[LocalStep]:  # type: ignore[override] # wider and narrower
        """Add steps of a request, all PENDING."""
        added = [LocalStep(**step) for step in steps]
        self.steps.extend(added)
        return added

    def end(self, state: str) -> None:
        """Bring the cluster and its instances to their end."""
        self.end_datetime = utcnow()
        for group in self.instance_groups:
            group.state, group.end_date_time = "TERMINATED", self.end_datetime
        self.state = state

    @property
    def status(self) -> dict[str, Any]:
        """The Status of DescribeCluster and ListClusters, with the code and the details that moto leaves out."""
        status: dict[str, Any] = super().status
        reason = {"Code": self.state_change_code, "Message": self.last_state_change_reason}
        status["StateChangeReason"] = reason if self.state_change_code else {}
        return {**status, "ErrorDetails": list(self.error_details)} if self.error_details else status
