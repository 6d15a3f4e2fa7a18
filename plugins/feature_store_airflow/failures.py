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
    DagRunTriggerException,
    DownstreamTasksSkipped,
)
from airflow.sdk.types import RuntimeTaskInstanceProtocol
from botocore.exceptions import BotoCoreError, ClientError

from feature_store_airflow.causes import may_pass

# Airflow keeps a task's exception in its log only; under this XCom key the verdict finds it.
FAILURE = "failure"

Execute = TypeVar("Execute", bound=Callable[..., Any])


class FeatureStoreFailure(AirflowFailException):
    """A failure that the same try would meet again: Airflow ends the task at once, whatever `retries` says.

    Everything else is retried: a lost worker, what AWS does not answer or refuses for now, and the failures here that
    are plain AirflowExceptions. What AWS says no to for good becomes one of these (records_failure); which is which,
    causes.py knows.
    """


class AwsRefused(FeatureStoreFailure):
    """AWS says no, and would say so again."""


class PlanRejected(FeatureStoreFailure):
    """The run's days or its input are not fit; no cluster has been made."""


class ClusterNotMade(AirflowException):
    """There is no cluster for the run, and what there was of one was ended; a try that is left may have better luck."""


class ClusterRefused(FeatureStoreFailure):
    """AWS makes no cluster as it is asked for, and would make none at the next try; what there was of one was ended."""


class ClusterLost(AirflowException):
    """The cluster ended for a cause that may pass; a try that is left asks for another one."""


class ClusterFailed(FeatureStoreFailure):
    """The cluster ended, or did not become ready in time."""


class StepFailed(FeatureStoreFailure):
    """A step ended in another way than COMPLETED, or did not say what it did."""


class ClusterStillAlive(FeatureStoreFailure):
    """A cluster did not end in time: it may still cost money."""


class OutlookFailed(AirflowException):
    """What there is of a run's days can't be told."""


class OrphansFound(FeatureStoreFailure):
    """Clusters outlived their runs and their idle time; they are being ended."""


class MeasureFailed(AirflowException):
    """A number that an alarm looks at could not be taken."""


class WatchFailed(AirflowException):
    """Airflow's triggerer could not look at what a deferred task waits for."""


class SimulationFailed(FeatureStoreFailure):
    """A task of a simulation did not start, did not end in time, or its command failed."""


class RunIncomplete(FeatureStoreFailure):
    """A task of the run did not do its work."""


def records_failure(execute: Execute) -> Execute:
    """Decorate an operator's `execute`, or `resume_execution`: the message of its exception is left as XCom.

    The exception goes on; only an error of AWS that no retry would cure becomes an AwsRefused.
    """

    @wraps(execute)
    def recording(self: object, *arguments: Any, **named: Any) -> object:  # noqa: ANN401 - the arguments of either
        # Of both it is the last one.
        context: Context = named["context"] if "context" in named else arguments[-1]
        try:
            return _telling_refusals(execute, self, *arguments, **named)
        except (AirflowRescheduleException, AirflowSkipException, DagRunTriggerException, DownstreamTasksSkipped):
            raise  # by these a task tells Airflow what to do: it has not failed
        except (Exception, AirflowTaskTimeout) as error:
            context["ti"].xcom_push(key=FAILURE, value=f"{error}" or type(error).__name__)
            raise

    return cast(Execute, recording)


def _telling_refusals(execute: Callable[..., Any], *arguments: Any, **named: Any) -> object:  # noqa: ANN401 - as above
    try:
        return execute(*arguments, **named)
    except (BotoCoreError, ClientError) as error:
        if may_pass(error):
            raise
        raise AwsRefused(
            f"{error}\nNext: correct what AWS refuses (the rights of Airflow's role, the connection aws_default, the "
            "Variable feature_store), then clear the run."
        ) from error


def failure_of(ti: RuntimeTaskInstanceProtocol, task_id: str, map_index: int = -1) -> str | None:
    """Return why a task of this run failed; None where it could not say so itself (a killed worker)."""
    reason: str | None = ti.xcom_pull(task_ids=task_id, key=FAILURE, map_indexes=map_index)
    return reason
