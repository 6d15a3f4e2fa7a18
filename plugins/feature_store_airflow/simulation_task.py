"""A command of the simulation, run as a task of ECS on Fargate: the provider's operator, with our own failures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.exceptions import EcsOperatorError
from airflow.providers.amazon.aws.hooks.logs import AwsLogsHook
from airflow.providers.amazon.aws.operators.ecs import EcsRunTaskOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferralError, TaskDeferralTimeout
from botocore.exceptions import ClientError, WaiterError

from feature_store_airflow.failures import SimulationFailed, WatchFailed, records_failure
from feature_store_airflow.links import SimulationReportLink
from feature_store_airflow.settings import POLL_SECONDS, setting
from feature_store_airflow.simulation import CHOOSE, NAME, START_WITHIN, length
from feature_store_airflow.triggers import DEFERRABLE, TaskTrigger, check_event, describe_task

CONTAINER = "simulation"
LOG_PREFIX = "run"
ARN = "ecs_task_arn"  # the XCom in which the provider leaves the task
# What a task takes beside its plan: to get its place on Fargate, to pull its image, to write its last samples.
BESIDE = timedelta(minutes=10)
LOG_EVERY = timedelta(seconds=5)
LATE = "Max attempts exceeded"  # what botocore says of a wait that was over; all else is that it could not look


class SimulationTaskOperator(EcsRunTaskOperator):
    """Run one command in the simulation's container, and wait for its end.

    Args:
        command: its words, templates; a word that is empty once it is rendered is left out.
        of_plan: whether it takes as long as the plan of the run; else the time beside it has to do.
        worker: the number that Airflow maps the task over; the command takes it from the task's index.
        poll_seconds: seconds between two looks, a template.
        deferrable: wait in Airflow's triggerer; by default what `[operators] default_deferrable` says.
    """

    template_fields: Sequence[str] = (*EcsRunTaskOperator.template_fields, "poll_seconds")
    operator_extra_links = (SimulationReportLink(),)

    def __init__(
        self,
        *,
        command: Sequence[str],
        of_plan: bool = False,
        worker: int | None = None,
        poll_seconds: str = POLL_SECONDS,
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,  # noqa: ANN401 - whatever BaseOperator takes
    ) -> None:
        """Make the task."""
        network = {
            "subnets": [setting(f"simulation.subnet_ids[{each}]") for each in (0, 1)],
            "securityGroups": [setting("simulation.security_group")],
            "assignPublicIp": "DISABLED",
        }
        super().__init__(
            **{
                "cluster": setting("simulation.cluster"),
                "task_definition": setting("simulation.task_definition"),
                "overrides": {"containerOverrides": [{"name": CONTAINER, "command": list(command)}]},
                "launch_type": "FARGATE",
                "network_configuration": {"awsvpcConfiguration": network},
                "container_name": CONTAINER,
                "awslogs_group": setting("simulation.log_group"),
                "awslogs_region": setting("region"),
                "awslogs_stream_prefix": f"{LOG_PREFIX}/{CONTAINER}",
                "awslogs_fetch_interval": LOG_EVERY,
                **kwargs,
            },
            # The provider's trigger stops no task whose Airflow task was killed.
            deferrable=False,
        )
        self.of_plan = of_plan
        self.worker = worker
        self.poll_seconds = poll_seconds
        self.defers = deferrable
        self._killed = False

    @records_failure
    def execute(self, context: Context) -> str | None:
        """Run the task of ECS; the last line of its log.

        Raises:
            SimulationFailed: it did not start, did not end in time, or its command failed.
            AirflowSkipException: there is no simulation, as no name was chosen.
        """
        if not context["ti"].xcom_pull(task_ids=CHOOSE, key=NAME):
            raise AirflowSkipException(f"{CHOOSE} has chosen no name: there is nothing to do.")
        (override,) = self.overrides["containerOverrides"]
        override["command"] = [word for word in override["command"] if word]
        within = (length(context["params"]) + START_WITHIN if self.of_plan else timedelta()) + BESIDE
        self.waiter_delay = max(1, math.ceil(float(self.poll_seconds)))
        self.waiter_max_attempts = math.ceil(within.total_seconds() / self.waiter_delay)
        self.wait_for_completion = not self.defers
        try:
            last: str | None = super().execute(context)  # type: ignore[no-untyped-call] # the provider's
        except EcsOperatorError as error:
            raise SimulationFailed(
                f"ECS started no task: {error}\nNext: see what it lacks (capacity of Fargate, the cluster and the task "
                "definition of the Variable feature_store), then trigger the simulation again."
            ) from error
        except WaiterError as error:
            if self.task_log_fetcher:
                self.task_log_fetcher.join()  # the provider has told it to stop, and does not wait for it
            late = f"{error.kwargs['reason']}".startswith(LATE)
            raise self._stopped(f"did not end within {within}" if late else f"can't be watched ({error})") from error
        if not self.defers:
            return last
        hook = {"aws_conn_id": self.aws_conn_id, "region_name": self.region_name}
        return self.defer(
            trigger=TaskTrigger(
                cluster=self.cluster, task_arn=f"{self.arn}", poll_seconds=float(self.waiter_delay), hook=hook
            ),
            method_name="resume",
            kwargs={"arn": self.arn},
            timeout=within,
        )

    def resume(self, context: Context, event: Mapping[str, str], arn: str) -> str | None:  # noqa: ARG002 - Airflow's interface
        """Go on after the wait in the triggerer."""
        self.arn = arn
        try:
            check_event(event)
        except WatchFailed as error:
            raise self._stopped(f"can't be watched ({error})") from error
        return self._conclude()

    @records_failure
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:  # noqa: ANN401 - as Airflow's
        """Go on; what Airflow calls, also when the triggerer's time is over, or the trigger itself has failed."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralTimeout, TaskDeferralError) as error:
            # Airflow has kept nothing of what was to be resumed.
            ti = context["ti"]
            self.arn = ti.xcom_pull(task_ids=ti.task_id, key=ARN, map_indexes=ti.map_index)
            if self._look().get("lastStatus", "STOPPED") == "STOPPED":  # while there was no triggerer to see it
                return self._conclude()
            late = isinstance(error, TaskDeferralTimeout)
            raise self._stopped("did not end in time" if late else f"can't be watched ({error})") from error

    def on_kill(self) -> None:
        """Stop the task of ECS: nobody is to measure, and to load the store, for a run that is given up."""
        # Airflow calls this from its signal handler and lets the task go on: one that is just being started is stopped
        # by _start_task.
        self._killed = True
        super().on_kill()

    def _start_task(self) -> None:
        super()._start_task()  # type: ignore[no-untyped-call] # the provider's
        if self._killed:
            self.on_kill()

    def _conclude(self) -> str | None:
        last = self._show_log()
        self._check_success_task()
        return last

    def _check_success_task(self) -> None:
        """See how the task of ECS ended, in place of the provider's own way, which fails where there is no log."""
        task = self._look()
        if task.get("stopCode") == "TaskFailedToStart" or _exit_codes(task) != [0]:
            raise SimulationFailed(f"{self._how_it_ended(task)}\nNext: {self._next()}")

    def _how_it_ended(self, task: Mapping[str, Any]) -> str:
        said = f"The task {self._get_ecs_task_id(self.arn)} of ECS"
        if task.get("stopCode") == "TaskFailedToStart":
            return f"{said} did not start: {task.get('stoppedReason', '')}"
        codes = _exit_codes(task)
        code = f"exit code {codes[0]}" if codes else "no exit code"
        lines = "\n".join(self._last_lines())
        return f"{said} ended with {code} ({task.get('stoppedReason', 'it is not there any more')}).\n{lines}".rstrip()

    @property
    def _ecs(self) -> Any:  # noqa: ANN401 - declared by the provider as a function
        return self.client

    def _look(self) -> dict[str, Any]:
        return describe_task(self._ecs, self.cluster, f"{self.arn}")

    def _last_lines(self) -> list[str]:
        try:
            return self._get_task_log_fetcher().get_last_log_messages(self.number_logs_exception)
        except ClientError as error:
            # The log explains a failure; that it can't be read must not hide the failure itself.
            return [f"(its log can't be read: {error})"]

    def _show_log(self) -> str | None:
        """Write the log of the task of ECS into that of this task, and return its last line."""
        hook = AwsLogsHook(aws_conn_id=self.aws_conn_id, region_name=self.awslogs_region)
        last = None
        try:
            for event in hook.get_log_events(f"{self.awslogs_group}", self._get_logs_stream_name()):
                last = event["message"]
                self.log.info("%s", last)
        except ClientError as error:
            # There is none of a task that did not start: how it ended says why.
            self.log.warning("The log of the task of ECS can't be read: %s", error)
        return last

    def _stopped(self, what: str) -> SimulationFailed:
        """Stop a task that is not over when it should be; what to raise."""
        end = "was stopped"
        try:
            self._ecs.stop_task(cluster=self.cluster, task=self.arn, reason="Its task in Airflow has failed")
        except ClientError as error:
            end = f"could not be stopped ({error}): see in the console of ECS whether it still runs"
        return SimulationFailed(
            f"The task {self._get_ecs_task_id(self.arn)} of ECS {what}, and {end}.\nNext: {self._next()}"
        )

    @staticmethod
    def _next() -> str:
        return (
            "see the log of this task; the report names what is missing. Then trigger the simulation again: a task of "
            "it that is cleared alone finds its name used."
        )


def _exit_codes(task: Mapping[str, Any]) -> list[int]:
    return [each["exitCode"] for each in task.get("containers", []) if "exitCode" in each]
