"""What each role of the deployment may do, and what it may not: its policies as deployed, decided by IAM's rules.

Beside it, both ways, what the roles' processes were seen to ask of AWS on the one-machine stack (api_calls.json, which
tests/e2e/test_api_calls.py makes and checks): every call has to be allowed, and every action that is allowed has to be
called, or there is a reason for it here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from jinja2 import Environment, StrictUndefined
from moto import mock_aws

from infra.aws import templates
from infra.aws.cloudformation import Stacks
from infra.aws.deploy import deploy
from infra.aws.settings import Settings
from infra.aws.target import Person, Target
from infra.aws.templates import Template
from infra.aws.upload import variable
from infra.local.settings import ROOT
from tests import api_calls
from tests.api_calls import SEVERAL, Call
from tests.iam import Policy, actions, decide
from tests.unit.infra.aws import cloudformation
from tests.unit.infra.aws.cloudformation import ACCOUNT, REGION, SESSION

pytestmark = pytest.mark.unit

PREFIX = "fs"
LAKE = f"arn:aws:s3:::{PREFIX}-{ACCOUNT}-{REGION}"
OTHER_LAKE = "arn:aws:s3:::someone-elses"
CLUSTER = f"arn:aws:elasticmapreduce:{REGION}:{ACCOUNT}:cluster/j-1ABC"
ROLE = f"arn:aws:iam::{ACCOUNT}:role"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret"
VARIABLE = f"{SECRET}:{PREFIX}/airflow/variables/feature_store-AbCdEf"
TABLES = f"arn:aws:cassandra:{REGION}:{ACCOUNT}:/keyspace/{PREFIX}/table"
SYSTEM = f"arn:aws:cassandra:{REGION}:{ACCOUNT}:/keyspace/system_schema/table/tables"
OTHER_TABLES = f"arn:aws:cassandra:{REGION}:{ACCOUNT}:/keyspace/someone_elses/table"
TASKS = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
EC2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
SUBNET = f"{EC2}:subnet"
# The tags of a cluster when it is asked for, and of one that is there.
EMR_TAG = "for-use-with-amazon-emr-managed-policies"
OURS = {"aws:RequestTag/Project": PREFIX, f"aws:RequestTag/{EMR_TAG}": "true"}
OWN = {"elasticmapreduce:ResourceTag/Project": PREFIX}
OWN_ENDPOINT = {f"aws:RequestTag/{EMR_TAG}": "true", "aws:RequestTag/Name": "emr-service-vpce"}
ANOTHERS = {"elasticmapreduce:ResourceTag/Project": "another"}
VIA_S3 = {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}
VIA_KEYSPACES = {"kms:ViaService": f"cassandra.{REGION}.amazonaws.com"}
VIA_SECRETS = {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}
TO_EMR = {"iam:PassedToService": "elasticmapreduce.amazonaws.com"}
TO_EC2 = {"iam:PassedToService": "ec2.amazonaws.com"}
TO_ECS = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
IN_ITS_CLUSTER = {"ecs:cluster": f"{TASKS}:cluster/{PREFIX}-simulation"}
WRITTEN = ("delta", "runs", "metrics")  # by the jobs


@dataclass
class Identities:
    """The policies of roles, and a policy that is there to be attached, by the names that the tests give them."""

    policies: dict[str, list[Policy]]
    outputs: dict[str, str]
    settings: Settings

    def decide(self, who: str, action: str, resource: str, context: Mapping[str, str] | None = None) -> str:
        return decide(self.policies[who], action, self.filled(resource), context)

    def filled(self, resource: str) -> str:
        return resource.format(**self.outputs)


# With a secret, and with everything that is optional.
STACKS: dict[str, dict[str, Any] | None] = {
    "network": {"ManagedAirflow": True, "Simulation": True},
    "emr": {"KeyspacesSignIn": "Secret"},
}


@pytest.fixture(scope="module")
def who() -> Iterator[Identities]:
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        cloudformation.install(patch)
        settings = Settings(account=ACCOUNT, region=REGION, prefix=PREFIX, cost_centre="data", stacks=STACKS)
        stacks = Stacks(SESSION.client("cloudformation"), lambda _: None, lambda _: None)
        person = Person(lambda _: True, lambda _: None)
        outputs = deploy(Target(settings, templates.load(), stacks, SESSION, person), {})
        roles = {
            "airflow": f"{PREFIX}-airflow",
            "node": f"{PREFIX}-emr-node",
            "emr": f"{PREFIX}-emr",
            "simulation": f"{PREFIX}-simulation",
            "simulation-start": f"{PREFIX}-simulation-start",
            "flow-logs": f"{PREFIX}-flow-logs",
        }
        there = {role["RoleName"] for role in SESSION.client("iam").list_roles()["Roles"]}
        assert there == set(roles.values()), "a role that no test knows"
        attached = {name: arns for template in templates.load() for name, arns in managed(template, stacks, outputs)}
        found = {name: [*inline(role), *map(document, attached.get(role, []))] for name, role in roles.items()}
        yield Identities({**found, "reader": [document(outputs["ReaderPolicyArn"])]}, outputs, settings)


def inline(role: str) -> list[Policy]:
    iam = SESSION.client("iam")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return [parsed(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]) for name in names]


def managed(template: Template, stacks: Stacks, outputs: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """The managed policies of each role, which moto does not attach: those that the template refers to."""
    physical = {name: each for name, (_, each) in stacks.resources(f"{PREFIX}-{template.name}").items()}
    for name, declaration in template.resources.items():
        if declaration["Type"] == "AWS::IAM::Role" and name in physical:
            policies = declaration["Properties"].get("ManagedPolicyArns", [])
            yield physical[name], [{**physical, **outputs}[each] for each in references(policies)]


def references(value: Any) -> Iterator[str]:
    """What is referred to; of an `!If`, whatever there is."""
    if isinstance(value, dict):
        yield from (each for key, each in value.items() if key == "Ref" and not each.startswith("AWS::"))
        value = [each for key, each in value.items() if key != "Ref"]
    for each in value if isinstance(value, list) else []:
        yield from references(each)


def document(arn: str) -> Policy:
    version = SESSION.client("iam").get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return parsed(
        SESSION.client("iam").get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    )


def parsed(policy: Any) -> Policy:
    """moto answers an inline policy of a stack with Python's text of it, where AWS has JSON: YAML is both."""
    return dict(yaml.safe_load(policy) if isinstance(policy, str) else policy)


# What each needs, and nothing that is like it.
ALLOWED = {
    "airflow": [
        ("elasticmapreduce:RunJobFlow", "*", OURS),
        ("elasticmapreduce:AddTags", CLUSTER, OURS),
        ("elasticmapreduce:ListClusters", "*", {}),
        ("elasticmapreduce:DescribeCluster", CLUSTER, OWN),
        ("elasticmapreduce:AddJobFlowSteps", CLUSTER, OWN),
        ("elasticmapreduce:DescribeStep", CLUSTER, OWN),
        ("elasticmapreduce:ListSteps", CLUSTER, OWN),
        ("elasticmapreduce:CancelSteps", CLUSTER, OWN),
        ("elasticmapreduce:SetTerminationProtection", CLUSTER, OWN),
        ("elasticmapreduce:TerminateJobFlows", CLUSTER, OWN),
        ("iam:PassRole", f"{ROLE}/{PREFIX}-emr", TO_EMR),
        ("iam:PassRole", f"{ROLE}/{PREFIX}-emr-node", TO_EC2),
        ("s3:ListBucket", LAKE, {}),
        ("s3:GetObject", f"{LAKE}/Dataset/a.csv", {}),
        ("s3:GetObject", f"{LAKE}/delta/readings/_delta_log/0.json", {}),
        ("s3:GetObject", f"{LAKE}/metrics/energy_data_features.json", {}),
        ("s3:GetObject", f"{LAKE}/elasticmapreduce/j-1/steps/s-1/stderr.gz", {}),
        ("s3:GetObject", f"{LAKE}/releases/0123/certs/ca.pem", {}),
        ("s3:PutObject", f"{LAKE}/runs/feature_store_daily/r/plan.json", {}),
        ("kms:Decrypt", "{KmsKeyArn}", VIA_S3),
        ("kms:GenerateDataKey", "{KmsKeyArn}", VIA_S3),
        ("kms:Decrypt", "{KmsKeyArn}", VIA_KEYSPACES),
        ("kms:Decrypt", "{KmsKeyArn}", VIA_SECRETS),
        ("secretsmanager:GetSecretValue", VARIABLE, {}),
        ("secretsmanager:GetSecretValue", "{KeyspacesSecretArn}", {}),
        ("cassandra:Select", f"{TABLES}/energy_data_features", {}),
        ("cassandra:Select", SYSTEM, {}),
        ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": PREFIX}),
        # MWAA's own.
        ("airflow:PublishMetrics", f"arn:aws:airflow:{REGION}:{ACCOUNT}:environment/{PREFIX}", {}),
        ("s3:GetObject", f"{LAKE}/airflow/dags/feature_store_daily.py", {}),
        ("s3:GetBucketPublicAccessBlock", LAKE, {}),
        ("logs:PutLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:airflow-{PREFIX}-Task:log-stream:a", {}),
        ("sqs:SendMessage", f"arn:aws:sqs:{REGION}:999988887777:airflow-celery-1", {}),
        # The load generator's.
        ("ecs:RunTask", f"{TASKS}:task-definition/{PREFIX}-simulation:7", IN_ITS_CLUSTER),
        ("ecs:DescribeTasks", f"{TASKS}:task/{PREFIX}-simulation/1", {}),
        ("iam:PassRole", f"{ROLE}/{PREFIX}-simulation", TO_ECS),
    ],
    "node": [
        ("s3:ListBucket", LAKE, {}),
        ("s3:GetObject", f"{LAKE}/releases/0123/code.zip", {}),
        ("s3:GetObject", f"{LAKE}/Dataset/a.csv", {}),
        ("s3:GetObject", f"{LAKE}/emr/certificates.zip", {}),
        *((f"s3:{verb}Object", f"{LAKE}/{each}/a", {}) for verb in ("Get", "Put", "Delete") for each in WRITTEN),
        ("s3:PutObject", f"{LAKE}/elasticmapreduce/j-1/node/i-1/bootstrap-actions/1/stderr.gz", {}),
        ("kms:Decrypt", "{KmsKeyArn}", VIA_S3),
        ("kms:GenerateDataKey", "{KmsKeyArn}", VIA_S3),
        ("kms:Decrypt", "{KmsKeyArn}", VIA_KEYSPACES),
        ("cassandra:Select", f"{TABLES}/energy_data_features", {}),
        ("cassandra:Modify", f"{TABLES}/energy_data_features", {}),
        ("cassandra:Select", SYSTEM, {}),
        ("secretsmanager:GetSecretValue", "{KeyspacesSecretArn}", {}),
    ],
    "emr": [
        ("ec2:CreateTags", f"{EC2}:vpc-endpoint/vpce-1", {**OWN_ENDPOINT, "ec2:CreateAction": "CreateVpcEndpoint"}),
        ("ec2:RunInstances", "subnet 0", {}),
        ("ec2:RunInstances", f"{EC2}:instance/*", {f"aws:RequestTag/{EMR_TAG}": "true"}),
        ("ec2:TerminateInstances", f"{EC2}:instance/i-1", {f"aws:ResourceTag/{EMR_TAG}": "true"}),
        ("iam:PassRole", f"{ROLE}/{PREFIX}-emr-node", TO_EC2),
        ("kms:CreateGrant", "{KmsKeyArn}", {"kms:GrantIsForAWSResource": "true"}),
    ],
    "simulation": [
        ("cassandra:Select", f"{TABLES}/energy_data_features", {}),
        ("cassandra:Select", SYSTEM, {}),
        ("kms:Decrypt", "{KmsKeyArn}", VIA_KEYSPACES),
        ("s3:PutObject", f"{LAKE}/simulation/report.html", {}),
        ("kms:GenerateDataKey", "{KmsKeyArn}", VIA_S3),
    ],
    "simulation-start": [
        ("ecr:GetAuthorizationToken", "*", {}),
        ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{PREFIX}-simulation", {}),
        ("logs:PutLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/{PREFIX}/simulation:*", {}),
    ],
    "reader": [
        ("kms:Decrypt", "{KmsKeyArn}", VIA_KEYSPACES),
        ("cassandra:Select", f"{TABLES}/energy_data_features", {}),
        ("cassandra:Select", SYSTEM, {}),
    ],
    "flow-logs": [
        ("logs:PutLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/{PREFIX}/flow-logs:*", {}),
    ],
}  # fmt: skip
# What a role that was taken over could do harm with.
DENIED = {
    "airflow": [
        ("elasticmapreduce:RunJobFlow", "*", {}),
        ("elasticmapreduce:RunJobFlow", "*", {**OURS, "aws:RequestTag/Project": "another"}),
        ("elasticmapreduce:TerminateJobFlows", CLUSTER, ANOTHERS),
        ("elasticmapreduce:AddJobFlowSteps", CLUSTER, ANOTHERS),
        ("elasticmapreduce:AddJobFlowSteps", CLUSTER, {}),
        ("iam:PassRole", f"{ROLE}/admin", TO_EC2),
        ("iam:PassRole", f"{ROLE}/{PREFIX}-emr", TO_EC2),
        ("iam:PassRole", f"{ROLE}/{PREFIX}-emr-node", {"iam:PassedToService": "lambda.amazonaws.com"}),
        ("iam:CreateRole", f"{ROLE}/new", {}),
        ("s3:PutObject", f"{LAKE}/delta/readings/part", {}),
        ("s3:DeleteObject", f"{LAKE}/delta/readings/part", {}),
        ("s3:PutObject", f"{LAKE}/releases/0123/code.zip", {}),
        ("s3:PutObject", f"{LAKE}/airflow/dags/feature_store_daily.py", {}),
        ("s3:GetObject", f"{LAKE}/emr/certificates.zip", {}),
        ("s3:GetObject", f"{OTHER_LAKE}/Dataset/a.csv", {}),
        ("s3:DeleteBucket", LAKE, {}),
        ("s3:PutBucketPolicy", LAKE, {}),
        ("kms:Decrypt", "{KmsKeyArn}", {}),
        ("kms:ScheduleKeyDeletion", "{KmsKeyArn}", {}),
        ("secretsmanager:GetSecretValue", f"{SECRET}:another/airflow/variables/a-1", {}),
        ("secretsmanager:PutSecretValue", VARIABLE, {}),
        ("cassandra:Modify", f"{TABLES}/energy_data_features", {}),
        ("cassandra:Drop", f"{TABLES}/energy_data_features", {}),
        ("cassandra:Select", f"{OTHER_TABLES}/t", {}),
        ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "another"}),
        ("ecs:RunTask", f"{TASKS}:task-definition/{PREFIX}-simulation:7", {"ecs:cluster": f"{TASKS}:cluster/another"}),
        ("ecs:RunTask", f"{TASKS}:task-definition/another:1", IN_ITS_CLUSTER),
        ("ec2:RunInstances", "*", {}),
        ("sts:AssumeRole", f"{ROLE}/admin", {}),
    ],
    "node": [
        ("s3:PutObject", f"{LAKE}/releases/0123/code.zip", {}),
        ("s3:PutObject", f"{LAKE}/airflow/plugins/0123.zip", {}),
        ("s3:PutObject", f"{LAKE}/Dataset/a.csv", {}),
        ("s3:DeleteObject", f"{LAKE}/Dataset/a.csv", {}),
        ("s3:DeleteObject", f"{LAKE}/elasticmapreduce/j-1/log", {}),
        ("s3:PutObject", f"{LAKE}/emr/certificates.zip", {}),
        ("s3:GetObject", f"{OTHER_LAKE}/a", {}),
        ("s3:PutBucketPolicy", LAKE, {}),
        ("cassandra:Create", f"{TABLES}/new", {}),
        ("cassandra:Alter", f"{TABLES}/energy_data_features", {}),
        ("cassandra:Drop", f"{TABLES}/energy_data_features", {}),
        ("cassandra:Modify", f"{OTHER_TABLES}/t", {}),
        ("cassandra:Modify", SYSTEM, {}),
        ("secretsmanager:GetSecretValue", VARIABLE, {}),
        ("elasticmapreduce:RunJobFlow", "*", OURS),
        ("elasticmapreduce:TerminateJobFlows", CLUSTER, OWN),
        ("iam:PassRole", f"{ROLE}/{PREFIX}-emr-node", TO_EC2),
        ("ec2:RunInstances", "*", {}),
        ("sts:AssumeRole", f"{ROLE}/admin", {}),
        ("kms:ScheduleKeyDeletion", "{KmsKeyArn}", {}),
    ],
    "emr": [
        ("ec2:CreateTags", f"{EC2}:vpc-endpoint/vpce-1", OWN_ENDPOINT),
        ("ec2:RunInstances", f"{SUBNET}/subnet-elsewhere", {}),
        ("ec2:RunInstances", f"{EC2}:instance/*", {}),
        ("ec2:TerminateInstances", f"{EC2}:instance/i-1", {}),
        ("iam:PassRole", f"{ROLE}/admin", TO_EC2),
        ("kms:CreateGrant", "{KmsKeyArn}", {"kms:GrantIsForAWSResource": "false"}),
        ("s3:GetObject", f"{LAKE}/delta/a", {}),
        ("ec2:RunInstances", f"{EC2}:key-pair/ssh", {}),
    ],
    "simulation": [
        ("cassandra:Modify", f"{TABLES}/energy_data_features", {}),
        ("cassandra:Select", f"{OTHER_TABLES}/t", {}),
        ("s3:GetObject", f"{LAKE}/delta/a", {}),
        ("s3:PutObject", f"{LAKE}/runs/a", {}),
        ("secretsmanager:GetSecretValue", "{KeyspacesSecretArn}", {}),
        ("kms:Decrypt", "{KmsKeyArn}", {}),
    ],
    "simulation-start": [
        ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/another", {}),
        ("ecr:PutImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{PREFIX}-simulation", {}),
        ("cassandra:Select", f"{TABLES}/energy_data_features", {}),
        ("secretsmanager:GetSecretValue", "{KeyspacesSecretArn}", {}),
    ],
    "reader": [
        ("cassandra:Modify", f"{TABLES}/energy_data_features", {}),
        ("cassandra:Create", f"{TABLES}/new", {}),
        ("cassandra:Select", f"{OTHER_TABLES}/t", {}),
        ("s3:GetObject", f"{LAKE}/delta/a", {}),
        ("kms:Decrypt", "{KmsKeyArn}", {}),
    ],
    "flow-logs": [
        ("logs:PutLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/{PREFIX}/simulation:*", {}),
        ("logs:GetLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/{PREFIX}/flow-logs:*", {}),
    ],
}  # fmt: skip


def cases(table: Mapping[str, list[tuple[str, str, dict[str, str]]]]) -> list[Any]:
    return [pytest.param(name, *case, id=f"{name} {case[0]} {case[1]}") for name, of in table.items() for case in of]


@pytest.mark.parametrize(("name", "action", "resource", "context"), cases(ALLOWED))
def test_what_is_needed_is_allowed(who, name, action, resource, context) -> None:
    if resource == "subnet 0":
        resource = f"{SUBNET}/{who.outputs['SubnetIds'].split(',')[0]}"
    assert who.decide(name, action, resource, context) == "allowed"


@pytest.mark.parametrize(("name", "action", "resource", "context"), cases(DENIED))
def test_what_is_not_needed_is_not_allowed(who, name, action, resource, context) -> None:
    assert who.decide(name, action, resource, context) != "allowed"


def test_the_cluster_that_the_dags_ask_for_is_one_that_airflow_may_make(who) -> None:
    """EMR/cluster.json, rendered with the Variable that the upload stores: tags, roles, name and security groups."""
    made = variable(who.settings, who.outputs, "0123abcd")
    text = (ROOT / "EMR" / "cluster.json").read_text()
    context = {
        "var": {"json": {"feature_store": made}},
        "dag": {"dag_id": "daily"},
        "run_id": "manual__1",
        "dag_run": {"run_type": "manual"},
        "params": {"cluster_size": "small"},
    }
    request = json.loads(Environment(undefined=StrictUndefined).from_string(text).render(context))
    tags = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in request["Tags"]}
    assert who.decide("airflow", "elasticmapreduce:RunJobFlow", "*", tags) == "allowed"
    assert who.decide("airflow", "elasticmapreduce:AddTags", CLUSTER, tags) == "allowed"
    roles = {"ServiceRole": TO_EMR, "JobFlowRole": TO_EC2}
    for name, service in roles.items():
        assert who.decide("airflow", "iam:PassRole", f"{ROLE}/{request[name]}", service) == "allowed"
    monitoring = next(template for template in templates.load() if template.name == "monitoring")
    (pattern,) = monitoring.resources["ClusterFailed"]["Properties"]["EventPattern"]["detail"]["name"]
    assert request["Name"].startswith(pattern["prefix"]["Fn::Sub"].replace("${Prefix}", PREFIX))


def test_no_role_may_do_everything_of_a_service(who) -> None:
    for name, policies in who.policies.items():
        assert not [each for each in actions(policies) if each == "*" or each.endswith(":*")], name


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
    if call.action.startswith("elasticmapreduce:"):
        return [(call.action, "*" if call.resource == "*" else CLUSTER, OWN)]
    if call.action == "secretsmanager:GetSecretValue":
        return [(call.action, "{KeyspacesSecretArn}", {}), ("kms:Decrypt", "{KmsKeyArn}", VIA_SECRETS)]
    if call.action.startswith("s3:"):
        where = DELETED_FROM[call.role] if call.resource == SEVERAL else call.resource.replace("BUCKET", LAKE, 1)
        keys = {"s3:GetObject": "kms:Decrypt", "s3:PutObject": "kms:GenerateDataKey"}
        of_key = [(keys[call.action], "{KmsKeyArn}", VIA_S3)] if call.action in keys else []
        return [(call.action, where if where.startswith("arn:") else f"arn:aws:s3:::{where}", {}), *of_key]
    return [(call.action, call.resource, {})]


recorded = pytest.mark.skipif(
    not api_calls.FILE.exists(), reason="no calls are recorded yet: see tests/e2e/test_api_calls.py"
)


@recorded
def test_every_call_that_was_made_is_allowed(who) -> None:
    refused = [
        f"{call.role} {action} {who.filled(resource)}"
        for call in sorted(api_calls.read())
        for action, resource, context in needed(call)
        if who.decide(call.role, action, resource, context) != "allowed"
    ]
    assert not refused


@recorded
@pytest.mark.parametrize("role", NEVER_CALLED)
def test_every_action_that_is_allowed_was_called_or_has_a_reason(who, role) -> None:
    policies = who.policies["node"] if role == "node" else [document(who.outputs["AirflowPolicyArn"])]
    called = {call.action for call in api_calls.read() if call.role == role}
    assert actions(policies) - called == set(NEVER_CALLED[role])


def test_a_call_that_no_policy_allows_would_be_seen(who) -> None:
    """The checks above can fail."""
    for call in (
        Call("airflow", "s3:PutObject", "BUCKET/delta/*"),
        Call("node", "s3:PutObject", "BUCKET/releases/*"),
        Call("node", "s3:GetObject", "another/delta/*"),
        Call("node", "elasticmapreduce:RunJobFlow", "*"),
        Call("airflow", "ssm:GetParameter", "*"),
    ):
        decisions = [who.decide(call.role, *each) for each in needed(call)]
        assert set(decisions) != {"allowed"}, call
