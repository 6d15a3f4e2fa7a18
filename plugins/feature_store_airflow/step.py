"""The work tasks of a pipeline: one task, one EMR step, one Spark job."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.operators.emr import EmrAddStepsOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowTaskTimeout

from feature_store_airflow.aws import emr_client
from feature_store_airflow.clusters import LIVE, describe_cluster, state_and_reason
from feature_store_airflow.failures import StepFailed, records_failure
from feature_store_airflow.settings import CLUSTER_ID, END, POLL_SECONDS, RUN_FOLDER, START, STEP_NAME
from feature_store_airflow.step_failure import Evidence, explain
from feature_store_airflow.summary import delete_summary, read_summary

if TYPE_CHECKING:
    from mypy_boto3_emr.type_defs import StepStatusTypeDef

# Where EMR/emr_bootstrap_script.sh puts the release on each node.
NODE_FOLDER = "/home/hadoop/feature-store"
TAKEN_OVER = ("PENDING", "RUNNING", "COMPLETED")
ENDED = ("COMPLETED", "CANCELLED", "FAILED", "INTERRUPTED")


def spark_submit(job: str, arguments: Sequence[str], *, spark_options: Sequence[str], summary: str) -> dict[str, Any]:
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
                *spark_options,
                f"{NODE_FOLDER}/spark_jobs/{job}.py",
                *arguments,
                *("--summary", summary),
            ],
        },
    }


class StepOperator(EmrAddStepsOperator):
    """Run one job as one step on the run's cluster, follow it to its end and return its summary.

    A step that has ended badly fails the task for good (StepFailed), as the same data and code would fail again. Any
    other error (a lost worker, an AWS call that failed) is retried, and the retry takes the step that is there; if that
    turns out to be one that was being cancelled, it submits it anew.

    Args:
        job: the name of the script in spark_jobs/, without its suffix.
        arguments: the job's own arguments, with templates.
        spark_options: further options of spark-submit.
        poll_seconds: seconds between two looks, a template.
    """

    template_fields: Sequence[str] = (
        *EmrAddStepsOperator.template_fields,
        "summary",
        "start",
        "end",
        "poll_seconds",
    )
    # The step's arguments have strings that end in .json: values, not files to read.
    template_ext: Sequence[str] = ()

    job_flow_id: str
    steps: list[dict[str, Any]]

    def __init__(
        self,
        *,
        job: str,
        arguments: Sequence[str],
        spark_options: Sequence[str] = (),
        poll_seconds: str = POLL_SECONDS,
        **kwargs: Any,  # noqa: ANN401 - whatever BaseOperator takes
    ) -> None:
        """Make the task; everything else is an ordinary operator argument."""
        summary = f"{RUN_FOLDER}/{job}.json"
        super().__init__(
            **{"job_flow_id": CLUSTER_ID, **kwargs},
            steps=[spark_submit(job, arguments, spark_options=spark_options, summary=summary)],
            # The provider's wait ends after an hour by default and can't take its delay from a setting.
            wait_for_completion=False,
            deferrable=False,
        )
        self.summary = summary
        self.start = START
        self.end = END
        self.poll_seconds = poll_seconds
        self._step_id: str | None = None
        self._killed = False

    @records_failure
    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override] # the summary, not the step's id
        """Run the step and return the job's summary.

        Raises:
            StepFailed: the step did not complete, not in time, or has left no summary.
        """
        s3 = S3Hook(aws_conn_id=self.aws_conn_id)
        taken = self._find_step()
        status = self._follow(taken, s3) if taken else None
        # The try before was killed and has cancelled it: EMR calls a step RUNNING until it is stopped.
        if status is None or (status["State"] == "CANCELLED" and not self._killed):
            status = self._follow(self._submit(context, s3), s3)
        if status["State"] != "COMPLETED":
            raise self._failure(s3, "did not complete", status)
        summary = read_summary(s3, self.summary)
        if summary is None:
            raise self._failure(s3, f"completed, but left no summary at {self.summary}", status)
        return summary

    def on_kill(self) -> None:
        """Cancel the step: a task that is gone must not leave a writer behind."""
        # Airflow calls this from its signal handler and lets the task go on: a step that is just being submitted is
        # cancelled by _submit.
        self._killed = True
        if self._step_id:
            self.log.info("Cancelling step %s of %s.", self._step_id, self.job_flow_id)
            emr_client(self.hook).cancel_steps(
                ClusterId=self.job_flow_id, StepIds=[self._step_id], StepCancellationOption="TERMINATE_PROCESS"
            )

    def next_action(self, summary: Mapping[str, Any]) -> str | None:  # noqa: ARG002 - for those who read it
        """Say what to do next after a step that failed, by what its job says; None if that is as for any step."""
        return None

    def _find_step(self) -> str | None:
        """Find the step that an earlier try of this task has submitted and that is not lost."""
        name = self.steps[0]["Name"]
        pages = emr_client(self.hook).get_paginator("list_steps").paginate(ClusterId=self.job_flow_id)
        for step in (step for page in pages for step in page["Steps"]):  # newest first
            if step["Name"] == name and step["Status"]["State"] in TAKEN_OVER:
                self.log.info("An earlier try has submitted %s (%s); taking it.", step["Id"], step["Status"]["State"])
                return str(step["Id"])
        return None

    def _submit(self, context: Context, s3: S3Hook) -> str:
        delete_summary(s3, self.summary)
        try:
            [self._step_id] = super().execute(context)
        except emr_client(self.hook).exceptions.ClientError as error:
            cluster = describe_cluster(emr_client(self.hook), self.job_flow_id)
            if cluster is None or cluster["Status"]["State"] in LIVE:
                raise
            raise StepFailed(
                f"{self.task_id} of {self.start} to {self.end} could not be started: cluster {self.job_flow_id} is "
                f"{state_and_reason(cluster)}. Next: clear the run, which makes a new cluster."
            ) from error
        if self._killed:
            self.on_kill()
        return self._step_id

    def _follow(self, step_id: str, s3: S3Hook) -> StepStatusTypeDef:
        """Wait for the step's end; StepFailed if it does not come in time."""
        self._step_id = step_id
        try:
            return self._wait(step_id)
        except AirflowTaskTimeout as error:
            self.on_kill()
            raise self._failure(s3, f"did not end within {self.execution_timeout} and was cancelled") from error

    def _wait(self, step_id: str) -> StepStatusTypeDef:
        """Poll until the step has ended, for as long as `execution_timeout` lets it."""
        shown = None
        while True:
            step = emr_client(self.hook).describe_step(ClusterId=self.job_flow_id, StepId=step_id)["Step"]
            status = step["Status"]
            if status["State"] != shown:
                shown = status["State"]
                self.log.info("Step %s: %s", step_id, shown)
            if shown in ENDED:
                return status
            time.sleep(float(self.poll_seconds))

    def _failure(self, s3: S3Hook, what: str, status: StepStatusTypeDef | None = None) -> StepFailed:
        cluster = emr_client(self.hook).describe_cluster(ClusterId=self.job_flow_id)["Cluster"]
        days = self.start if self.start == self.end else f"{self.start} to {self.end}"
        summary = read_summary(s3, self.summary) or {}
        return StepFailed(
            explain(
                f"{self.task_id} of {days}: step {self._step_id} {what}.",
                Evidence(self._step_id or "", status or {}, cluster, summary, self.next_action(summary)),
                s3,
            )
        )
