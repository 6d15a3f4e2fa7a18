"""What the tool asks of CloudFormation: one stack's state, what would change, the change, and why it failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from infra.aws.errors import DeploymentError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import DescribeChangeSetOutputTypeDef, StackEventTypeDef, StackTypeDef

POLL_SECONDS = 5.0
# Change sets of ours; one that a run has left behind when it was ended is recognised by its name.
CHANGE_SET = "deploy-"
REVIEW = "REVIEW_IN_PROGRESS"  # a stack that has a change set and nothing else: nothing is in progress
MADE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}
# A stack whose creation failed can only be deleted. Nothing was ever in use of it.
NEVER_MADE = {"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"}
STUCK = {
    "UPDATE_ROLLBACK_FAILED": (
        "see its events, mend what they name, and run `aws cloudformation continue-update-rollback --stack-name {}`"
    ),
    "DELETE_FAILED": "run `make destroy` again",
    "IMPORT_ROLLBACK_FAILED": "see its events",
}
# How CloudFormation says that a change set has nothing in it.
NO_CHANGE = ("didn't contain changes", "No updates are to be performed")
CANCELLED = ("Resource creation cancelled", "Resource update cancelled", "Resource deletion cancelled")
VERBS = {"CREATE": "created", "UPDATE": "changed", "DELETE": "deleted", "IMPORT": "imported", "ROLLBACK": "rolled back"}


@dataclass(frozen=True)
class Change:
    """One resource that a change set would change.

    Attributes:
        action: Add, Modify, Remove, Import or Dynamic.
        resource: its logical id.
        kind: its type.
        replaced: yes, no or perhaps (CloudFormation knows only when it does it); empty where that is no question.
        properties: which of its properties change.
        old: what becomes of the old one, if it goes: deleted or kept.
    """

    action: str
    resource: str
    kind: str
    replaced: str = ""
    properties: tuple[str, ...] = ()
    old: str = ""


@dataclass(frozen=True)
class Proposal:
    """A change set that is ready.

    Attributes:
        stack: the stack's name.
        change_set: its ARN.
        creates: whether there is no such stack yet.
        changes: of resources; there may be none, where only tags or outputs change.
    """

    stack: str
    change_set: str
    creates: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class _Mark:
    """How far a stack had come: its state and its newest event."""

    state: str | None
    event: str | None


class Stacks:
    """The stacks of one region. Every wait is for CloudFormation's own end of what it does, however long."""

    def __init__(
        self, client: CloudFormationClient, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Take a client, and what tells the person at the terminal something."""
        self._client = client
        self._say = say
        self._sleep = sleep

    def find(self, name: str) -> StackTypeDef | None:
        """Describe a stack by its name or ARN; None if there is none."""
        try:
            return self._client.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in error.response["Error"]["Message"]:
                return None
            raise

    def outputs(self, name: str) -> dict[str, str]:
        """The outputs of a stack; none if there is no such stack."""
        stack = self.find(name)
        return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])} if stack else {}

    def resources(self, name: str) -> dict[str, tuple[str, str]]:
        """The resources that a stack has made: type and physical id, by logical id."""
        pages = self._client.get_paginator("list_stack_resources").paginate(StackName=name)
        return {
            each["LogicalResourceId"]: (each["ResourceType"], each.get("PhysicalResourceId", ""))
            for page in pages
            for each in page["StackResourceSummaries"]
            if each["ResourceStatus"] != "DELETE_COMPLETE"
        }

    def template(self, name: str) -> str:
        """The template that a stack was last made or changed by."""
        # Of one in JSON boto3 would return what is in it; ours are YAML.
        return str(self._client.get_template(StackName=name)["TemplateBody"])

    def propose(self, name: str, body: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> Proposal | None:
        """Make a change set; None if nothing would change.

        What an earlier run has left in the middle is taken up first: a change under way is waited for, a creation that
        failed is cleared away, a change set that nobody decided on is thrown away.

        Raises:
            DeploymentError: CloudFormation takes it not, or the stack is in a state that only a person can mend.
        """
        state = self._settle(name)
        if state in NEVER_MADE:
            self._say(f"{name}: clearing away what is left of a creation that failed ({state})")
            self.delete(name)
            state = None
        if state in STUCK:
            raise DeploymentError(f"The stack {name} is {state}: {STUCK[state].format(name)}.")
        creates = state in (None, REVIEW)
        if state:
            self._drop_leftovers(name)
        answer = self._client.create_change_set(
            StackName=name,
            ChangeSetName=f"{CHANGE_SET}{datetime.now(UTC):%Y%m%d-%H%M%S-%f}",
            ChangeSetType="CREATE" if creates else "UPDATE",
            TemplateBody=body,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        return self._read(name, answer["Id"], creates)

    def withdraw(self, proposal: Proposal) -> None:
        """Throw a change set away, and the empty stack that CloudFormation has made for it."""
        if proposal.creates:
            self.delete(proposal.stack)
        else:
            self._client.delete_change_set(ChangeSetName=proposal.change_set, StackName=proposal.stack)

    def carry_out(self, proposal: Proposal) -> None:
        """Execute a change set, and wait for its end.

        Raises:
            DeploymentError: it failed; the message has a sentence for each resource that did. It was rolled back.
        """
        before = self._mark(proposal.stack)
        self._client.execute_change_set(ChangeSetName=proposal.change_set, StackName=proposal.stack)
        state = self._settle(proposal.stack, before)
        if state not in MADE:
            raise DeploymentError(self._failure(proposal.stack, state or "gone", before))

    def delete(self, name: str) -> None:
        """Delete a stack, and wait until it is gone; one that is not there is gone.

        Raises:
            DeploymentError: it could not be deleted; the message has a sentence for each resource that is in the way.
        """
        self._settle(name)
        stack = self.find(name)
        if stack is None:
            return
        arn = stack["StackId"]  # by which a deleted stack can still be asked for
        before = self._mark(arn)
        self._client.delete_stack(StackName=arn)
        state = self._settle(arn, before)
        if state and state != "DELETE_COMPLETE":
            raise DeploymentError(self._failure(arn, state, before))

    def _mark(self, name: str) -> _Mark:
        stack, event = self.find(name), next(self._events(name), None)
        return _Mark(stack and stack["StackStatus"], event and event["EventId"])

    def _settle(self, name: str, before: _Mark | None = None) -> str | None:
        """Wait until nothing is under way in a stack; its state then, None if there is no such stack.

        What was just asked for may not show at once: it is waited for as long as all is as it was `before`.
        """
        while before and self._mark(name) == before:
            self._sleep(POLL_SECONDS)
        said = None
        while stack := self.find(name):
            state: str = stack["StackStatus"]
            if not state.endswith("_IN_PROGRESS") or (state == REVIEW and not before):
                return state
            if state != said:
                self._say(f"{stack['StackName']}: {state.lower().replace('_', ' ')}")
                said = state
            self._sleep(POLL_SECONDS)
        return None

    def _drop_leftovers(self, name: str) -> None:
        for page in self._client.get_paginator("list_change_sets").paginate(StackName=name):
            for each in page["Summaries"]:
                if each["StackName"] == name and each["ChangeSetName"].startswith(CHANGE_SET):
                    self._made(name, each["ChangeSetId"])  # until then it can't be deleted
                    self._client.delete_change_set(ChangeSetName=each["ChangeSetId"], StackName=name)

    def _made(self, name: str, arn: str) -> list[DescribeChangeSetOutputTypeDef]:
        """Wait until a change set is made, or has failed to be; its pages."""
        while True:
            pages = list(self._client.get_paginator("describe_change_set").paginate(ChangeSetName=arn, StackName=name))
            if pages[0]["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                return pages
            self._sleep(POLL_SECONDS)

    def _read(self, name: str, arn: str, creates: bool) -> Proposal | None:
        pages = self._made(name, arn)
        status = pages[0]["Status"]
        proposal = Proposal(
            name, arn, creates, tuple(_change(each) for page in pages for each in page.get("Changes", []))
        )
        if status == "CREATE_COMPLETE":
            return proposal
        reason = pages[0].get("StatusReason", "it gives no reason")
        self.withdraw(proposal)
        if any(words in reason for words in NO_CHANGE):
            return None
        raise DeploymentError(
            f"CloudFormation does not take the stack {name}: {reason.rstrip('.')}. Nothing was changed in it."
        )

    def _events(self, name: str) -> Iterator[StackEventTypeDef]:
        """The events of a stack, the newest first; none if there is no such stack."""
        if self.find(name):
            for page in self._client.get_paginator("describe_stack_events").paginate(StackName=name):
                yield from page["StackEvents"]

    def _failure(self, name: str, state: str, before: _Mark) -> str:
        """Say why what was just done to a stack, by its name or ARN, has failed."""
        found: dict[str, str] = {}  # by resource: the first reason is the cause
        own = ""
        stack = name
        for event in self._events(name):
            if event["EventId"] == before.event:
                break
            stack = event["StackName"]
            status, reason = event.get("ResourceStatus", ""), event.get("ResourceStatusReason", "").rstrip(".")
            if event.get("PhysicalResourceId") == event["StackId"]:
                own = reason or own
            elif status.endswith("_FAILED") and reason not in CANCELLED:
                verb = VERBS.get(status.split("_")[0], status)
                resource = event["LogicalResourceId"]
                found[resource] = (
                    f"{resource} ({event.get('ResourceType')}) could not be {verb}: {reason or 'no reason given'}."
                )
        reasons = list(reversed(found.values())) or [f"{own or 'CloudFormation gives no reason'}."]
        return "\n".join([f"The stack {stack} is {state}.", *reasons])


def _change(change: Any) -> Change:  # noqa: ANN401 - a ChangeTypeDef, whose keys are all optional
    one = change["ResourceChange"]
    replaced = {"True": "yes", "False": "no", "Conditional": "perhaps"}.get(one.get("Replacement", ""), "")
    names = {detail["Target"].get("Name") or detail["Target"]["Attribute"] for detail in one.get("Details", [])}
    policy = one.get("PolicyAction", "")
    goes = one["Action"] == "Remove" or replaced in ("yes", "perhaps")
    old = ("deleted" if policy.endswith("Delete") else "kept") if goes and policy else ""
    return Change(one["Action"], one["LogicalResourceId"], one["ResourceType"], replaced, tuple(sorted(names)), old)
