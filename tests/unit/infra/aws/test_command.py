"""The command line: whom it asks, what it refuses, how it ends."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, NoCredentialsError
from moto import mock_aws

from infra.aws import __main__ as command
from infra.aws import templates
from infra.aws.errors import DeploymentError
from tests.unit.infra.aws import cloudformation
from tests.unit.infra.aws.cloudformation import ACCOUNT, REGION, SESSION

pytestmark = pytest.mark.unit

ONE = """
Parameters:
  Prefix: { Type: String }
Resources:
  Topic: { Type: AWS::SNS::Topic, Properties: { TopicName: !Ref Prefix } }
"""
EXPIRED = ClientError({"Error": {"Code": "ExpiredToken", "Message": "The token has expired"}}, "GetCallerIdentity")


@pytest.fixture(autouse=True)
def aws(monkeypatch) -> Iterator[None]:
    cloudformation.install(monkeypatch)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setattr(command.templates_of, "load", lambda: [templates.parse("network", ONE)])
    monkeypatch.setattr(command.boto3, "Session", lambda: SESSION)
    with mock_aws():
        yield


@pytest.fixture
def settings(tmp_path) -> Path:
    file = tmp_path / "settings.yaml"
    file.write_text(f'account: "{ACCOUNT}"\nregion: {REGION}\nprefix: fs\ncost_centre: data\n')
    return file


def run(name: str, settings: Path, *options: str) -> int:
    return command.main([name, "--settings", str(settings), *options])


def stacks() -> list[str]:
    return [stack["StackName"] for stack in SESSION.client("cloudformation").describe_stacks()["Stacks"]]


@pytest.mark.parametrize(
    ("answer", "made"), [("y\n", ["fs-network"]), ("YES\n", ["fs-network"]), ("\n", []), ("n\n", []), ("", [])]
)
def test_nothing_is_deployed_that_was_not_agreed_to(settings, monkeypatch, capsys, answer, made) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert run("deploy", settings) == (0 if made else 1)
    assert stacks() == made
    said = capsys.readouterr()
    assert said.out.startswith(f"account {ACCOUNT}, region {REGION}, as arn:aws:")
    assert ("There is nobody to ask: --yes agrees to everything." in said.out) == (answer == "")
    assert made or said.err == "fs-network was not deployed, nor any stack after it.\n"


def test_a_pipeline_agrees_beforehand(settings, monkeypatch) -> None:
    monkeypatch.setattr("builtins.input", None)
    assert run("deploy", settings, "--yes") == 0
    assert run("status", settings) == 0
    assert run("destroy", settings, "--yes") == 0
    assert stacks() == []


def test_credentials_of_another_account_are_refused(settings, capsys) -> None:
    settings.write_text(settings.read_text().replace(ACCOUNT, "999988887777"))
    for name in command.COMMANDS:
        assert run(name, settings, "--yes") == 1
        said = capsys.readouterr()
        assert said.out.startswith(f"account {ACCOUNT}")
        assert said.err == "The settings are for the account 999988887777: these credentials are of another one.\n"
    assert stacks() == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoCredentialsError(), "AWS refuses: Unable to locate credentials. Next: "),
        (S3UploadFailedError("Failed to upload: AccessDenied"), "AWS refuses: Failed to upload: AccessDenied. Next"),
        (EXPIRED, "AWS refuses: An error occurred (ExpiredToken)"),
        (DeploymentError("The stack is stuck."), "The stack is stuck."),
        (KeyboardInterrupt(), "Interrupted. What AWS has begun goes on"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_a_sentence_and_no_traceback(settings, monkeypatch, capsys, error, said) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(command, "run", fail)
    assert run("deploy", settings, "--yes") == 1
    printed = capsys.readouterr().err
    assert printed.startswith(said)
    assert len(printed.splitlines()) == 1


def test_a_change_set_that_cloudformation_does_not_take_leaves_nothing(settings, monkeypatch, capsys) -> None:
    """As where a resource is there already: CloudFormation sees it before it changes anything."""
    create = cloudformation.Backend.create_change_set

    def refuse(self: Any, *arguments: Any, **more: Any) -> Any:
        ids = create(self, *arguments, **more)
        self.change_sets[ids[0]].status = "FAILED"
        self.change_sets[ids[0]].status_reason = "A bucket of that name is there."
        return ids

    monkeypatch.setattr(cloudformation.Backend, "create_change_set", refuse)
    assert run("deploy", settings, "--yes") == 1
    assert capsys.readouterr().err == (
        "CloudFormation does not take the stack fs-network: A bucket of that name is there. "
        "Nothing was changed in it.\n"
    )
    assert stacks() == []
