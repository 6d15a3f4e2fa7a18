"""What the operators ask EMR about steps; every function takes a boto3 EMR client."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient
    from mypy_boto3_emr.literals import StepStateType
    from mypy_boto3_emr.type_defs import StepStatusTypeDef, StepSummaryTypeDef

LIVE: tuple[StepStateType, ...] = ("PENDING", "RUNNING")
ENDED: tuple[StepStateType, ...] = ("COMPLETED", "CANCELLED", "FAILED", "INTERRUPTED")


def describe_step(emr: EMRClient, cluster_id: str, step_id: str) -> StepStatusTypeDef:
    """Return a step's Status."""
    return emr.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]["Status"]


def list_steps(emr: EMRClient, cluster_id: str) -> list[StepSummaryTypeDef]:
    """Return all steps of a cluster, newest first."""
    pages = emr.get_paginator("list_steps").paginate(ClusterId=cluster_id)
    return [step for page in pages for step in page["Steps"]]


def cancel_step(emr: EMRClient, cluster_id: str, step_id: str) -> None:
    """Cancel a step, with the processes that it has started; one that has ended stays as it is."""
    emr.cancel_steps(ClusterId=cluster_id, StepIds=[step_id], StepCancellationOption="TERMINATE_PROCESS")
