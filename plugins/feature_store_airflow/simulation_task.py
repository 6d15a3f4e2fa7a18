"""A command of the simulation, run as a task of ECS on Fargate: the provider's operator, with our own failures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.exceptions import EcsOperatorError, EcsTaskFailToStart
from airflow.providers.amazon.aws.hooks.logs import AwsLogsHook
from airflow.providers.amazon.aws.operators.ecs import EcsRunTaskOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowSkipException, TaskDeferralTimeout
from botocore.exceptions import WaiterError

from feature_store_airflow.failures import SimulationFailed, records_failure
from feature_store_airflow.links import SimulationReportLink
from feature_store_airflow.settings import POLL_SECONDS, setting
from feature_store_airflow.simulation import CHOOSE, NAME, START_WITHIN, length
from feature_store_airflow.triggers import DEFERRABLE, TaskTrigger, check_event

CONTAINER = "simulation"
LOG_PREFIX = "run"
ARN = "ecs_task_arn"  # the XCom in which the provider leaves the task
# What a task takes beside its plan: to get its place on Fargate, to pull its image, to write its last samples.
BESIDE = timedelta(minutes=10)
LOG_EVERY = timedelta(seconds=5)


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
        self.waiter_delay = max(1, int(self.poll_seconds))
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
            raise self._too_long(within) from error
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
        check_event(event)
        self.arn = arn
        lines = self._show_log()
        self._check_success_task()
        return lines[-1] if lines else None

    @records_failure
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:  # noqa: ANN401 - as Airflow's
        """Go on; what Airflow calls, also when the triggerer's time is over."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            ti = context["ti"]
            self.arn = ti.xcom_pull(task_ids=ti.task_id, key=ARN, map_indexes=ti.map_index)
            raise self._too_long(None) from error

    def _check_success_task(self) -> None:
        """See how the task of ECS ended, as the provider does; say it in this project's words."""
        try:
            super()._check_success_task()
        except (AirflowException, EcsTaskFailToStart) as error:
            raise SimulationFailed(f"{self._how_it_ended()}\nNext: {self._next()}") from error

    def _how_it_ended(self) -> str:
        (task,) = self._ecs.describe_tasks(cluster=self.cluster, tasks=[self.arn])["tasks"] or [{}]
        said = f"The task {self._get_ecs_task_id(self.arn)} of ECS"
        if task.get("stopCode") == "TaskFailedToStart":
            return f"{said} did not start: {task.get('stoppedReason', '')}"
        codes = [each["exitCode"] for each in task.get("containers", []) if "exitCode" in each]
        code = f"exit code {codes[0]}" if codes else "no exit code"
        lines = "\n".join(self._last_lines())
        return f"{said} ended with {code} ({task.get('stoppedReason', 'it is not there any more')}).\n{lines}".rstrip()

    @property
    def _ecs(self) -> Any:  # noqa: ANN401 - declared by the provider as a function
        return self.client

    def _last_lines(self) -> list[str]:
        return self._get_task_log_fetcher().get_last_log_messages(self.number_logs_exception)

    def _show_log(self) -> list[str]:
        """Write the log of the task of ECS into that of this task, and return its lines."""
        hook = AwsLogsHook(aws_conn_id=self.aws_conn_id, region_name=self.awslogs_region)
        events = hook.get_log_events(f"{self.awslogs_group}", self._get_logs_stream_name())
        lines = [event["message"] for event in events]
        for line in lines:
            self.log.info("%s", line)
        return lines

    def _too_long(self, within: timedelta | None) -> SimulationFailed:
        """Stop a task that is not over when it should be; what to raise."""
        self._ecs.stop_task(cluster=self.cluster, task=self.arn, reason="It took longer than its plan")
        took = f"within {within}" if within else "in time"
        return SimulationFailed(
            f"The task {self._get_ecs_task_id(self.arn)} of ECS did not end {took}, and was stopped.\n"
            f"Next: {self._next()}"
        )

    @staticmethod
    def _next() -> str:
        return (
            "see the log of this task; the report names what is missing. Then trigger the simulation again: a task of "
            "it that is cleared alone finds its name used."
        )
