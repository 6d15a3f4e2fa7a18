"""The message of a failed step: all that the engineer on call needs to start, in the order of its worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook

from feature_store_airflow.causes import another_may_live
from feature_store_airflow.clusters import LIVE, state_and_reason
from feature_store_airflow.logs import step_log_tails, step_logs


@dataclass(frozen=True)
class Evidence:
    """What is known about a step that failed.

    Attributes:
        step_id: the step, for its log.
        status: the step's Status as EMR describes it; empty when it was not waited for to the end.
        cluster: the step's cluster as EMR describes it.
        summary: the job's summary; empty when it has left none.
        advice: what to do next if it is the job that failed; None where that is as for any job.
    """

    step_id: str
    status: Mapping[str, Any]
    cluster: Mapping[str, Any]
    summary: Mapping[str, Any]
    advice: str | None = None


def explain(what: str, evidence: Evidence, s3: S3Hook) -> str:
    """Return `what` (the task, the days, the step, how it ended) and why, down to the next action."""
    step_id, status, cluster = evidence.step_id, evidence.status, evidence.cluster
    lines = [what]
    if error := evidence.summary.get("error"):
        lines.append(f"The job says: {error}")
    if status:
        lines.append(f"EMR says: {_reason(status)}")
    if cluster["Status"]["State"] not in LIVE:
        lines.append(f"Cluster {cluster['Id']}: {state_and_reason(cluster)}")
    lines.extend(f"Last lines of its {name}:\n{tail}" for name, tail in step_log_tails(s3, cluster, step_id).items())
    if folder := step_logs(cluster, step_id):
        lines.append(f"Its logs: {folder} (EMR uploads them within minutes).")
    lines.append(f"Next: {_next_action(evidence)}")
    return "\n".join(lines)


def _reason(status: Mapping[str, Any]) -> str:
    details = status.get("FailureDetails", {})
    change = status.get("StateChangeReason", {})
    told = [
        status["State"],
        details.get("Reason"),
        details.get("Message"),
        change.get("Code"),
        change.get("Message"),
    ]
    return ", ".join(dict.fromkeys(text for text in told if text))


def _next_action(evidence: Evidence) -> str:
    if evidence.cluster["Status"]["State"] not in LIVE:
        if another_may_live(evidence.cluster):
            return (
                "the cluster was lost under the step, which is no fault of the data or the code; clear the run, which "
                "makes a new cluster. If that happens often, and its instances are spot ones, ask for on-demand ones "
                "in EMR/cluster.json."
            )
        return "the cluster went away under the step; clear the run when it is wanted again: it makes a new cluster."
    if not evidence.status:
        return "raise the task's execution_timeout, or run fewer days at once by feature_store_backfill."
    if evidence.status["State"] == "CANCELLED":
        return "someone, or the end of this task, cancelled the step; clear the run when it is wanted again."
    if evidence.advice:
        return evidence.advice
    cause = "what the job names" if evidence.summary.get("error") else "what its logs end with"
    return f"correct {cause}, then clear the run: it does all of its days again."
