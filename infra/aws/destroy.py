"""Destroy: the stacks in reverse order, after it was said what goes and what stays; and what is left in the account."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.aws import templates as templates_of
from infra.aws.cloudformation import REVIEW, Stacks
from infra.aws.errors import DeclinedError, DeploymentError
from infra.aws.settings import Settings
from infra.aws.templates import Template

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_emr import EMRClient

# How each kind of thing that is kept can be removed too, by its ARN. Of no other kind is anything kept.
REMOVALS = {
    r"arn:[\w-]+:s3:::(?P<name>[^/]+)": "empty the bucket with all versions (in the S3 console: Empty), then `aws s3api delete-bucket --bucket {name}`",
    r"arn:[\w-]+:kms:[\w-]+:\d+:key/(?P<name>.+)": "`aws kms schedule-key-deletion --key-id {name} --pending-window-in-days 30`: what it has encrypted is lost with it",
    r"arn:[\w-]+:cassandra:[\w-]+:\d+:/keyspace/(?P<name>\w+)/?": "`aws keyspaces delete-keyspace --keyspace-name {name}`, after its tables",
    r"arn:[\w-]+:cassandra:[\w-]+:\d+:/keyspace/(?P<space>\w+)/table/(?P<name>\w+)": "`aws keyspaces delete-table --keyspace-name {space} --table-name {name}`",
    r"arn:[\w-]+:logs:[\w-]+:\d+:log-group:(?P<name>[^:*]+)(:\*)?": "`aws logs delete-log-group --log-group-name {name}`",
}
LIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING")


@dataclass(frozen=True)
class Fate:
    """What becomes of one stack: of its resources (type and physical id, by logical id), those that go and that stay."""

    stack: str
    goes: dict[str, tuple[str, str]]
    stays: dict[str, tuple[str, str]]


def destroy(
    settings: Settings,
    templates: Sequence[Template],
    stacks: Stacks,
    session: boto3.Session,
    agree: Callable[[str], bool],
    say: Callable[[str], None],
) -> None:
    """Delete every stack of the prefix.

    Run again after whatever went wrong, it goes on from there.

    Raises:
        DeclinedError: the person at the terminal does not want it; nothing was deleted.
        DeploymentError: clusters run, or something can't be deleted; the stacks after it are gone.
    """
    fates = [fate for template in reversed(templates) if (fate := _fate(settings.stack_name(template), stacks))]
    if clusters := list(_clusters(session.client("emr"), settings)):
        raise DeploymentError(
            f"These clusters are not ended yet: {'; '.join(clusters)}. Nothing was deleted. Next: wait for their runs, or "
            "pause the DAGs and `aws emr terminate-clusters`."
        )
    for fate in fates:
        say(f"{fate.stack}: would be deleted, with {len(fate.goes)} resource(s)")
        for resource, (kind, physical) in fate.goes.items():
            say(f"  - {resource}  {kind}  {physical}")
        for resource, (kind, physical) in fate.stays.items():
            say(f"  = {resource}  {kind}  {physical}  is kept")
    if fates:
        if not agree(f"Delete {len(fates)} stack(s)?"):
            raise DeclinedError("Nothing was deleted.")
        for fate in fates:
            stacks.delete(fate.stack)
            say(f"{fate.stack}: deleted")
    else:
        say(f"There is no stack of the prefix {settings.prefix}.")
    _say_what_is_left(settings, session, fates, say)


def _fate(name: str, stacks: Stacks) -> Fate | None:
    stack = stacks.find(name)
    if stack is None:
        return None
    if stack["StackStatus"] == REVIEW:
        return Fate(name, {}, {})
    # By the template that the stack was made by: what this checkout says now is another question.
    kept = templates_of.parse(name, stacks.template(name)).kept
    resources = stacks.resources(name)
    return Fate(
        name,
        {key: value for key, value in resources.items() if key not in kept},
        {key: value for key, value in resources.items() if key in kept},
    )


def _clusters(emr: EMRClient, settings: Settings) -> Iterator[str]:
    """Those that hold on to the network's security groups, by the bucket that they are of."""
    for page in emr.get_paginator("list_clusters").paginate(ClusterStates=list(LIVE)):
        for listed in page["Clusters"]:
            tags = emr.describe_cluster(ClusterId=listed["Id"])["Cluster"].get("Tags", [])
            if {"Key": "bucket", "Value": bucket_name(settings)} in tags:
                yield f"{listed['Id']} ({listed['Name']})"


def bucket_name(settings: Settings) -> str:
    """The name of the deployment's bucket, which is unique in the world."""
    return f"{settings.prefix}-{settings.account}-{settings.region}"


def _say_what_is_left(
    settings: Settings, session: boto3.Session, fates: Sequence[Fate], say: Callable[[str], None]
) -> None:
    """List what was just kept, and whatever else has the tag: of an earlier run, or made by a service by itself."""
    partition = session.get_partition_for_region(settings.region)
    kept = [arn(*each, partition, settings) for fate in fates for each in fate.stays.values()]
    tagged = [each for each in _tagged(session, settings) if ":cloudformation:" not in each]
    left = sorted({*kept, *tagged})
    say("Left in the account:" if left else "Nothing is left in the account that has the tag Project of this deployment.")
    for each in left:
        say(f"  = {each}")
        if how := removal(each):
            say(f"      to remove it too: {how}")
    if tagged:
        say("What was just deleted may be listed for some minutes.")


def arn(kind: str, physical: str, partition: str, settings: Settings) -> str:
    """Name a resource that is kept, by its type and physical id; of other types the id itself."""
    here = f"{settings.region}:{settings.account}"
    space, _, table = physical.partition("|")
    return {
        "AWS::S3::Bucket": f"arn:{partition}:s3:::{physical}",
        "AWS::KMS::Key": f"arn:{partition}:kms:{here}:key/{physical}",
        "AWS::Cassandra::Keyspace": f"arn:{partition}:cassandra:{here}:/keyspace/{physical}/",
        "AWS::Cassandra::Table": f"arn:{partition}:cassandra:{here}:/keyspace/{space}/table/{table}",
    }.get(kind, physical)


def _tagged(session: boto3.Session, settings: Settings) -> Iterator[str]:
    tagging = session.client("resourcegroupstaggingapi")
    of_ours = [{"Key": "Project", "Values": [settings.prefix]}]
    for page in tagging.get_paginator("get_resources").paginate(TagFilters=of_ours):  # type: ignore[arg-type] # a literal
        yield from (each["ResourceARN"] for each in page["ResourceTagMappingList"])


def removal(arn: str) -> str | None:
    """Say how a thing that is kept can be removed, by its ARN; None of a kind that is not kept."""
    for pattern, how in REMOVALS.items():
        if found := re.fullmatch(pattern, arn):
            return how.format(**found.groupdict())
    return None
