"""What each role of the deployment may do, and what it may not: its policies as deployed, decided by IAM's rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from jinja2 import Environment, StrictUndefined

from infra.aws import templates
from infra.aws.upload import variable
from infra.local.settings import ROOT
from tests.iam import actions
from tests.unit.infra.aws.cloudformation import ACCOUNT, REGION
from tests.unit.infra.aws.identities import (
    ANOTHERS,
    CLUSTER,
    EC2,
    EMR_TAG,
    IN_ITS_CLUSTER,
    LAKE,
    OTHER_LAKE,
    OTHER_TABLES,
    OURS,
    OWN,
    OWN_ENDPOINT,
    PREFIX,
    ROLE,
    SECRET,
    SIMULATION_LOG,
    SUBNET,
    SYSTEM,
    TABLES,
    TASKS,
    TO_EC2,
    TO_ECS,
    TO_EMR,
    VARIABLE,
    VIA_KEYSPACES,
    VIA_S3,
    VIA_SECRETS,
    WRITTEN,
)

pytestmark = pytest.mark.unit


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
        ("ecs:StopTask", f"{TASKS}:task/{PREFIX}-simulation/1", {}),
        ("iam:PassRole", f"{ROLE}/{PREFIX}-simulation", TO_ECS),
        ("iam:PassRole", f"{ROLE}/{PREFIX}-simulation-start", TO_ECS),
        ("logs:GetLogEvents", f"{SIMULATION_LOG}:log-stream:run/simulation/1", {}),
        ("s3:GetObject", f"{LAKE}/simulation_results/load/report.html", {}),
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
        *((f"s3:{verb}Object", f"{LAKE}/simulation_results/load/report.html", {}) for verb in ("Get", "Put")),
        ("s3:ListBucket", LAKE, {"s3:prefix": "simulation_results/load/"}),
        ("kms:GenerateDataKey", "{KmsKeyArn}", VIA_S3),
    ],
    "simulation-start": [
        ("ecr:GetAuthorizationToken", "*", {}),
        ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{PREFIX}-simulation", {}),
        ("logs:PutLogEvents", f"{SIMULATION_LOG}:*", {}),
        ("secretsmanager:GetSecretValue", "{KeyspacesSecretArn}", {}),
        ("kms:Decrypt", "{KmsKeyArn}", VIA_SECRETS),
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
        ("ecs:StopTask", f"{TASKS}:task/another/1", {}),
        ("ecs:RegisterTaskDefinition", "*", {}),
        ("iam:PassRole", f"{ROLE}/{PREFIX}-simulation", TO_EC2),
        ("logs:GetLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:another:log-stream:a", {}),
        ("s3:PutObject", f"{LAKE}/simulation_results/load/report.html", {}),
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
        ("s3:DeleteObject", f"{LAKE}/simulation_results/load/report.html", {}),
        ("s3:ListBucket", LAKE, {}),
        ("s3:ListBucket", LAKE, {"s3:prefix": "delta/"}),
        ("secretsmanager:GetSecretValue", "{KeyspacesSecretArn}", {}),
        ("kms:Decrypt", "{KmsKeyArn}", {}),
        ("ecs:StopTask", f"{TASKS}:task/{PREFIX}-simulation/1", {}),
    ],
    "simulation-start": [
        ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/another", {}),
        ("ecr:PutImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{PREFIX}-simulation", {}),
        ("cassandra:Select", f"{TABLES}/energy_data_features", {}),
        ("secretsmanager:GetSecretValue", VARIABLE, {}),
        ("kms:Decrypt", "{KmsKeyArn}", VIA_S3),
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
