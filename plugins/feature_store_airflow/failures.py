"""The ways a run can fail, and how the reason reaches the task that judges the run."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from airflow.sdk import Context
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from airflow.sdk.types import RuntimeTaskInstanceProtocol

# Airflow keeps a task's exception in its log only; under this XCom key the verdict finds it.
FAILURE = "failure"

Execute = TypeVar("Execute", bound=Callable[..., Any])


class FeatureStoreFailure(AirflowFailException):
    """A failure that the same try would meet again: Airflow ends the task at once, whatever `retries` says.

    Everything else (a lost worker, an AWS call that failed for good) is left as it is, and is retried.
    """


class PlanRejected(FeatureStoreFailure):
    """The run's days or its input are not fit; no cluster has been made."""


class ClusterNotMade(AirflowException):
    """There is no cluster for the run, and what there was of one was ended; a try that is left may have better luck."""


class ClusterFailed(FeatureStoreFailure):
    """The cluster ended, or did not become ready in time."""


class StepFailed(FeatureStoreFailure):
    """A step ended in another way than COMPLETED, or did not say what it did."""


class ClusterStillAlive(FeatureStoreFailure):
    """A cluster did not end in time: it may still cost money."""


class OrphansFound(FeatureStoreFailure):
    """Clusters outlived their runs and their idle time; they are being ended."""


class RunIncomplete(FeatureStoreFailure):
    """A task of the run did not do its work."""


def records_failure(execute: Execute) -> Execute:
    """Decorate an operator's `execute`: the message of its exception is left as XCom, and the exception goes on."""

    @wraps(execute)
    def recording(self: object, context: Context) -> object:
        try:
            return execute(self, context)
        except (AirflowRescheduleException, AirflowSkipException):
            raise
        except (Exception, AirflowTaskTimeout) as error:
            context["ti"].xcom_push(key=FAILURE, value=f"{error}" or type(error).__name__)
            raise

    return cast(Execute, recording)


def failure_of(ti: RuntimeTaskInstanceProtocol, task_id: str) -> str | None:
    """Return why a task of this run failed; None where it could not say so itself (a killed worker)."""
    reason: str | None = ti.xcom_pull(task_ids=task_id, key=FAILURE)
    return reason
