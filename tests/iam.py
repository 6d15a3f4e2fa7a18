"""What IAM policies allow, decided without an account: the part of IAM's rules that this project's policies use.

The rules are those of "Policy evaluation logic" in the IAM User Guide, within one account and for identity policies: an
explicit Deny counts, else an Allow, else nothing is allowed. Whatever a policy has that is not handled here is an error:
no statement is passed over.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

Decision = Literal["allowed", "denied", "not allowed"]
Policy = Mapping[str, Any]
# Keys in lower case, as IAM compares them.
Context = Mapping[str, str | list[str]]

STATEMENT = {"Sid", "Effect", "Action", "Resource", "Condition"}


def decide(policies: Iterable[Policy], action: str, resource: str, context: Context | None = None) -> Decision:
    """Decide whether policies of one identity allow an action on a resource, given the keys of the request."""
    keys = {key.lower(): value for key, value in (context or {}).items()}
    decision: Decision = "not allowed"
    for policy in policies:
        for statement in _list(policy["Statement"]):
            if unknown := set(statement) - STATEMENT:
                raise NotImplementedError(f"a statement with {sorted(unknown)}")
            if _matches(statement, action, resource, keys):
                if statement["Effect"] == "Deny":
                    return "denied"
                decision = "allowed"
    return decision


def actions(policies: Iterable[Policy]) -> set[str]:
    """The actions that policies allow anywhere, as they name them."""
    allowed = [
        statement for policy in policies for statement in _list(policy["Statement"]) if statement["Effect"] == "Allow"
    ]
    return {action for statement in allowed for action in _list(statement["Action"])}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _matches(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    return (
        any(_like(action.lower(), each.lower()) for each in _list(statement["Action"]))
        and any(arn_like(resource, each) for each in _list(statement["Resource"]))
        and all(
            _holds(operator, key.lower(), _list(values), context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _like(text: str, pattern: str) -> bool:
    if "${" in pattern:
        raise NotImplementedError(f"a policy variable: {pattern}")
    # fnmatch has brackets too, which mean nothing here.
    return fnmatch.fnmatchcase(text, re.sub(r"\[", "[[]", pattern))


def arn_like(arn: str, pattern: str) -> bool:
    """Whether an ARN is like a pattern: its wildcards go over slashes, and over colons only in the resource's own name."""
    if pattern == "*":
        return True
    parts, patterns = arn.split(":", 5), pattern.split(":", 5)
    return len(parts) == len(patterns) and all(_like(*pair) for pair in zip(parts, patterns, strict=True))


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda text, wanted: text == wanted,
    "StringLike": _like,
    "ArnEquals": arn_like,  # IAM takes both for the same
    "ArnLike": arn_like,
    "Bool": lambda text, wanted: text.lower() == wanted.lower(),
}
NEGATED = {"StringNotEquals": "StringEquals", "StringNotLike": "StringLike", "ArnNotLike": "ArnLike"}


def _holds(operator: str, key: str, wanted: list[Any], context: Context) -> bool:
    name = operator.removesuffix("IfExists")
    if name == "Null":
        return (key not in context) == (str(wanted[0]).lower() == "true")
    if name in NEGATED:
        return key not in context or not _any(NEGATED[name], context[key], wanted)
    if name not in OPERATORS:
        raise NotImplementedError(f"a condition with {operator}")
    if key not in context:
        return operator.endswith("IfExists")
    return _any(name, context[key], wanted)


def _any(name: str, values: str | list[str], wanted: list[Any]) -> bool:
    return any(OPERATORS[name](each, str(one)) for each in _list(values) for one in wanted)
