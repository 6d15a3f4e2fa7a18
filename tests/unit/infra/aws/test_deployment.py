"""The project's own templates, deployed into an AWS in memory: each resource is looked for by its own service's API.

moto passes over types that it does not know, and says that the stack is complete: those are listed here, so that a test
fails when there is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.aws import templates
from infra.aws.cloudformation import Stacks
from infra.aws.deploy import deploy
from infra.aws.destroy import destroy, removal
from infra.aws.settings import Settings
from infra.aws.target import Person, Target
from tests.unit.infra.aws import cloudformation
from tests.unit.infra.aws.cloudformation import ACCOUNT, REGION, SESSION

pytestmark = pytest.mark.unit

TEMPLATES = templates.load()
# moto (5.2.5) makes none of these: that they are made is not checked here. What they say is: cfn-lint and the tests of
# the templates read them.
PASSED_OVER = {
    "AWS::Budgets::Budget",
    "AWS::Cassandra::Keyspace",
    "AWS::Cassandra::Table",
    "AWS::CloudWatch::Alarm",
    "AWS::MWAA::Environment",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SecretsManager::Secret",
}
# It keeps a book of them that its own API does not show.
NOT_CHECKED_HERE = {*PASSED_OVER, "AWS::EC2::SubnetRouteTableAssociation"}
EVERYTHING = {
    "network": {"ManagedAirflow": True, "Simulation": True},
    "emr": {"KeyspacesSignIn": "Secret"},
    "monitoring": {"AlarmEmail": "someone@example.org", "MonthlyBudget": 100},
}
# What of each type is found by its physical id: the service, its question, under which name it takes the id (one or a
# list), and where in the answer it is.
QUESTIONS: dict[str, tuple[str, str, str, str]] = {
    "AWS::CloudWatch::Dashboard": ("cloudwatch", "get_dashboard", "DashboardName", "DashboardBody"),
    "AWS::EC2::FlowLog": ("ec2", "describe_flow_logs", "FlowLogIds", "FlowLogs"),
    "AWS::EC2::RouteTable": ("ec2", "describe_route_tables", "RouteTableIds", "RouteTables"),
    "AWS::EC2::SecurityGroup": ("ec2", "describe_security_groups", "GroupIds", "SecurityGroups"),
    "AWS::EC2::Subnet": ("ec2", "describe_subnets", "SubnetIds", "Subnets"),
    "AWS::EC2::VPC": ("ec2", "describe_vpcs", "VpcIds", "Vpcs"),
    "AWS::EC2::VPCEndpoint": ("ec2", "describe_vpc_endpoints", "VpcEndpointIds", "VpcEndpoints"),
    "AWS::ECR::Repository": ("ecr", "describe_repositories", "repositoryNames", "repositories"),
    "AWS::ECS::Cluster": ("ecs", "describe_clusters", "clusters", "clusters"),
    "AWS::ECS::TaskDefinition": ("ecs", "describe_task_definition", "taskDefinition", "taskDefinition"),
    "AWS::EMR::SecurityConfiguration": ("emr", "describe_security_configuration", "Name", "SecurityConfiguration"),
    "AWS::Events::Rule": ("events", "describe_rule", "Name", "Arn"),
    "AWS::IAM::InstanceProfile": ("iam", "get_instance_profile", "InstanceProfileName", "InstanceProfile"),
    "AWS::IAM::ManagedPolicy": ("iam", "get_policy", "PolicyArn", "Policy"),
    "AWS::IAM::Role": ("iam", "get_role", "RoleName", "Role"),
    "AWS::Logs::LogGroup": ("logs", "describe_log_groups", "logGroupNamePrefix", "logGroups"),
    "AWS::S3::Bucket": ("s3", "head_bucket", "Bucket", "ResponseMetadata"),
    "AWS::SNS::Topic": ("sns", "get_topic_attributes", "TopicArn", "Attributes"),
}


def key_is_there(physical: str) -> bool:
    return physical in [each["KeyId"] for each in SESSION.client("kms").list_keys()["Keys"]]


def alias_is_there(physical: str) -> bool:
    aliases = SESSION.client("kms").list_aliases()["Aliases"]
    return physical in [each["AliasName"] for each in aliases if each.get("TargetKeyId")]


LOOKS: dict[str, Callable[[str], bool]] = {"AWS::KMS::Alias": alias_is_there, "AWS::KMS::Key": key_is_there}


def is_there(kind: str, physical: str) -> bool:
    if kind in LOOKS:
        return LOOKS[kind](physical)
    service, question, name, where = QUESTIONS[kind]
    one = not name.lower().endswith("s")
    answer = getattr(SESSION.client(service), question)(**{name: physical if one else [physical]})
    return bool(answer[where])


# Parts of another resource, found in that: no API knows them by their physical id.
RULES, POLICIES = "AWS::EC2::SecurityGroupIngress", "AWS::IAM::Policy"


@dataclass
class Deployed:
    """The stacks, deployed with some settings."""

    settings: Settings
    session: boto3.Session
    said: list[str]
    outputs: dict[str, str]

    @property
    def stacks(self) -> Stacks:
        return Stacks(self.session.client("cloudformation"), self.said.append, lambda _: None)

    @property
    def target(self) -> Target:
        return Target(self.settings, TEMPLATES, self.stacks, self.session, Person(lambda _: True, self.said.append))

    def again(self) -> dict[str, str]:
        self.said.clear()
        return deploy(self.target, {})

    def resources(self) -> Iterator[tuple[str, str, str]]:
        """Logical id, type and physical id of each resource whose condition holds."""
        for template in TEMPLATES:
            for logical_id, (kind, physical) in self.stacks.resources(self.settings.stack_name(template)).items():
                if kind:  # moto lists also what its condition leaves out, without anything
                    yield logical_id, kind, physical


def existing_vpc(session: boto3.Session) -> dict[str, dict[str, Any]]:
    """Settings for the VPC that an account comes with."""
    ec2 = session.client("ec2")
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    subnets = [each["SubnetId"] for each in ec2.describe_subnets()["Subnets"]]
    tables = [each["RouteTableId"] for each in ec2.describe_route_tables()["RouteTables"]]
    return {
        "network": {
            "VpcId": vpc["VpcId"],
            "VpcCidr": vpc["CidrBlock"],
            "SubnetIds": subnets[:2],
            "RouteTableIds": tables,
        }
    }


@pytest.fixture(
    scope="module",
    params=[lambda _: {}, lambda _: EVERYTHING, existing_vpc],
    ids=["as-it-comes", "everything", "existing-vpc"],
)
def deployed(request) -> Iterator[Deployed]:
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        cloudformation.install(patch)
        session = SESSION
        settings = Settings(
            account=ACCOUNT, region=REGION, prefix="fs", cost_centre="data", stacks=request.param(session)
        )
        here = Deployed(settings, session, [], {})
        here.outputs = here.again()
        yield here


def test_every_resource_is_there_by_its_own_api(deployed) -> None:
    found = list(deployed.resources())
    missing = [
        f"{logical_id} ({kind} {physical})"
        for logical_id, kind, physical in found
        if kind in {*LOOKS, *QUESTIONS} and not is_there(kind, physical)
    ]
    assert not missing
    assert {kind for _, kind, _ in found} - {*LOOKS, *QUESTIONS, RULES, POLICIES} <= NOT_CHECKED_HERE


def test_what_is_not_checked_is_what_moto_does_not_make() -> None:
    """So that a type leaves the list when moto comes to make it."""
    from moto.cloudformation.parsing import get_model_map

    declared = {each["Type"] for template in TEMPLATES for each in template.resources.values()}
    assert declared - set(get_model_map()) == PASSED_OVER


def test_each_rule_is_in_its_security_group(deployed) -> None:
    by_name = {
        logical_id: physical for logical_id, kind, physical in deployed.resources() if kind.endswith("SecurityGroup")
    }
    rules = [each for each in TEMPLATES[0].resources.values() if each["Type"] == RULES]
    assert rules
    for rule in rules:
        group = by_name[rule["Properties"]["GroupId"]["Fn::GetAtt"][0]]
        if "Condition" in rule:  # not made here: addresses that nobody has given
            continue
        source = rule["Properties"]["SourceSecurityGroupId"]["Fn::GetAtt"][0]
        (described,) = deployed.session.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
        sources = [pair["GroupId"] for each in described["IpPermissions"] for pair in each["UserIdGroupPairs"]]
        assert by_name[source] in sources


def test_each_policy_is_in_its_role(deployed) -> None:
    declared = {name: each for template in TEMPLATES for name, each in template.resources.items()}
    physical = {logical_id: each for logical_id, kind, each in deployed.resources() if kind == "AWS::IAM::Role"}
    made = [logical_id for logical_id, kind, _ in deployed.resources() if kind == POLICIES]
    assert bool(made) == (deployed.settings.stacks == EVERYTHING)
    for logical_id in made:
        properties = declared[logical_id]["Properties"]
        for role in properties["Roles"]:
            names = SESSION.client("iam").list_role_policies(RoleName=physical[role["Ref"]])["PolicyNames"]
            assert properties["PolicyName"] in names


def test_every_output_is_made(deployed) -> None:
    conditional = {
        name
        for template in TEMPLATES
        for name, output in templates.long_form(template.body)["Outputs"].items()
        if "Condition" in output
    }
    declared = {name for template in TEMPLATES for name in template.outputs}
    assert declared - set(deployed.outputs) <= conditional
    if deployed.settings.stacks == EVERYTHING:
        assert set(deployed.outputs) == declared


def test_no_two_stacks_have_an_output_of_the_same_name() -> None:
    names = [name for template in TEMPLATES for name in template.outputs]
    assert len(names) == len(set(names))


def test_a_second_deployment_changes_nothing(deployed) -> None:
    assert deployed.again() == deployed.outputs
    assert [line for line in deployed.said if not line.endswith(": no change")] == []


def test_what_is_kept_is_the_data() -> None:
    kinds = ("AWS::S3::Bucket", "AWS::KMS::Key", "AWS::Cassandra::Keyspace", "AWS::Cassandra::Table")
    for template in TEMPLATES:
        data = {name for name, each in template.resources.items() if each["Type"] in kinds}
        assert template.kept == data


def test_destroying_it_keeps_the_data_and_nothing_else(deployed) -> None:
    """The last test: it takes the fixture away. In a VPC that stays: moto can't delete a route table by its stack."""
    if "VpcId" not in (deployed.settings.stacks.get("network") or {}):
        pytest.skip("moto can't delete what the stack network makes of a VPC")
    deployed.said.clear()
    destroy(deployed.target)
    client = deployed.session.client
    assert client("cloudformation").describe_stacks()["Stacks"] == []
    assert client("iam").list_roles()["Roles"] == []
    groups = client("ec2").describe_security_groups()["SecurityGroups"]
    assert [each["GroupName"] for each in groups] == ["default"]
    bucket, key = deployed.outputs["BucketName"], deployed.outputs["KmsKeyArn"]
    assert client("s3").head_bucket(Bucket=bucket)
    assert key_is_there(key.rpartition("/")[2])
    left = [line.removeprefix("  = ") for line in deployed.said[deployed.said.index("Left in the account:") + 1 :: 2]]
    tables = f"arn:aws:cassandra:{REGION}:{ACCOUNT}:/keyspace/fs/"
    assert {f"arn:aws:s3:::{bucket}", key, tables, f"{tables}table/energy_data_features"} <= set(left)
    assert all(removal(each) for each in left), left
