"""The work tasks of a pipeline: one task, one EMR step, one Spark job."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.operators.emr import EmrAddStepsOperator
from airflow.sdk import BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferralTimeout

from feature_store_airflow import clusters, steps
from feature_store_airflow.aws import emr_client
from feature_store_airflow.clusters import describe_cluster, state_and_reason
from feature_store_airflow.failures import StepFailed, records_failure
from feature_store_airflow.links import STEP, StepStderrLink, StepStdoutLink
from feature_store_airflow.logs import step_logs
from feature_store_airflow.settings import POLL_SECONDS, READY_CLUSTER_ID, RUN, STEP_NAME, TRY_MARK, Span, setting
from feature_store_airflow.step_failure import Evidence, explain
from feature_store_airflow.summary import delete_summary, read_summary
from feature_store_airflow.triggers import DEFERRABLE, StepTrigger, check_event

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.openlineage.extractors import OperatorLineage
    from mypy_boto3_emr.type_defs import StepStatusTypeDef

# Where EMR/emr_bootstrap_script.sh puts the release on each node.
NODE_FOLDER = "/home/hadoop/feature-store"
TAKEN_OVER = (*steps.LIVE, "COMPLETED")


def script(job: str) -> str:
    """Name the script of a job on the nodes."""
    return f"{NODE_FOLDER}/spark_jobs/{job}.py"


def spark_submit(job: str, arguments: Sequence[str], *, summary: str) -> dict[str, Any]:
    """Return the EMR step that runs spark_jobs/<job>.py, with templates in its strings."""
    return {
        "Name": STEP_NAME,
        # Airflow owns the graph: a failed step fails its task, and the teardown ends the cluster.
        "ActionOnFailure": "CONTINUE",
        "HadoopJarStep": {
            "Jar": "command-runner.jar",
            "Args": [
                "spark-submit",
                *("--deploy-mode", "client"),
                *("--name", STEP_NAME),
                *("--py-files", f"{NODE_FOLDER}/code.zip"),
                script(job),
                *arguments,
                *("--summary", summary),
            ],
        },
    }


def of_views(arguments: Sequence[str], views: Collection[str]) -> list[str]:
    """Leave out of a job's arguments the views that are none of these, each with its `--...-version`s."""
    kept: list[str] = []
    left_out = False
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if option == "--view":
            left_out = value not in views
        elif option.startswith("--") and not option.endswith("-version"):
            left_out = False
        if not left_out:
            kept.append(option)
    return kept


class StepOperator(EmrAddStepsOperator):
    """Run one job as one step on the run's cluster, follow it to its end and return its summary.

    A step that has ended badly fails the task for good (StepFailed), as the same data and code would fail again. Any
    other error (a lost worker, AWS that does not answer) is retried, and the retry takes the step that is there; if
    that turns out to be one that was being cancelled, it submits it anew. A step of the task that is still at work from
    before a clear is cancelled first: its task was killed without a chance to do so.

    Args:
        job: the name of the script in spark_jobs/, without its suffix.
        arguments: the job's own arguments, with templates.
        poll_seconds: seconds between two looks, a template.
        span: the days that it is of, and the folder for its summary.
        deferrable: wait in Airflow's triggerer; by default what `[operators] default_deferrable` says. Either way the
            step is cancelled, and the task fails, when `execution_timeout` has gone by since the try has begun.
    """

    template_fields: Sequence[str] = (
        *EmrAddStepsOperator.template_fields,
        "summary",
        "start",
        "end",
        "poll_seconds",
        "online",
    )
    # The step's arguments have strings that end in .json: values, not files to read.
    template_ext: Sequence[str] = ()
    operator_extra_links: Sequence[BaseOperatorLink] = (  # type: ignore[assignment] # the provider gives a tuple of two
        StepStderrLink(),
        StepStdoutLink(),
        *EmrAddStepsOperator.operator_extra_links,
    )

    job_flow_id: str
    steps: list[dict[str, Any]]

    def __init__(
        self,
        *,
        job: str,
        arguments: Sequence[str],
        span: Span = RUN,
        poll_seconds: str = POLL_SECONDS,
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,  # noqa: ANN401 - whatever BaseOperator takes
    ) -> None:
        """Make the task; everything else is an ordinary operator argument."""
        summary = f"{span.folder}/{job}.json"
        super().__init__(
            **{"job_flow_id": READY_CLUSTER_ID, **kwargs},
            steps=[spark_submit(job, arguments, summary=summary)],
            # The provider's wait ends after an hour by default and can't take its delay from a setting; nor can its
            # trigger, which cancels nothing either.
            wait_for_completion=False,
            deferrable=False,
        )
        self.summary = summary
        self.start = span.start
        self.end = span.end
        self.poll_seconds = poll_seconds
        self.online = f"{setting('keyspaces.host')}:{setting('keyspaces.port')}"
        self.defers = deferrable
        self._job = job
        self._did: dict[str, Any] | None = None
        self._step_id = ""
        self._killed = False

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Resolve the templates: of the run's views alone, as no step before has said anything of the others."""
        if views := context["ti"].xcom_pull(task_ids="plan").get("views"):
            jar = self.steps[0]["HadoopJarStep"]
            jar["Args"] = of_views(jar["Args"], views)
        super().render_template_fields(context, jinja_env)

    @records_failure
    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override] # the summary, not the step's id
        """Run the step and return the job's summary.

        Raises:
            StepFailed: the step did not complete, not in time, or has left no summary.
        """
        until = datetime.now(UTC) + self.execution_timeout if self.execution_timeout else None
        if taken := self._find_step():
            return self._follow(context, taken, until, taken=True)
        return self._follow(context, self._submit(context), until, taken=False)

    def resume(
        self, context: Context, event: Mapping[str, str], step_id: str, until: datetime | None, taken: bool
    ) -> dict[str, Any]:
        """Go on after the wait in the triggerer, as `_follow` was at it."""
        check_event(event)
        return self._follow(context, step_id, until, taken=taken)

    @records_failure
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:  # noqa: ANN401 - as Airflow's
        """Go on; what Airflow calls, also when the triggerer's time is over."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            # Airflow has kept nothing of what was to be resumed.
            ti = context["ti"]
            step: dict[str, str] = ti.xcom_pull(task_ids=ti.task_id, key=STEP, map_indexes=ti.map_index)
            self._step_id = step["step_id"]
            status = self._look()
            if status["State"] in steps.ENDED:
                return self._conclude(context, status)
            raise self._timed_out() from error

    def on_kill(self) -> None:
        """Cancel the step: a task that is gone must not leave a writer behind. (StepTrigger does it while deferred.)"""
        # Airflow calls this from its signal handler and lets the task go on: a step that is just being submitted is
        # cancelled by _submit.
        self._killed = True
        if self._step_id:
            self.log.info("Cancelling step %s of %s.", self._step_id, self.job_flow_id)
            steps.cancel_step(emr_client(self.hook), self.job_flow_id, self._step_id)

    def done(self, context: Context, summary: dict[str, Any]) -> None:
        """Do what is to be done when the step has completed, before the task ends; for those who have something."""

    def next_action(self, summary: Mapping[str, Any]) -> str | None:  # noqa: ARG002 - for those who read it
        """Say what to do next after a step that failed, by what its job says; None if that is as for any step."""
        return None

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Say what the step reads and writes; Airflow calls it where OpenLineage is on."""
        # The provider is loaded only there.
        from feature_store_airflow.lineage import lineage  # noqa: PLC0415

        submitted = self.steps[0]["HadoopJarStep"]["Args"]
        arguments = submitted[submitted.index(script(self._job)) + 1 :]
        return lineage(self._job, arguments, self.online, self._did)

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any]:  # noqa: ANN401 - as Airflow's
        """Say what the step has read and written, with versions and rows; without them if it has failed."""
        return self.get_openlineage_facets_on_start()

    @property
    def _s3(self) -> S3Hook:
        return S3Hook(aws_conn_id=self.aws_conn_id)

    def _find_step(self) -> str | None:
        """Find the step that an earlier try of this task has submitted and that is not lost; cancel what is stale."""
        emr = emr_client(self.hook)
        name = self.steps[0]["Name"]
        of_task = name.rpartition(TRY_MARK)[0] + TRY_MARK
        found = None
        for step in steps.list_steps(emr, self.job_flow_id):
            step_id, state = step["Id"], step["Status"]["State"]
            if step["Name"] == name:
                if state in TAKEN_OVER and not found:
                    self.log.info("An earlier try has submitted %s (%s); taking it.", step_id, state)
                    found = step_id
            elif state in steps.LIVE and step["Name"].startswith(of_task):
                self.log.info("%s (%s) is of before a clear; cancelling %s.", step["Name"], state, step_id)
                steps.cancel_step(emr, self.job_flow_id, step_id)
        return found

    def _submit(self, context: Context) -> str:
        delete_summary(self._s3, self.summary)
        try:
            [self._step_id] = super().execute(context)
        except emr_client(self.hook).exceptions.ClientError as error:
            cluster = describe_cluster(emr_client(self.hook), self.job_flow_id)
            if cluster is None or cluster["Status"]["State"] in clusters.LIVE:
                raise
            raise StepFailed(
                f"{self.task_id} of {self.start} to {self.end} could not be started: cluster {self.job_flow_id} is "
                f"{state_and_reason(cluster)}. Next: clear the run, which makes a new cluster."
            ) from error
        if self._killed:
            self.on_kill()
        return self._step_id

    def _follow(self, context: Context, step_id: str, until: datetime | None, *, taken: bool) -> dict[str, Any]:
        """Wait for the step's end and return the job's summary.

        Args:
            context: the task's.
            step_id: the step.
            until: when the task's time is over; None for never.
            taken: whether it is one that an earlier try has submitted.
        """
        self._step_id = step_id
        self._leave_for_links(context)
        shown = None
        try:
            while (status := self._look())["State"] not in steps.ENDED:
                if status["State"] != shown:
                    shown = status["State"]
                    self.log.info("Step %s: %s", step_id, shown)
                if self.defers:
                    self._defer(until, taken=taken)
                time.sleep(float(self.poll_seconds))
        except AirflowTaskTimeout as error:
            raise self._timed_out() from error
        self.log.info("Step %s: %s", step_id, status["State"])
        # The try before was killed and has cancelled it: EMR calls a step RUNNING until it is stopped.
        if taken and status["State"] == "CANCELLED" and not self._killed:
            return self._follow(context, self._submit(context), until, taken=False)
        return self._conclude(context, status)

    def _look(self) -> StepStatusTypeDef:
        return steps.describe_step(emr_client(self.hook), self.job_flow_id, self._step_id)

    def _defer(self, until: datetime | None, *, taken: bool) -> None:
        self.defer(
            trigger=StepTrigger(
                cluster_id=self.job_flow_id,
                step_id=self._step_id,
                poll_seconds=float(self.poll_seconds),
                hook=self._hook_parameters,
            ),
            method_name="resume",
            kwargs={"step_id": self._step_id, "until": until, "taken": taken},
            # Airflow does not apply execution_timeout to a deferred task.
            timeout=until - datetime.now(UTC) if until else None,
        )

    def _leave_for_links(self, context: Context) -> None:
        """Leave where the step is, for the links to its logs and for the time when the triggerer's is over."""
        ti = context["ti"]
        left = ti.xcom_pull(task_ids=ti.task_id, key=STEP, map_indexes=ti.map_index)
        if not left or left["step_id"] != self._step_id:
            cluster = emr_client(self.hook).describe_cluster(ClusterId=self.job_flow_id)["Cluster"]
            logs = step_logs(cluster, self._step_id)
            ti.xcom_push(key=STEP, value={"cluster_id": self.job_flow_id, "step_id": self._step_id, "logs": logs})

    def _conclude(self, context: Context, status: StepStatusTypeDef) -> dict[str, Any]:
        if status["State"] != "COMPLETED":
            raise self._failure("did not complete", status)
        summary = read_summary(self._s3, self.summary)
        if summary is None:
            raise self._failure(f"completed, but left no summary at {self.summary}", status)
        self._did = summary
        self.done(context, summary)
        return summary

    def _timed_out(self) -> StepFailed:
        self.on_kill()
        return self._failure(f"did not end within {self.execution_timeout} and was cancelled")

    def _failure(self, what: str, status: StepStatusTypeDef | None = None) -> StepFailed:
        cluster = emr_client(self.hook).describe_cluster(ClusterId=self.job_flow_id)["Cluster"]
        days = self.start if self.start == self.end else f"{self.start} to {self.end}"
        summary = read_summary(self._s3, self.summary) or {}
        return StepFailed(
            explain(
                f"{self.task_id} of {days}: step {self._step_id} {what}.",
                Evidence(self._step_id, status or {}, cluster, summary, self.next_action(summary)),
                self._s3,
            )
        )
