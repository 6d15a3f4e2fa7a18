"""What a person may ask of a run besides its days: which views, how much of it, on what cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import Param

from feature_store import registry
from feature_store_airflow.failures import PlanRejected
from feature_store_airflow.settings import deployed

VIEWS, SIZE, SKIP_SYNC, DRY_RUN, REPROCESS = "views", "cluster_size", "skip_sync", "dry_run", "reprocess"
# Of feature_store.backfill.Reprocess, which needs more than a DAG may load; a test says they agree.
REPROCESSES = ("missing", "stale", "changed", "all")


def run_params() -> dict[str, Param]:
    """Make the params that every DAG of the pipeline has."""
    names = [view.name for view in registry.views()]
    return {
        VIEWS: Param(
            [],
            type="array",
            items={"type": "string", "enum": names},
            examples=names,
            title="Views",
            description="Feature views to work for. Empty: all",
        ),
        SIZE: Param(
            next(iter(sizes())),
            type="string",
            enum=list(sizes()),
            title="Cluster size",
            description="; ".join(f"{name}: {_said(size)}" for name, size in sizes().items()),
        ),
        SKIP_SYNC: Param(
            False,
            type="boolean",
            title="Skip sync",
            description="Compute and validate, and leave the online store as it is",
        ),
    }


def backfill_params() -> dict[str, Param]:
    """Make the params that only a backfill has."""
    return {
        DRY_RUN: Param(
            True,
            type="boolean",
            title="Dry run",
            description="Only show what would be done: no cluster, nothing written. See the task preview and the "
            "run's tab Features. Switch it off to do it",
        ),
        REPROCESS: Param(
            REPROCESSES[0],
            type="string",
            enum=list(REPROCESSES),
            title="Reprocess",
            description="missing: days without features, or not validated or not online yet. stale: days whose "
            "features are of older readings. changed: both. all: every day that has readings",
        ),
    }


def resolve_options(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is asked for, under the names of the params; those that a DAG does not have are not there.

    Raises:
        PlanRejected: a view is not declared (any more).
    """
    asked = {name: params[name] for name in (VIEWS, SIZE, SKIP_SYNC, DRY_RUN, REPROCESS) if name in params}
    known = [view.name for view in registry.views()]
    if unknown := [name for name in asked.get(VIEWS) or () if name not in known]:
        raise PlanRejected(
            f"There is no feature view {unknown[0]!r}: there are {', '.join(known)}. "
            "Next: trigger the run again with one of them, or with none for all."
        )
    if VIEWS in asked:
        asked[VIEWS] = [name for name in known if not asked[VIEWS] or name in asked[VIEWS]]
    return asked


def sizes() -> dict[str, dict[str, Any]]:
    """Read EMR/cluster_sizes.json: by name, a cluster's instance types, and how many core nodes it has and may get."""
    found: dict[str, dict[str, Any]] = json.loads(deployed(Path("EMR") / "cluster_sizes.json").read_text())
    return found


def sized(request: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """Return a RunJobFlow request for a cluster of a size; as it is where none is asked for."""
    if name is None:
        return dict(request)
    size = sizes()[name]
    of = {
        "MASTER": {"InstanceType": size["master"]},
        "CORE": {"InstanceType": size["core"], "InstanceCount": size["core_count"]},
    }
    instances = request["Instances"]
    groups = [{**group, **of.get(group["InstanceRole"], {})} for group in instances["InstanceGroups"]]
    limits = {
        **request["ManagedScalingPolicy"]["ComputeLimits"],
        "MinimumCapacityUnits": size["core_count"],
        "MaximumCapacityUnits": size["core_limit"],
    }
    return {
        **request,
        "Instances": {**instances, "InstanceGroups": groups},
        "ManagedScalingPolicy": {"ComputeLimits": limits},
    }


def _said(size: Mapping[str, Any]) -> str:
    nodes = f"{size['core_count']} core node(s) {size['core']}, up to {size['core_limit']} where EMR can scale"
    return f"{nodes}; master {size['master']}"
