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
# What of each type is found by its physical id.
LOOKS: dict[str, Callable[[Any, str], Any]] = {
    "AWS::CloudWatch::Dashboard": lambda aws, name: aws("cloudwatch").get_dashboard(DashboardName=name)["DashboardBody"],
    "AWS::EC2::FlowLog": lambda aws, name: aws("ec2").describe_flow_logs(FlowLogIds=[name])["FlowLogs"],
    "AWS::EC2::RouteTable": lambda aws, name: aws("ec2").describe_route_tables(RouteTableIds=[name])["RouteTables"],
    "AWS::EC2::SecurityGroup": lambda aws, name: aws("ec2").describe_security_groups(GroupIds=[name])["SecurityGroups"],
    "AWS::EC2::Subnet": lambda aws, name: aws("ec2").describe_subnets(SubnetIds=[name])["Subnets"],
    "AWS::EC2::VPC": lambda aws, name: aws("ec2").describe_vpcs(VpcIds=[name])["Vpcs"],
    "AWS::EC2::VPCEndpoint": lambda aws, name: aws("ec2").describe_vpc_endpoints(VpcEndpointIds=[name])["VpcEndpoints"],
    "AWS::ECR::Repository": lambda aws, name: aws("ecr").describe_repositories(repositoryNames=[name])["repositories"],
    "AWS::ECS::Cluster": lambda aws, name: aws("ecs").describe_clusters(clusters=[name])["clusters"],
    "AWS::ECS::TaskDefinition": lambda aws, name: aws("ecs").describe_task_definition(taskDefinition=name)["taskDefinition"],
    "AWS::EMR::SecurityConfiguration": lambda aws, name: aws("emr").describe_security_configuration(Name=name)["SecurityConfiguration"],
    "AWS::Events::Rule": lambda aws, name: aws("events").describe_rule(Name=name)["Arn"],
    "AWS::IAM::InstanceProfile": lambda aws, name: aws("iam").get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"],
    "AWS::IAM::ManagedPolicy": lambda aws, name: aws("iam").get_policy(PolicyArn=name)["Policy"],
    "AWS::IAM::Role": lambda aws, name: aws("iam").get_role(RoleName=name)["Role"],
    "AWS::KMS::Alias": lambda aws, name: [each for each in aws("kms").list_aliases()["Aliases"] if each["AliasName"] == name and each.get("TargetKeyId")],
    "AWS::KMS::Key": lambda aws, name: [each for each in aws("kms").list_keys()["Keys"] if each["KeyId"] == name],
    "AWS::Logs::LogGroup": lambda aws, name: aws("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"],
    "AWS::S3::Bucket": lambda aws, name: aws("s3").head_bucket(Bucket=name)["ResponseMetadata"],
    "AWS::SNS::Topic": lambda aws, name: aws("sns").get_topic_attributes(TopicArn=name)["Attributes"],
}  # fmt: skip
# Rules have no physical id in moto: they are found in their group.
RULES = "AWS::EC2::SecurityGroupIngress"


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

    def again(self) -> dict[str, str]:
        self.said.clear()
        return deploy(self.settings, TEMPLATES, self.stacks, lambda _: True, self.said.append, {})

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
    return {"network": {"VpcId": vpc["VpcId"], "VpcCidr": vpc["CidrBlock"], "SubnetIds": subnets[:2], "RouteTableIds": tables}}


@pytest.fixture(
    scope="module",
    params=[lambda _: {}, lambda _: EVERYTHING, existing_vpc],
    ids=["as-it-comes", "everything", "existing-vpc"],
)
def deployed(request) -> Iterator[Deployed]:
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        cloudformation.install(patch)
        session = SESSION
        settings = Settings(account=ACCOUNT, region=REGION, prefix="fs", cost_centre="data", stacks=request.param(session))
        here = Deployed(settings, session, [], {})
        here.outputs = here.again()
        yield here


def test_every_resource_is_there_by_its_own_api(deployed) -> None:
    found = list(deployed.resources())
    missing = [
        f"{logical_id} ({kind} {physical})"
        for logical_id, kind, physical in found
        if kind in LOOKS and not LOOKS[kind](deployed.session.client, physical)
    ]
    assert not missing
    assert {kind for _, kind, _ in found} - set(LOOKS) - {RULES} <= NOT_CHECKED_HERE


def test_what_is_not_checked_is_what_moto_does_not_make() -> None:
    """So that a type leaves the list when moto comes to make it."""
    from moto.cloudformation.parsing import get_model_map

    declared = {each["Type"] for template in TEMPLATES for each in template.resources.values()}
    assert declared - set(get_model_map()) == PASSED_OVER


def test_each_rule_is_in_its_security_group(deployed) -> None:
    by_name = {logical_id: physical for logical_id, kind, physical in deployed.resources() if kind.endswith("SecurityGroup")}
    rules = [each for each in TEMPLATES[0].resources.values() if each["Type"] == RULES]
    assert rules
    for rule in rules:
        group = by_name[rule["Properties"]["GroupId"]["Fn::GetAtt"][0]]
        source = rule["Properties"]["SourceSecurityGroupId"]["Fn::GetAtt"][0]
        (described,) = deployed.session.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
        sources = [pair["GroupId"] for each in described["IpPermissions"] for pair in each["UserIdGroupPairs"]]
        assert by_name[source] in sources


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
    destroy(deployed.settings, TEMPLATES, deployed.stacks, deployed.session, lambda _: True, deployed.said.append)
    client = deployed.session.client
    assert client("cloudformation").describe_stacks()["Stacks"] == []
    assert client("iam").list_roles()["Roles"] == []
    groups = client("ec2").describe_security_groups()["SecurityGroups"]
    assert [each["GroupName"] for each in groups] == ["default"]
    bucket, key = deployed.outputs["BucketName"], deployed.outputs["KmsKeyArn"]
    assert client("s3").head_bucket(Bucket=bucket)
    assert LOOKS["AWS::KMS::Key"](client, key.rpartition("/")[2])
    left = [line.removeprefix("  = ") for line in deployed.said[deployed.said.index("Left in the account:") + 1 :: 2]]
    tables = f"arn:aws:cassandra:{REGION}:{ACCOUNT}:/keyspace/fs/"
    assert {f"arn:aws:s3:::{bucket}", key, tables, f"{tables}table/energy_data_features"} <= set(left)
    assert all(removal(each) for each in left), left
