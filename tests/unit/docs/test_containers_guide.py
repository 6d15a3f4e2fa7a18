"""Each command of the guide to the containers is one: of services and options that are there."""

from __future__ import annotations

import re
import shlex

import pytest

from infra.local import __main__ as command
from infra.local.settings import ROOT
from tests import containers

pytestmark = pytest.mark.unit

GUIDE = (ROOT / "docs/guide/containers.md").read_text()
COMPOSE = containers.load()
SERVICES = COMPOSE["services"]
# Of each of Compose's commands, the options that the guide may use, and whether a service's name follows.
OPTIONS = {
    "run": ({"--rm", "--volume"}, True),
    "up": ({"--build", "--detach", "--wait"}, False),
    "down": ({"--volumes"}, False),
    "exec": ({"-T"}, True),
    "logs": ({"--follow"}, True),
    "ps": (set(), False),
    "cp": (set(), False),
}
COMMANDS = re.findall(r"docker compose [^`\n)]+", re.sub(r"`docker compose config`", "", GUIDE))


def check(said: str) -> None:
    """Raise an AssertionError, or SystemExit for a command of the project, if a command is none."""
    verb, *words = shlex.split(said)[2:]
    options, names_a_service = OPTIONS[verb]
    while words and words[0].startswith("-"):
        assert words[0] in options, said
        words = words[2:] if words[0] == "--volume" else words[1:]
    if verb == "cp":
        assert words[0].split(":")[0] in SERVICES, said
    elif names_a_service:
        name, *inner = words
        assert name in SERVICES, said
        inner = [*(SERVICES[name].get("entrypoint", []) if verb == "run" else []), *inner]
        if inner[:3] == ["python", "-m", "infra.local"]:
            command.parser().parse_args(inner[3:])
    else:
        assert not words, said


@pytest.mark.parametrize("said", COMMANDS)
def test_each_command_is_one(said: str) -> None:
    check(said)


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize(
    "said",
    [
        "docker compose run --rm main-jobs",
        "docker compose run --rm main-job --date 2014-02-27",
        "docker compose exec aws python -m infra.local envs",
        "docker compose up --await",
        "docker compose cp kassandra:/feature-store/tls/ca.pem .",
    ],
)
def test_one_that_is_none_is_found(said: str) -> None:
    with pytest.raises((AssertionError, SystemExit)):
        check(said)


def test_the_table_has_every_service_and_what_it_waits_for() -> None:
    table = GUIDE.split("## What runs")[1].split("\n\n")[1]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    told = {name: set(re.findall(r"`([a-z0-9-]+)`", row[2])) for row in rows for name in re.findall(r"`(.+?)`", row[0])}
    needs = {name: set(service["depends_on"]) for name, service in SERVICES.items()}
    assert told.pop("main-job") == set()  # every part
    needs.pop("main-job")
    assert told == needs
