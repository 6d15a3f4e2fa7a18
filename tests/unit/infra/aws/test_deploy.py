"""The tool that deploys: tiny stacks, in an AWS in memory, through everything that can come between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.aws import templates
from infra.aws.cloudformation import Stacks
from infra.aws.deploy import deploy
from infra.aws.destroy import destroy
from infra.aws.errors import DeclinedError, DeploymentError
from infra.aws.settings import Settings
from infra.aws.status import status
from infra.aws.target import Person, Target
from infra.aws.templates import Template
from tests.unit.infra.aws import cloudformation
from tests.unit.infra.aws.cloudformation import ACCOUNT, REGION, SESSION

pytestmark = pytest.mark.unit

STORAGE = """
Parameters:
  Prefix: { Type: String }
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    DeletionPolicy: RetainExceptOnCreate
    Properties: { BucketName: !Sub "${Prefix}-lake" }
Outputs:
  BucketName: { Value: !Ref Bucket }
"""
ALARMS = """
Parameters:
  Prefix: { Type: String }
  BucketName: { Type: String }
  Ending: { Type: String, Default: alarms }
Resources:
  Topic:
    Type: AWS::SNS::Topic
    Properties: { TopicName: !Ref Ending }
  Queue:
    Type: AWS::SQS::Queue
    Properties: { QueueName: !Sub "${BucketName}-events" }
Outputs:
  TopicArn: { Value: !Ref Topic }
"""


MORE_ALARMS = ALARMS.replace(
    "Outputs:", "  Other:\n    Type: AWS::SQS::Queue\n    Properties: { QueueName: other }\nOutputs:"
)


@dataclass
class Account:
    """An empty account, what the tool says, and what the person at the terminal answers."""

    session: boto3.Session
    answers: list[bool] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    between: Callable[[], None] = lambda: None  # what happens elsewhere while the tool waits

    @property
    def stacks(self) -> Stacks:
        return Stacks(self.client("cloudformation"), self.said.append, lambda _: self.between())

    def target(self, *bodies: str, **stacks: dict[str, Any]) -> Target:
        person = Person(self.agree, self.said.append)
        return Target(settings(**stacks), fixtures(*bodies), self.stacks, self.session, person)

    def client(self, service: str) -> Any:
        return self.session.client(service)

    def agree(self, question: str) -> bool:
        self.asked.append(question)
        return self.answers.pop(0) if self.answers else True

    def deploy(self, *bodies: str, makers: Any = None, **stacks: dict[str, Any]) -> dict[str, str]:
        return deploy(self.target(*bodies, **stacks), makers or {})

    def destroy(self) -> None:
        destroy(self.target(STORAGE, ALARMS))

    def states(self) -> dict[str, str]:
        found = self.client("cloudformation").describe_stacks()["Stacks"]
        return {stack["StackName"]: stack["StackStatus"] for stack in found}

    def set_state(self, name: str, state: str) -> None:
        backend = cloudformation.cloudformation_backends[ACCOUNT][REGION]
        next(stack for stack in backend.stacks.values() if stack.name == name).status = state

    def buckets(self) -> set[str]:
        return {bucket["Name"] for bucket in self.client("s3").list_buckets()["Buckets"]}

    def queues(self) -> list[str]:
        return [url.rpartition("/")[2] for url in self.client("sqs").list_queues().get("QueueUrls", [])]


def settings(**stacks: dict[str, Any]) -> Settings:
    return Settings(account=ACCOUNT, region=REGION, prefix="fs", cost_centre="data", stacks=stacks)


def fixtures(*bodies: str) -> list[Template]:
    return [templates.parse(name, body) for name, body in zip(("storage", "alarms"), bodies, strict=False)]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    cloudformation.install(monkeypatch)
    with mock_aws():
        yield Account(SESSION)


def test_a_first_deployment_shows_each_stack_and_hands_outputs_on(account) -> None:
    outputs = account.deploy(STORAGE, ALARMS)
    assert account.asked == ["Deploy fs-storage?", "Deploy fs-alarms?"]
    assert account.said == [
        "fs-storage: a new stack of 1 resource(s)",
        "  + Add     Bucket  AWS::S3::Bucket",
        "fs-storage: done",
        "fs-alarms: a new stack of 2 resource(s)",
        "  + Add     Topic  AWS::SNS::Topic",
        "  + Add     Queue  AWS::SQS::Queue",
        "fs-alarms: done",
    ]
    assert outputs["BucketName"] == "fs-lake"
    assert account.queues() == ["fs-lake-events"]
    tags = account.client("cloudformation").describe_stacks(StackName="fs-alarms")["Stacks"][0]["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"Project": "fs", "CostCentre": "data"}


def test_a_second_one_changes_nothing_and_asks_nothing(account) -> None:
    first = account.deploy(STORAGE, ALARMS)
    events = account.client("cloudformation").describe_stack_events(StackName="fs-alarms")["StackEvents"]
    account.asked.clear()
    account.said.clear()
    assert account.deploy(STORAGE, ALARMS) == first
    assert account.asked == []
    assert account.said == ["fs-storage: no change", "fs-alarms: no change"]
    assert account.client("cloudformation").describe_stack_events(StackName="fs-alarms")["StackEvents"] == events
    assert account.client("cloudformation").list_change_sets(StackName="fs-alarms")["Summaries"] == []


def test_a_change_says_what_is_replaced_and_what_becomes_of_the_old_one(account) -> None:
    account.deploy(STORAGE, ALARMS)
    account.said.clear()
    account.deploy(STORAGE, ALARMS.replace("-events", "-arrivals"), alarms={"Ending": "warnings"})
    assert account.said[1:] == [
        "fs-alarms: a change of 2 resource(s)",
        "  ~ Modify  Queue  AWS::SQS::Queue  replaced: yes, the old one is deleted  (QueueName)",
        "  ~ Modify  Topic  AWS::SNS::Topic  replaced: yes, the old one is deleted",
        "fs-alarms: done",
    ]
    assert account.states()["fs-alarms"] == "UPDATE_COMPLETE"


def test_what_is_declined_leaves_no_trace(account) -> None:
    account.answers = [True, False]
    with pytest.raises(DeclinedError, match="fs-alarms was not deployed"):
        account.deploy(STORAGE, ALARMS)
    assert account.states() == {"fs-storage": "CREATE_COMPLETE"}
    account.deploy(STORAGE, ALARMS)
    account.answers = [False]
    with pytest.raises(DeclinedError):
        account.deploy(STORAGE, ALARMS.replace("-events", "-arrivals"))
    assert account.client("cloudformation").list_change_sets(StackName="fs-alarms")["Summaries"] == []
    assert account.queues() == ["fs-lake-events"]


def test_a_stack_that_fails_says_why_and_the_next_run_goes_on(account) -> None:
    account.client("s3").create_bucket(Bucket="fs-lake", CreateBucketConfiguration={"LocationConstraint": REGION})
    with pytest.raises(DeploymentError) as caught:
        account.deploy(STORAGE, ALARMS)
    assert str(caught.value).splitlines() == [
        "The stack fs-storage is ROLLBACK_COMPLETE.",
        "Bucket (AWS::S3::Bucket) could not be created: The requested bucket name is not available. "
        "The bucket namespace is shared by all users of the system. Please select a different name and try again.",
    ]
    account.client("s3").delete_bucket(Bucket="fs-lake")
    account.said.clear()
    account.deploy(STORAGE, ALARMS)
    assert account.said[0] == "fs-storage: clearing away what is left of a creation that failed (ROLLBACK_COMPLETE)"
    assert account.states() == {"fs-storage": "CREATE_COMPLETE", "fs-alarms": "CREATE_COMPLETE"}


def test_a_change_that_fails_is_rolled_back(account) -> None:
    account.deploy(STORAGE, ALARMS)
    more = MORE_ALARMS.replace(
        "AWS::SQS::Queue\n    Properties: { QueueName: other }",
        "AWS::S3::Bucket\n    Properties: { BucketName: fs-lake }",
    )
    with pytest.raises(DeploymentError, match=r"fs-alarms is UPDATE_ROLLBACK_COMPLETE.\nOther .* could not be changed"):
        account.deploy(STORAGE, more)
    account.deploy(STORAGE, MORE_ALARMS)
    assert account.states()["fs-alarms"] == "UPDATE_COMPLETE"
    assert account.queues() == ["fs-lake-events", "other"]


def test_a_run_that_was_killed_before_an_answer_is_taken_up(account) -> None:
    """It leaves a change set, of a stack that has nothing else or of one that is there."""
    made = account.stacks.propose("fs-storage", STORAGE, {"Prefix": "fs"}, {})
    assert made
    assert account.states() == {"fs-storage": "REVIEW_IN_PROGRESS"}
    account.deploy(STORAGE, ALARMS)
    assert account.states() == {"fs-storage": "CREATE_COMPLETE", "fs-alarms": "CREATE_COMPLETE"}
    account.stacks.propose("fs-alarms", ALARMS, {"Prefix": "fs", "BucketName": "other"}, {})
    other = {"Prefix": "x", "BucketName": "y"}
    account.client("cloudformation").create_change_set(
        StackName="fs-alarms",
        ChangeSetName="someone-elses",
        TemplateBody=ALARMS,
        ChangeSetType="UPDATE",
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in other.items()],
    )
    account.deploy(STORAGE, ALARMS)
    left = account.client("cloudformation").list_change_sets(StackName="fs-alarms")["Summaries"]
    assert [each["ChangeSetName"] for each in left] == ["someone-elses"]


def test_a_change_set_that_is_still_being_made_is_waited_for(account) -> None:
    account.deploy(STORAGE, ALARMS)
    left = account.stacks.propose("fs-alarms", ALARMS, {"Prefix": "fs", "BucketName": "other"}, {})
    assert left
    of = cloudformation.cloudformation_backends[ACCOUNT][REGION].change_sets[left.change_set]
    of.status, waited = "CREATE_IN_PROGRESS", []

    def made() -> None:
        waited.append(of.status)
        of.status = "CREATE_COMPLETE"

    account.between = made
    account.deploy(STORAGE, ALARMS)
    assert waited == ["CREATE_IN_PROGRESS"]
    assert not account.client("cloudformation").list_change_sets(StackName="fs-alarms")["Summaries"]


@pytest.mark.parametrize("end", ["UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_what_is_under_way_is_waited_for(account, end) -> None:
    """A run that was killed after its answer: CloudFormation goes on with it."""
    account.deploy(STORAGE, ALARMS)
    account.set_state("fs-alarms", "UPDATE_IN_PROGRESS")
    account.between = lambda: account.set_state("fs-alarms", end)
    account.said.clear()
    account.deploy(STORAGE, MORE_ALARMS)
    assert account.said[:2] == ["fs-storage: no change", "fs-alarms: update in progress"]
    assert account.queues() == ["fs-lake-events", "other"]


def test_a_creation_under_way_that_fails_while_one_waits_is_made_anew(account) -> None:
    account.deploy(STORAGE, ALARMS)
    account.set_state("fs-alarms", "ROLLBACK_IN_PROGRESS")
    account.between = lambda: account.set_state("fs-alarms", "ROLLBACK_COMPLETE")
    account.deploy(STORAGE, ALARMS)
    assert account.states()["fs-alarms"] == "CREATE_COMPLETE"


@pytest.mark.parametrize("state", ["UPDATE_ROLLBACK_FAILED", "DELETE_FAILED"])
def test_what_only_a_person_can_mend_is_said(account, state) -> None:
    account.deploy(STORAGE, ALARMS)
    account.set_state("fs-storage", state)
    with pytest.raises(DeploymentError, match=f"The stack fs-storage is {state}: .*`"):
        account.deploy(STORAGE, ALARMS)


def test_parameters_that_are_made_on_the_way_count_like_outputs(account) -> None:
    seen: list[dict[str, str]] = []

    def make(outputs: dict[str, str]) -> dict[str, str]:
        seen.append(dict(outputs))
        return {"Ending": "made"}

    assert account.deploy(STORAGE, ALARMS, makers={"alarms": make})["TopicArn"].endswith(":made")
    assert seen == [{"BucketName": "fs-lake"}]


def test_an_output_that_no_stack_gives_is_named(account) -> None:
    with pytest.raises(DeploymentError, match="No stack before alarms has given BucketName"):
        account.deploy(STORAGE.partition("Outputs:")[0], ALARMS)


def test_destroy_says_first_what_goes_and_what_stays(account) -> None:
    account.deploy(STORAGE, ALARMS)
    account.said.clear()
    account.asked.clear()
    account.answers = [False]
    with pytest.raises(DeclinedError, match="Nothing was deleted"):
        account.destroy()
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms"
    queue = account.client("sqs").list_queues()["QueueUrls"][0]
    assert account.said == [
        "fs-alarms: would be deleted, with 2 resource(s)",
        f"  - Topic  AWS::SNS::Topic  {topic}",
        f"  - Queue  AWS::SQS::Queue  {queue}",
        "fs-storage: would be deleted, with 0 resource(s)",
        "  = Bucket  AWS::S3::Bucket  fs-lake  is kept",
    ]
    assert account.asked == ["Delete 2 stack(s)?"]
    assert set(account.states()) == {"fs-storage", "fs-alarms"}


def test_destroy_keeps_the_data_and_lists_what_is_left(account) -> None:
    account.deploy(STORAGE, ALARMS)
    account.client("s3").put_object(Bucket="fs-lake", Key="delta/readings/part", Body=b"data")
    account.said.clear()
    account.destroy()
    assert account.states() == {}
    assert (account.queues(), account.buckets()) == ([], {"fs-lake"})
    tail = account.said[account.said.index("fs-storage: deleted") + 1 :]
    assert tail[:2] == ["Left in the account:", "  = arn:aws:s3:::fs-lake"]
    assert tail[2].startswith("      to remove it too: empty the bucket")
    account.said.clear()
    account.destroy()
    assert account.said[0] == "There is no stack of the prefix fs."


def test_a_deletion_that_fails_says_why_and_the_next_run_goes_on(account, monkeypatch) -> None:
    account.deploy(STORAGE, ALARMS)
    from moto.sqs.models import Queue

    def in_use(*_: Any, **__: Any) -> None:
        raise ValueError("the queue is in use")

    with monkeypatch.context() as patch:
        patch.setattr(Queue, "delete_from_cloudformation_json", in_use)
        patch.setattr(Queue, "delete", in_use, raising=False)
        with pytest.raises(
            DeploymentError, match=r"fs-alarms is DELETE_FAILED.\n.* could not be deleted: the queue is in"
        ):
            account.destroy()
    assert account.states() == {"fs-storage": "CREATE_COMPLETE", "fs-alarms": "DELETE_FAILED"}
    account.destroy()
    assert account.states() == {}


def test_destroy_waits_for_clusters(account) -> None:
    account.deploy(STORAGE, ALARMS)
    emr = account.client("emr")
    for bucket in (f"fs-{ACCOUNT}-{REGION}", "another"):
        master = {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}
        emr.run_job_flow(
            Name=f"of {bucket}",
            ReleaseLabel="emr-7.13.0",
            Tags=[{"Key": "bucket", "Value": bucket}],
            Instances={"KeepJobFlowAliveWhenNoSteps": True, "InstanceGroups": [master]},
        )
    with pytest.raises(DeploymentError, match=r"not ended yet: j-\w+ \(of fs-\d+-eu-west-2\)\. Nothing was deleted"):
        account.destroy()
    assert account.asked[2:] == []


def test_status_shows_states_and_outputs(account) -> None:
    account.deploy(STORAGE)
    account.said.clear()
    assert status(account.target(STORAGE, ALARMS)) == {"BucketName": "fs-lake"}
    assert account.said == [
        f"{'fs-storage':<28} CREATE_COMPLETE",
        "  BucketName = fs-lake",
        f"{'fs-alarms':<28} not deployed",
    ]
