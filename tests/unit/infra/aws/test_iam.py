"""The evaluation of IAM policies that the tests of the roles rely on, by the rules and examples of the IAM User Guide."""

from __future__ import annotations

from typing import Any

import pytest

from tests.iam import actions, arn_like, decide

pytestmark = pytest.mark.unit

LAKE = "arn:aws:s3:::lake"


def policy(*statements: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*", **each} for each in statements]}]


@pytest.mark.parametrize(
    ("statement", "action", "resource", "decision"),
    [
        ({"Action": "s3:GetObject"}, "s3:GetObject", f"{LAKE}/a", "allowed"),
        ({"Action": "s3:getobject"}, "S3:GetObject", f"{LAKE}/a", "allowed"),
        ({"Action": "s3:GetObject"}, "s3:GetObjectVersion", f"{LAKE}/a", "not allowed"),
        ({"Action": "s3:Get*"}, "s3:GetObjectVersion", f"{LAKE}/a", "allowed"),
        ({"Action": ["s3:PutObject", "s3:?etObject"]}, "s3:GetObject", f"{LAKE}/a", "allowed"),
        ({"Action": "*"}, "iam:CreateRole", "*", "allowed"),
        ({"Action": "s3:*", "Resource": f"{LAKE}/runs/*"}, "s3:GetObject", f"{LAKE}/runs/a/b", "allowed"),
        ({"Action": "s3:*", "Resource": f"{LAKE}/runs/*"}, "s3:GetObject", f"{LAKE}/delta/a", "not allowed"),
        ({"Action": "s3:*", "Resource": f"{LAKE}/runs/*"}, "s3:ListBucket", LAKE, "not allowed"),
        ({"Action": "s3:*", "Resource": f"{LAKE}/Runs/*"}, "s3:GetObject", f"{LAKE}/runs/a", "not allowed"),
        ({"Action": "s3:*", "Resource": [LAKE, f"{LAKE}/[a]"]}, "s3:GetObject", f"{LAKE}/a", "not allowed"),
    ],
)
def test_actions_and_resources(statement, action, resource, decision) -> None:
    assert decide(policy(statement), action, resource) == decision


def test_a_denial_counts_wherever_it_stands() -> None:
    allow, deny = {"Action": "s3:*"}, {"Action": "s3:Put*", "Effect": "Deny", "Resource": f"{LAKE}/releases/*"}
    for both in (policy(allow, deny), policy(deny, allow), policy(allow) + policy(deny)):
        assert decide(both, "s3:PutObject", f"{LAKE}/releases/a") == "denied"
        assert decide(both, "s3:PutObject", f"{LAKE}/runs/a") == "allowed"
    assert decide([], "s3:PutObject", f"{LAKE}/runs/a") == "not allowed"


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"aws:RequestTag/Project": "fs"}}, {"aws:RequestTag/Project": "fs"}, True),
        ({"StringEquals": {"aws:requesttag/project": "fs"}}, {"aws:RequestTag/Project": "fs"}, True),
        ({"StringEquals": {"aws:RequestTag/Project": "fs"}}, {"aws:RequestTag/Project": "FS"}, False),
        ({"StringEquals": {"aws:RequestTag/Project": "fs"}}, {}, False),
        ({"StringEqualsIfExists": {"aws:RequestTag/Project": "fs"}}, {}, True),
        ({"StringEquals": {"a": ["x", "y"]}}, {"a": "y"}, True),
        ({"StringEquals": {"a": "x", "b": "y"}}, {"a": "x"}, False),
        ({"StringEquals": {"a": "x"}, "Bool": {"b": "true"}}, {"a": "x", "b": "false"}, False),
        ({"StringEquals": {"a": "x*"}}, {"a": "xy"}, False),
        ({"StringLike": {"a": "x*"}}, {"a": "xy"}, True),
        ({"StringNotEquals": {"a": "x"}}, {"a": "x"}, False),
        ({"StringNotEquals": {"a": "x"}}, {}, True),
        ({"StringNotLike": {"a": ["x*", "y*"]}}, {"a": "yes"}, False),
        ({"Bool": {"aws:SecureTransport": True}}, {"aws:SecureTransport": "true"}, True),
        ({"Null": {"a": "true"}}, {}, True),
        ({"Null": {"a": "false"}}, {}, False),
        ({"ArnEquals": {"a": "arn:aws:ecs:*:1:cluster/c"}}, {"a": "arn:aws:ecs:eu-west-2:1:cluster/c"}, True),
        ({"ArnLike": {"a": "arn:aws:ecs:*:1:cluster/c"}}, {"a": "arn:aws:ecs:eu-west-2:2:cluster/c"}, False),
    ],
)
def test_conditions(condition, context, holds) -> None:
    decision = decide(policy({"Action": "s3:*", "Condition": condition}), "s3:GetObject", LAKE, context)
    assert decision == ("allowed" if holds else "not allowed")


@pytest.mark.parametrize(
    ("arn", "pattern", "fits"),
    [
        ("arn:aws:s3:::lake/a", "*", True),
        ("arn:aws:emr:eu-west-2:1:cluster/j-1", "arn:aws:emr:*:1:cluster/*", True),
        ("arn:aws:emr:eu-west-2:2:cluster/j-1", "arn:aws:emr:*:1:cluster/*", False),
        ("arn:aws:emr:eu-west-2:1:cluster/j-1", "arn:aws:emr:*", False),
        ("arn:aws:secretsmanager:r:1:secret:a:b", "arn:aws:secretsmanager:r:1:secret:a*", True),
    ],
)
def test_wildcards_in_arns(arn, pattern, fits) -> None:
    assert arn_like(arn, pattern) == fits


@pytest.mark.parametrize(
    "statement",
    [
        {"NotAction": "s3:*"},
        {"Action": "s3:*", "NotResource": LAKE},
        {"Action": "s3:*", "Principal": "*"},
        {"Action": "s3:*", "Resource": "arn:aws:s3:::${aws:username}"},
        {"Action": "s3:*", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
        {"Action": "s3:*", "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": "a"}}},
    ],
)
def test_what_it_does_not_know_it_does_not_pass_over(statement) -> None:
    with pytest.raises(NotImplementedError):
        decide(policy(statement), "s3:GetObject", LAKE, {"aws:SourceIp": "10.0.0.1", "aws:TagKeys": "a"})


def test_the_actions_that_are_allowed_anywhere() -> None:
    statements = {"Action": "s3:GetObject"}, {"Action": ["a:B", "s3:Put*"]}, {"Action": "c:D", "Effect": "Deny"}
    assert actions(policy(*statements)) == {"s3:GetObject", "a:B", "s3:Put*"}
