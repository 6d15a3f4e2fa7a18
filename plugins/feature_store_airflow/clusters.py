"""What the operators ask EMR about clusters; every function takes a boto3 EMR client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from mypy_boto3_emr import EMRClient
    from mypy_boto3_emr.literals import ClusterStateType
    from mypy_boto3_emr.type_defs import ClusterTypeDef

LIVE: tuple[ClusterStateType, ...] = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
GONE: tuple[ClusterStateType, ...] = ("TERMINATED", "TERMINATED_WITH_ERRORS")

Tag: TypeAlias = Mapping[str, str]

# The tag that says which try of its task has asked for a cluster. A clear goes on counting.
TRY = "try"


def find_clusters(
    emr: EMRClient, name: str, tags: Iterable[Tag], states: Iterable[ClusterStateType] = LIVE
) -> list[str]:
    """Return the ids of the clusters in one of the states that carry this name and all of these tags, newest first.

    Tags too: by them a deployment tells its clusters from those of another one in the same account, whose runs may have
    the same names.
    """
    wanted = {(tag["Key"], tag["Value"]) for tag in tags}
    pages = emr.get_paginator("list_clusters").paginate(ClusterStates=list(states))
    named = [cluster for page in pages for cluster in page["Clusters"] if cluster["Name"] == name]
    named.sort(key=lambda cluster: cluster["Status"]["Timeline"]["CreationDateTime"], reverse=True)
    return [cluster["Id"] for cluster in named if wanted <= _tags(emr, cluster["Id"])]


def tagged_clusters(emr: EMRClient, tags: Iterable[Tag]) -> Iterator[ClusterTypeDef]:
    """Yield the clusters that cost money (not ended, nor ending) and carry all of these tags, whatever their names."""
    wanted = {(tag["Key"], tag["Value"]) for tag in tags}
    for page in emr.get_paginator("list_clusters").paginate(ClusterStates=list(LIVE)):
        for listed in page["Clusters"]:
            cluster = emr.describe_cluster(ClusterId=listed["Id"])["Cluster"]
            if wanted <= {(tag["Key"], tag["Value"]) for tag in cluster.get("Tags", [])}:
                yield cluster


def tag(cluster: Mapping[str, Any], key: str) -> str | None:
    """Return the value of a cluster's tag, as EMR describes it; None if it does not carry it."""
    return next((each["Value"] for each in cluster.get("Tags", []) if each["Key"] == key), None)


def age(cluster: Mapping[str, Any], now: datetime) -> timedelta:
    """Return how long ago a cluster was asked for."""
    asked: datetime = cluster["Status"]["Timeline"]["CreationDateTime"]
    return now - asked


def _tags(emr: EMRClient, cluster_id: str) -> set[tuple[str, str]]:
    tags = emr.describe_cluster(ClusterId=cluster_id)["Cluster"].get("Tags", [])
    return {(tag["Key"], tag["Value"]) for tag in tags}


def run_tags(request: Mapping[str, Any]) -> list[Tag]:
    """Return the tags of a RunJobFlow request that all clusters of its run carry."""
    return [tag for tag in request["Tags"] if tag["Key"] != TRY]


def of_try(request: Mapping[str, Any], try_number: int) -> dict[str, Any]:
    """Return the request with the tag of the try that sends it."""
    return {**request, "Tags": [*run_tags(request), {"Key": TRY, "Value": f"{try_number}"}]}


def describe_cluster(emr: EMRClient, cluster_id: str) -> ClusterTypeDef | None:
    """Describe a cluster; None if EMR has never heard of it or has forgotten it (it does after two months)."""
    try:
        return emr.describe_cluster(ClusterId=cluster_id)["Cluster"]
    except emr.exceptions.ClientError as error:
        if error.response["Error"]["Code"] == "InvalidRequestException":
            return None
        raise


def state_and_reason(cluster: Mapping[str, Any]) -> str:
    """Say a cluster's state and, as far as EMR tells, why: `TERMINATED_WITH_ERRORS (BOOTSTRAP_FAILURE: ...)`."""
    status = cluster["Status"]
    reason = status.get("StateChangeReason", {})
    told = ": ".join(text for text in (reason.get("Code"), reason.get("Message")) if text)
    return f"{status['State']} ({told})" if told else str(status["State"])
