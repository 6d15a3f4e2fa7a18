"""The waits of deferred tasks: Airflow's triggerer looks on, many tasks in one process, while no worker is taken.

Each trigger looks at one thing until there is something for its task to do, and then fires one event. What that is the
task finds out by itself when it is resumed, with the code that it has for its polling mode: an event only wakes it. So
a wait may end too early, but nothing depends on what the triggerer has seen. How long to wait is Airflow's matter (the
`timeout` of the deferral, which its scheduler watches also while there is no triggerer).

The provider's own triggers are not used: the one for a cluster waits for its end whatever states are wanted, none takes
its delay from a setting, and none cancels a step whose task was killed.

The triggerer imports this module from the plugins folder; it loads no DAG.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from functools import cached_property
from typing import Any, ClassVar

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.hooks.ecs import EcsHook
from airflow.providers.amazon.aws.hooks.emr import EmrHook
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk.configuration import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent
from botocore.exceptions import BotoCoreError, ClientError

from feature_store.calendar import parse_day
from feature_store_airflow.aws import emr_client
from feature_store_airflow.causes import may_pass
from feature_store_airflow.clusters import describe_cluster
from feature_store_airflow.failures import PlanRejected, WatchFailed
from feature_store_airflow.landing import landed_for
from feature_store_airflow.steps import ENDED, cancel_step, describe_step

# What an operator does that is not told otherwise: the deployment's own choice, as for the provider's operators.
DEFERRABLE: bool = conf.getboolean("operators", "default_deferrable", fallback=False)

LONGEST_PAUSE = 300.0  # seconds, between two looks that AWS did not answer
SEEN, ERROR = "seen", "error"
# Looks after which a task is taken for lost that ECS does not know: it may not know one yet that it has just started.
UNKNOWN_LOOKS = 5


def check_event(event: Mapping[str, str]) -> None:
    """Check, in a task that is resumed, that its trigger could see what it was to look at.

    Raises:
        WatchFailed: it could not.
    """
    if ERROR in event:
        raise WatchFailed(
            f"The triggerer could not look on: {event[ERROR]}\nNext: if a retry does not cure it, see what AWS refuses "
            "to Airflow's triggerer (its role, its network), then clear the run."
        )


class AwsTrigger(BaseTrigger):
    """Look at something of AWS every `poll_seconds`, until there is something to say of it.

    What AWS does not answer, or refuses for now (throttling, a fault of its own), is asked again, each time after
    twice as long; what it refuses for good wakes the task, which fails by it (see check_event).

    A look is a blocking call in a thread: so it is the same code that the operators run.

    Args:
        poll_seconds: seconds between two looks.
        hook: the arguments of the provider's hook (connection, region, certificates, botocore's settings).
    """

    hook_class: ClassVar[type[AwsBaseHook]]

    def __init__(self, *, poll_seconds: float, hook: Mapping[str, Any], **watched: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Take what to look at, in `watched`: JSON values, as a trigger is kept in Airflow's database."""
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's
        self.poll_seconds = poll_seconds
        self.hook_arguments = hook
        self.watched = watched

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and what makes an equal trigger."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {"poll_seconds": self.poll_seconds, "hook": self.hook_arguments, **self.watched}

    @cached_property
    def hook(self) -> Any:  # noqa: ANN401 - an instance of hook_class
        """The provider's hook, with a client that is made at the first look."""
        return self.hook_class(**self.hook_arguments)

    @abstractmethod
    def look(self) -> str | None:
        """Look once; what the task is to be woken for, or None to look again later."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is an event, and yield it."""
        unanswered = 0
        while True:
            try:
                seen = await asyncio.to_thread(self.look)
            except (BotoCoreError, ClientError) as error:
                if not may_pass(error):
                    yield _event(ERROR, f"{error}")
                    return
                unanswered += 1
                self.log.warning("%s; asking again in %g s.", error, self._pause(unanswered))
            else:
                if seen is not None:
                    yield _event(SEEN, seen)
                    return
                unanswered = 0
            await asyncio.sleep(self._pause(unanswered))

    def _pause(self, unanswered: int) -> float:
        """Return the seconds until the next look: the setting, doubled for each look in turn that had no answer."""
        # The exponent has a limit, as a float has.
        longer = self.poll_seconds * 2.0 ** min(unanswered, 20)
        return longer if longer < LONGEST_PAUSE else max(self.poll_seconds, LONGEST_PAUSE)


def describe_task(ecs: Any, cluster: str, arn: str) -> dict[str, Any]:  # noqa: ANN401 - a client of boto3
    """Return a task as ECS describes it; empty if ECS does not know it: not yet, or an hour after its end."""
    found: list[dict[str, Any]] = ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"]
    return found[0] if found else {}


def _event(kind: str, text: str) -> TriggerEvent:
    return TriggerEvent({kind: text})  # type: ignore[no-untyped-call] # Airflow's


class EndingTrigger(AwsTrigger):
    """Wait for the end of what is to end with its task: if that is killed meanwhile, this ends it."""

    kind: ClassVar[str]  # of what it waits for: with its name, how the log names it

    def __init__(self, name: str, **more: Any) -> None:  # noqa: ANN401 - as AwsTrigger
        """Take the name of what it waits for, by which AWS knows it."""
        super().__init__(**more)
        self._name = name
        self._shown = ""

    @abstractmethod
    def abandon(self) -> None:
        """End it."""

    def show(self, state: str) -> None:
        """Log a state that is another one than before."""
        if state != self._shown:
            self._shown = state
            self.log.info("%s %s: %s", self.kind.capitalize(), self._name, state)

    async def on_kill(self) -> None:
        """End it: someone has marked its task, or cleared it, while it was deferred.

        Not called when the triggerer stops: its triggers go on in another one, or when it is back. A triggerer that
        comes late to that (it did not answer for a while, and another has taken its triggers over) takes each of them
        for killed; the task's state tells. What is missed here (its task was killed before a triggerer had begun to
        look, or was cleared and is deferred again) is ended by the task that is done anew, or ends by itself: a step
        with the cluster of its run, a task of ECS with its plan.
        """
        if await asyncio.to_thread(self._is_deferred):
            self.log.info(
                "The task is deferred still, or again: %s %s is not this trigger's any more.", self.kind, self._name
            )
            return
        await asyncio.to_thread(self.abandon)

    def _is_deferred(self) -> bool:
        # Only a process that runs tasks or triggers can ask, and has this imported.
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: PLC0415

        ti: Any = self.task_instance
        states = RuntimeTaskInstance.get_task_states(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
        return "deferred" in states.get(ti.run_id, {}).values()


class StepTrigger(EndingTrigger):
    """Wait for a step's end; cancel it if its task is killed meanwhile."""

    kind = "step"
    hook_class = EmrHook

    def __init__(self, *, cluster_id: str, step_id: str, **more: Any) -> None:  # noqa: ANN401 - as AwsTrigger
        """Take the step."""
        super().__init__(step_id, cluster_id=cluster_id, step_id=step_id, **more)
        self.cluster_id, self.step_id = cluster_id, step_id

    def look(self) -> str | None:
        """Return the state of a step that has ended."""
        state = describe_step(emr_client(self.hook), self.cluster_id, self.step_id)["State"]
        self.show(state)
        return state if state in ENDED else None

    def abandon(self) -> None:
        """Cancel the step."""
        self.log.info("The task was killed: cancelling step %s of %s.", self.step_id, self.cluster_id)
        cancel_step(emr_client(self.hook), self.cluster_id, self.step_id)


class TaskTrigger(EndingTrigger):
    """Wait for the end of a task of ECS; stop it if its task in Airflow is killed meanwhile."""

    kind = "task"
    hook_class = EcsHook  # type: ignore[assignment] # declared as generic, and is one of them

    def __init__(self, *, cluster: str, task_arn: str, **more: Any) -> None:  # noqa: ANN401 - as AwsTrigger
        """Take the task."""
        super().__init__(task_arn, cluster=cluster, task_arn=task_arn, **more)
        self.cluster, self.task_arn = cluster, task_arn
        self._unknown = 0

    def look(self) -> str | None:
        """Return the state of a task that has ended, or that ECS does not know."""
        found = describe_task(self.hook.conn, self.cluster, self.task_arn)
        status: str = found.get("lastStatus", "MISSING")
        self._unknown = 0 if found else self._unknown + 1
        self.show(status)
        return status if status == "STOPPED" or self._unknown >= UNKNOWN_LOOKS else None

    def abandon(self) -> None:
        """Stop the task."""
        self.log.info("The task was killed: stopping %s.", self.task_arn)
        self.hook.conn.stop_task(cluster=self.cluster, task=self.task_arn, reason="Its task was killed")


class ClusterTrigger(AwsTrigger):
    """Wait until each of some clusters is in one of some states, or is none that EMR knows."""

    hook_class = EmrHook

    def __init__(self, *, cluster_ids: list[str], states: list[str], **more: Any) -> None:  # noqa: ANN401 - as AwsTrigger
        """Take the clusters, and the states."""
        super().__init__(cluster_ids=cluster_ids, states=states, **more)
        self.cluster_ids, self.states = cluster_ids, states
        self._shown: list[str] = []

    def look(self) -> str | None:
        """Return the clusters' states when all are among those that are wanted."""
        found = [describe_cluster(emr_client(self.hook), cluster_id) for cluster_id in self.cluster_ids]
        states = [cluster["Status"]["State"] if cluster else "unknown" for cluster in found]
        if states != self._shown:
            self._shown = list(states)
            self.log.info("%s: %s", ", ".join(self.cluster_ids), ", ".join(states))
        return ", ".join(states) if {*states} <= {*self.states, "unknown"} else None


class LandingTrigger(AwsTrigger):
    """Wait until a CSV has landed that can hold the whole of a day."""

    hook_class = S3Hook

    def __init__(self, *, bucket: str, day: str, **more: Any) -> None:  # noqa: ANN401 - as AwsTrigger
        """Take the bucket, and the ISO day."""
        super().__init__(bucket=bucket, day=day, **more)
        self.bucket, self.day = bucket, day

    def look(self) -> str | None:
        """Return the key of such a CSV, or what is wrong with one: the task finds out the same, and refuses it."""
        try:
            return landed_for(self.hook, self.bucket, parse_day(self.day))
        except PlanRejected as error:
            return f"{error}"
