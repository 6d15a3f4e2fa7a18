"""moto's CloudFormation, with what it lacks of change sets: their outputs and tags, a rollback, states that refuse.

moto (5.2.5) executes a change set by another way than it makes a stack, on which it forgets both; an exception of a
resource leaves the stack where it was; a creation may be proposed for a stack that exists; a parameter that changes is
no change. Those methods of its backend are replaced here, and in place of a resource that it passes over (it says
CREATE_COMPLETE all the same) there is one that says so.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.cloudformation import parsing
from moto.cloudformation.exceptions import AlreadyExistsException, ValidationError
from moto.cloudformation.models import Change, ChangeSet, CloudFormationBackend, Stack, cloudformation_backends
from moto.cloudformation.parsing import parse_resource as moto_parse
from moto.cloudformation.parsing import resource_class_from_type as moto_class_of
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.common_models import CloudFormationModel
from moto.logs.models import LogGroup

from infra.aws.templates import long_form

REGION, ACCOUNT = "eu-west-2", "123456789012"
REF_IS_ARN = {"AWS::SecretsManager::Secret"}
NO_CHANGE = "The submitted information didn't contain changes. Submit different information to create a change set."


class Backend(CloudFormationBackend):
    """CloudFormation of one account and region."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.bodies: dict[str, str] = {}  # of change sets and stacks, as they were given

    @property
    def _url_module(self) -> Any:
        from moto.cloudformation import urls

        return urls  # moto looks for one beside the class's own module

    def create_change_set(
        self,
        stack_name: str,
        change_set_name: str,
        template: str,
        parameters: dict[str, str],
        description: str,
        change_set_type: str,
        **more: Any,
    ) -> tuple[str, str]:  # type: ignore[override]
        body, template = template, json.dumps(_for_moto(long_form(template)))
        there = next((stack for stack in self.stacks.values() if stack.name == stack_name), None)
        if change_set_type == "CREATE" and there and there.status != "REVIEW_IN_PROGRESS":
            raise AlreadyExistsException(f"Stack [{stack_name}] already exists")
        if change_set_type == "UPDATE" and there and not there.status.endswith("_COMPLETE"):
            raise ValidationError(message=f"Stack:{there.stack_id} is in {there.status} state and can not be updated.")
        if there and there.status == "ROLLBACK_COMPLETE":
            raise ValidationError(
                message=f"Stack:{there.stack_id} is in ROLLBACK_COMPLETE state and can not be updated."
            )
        ids = super().create_change_set(
            stack_name, change_set_name, template, parameters, description, change_set_type, **more
        )
        if there and change_set_type == "CREATE":  # moto has made a second stack of that name
            del self.stacks[ids[1]]
            self.change_sets[ids[0]].stack = there
            self.change_sets[ids[0]].stack_id = there.stack_id
            ids = (ids[0], there.stack_id)
        change_set = self.change_sets[ids[0]]
        self.bodies[ids[0]] = body
        if there and change_set_type == "UPDATE":
            change_set.changes = _changes(there, change_set)
            same = not change_set.changes and there.tags == change_set.tags
            change_set.status = "FAILED" if same else "CREATE_COMPLETE"
            change_set.execution_status = "UNAVAILABLE" if same else "AVAILABLE"
            change_set.status_reason = NO_CHANGE if same else None
        return ids

    def delete_change_set(self, change_set_name: str) -> None:
        if self.change_sets[change_set_name].status == "CREATE_IN_PROGRESS":
            raise ValidationError(message="Cannot delete ChangeSet in status CREATE_IN_PROGRESS")
        self.change_sets.pop(change_set_name)

    def execute_change_set(self, change_set_name: str, stack_name: str | None = None) -> None:
        change_set = self.change_sets.pop(change_set_name)
        stack = self.stacks[change_set.stack_id]
        what = change_set.change_set_type
        stack._add_stack_event(f"{what}_IN_PROGRESS", resource_status_reason="User Initiated")
        self.bodies[stack.stack_id] = self.bodies[change_set_name]
        if what == "CREATE":
            self._make(stack, change_set)
        else:
            self._update(stack, change_set)

    def _make(self, empty: Stack, change_set: ChangeSet) -> None:
        """As moto makes a stack without a change set."""
        stack = Stack(
            stack_id=empty.stack_id,
            name=empty.name,
            template=change_set.template,
            parameters=change_set.parameters,
            account_id=self.account_id,
            region_name=self.region_name,
            tags=change_set.tags,
        )
        stack.events = empty.events
        self.stacks[stack.stack_id] = stack
        try:
            stack.create_resources()
        except Exception as error:  # noqa: BLE001 - whatever a resource of moto raises, AWS rolls back
            _fail(stack, "CREATE", error)
            _keep_none(stack)
            stack.resource_map.delete()
            # To show them moto would make what is in them, or what they refer to.
            stack.output_map._output_json_map = {}
            stack.resource_map._resource_json_map = {}
            stack.status = "ROLLBACK_COMPLETE"
            stack._add_stack_event("ROLLBACK_COMPLETE")

    def _update(self, stack: Stack, change_set: ChangeSet) -> None:
        before = (str(stack.template), stack.role_arn, dict(stack.parameters), stack.tags)
        try:
            stack.update(change_set.template, None, change_set.parameters, change_set.tags)
        except Exception as error:  # noqa: BLE001 - as above
            _fail(stack, "UPDATE", error)
            stack.update(*before)
            stack.status = "UPDATE_ROLLBACK_COMPLETE"
            stack._add_stack_event("UPDATE_ROLLBACK_COMPLETE")

    def get_template(self, name_or_stack_id: str) -> str:
        return self.bodies[self.get_stack(name_or_stack_id).stack_id]

    def delete_stack(self, name_or_stack_id: str) -> None:
        stack = self.get_stack(name_or_stack_id)
        for resource in stack.resource_map._resource_json_map.values():
            if resource.get("DeletionPolicy") == "RetainExceptOnCreate":  # moto knows the older word only
                resource["DeletionPolicy"] = "Retain"
        try:
            super().delete_stack(name_or_stack_id)
        except Exception as error:  # noqa: BLE001 - as above
            self.stacks[stack.stack_id] = stack
            _fail(stack, "DELETE", error)
            stack.status = "DELETE_FAILED"
            stack._add_stack_event("DELETE_FAILED")


def _changes(stack: Stack, change_set: ChangeSet) -> list[Change]:
    """What changes, with what only a parameter has changed, and whether a resource is replaced: if its name changes."""
    found = stack.resource_map.build_resource_diff(change_set.template_dict, change_set.parameters)
    old, new = stack.resource_map._resource_json_map, change_set.template_dict["Resources"]
    changes = []
    for action, names in found.items():
        for name in names:
            change = Change(action, name, (new if action != "Remove" else old)[name]["Type"])
            if action == "Modify":
                of_both = [{**each[name].get("Properties", {})} for each in (old, new)]
                properties = {key for key in {**of_both[0], **of_both[1]} if of_both[0].get(key) != of_both[1].get(key)}
                replaced = any(each.endswith("Name") for each in properties) or not properties
                change.replacement = str(replaced)  # type: ignore[attr-defined]
                change.policy_action = "ReplaceAndDelete" if replaced else None  # type: ignore[attr-defined]
                change.details = [{"Target": {"Attribute": "Properties", "Name": each}} for each in properties]  # type: ignore[attr-defined]
            changes.append(change)
    return changes


def _fail(stack: Stack, what: str, error: Exception) -> None:
    """The event of the resource that has failed: the one that is not made."""
    from moto.cloudformation.models import Event

    made = stack.resource_map._parsed_resources
    missing = [name for name in stack.resource_map._resource_json_map if name not in made]
    name = missing[0] if missing else next(iter(stack.resource_map._resource_json_map))
    kind = stack.resource_map._resource_json_map[name]["Type"]
    message = getattr(error, "message", str(error))
    stack.events.append(Event(stack.stack_id, stack.name, name, "", kind, f"{what}_FAILED", f"{message}.", None))
    for other in missing[1:]:
        kind = stack.resource_map._resource_json_map[other]["Type"]
        stack.events.append(
            Event(stack.stack_id, stack.name, other, "", kind, f"{what}_FAILED", "Resource creation cancelled", None)
        )


def _keep_none(stack: Stack) -> None:
    for resource in stack.resource_map._resource_json_map.values():
        resource.pop("DeletionPolicy", None)


class NotMade(CloudFormationModel):
    """Stands for a resource of a type that moto passes over: it has a name to refer to, and is nowhere."""

    def __init__(self, name: str, account: str, region: str, logical_id: str) -> None:
        self.physical_resource_id = name
        self._arn = f"arn:aws:not-made:{region}:{account}:{name}"
        self._logical_id = logical_id

    @staticmethod
    def cloudformation_type() -> str:
        return ""

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return True

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return self._arn if attribute_name.endswith("Arn") else f"not-made-{self._logical_id}-{attribute_name}".lower()

    @classmethod
    def create_from_cloudformation_json(  # type: ignore[override]
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **kwargs: Any
    ) -> NotMade:
        named = [value for key, value in cloudformation_json["Properties"].items() if key.endswith("Name")]
        made = cls(
            "|".join(named) if named else f"not-made-{kwargs['LogicalId']}".lower(),
            account_id,
            region_name,
            kwargs["LogicalId"],
        )
        if kwargs["ResourceType"] in REF_IS_ARN:
            made.physical_resource_id = made._arn
        return made

    @classmethod
    def update_from_cloudformation_json(cls, original_resource: Any, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(cls, *_: Any) -> None:
        return

    def is_created(self) -> bool:
        return True


def _for_moto(template: dict[str, Any]) -> dict[str, Any]:
    """In the long form, as moto does not know all of the short one.

    And a number that is looked up in a map has to stay a text: the keys of a map are.
    """
    for name in _looked_up(template):
        declaration = template["Parameters"][name]
        declaration |= {"Type": "String", "Default": str(declaration.get("Default", ""))}
    return template


def _looked_up(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "Fn::FindInMap":
                yield from (
                    part["Ref"] for part in each if isinstance(part, dict) and not part["Ref"].startswith("AWS::")
                )
            yield from _looked_up(each)
    elif isinstance(value, list):
        for each in value:
            yield from _looked_up(each)


def _parse(resource_json: dict[str, Any], resources_map: Any) -> Any:
    """As moto does it, but without what the template says is no value."""
    parsed = moto_parse(resource_json, resources_map)
    return (parsed[0], _without_none(parsed[1]), parsed[2]) if parsed else parsed


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return [_without_none(each) for each in value if each is not None] if isinstance(value, list) else value


def _class_of(resource_type: str) -> Any:
    return moto_class_of(resource_type) if resource_type in parsing.get_model_map() else NotMade


class Response(CloudFormationResponse):
    """Its API, whose answer to what would change nothing is a change set that failed, and no error."""

    def _validate_different_update(self, *_: Any) -> None:
        return


class _Session(boto3.Session):
    """A session whose clients are made once: they are slow to make."""

    def client(self, service_name: str, **_: Any) -> Any:  # type: ignore[override]
        return _client(super().client, service_name)


@functools.cache
def _client(make: Any, service: str) -> Any:
    return make(service)


SESSION = _Session("test", "test", region_name=REGION)


def install(patch: pytest.MonkeyPatch) -> None:
    """Put it in moto's place for one test."""
    from moto.cloudformation import urls

    patch.setattr(cloudformation_backends, "backend", Backend)
    patch.setitem(urls.url_paths, "{0}/$", Response.dispatch)
    patch.setattr(parsing, "resource_class_from_type", _class_of)
    patch.setattr(parsing, "parse_resource", _parse)
    # AWS's is that of all streams in it.
    patch.setattr(LogGroup, "get_cfn_attribute", lambda self, name: f"{self.arn}:*")
    # It is given JSON: reading that as YAML takes seconds.
    patch.setattr(Stack, "parse_template", staticmethod(json.loads))
    patch.setattr(ChangeSet, "_parse_template", lambda self: setattr(self, "template_dict", json.loads(self.template)))
    cloudformation_backends.clear()
