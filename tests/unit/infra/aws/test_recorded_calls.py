"""What the roles' processes were seen to ask of AWS on the one-machine stack, and what their policies allow: both ways.

tests/e2e/test_api_calls.py makes and checks the record, api_calls.json. Every call in it has to be allowed, and every
action that is allowed has to be called, or there is a reason for it here.
"""

from __future__ import annotations

import pytest

from tests import api_calls
from tests.api_calls import SEVERAL, Call
from tests.iam import actions
from tests.unit.infra.aws.identities import (
    CLUSTER,
    IN_ITS_CLUSTER,
    LAKE,
    OURS,
    OWN,
    PREFIX,
    ROLE,
    SIMULATION_LOG,
    TASKS,
    TO_EC2,
    TO_ECS,
    TO_EMR,
    VIA_S3,
    VIA_SECRETS,
    document,
)

pytestmark = pytest.mark.unit

# Of the roles whose calls are recorded: what they may do, but were not seen to do on the one-machine stack, and why
# they may. What is only MWAA's own (the inline policy `environment`) is not among it: there, Airflow is not MWAA.
NEVER_CALLED = {
    "airflow": {
        "elasticmapreduce:AddTags": "a part of RunJobFlow that EMR asks for by itself",
        "elasticmapreduce:PutAutoTerminationPolicy": "a part of RunJobFlow that EMR asks for by itself",
        "elasticmapreduce:PutManagedScalingPolicy": "a part of RunJobFlow that EMR asks for by itself",
        "elasticmapreduce:CancelSteps": "when a task is killed or takes too long: `make drill`",
        "elasticmapreduce:SetTerminationProtection": "by the sweeper, for a cluster that is too old: `make drill`",
        "iam:PassRole": "a part of RunJobFlow",
        "kms:Decrypt": "a part of each read from S3 and Secrets Manager, which are not encrypted here",
        "kms:DescribeKey": "by Keyspaces, in the client's name",
        "kms:GenerateDataKey*": "a part of each write to S3",
        "cassandra:Select": "by CQL, which is not recorded",
        "ec2:DescribeNetworkInterfaces": "by Keyspaces, in the client's name, when it is connected to from a VPC",
        "ec2:DescribeVpcEndpoints": "by Keyspaces, in the client's name, when it is connected to from a VPC",
        "s3:GetBucketLocation": "by clients that find out the region by themselves",
        "cloudwatch:PutMetricData": "the alarms' metrics are for CloudWatch alone",
        "ecs:StopTask": "when a task is killed or takes too long",
    },
    "node": {
        "kms:Decrypt": "a part of each read from S3, which is not encrypted here",
        "kms:DescribeKey": "by EMR, for the disks",
        "kms:Encrypt": "by EMR, for the disks",
        "kms:GenerateDataKey*": "a part of each write to S3, and of the disks",
        "kms:ReEncrypt*": "by EMR, for the disks",
        "cassandra:Select": "by CQL, which is not recorded",
        "cassandra:Modify": "by CQL, which is not recorded",
        "ec2:DescribeNetworkInterfaces": "by Keyspaces, in the client's name, when it is connected to from a VPC",
        "ec2:DescribeVpcEndpoints": "by Keyspaces, in the client's name, when it is connected to from a VPC",
        "s3:GetBucketLocation": "by clients that find out the region by themselves",
        "s3:AbortMultipartUpload": "when an upload in parts fails",
    },
    "simulation": {
        "kms:Decrypt": "a part of each read from S3, which is not encrypted here",
        "kms:DescribeKey": "by Keyspaces, in the client's name",
        "kms:GenerateDataKey*": "a part of each write to S3",
        "cassandra:Select": "by CQL, which is not recorded",
        "ec2:DescribeNetworkInterfaces": "by Keyspaces, in the client's name, when it is connected to from a VPC",
        "ec2:DescribeVpcEndpoints": "by Keyspaces, in the client's name, when it is connected to from a VPC",
    },
}
# The folder that a request to delete several objects is of: the record does not say. Spark's, where it has written.
DELETED_FROM = {"node": f"{LAKE}/delta/a", "airflow": f"{LAKE}/runs/a"}


def needed(call: Call) -> list[tuple[str, str, dict[str, str]]]:
    """What IAM is asked for a call that was recorded, with what belongs to it."""
    if call.action == "elasticmapreduce:RunJobFlow":
        return [
            (call.action, "*", OURS),
            ("iam:PassRole", f"{ROLE}/{PREFIX}-emr", TO_EMR),
            ("iam:PassRole", f"{ROLE}/{PREFIX}-emr-node", TO_EC2),
        ]
    if call.action == "ecs:RunTask":
        return [
            (call.action, f"{TASKS}:task-definition/{PREFIX}-simulation:1", IN_ITS_CLUSTER),
            ("iam:PassRole", f"{ROLE}/{PREFIX}-simulation", TO_ECS),
            ("iam:PassRole", f"{ROLE}/{PREFIX}-simulation-start", TO_ECS),
        ]
    if call.action.startswith("ecs:"):
        return [(call.action, f"{TASKS}:task/{PREFIX}-simulation/1", {})]
    if call.action == "logs:GetLogEvents":
        return [(call.action, f"{SIMULATION_LOG}:log-stream:run/simulation/1", {})]
    if call.action.startswith("elasticmapreduce:"):
        return [(call.action, "*" if call.resource == "*" else CLUSTER, OWN)]
    if call.action == "secretsmanager:GetSecretValue":
        return [(call.action, "{KeyspacesSecretArn}", {}), ("kms:Decrypt", "{KmsKeyArn}", VIA_SECRETS)]
    if call.action.startswith("s3:"):
        where = DELETED_FROM[call.role] if call.resource == SEVERAL else call.resource.replace("BUCKET", LAKE, 1)
        keys = {"s3:GetObject": "kms:Decrypt", "s3:PutObject": "kms:GenerateDataKey"}
        of_key = [(keys[call.action], "{KmsKeyArn}", VIA_S3)] if call.action in keys else []
        # Which folder a list was of, the record does not say; this one may list no other.
        asked = {"s3:prefix": "simulation_results/a"} if call.role == "simulation" else {}
        return [(call.action, where if where.startswith("arn:") else f"arn:aws:s3:::{where}", asked), *of_key]
    return [(call.action, call.resource, {})]


def test_every_call_that_was_made_is_allowed(who) -> None:
    refused = [
        f"{call.role} {action} {who.filled(resource)}"
        for call in sorted(api_calls.read())
        for action, resource, context in needed(call)
        if who.decide(call.role, action, resource, context) != "allowed"
    ]
    assert not refused


@pytest.mark.parametrize("role", NEVER_CALLED)
def test_every_action_that_is_allowed_was_called_or_has_a_reason(who, role) -> None:
    of_airflow = [document(who.outputs[each]) for each in ("AirflowPolicyArn", "SimulationPolicyArn")]
    policies = of_airflow if role == "airflow" else who.policies[role]
    called = {call.action for call in api_calls.read() if call.role == role}
    assert actions(policies) - called == set(NEVER_CALLED[role])


def test_a_call_that_no_policy_allows_would_be_seen(who) -> None:
    """The checks above can fail."""
    for call in (
        Call("airflow", "s3:PutObject", "BUCKET/delta/*"),
        Call("node", "s3:PutObject", "BUCKET/releases/*"),
        Call("node", "s3:GetObject", "another/delta/*"),
        Call("node", "elasticmapreduce:RunJobFlow", "*"),
        Call("simulation", "s3:PutObject", "BUCKET/delta/*"),
        Call("simulation", "ecs:RunTask", "*"),
        Call("airflow", "ssm:GetParameter", "*"),
    ):
        decisions = [who.decide(call.role, *each) for each in needed(call)]
        assert set(decisions) != {"allowed"}, call
