"""The templates as plain data: intrinsic functions are mappings of one key, as in CloudFormation's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cfnlint.decode import decode

from infra.local.settings import ROOT

FOLDER = ROOT / "infra" / "aws" / "templates"
# In the order in which they are deployed.
NAMES = ("network", "storage", "keyspaces", "emr", "simulation", "airflow", "monitoring")


@cache
def _text(path: Path) -> str:
    template, faults = decode(str(path))
    assert not faults, faults
    return json.dumps(template)


def load(name: str) -> dict[str, Any]:
    """One of the templates, which may be changed."""
    loaded: dict[str, Any] = json.loads(_text(FOLDER / f"{name}.yaml"))
    return loaded


def resources(template: dict[str, Any], *kinds: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The properties of the resources of some types, all without one, each with its name."""
    for name, resource in template["Resources"].items():
        if not kinds or resource["Type"] in kinds:
            yield name, resource.get("Properties", {})


def values(value: Any) -> Iterator[Any]:
    """A value in each of the cases that Fn::If makes of it."""
    if isinstance(value, dict) and set(value) == {"Fn::If"}:
        for case in value["Fn::If"][1:]:
            if case != {"Ref": "AWS::NoValue"}:
                yield from values(case)
    else:
        yield value


def as_list(value: Any) -> list[Any]:
    """The items of what may be one or many, in each case of Fn::If."""
    return [
        item for case in values(value) for each in (case if isinstance(case, list) else [case]) for item in values(each)
    ]


def text_of(value: Any) -> str:
    """A value as one text, to look for words in."""
    return value if isinstance(value, str) else json.dumps(value)


def statements(template: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """All statements of all policies: the resource that they are in, whose policy it is, and the statement.

    Of a role's own permissions the holder is `identity`; of who may take the role `trust`; of a key, a bucket, a topic
    or an endpoint its type, as "*" there means that very thing.
    """
    for name, resource in template["Resources"].items():
        of = resource.get("Properties", {})
        found: list[tuple[str, Any]] = []
        if resource["Type"] == "AWS::IAM::Role":
            found.append(("trust", of["AssumeRolePolicyDocument"]))
            found += [("identity", each["PolicyDocument"]) for each in as_list(of.get("Policies", []))]
        elif resource["Type"].startswith("AWS::IAM::"):
            found += [("identity", of["PolicyDocument"])] if "PolicyDocument" in of else []
        else:
            kinds = ("PolicyDocument", "KeyPolicy", "RepositoryPolicyText", "ResourcePolicy")
            found += [(resource["Type"], of[kind]) for kind in kinds if kind in of]
        for holder, document in found:
            for statement in as_list(document["Statement"]):
                yield name, holder, statement
