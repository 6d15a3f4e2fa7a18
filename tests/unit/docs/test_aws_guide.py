"""The guide to AWS: its settings are fit, its commands are ones that the programs have, what it names is there."""

from __future__ import annotations

import re
import shlex

import botocore.session
import pytest
import yaml
from botocore import xform_name

from infra.aws import settings as settings_of
from infra.aws import templates
from infra.aws.__main__ import COMMANDS
from infra.aws.destroy import REMOVALS
from infra.aws.upload import MADE
from infra.dags import POOL, POOL_DESCRIPTION, POOL_SLOTS
from infra.local.settings import ROOT

pytestmark = pytest.mark.unit

GUIDE = (ROOT / "docs/guide/aws.md").read_text()
TEMPLATES = templates.load()
BLOCKS = re.findall(r"```sh\n(.*?)```", GUIDE, re.S)
# Of blocks of shell, each line; and of the text, what is in backticks and begins as a command.
LINES = [line for block in BLOCKS for line in block.splitlines() if line]
INLINE = re.findall(r"`((?:aws|make|airflow|\.venv/bin/python) [^`]+)`", GUIDE)
AWS = [shlex.split(line) for line in (*LINES, *INLINE) if line.startswith("aws ")]
S3_COMMANDS = {"cp": {"recursive", "exclude", "include"}, "ls": set()}
GLOBAL = {"region", "profile", "output", "query"}


@pytest.mark.parametrize("words", AWS, ids=lambda words: " ".join(words[1:3]))
def test_every_command_of_the_aws_cli_is_one_that_it_has(words) -> None:
    _, service, operation, *arguments = words
    options = {word.removeprefix("--") for word in arguments if word.startswith("--")}
    if service == "s3":
        assert options <= S3_COMMANDS[operation]
        return
    # What the CLI calls s3api is boto's s3; of the others both have the names. Some are of the CLI alone.
    if (service, operation, options) == ("emr", "list-clusters", {"active"}):
        return
    model = botocore.session.get_session().get_service_model({"s3api": "s3"}.get(service, service))
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    shape = model.operation_model(operations[operation]).input_shape
    members = {xform_name(name, "-") for name in shape.members}
    assert options <= members | GLOBAL
    required = {xform_name(name, "-") for name in shape.required_members}
    assert required <= options


def test_every_command_of_ours_is_one_that_there_is() -> None:
    named = set(re.findall(r"python -m infra\.aws ([a-z]+)", GUIDE))
    assert named <= set(COMMANDS)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(COMMANDS) - {"status"} <= targets
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)\b(?=`|\n)", GUIDE)) <= targets


def test_the_settings_that_it_shows_are_fit(tmp_path) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)
    file = tmp_path / "settings.yaml"
    file.write_text(shown)
    loaded = settings_of.load(file, TEMPLATES, MADE)
    assert {name: dict(values or {}) for name, values in loaded.stacks.items()} == yaml.safe_load(shown)["stacks"]


def test_every_setting_that_it_names_is_a_parameter() -> None:
    by_stack = {template.name: template for template in TEMPLATES}
    named = re.findall(rf"`({'|'.join(by_stack)})\.([A-Z]\w+)", GUIDE)
    assert len(named) > 5
    for stack, name in named:
        assert name in by_stack[stack].parameters, f"{stack}.{name}"


def test_every_output_that_it_names_is_one() -> None:
    outputs = {name for template in TEMPLATES for name in template.outputs}
    parameters = {name for template in TEMPLATES for name in template.parameters}
    named = set(re.findall(r"`([A-Z]\w+(?:Arn|Name|Webserver|GroupId))`", GUIDE))
    assert named
    assert named <= outputs | parameters, named - outputs - parameters


def test_the_stacks_are_those_that_there_are_in_their_order() -> None:
    shown = re.search(r"Seven stacks, one after the other: (.*) \(", GUIDE)
    assert shown
    assert re.findall(r"`(\w+)`", shown[1]) == list(templates.ORDER)


def test_what_is_kept_is_said_as_the_tool_says_it() -> None:
    said = {re.sub(r"\{\w+\}|[\w-]+$", "", how) for how in REMOVALS.values()}
    for command in ("aws s3api delete-bucket", "aws keyspaces delete-table", "aws keyspaces delete-keyspace", "aws kms schedule-key-deletion"):
        assert command in GUIDE
        assert any(command in how for how in said)


def test_the_pool_is_made_as_the_dags_need_it() -> None:
    """By Airflow's own parser of its command line."""
    from airflow.cli import cli_parser

    (line,) = [line for line in LINES if line.startswith("airflow pools set")]
    arguments = cli_parser.get_parser().parse_args(shlex.split(line)[1:])
    assert (arguments.pool, int(arguments.slots), arguments.description) == (POOL, POOL_SLOTS, POOL_DESCRIPTION)
    assert arguments.include_deferred


def test_a_self_hosted_airflow_reads_the_settings_where_the_stack_has_put_them() -> None:
    import json

    (line,) = [line for line in LINES if "BACKEND_KWARGS" in line]
    kwargs = json.loads(shlex.split(line)[1].partition("=")[2])
    declared = next(t for t in TEMPLATES if t.name == "airflow")
    secret = declared.resources["VariableSecret"]["Properties"]["Name"]["Fn::Sub"].replace("${Prefix}", "feature-store")
    assert secret == f"{kwargs['variables_prefix']}/feature_store"
    environment = declared.resources["Environment"]["Properties"]["AirflowConfigurationOptions"]
    of_mwaa = json.loads(environment["secrets.backend_kwargs"]["Fn::Sub"].replace("${Prefix}", "feature-store"))
    assert of_mwaa == kwargs
    (backend,) = [line for line in LINES if "SECRETS__BACKEND=" in line]
    assert environment["secrets.backend"] == backend.partition("=")[2]
