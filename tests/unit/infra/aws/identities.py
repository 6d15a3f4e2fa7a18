"""The roles of a deployment, their policies as moto's CloudFormation has made them, and names to ask of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from moto import mock_aws

from infra.aws import templates
from infra.aws.cloudformation import Stacks
from infra.aws.deploy import deploy
from infra.aws.settings import Settings
from infra.aws.target import Person, Target
from infra.aws.templates import Template
from tests.iam import Policy, decide
from tests.unit.infra.aws import cloudformation
from tests.unit.infra.aws.cloudformation import ACCOUNT, REGION, SESSION

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
SIMULATION_LOG = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/{PREFIX}/simulation"
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
