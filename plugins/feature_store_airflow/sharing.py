"""The one cluster that the runs of Airflow's own backfill share: each day is a run, a bootstrap each would be waste.

EMR/cluster.json names it and tags it by the DAG alone, so each of these runs finds it. It is bounded three times: the
run after which no other is left ends it, it ends itself when it was idle for a quarter of an hour, and one that is half
as old as it may become is not taken any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Context

from feature_store_airflow.clusters import age, tag
from feature_store_airflow.machines import Machines, bought
from feature_store_airflow.options import SIZE, sized
from feature_store_airflow.settings import DEFAULT_LIFETIME, LIFETIME_TAG

BACKFILL = "backfill"  # the type of such a run
# Longer than it takes from one run's last step to the next one's first, and cheap beside the bootstrap that it saves.
IDLE = timedelta(minutes=15)
ACTIVE = ["queued", "running"]


def is_shared(context: Context) -> bool:
    """Whether a run is one of those that share a cluster."""
    return bool(context["dag_run"].run_type == BACKFILL)


def request_of(context: Context, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request for a run's cluster, of the size asked for; one that is shared ends itself sooner.

    Raises:
        ClusterRefused: the Variable's entry `cluster` says what there is not.
    """
    policy = {"AutoTerminationPolicy": {"IdleTimeout": int(IDLE.total_seconds())}}
    size = context["ti"].xcom_pull(task_ids="plan").get(SIZE)
    # Not by a template: it makes keys of the request, not strings in it.
    setting = context["var"]["json"].get("feature_store").get("cluster", {})
    return {**bought(sized(request, size), Machines.of(setting)), **(policy if is_shared(context) else {})}


def lifetime(cluster: Mapping[str, Any]) -> timedelta:
    """Return how old a cluster may become, by its tag."""
    hours = tag(cluster, LIFETIME_TAG)
    return timedelta(hours=float(hours)) if hours else DEFAULT_LIFETIME


def is_fresh(cluster: Mapping[str, Any]) -> bool:
    """Whether a shared cluster has enough of its life before it to take another run."""
    return age(cluster, datetime.now(UTC)) < lifetime(cluster) / 2


def others_to_come(context: Context) -> int:
    """Count the DAG's other runs that are not over, and may need the cluster: Airflow makes all of a backfill at once.

    A run of the schedule counts too, though it needs none: then the cluster ends by its idle time.
    """
    ti: Any = context["ti"]
    active: int = ti.get_dr_count(dag_id=ti.dag_id, states=ACTIVE)
    return active - (ti.get_dagrun_state(ti.dag_id, ti.run_id) in ACTIVE)
