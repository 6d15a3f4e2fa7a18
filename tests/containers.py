"""docker-compose.yaml and the Dockerfiles as data, and what must hold of them."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from infra.local import __main__ as command
from infra.local import parts
from infra.local.settings import ROOT

COMPOSE = ROOT / "docker-compose.yaml"
# Wherever they are.
DOCKERFILES = [
    ROOT / path for path in subprocess.check_output(["git", "ls-files", "*Dockerfile"], cwd=ROOT, text=True).split()
]
EXAMPLE = ROOT / ".env.example"
OURS = "feature-store-stack:local"

VARIABLE = re.compile(r"\$\{(?P<name>\w+):-(?P<default>[^}]*)\}")
PINNED = re.compile(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}")
# An account of no one: not root, and not a number that a distribution gives to people or services.
NOBODYS = re.compile(r"([1-9]\d{4}):\1")
SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|(^|_)KEY(_|$)", re.IGNORECASE)
COMPLETED, HEALTHY = "service_completed_successfully", "service_healthy"

Compose = dict[str, Any]


def load(**variables: str) -> Compose:
    """The file as Compose sees it: anchors merged, variables (else their defaults) put in."""
    text = VARIABLE.sub(lambda found: variables.get(found["name"], found["default"]), COMPOSE.read_text())
    # By way of JSON each service has what it shares with others for itself.
    return dict(json.loads(json.dumps(yaml.safe_load(text))))


def variables() -> dict[str, str]:
    """The variables that the file asks for, with their defaults."""
    return {found["name"]: found["default"] for found in VARIABLE.finditer(COMPOSE.read_text())}


def is_one_shot(service: Mapping[str, Any]) -> bool:
    return service.get("restart") == "no"


def words(service: Mapping[str, Any]) -> list[str]:
    """The command line of a service."""
    return [*service.get("entrypoint", []), *service.get("command", [])]


def faults(compose: Compose) -> list[str]:
    """What is wrong with a Compose file, each as `SERVICE: what`."""
    services = compose["services"]
    found = []
    for name, service in services.items():
        checks = [_image, _rights, _mounts, _ports, _health, _secrets, _command]
        found += [f"{name}: {fault}" for check in checks for fault in check(service)]
        found += [f"{name}: {fault}" for fault in _dependencies(name, service, services)]
        for volume in service.get("volumes", []):
            if volume.split(":")[0] not in compose.get("volumes", {}):
                found.append(f"{name}: {volume} is no volume of the file")
        for variable, host in service.get("environment", {}).items():
            if variable.endswith("_HOST") and services.get(host, {}).get("hostname") != host:
                found.append(f"{name}: {variable} names {host}, which no service is called")
    builds = [(service["image"], name) for name, service in services.items() if "build" in service]
    for image, name in builds:
        if sum(image == other for other, _ in builds) > 1:
            found.append(f"{name}: {image} is built by more than one service, all at once")
        for user, service in services.items():
            if service["image"] == image and name != user and name not in _before(user, services):
                found.append(f"{user}: it may start before {name} has built its image")
    return found


def _before(name: str, services: Mapping[str, Any]) -> set[str]:
    """All that a service waits for, and what that waits for."""
    direct = set(services[name].get("depends_on", {})) & set(services)
    return direct.union(*(_before(each, services) for each in direct))


def _image(service: Mapping[str, Any]) -> Iterator[str]:
    if "build" not in service and service["image"] != OURS and not PINNED.fullmatch(service["image"]):
        yield "its image is not pinned by a digest"


def _rights(service: Mapping[str, Any]) -> Iterator[str]:
    if not NOBODYS.fullmatch(str(service.get("user", ""))):
        yield "it runs as root, or as a user that the host may have"
    if service.get("read_only") is not True:
        yield "its file system can be written to"
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
        yield "it has capabilities"
    if service.get("security_opt") != ["no-new-privileges:true"]:
        yield "its processes may gain privileges"
    for key in ("privileged", "network_mode", "pid", "ipc", "devices", "userns_mode"):
        if key in service:
            yield f"it has {key}"


def _mounts(service: Mapping[str, Any]) -> Iterator[str]:
    for volume in service.get("volumes", []):
        if not re.fullmatch(r"[a-z][a-z-]*:/[\w/-]+(:ro)?", str(volume)):
            yield f"{volume} mounts what is the host's"


def _ports(service: Mapping[str, Any]) -> Iterator[str]:
    for port in service.get("ports", []):
        if not re.fullmatch(r"127\.0\.0\.1:(\d+):\1", str(port)):
            yield f"port {port} is not one of loopback, the same on both sides"


def _health(service: Mapping[str, Any]) -> Iterator[str]:
    test = service.get("healthcheck", {}).get("test", ["NONE"])
    if is_one_shot(service):
        if test != ["NONE"]:
            yield "it ends, and has a health check"
    elif test[0] != "CMD":
        yield "it has no health check"


def _secrets(service: Mapping[str, Any]) -> Iterator[str]:
    for name, value in service.get("environment", {}).items():
        if SECRET.search(name) and not (name.endswith("_FILE") and str(value).startswith("/")):
            yield f"{name} is a secret in the environment"
    for word in words(service):
        if re.search(r"(password|secret|token)=", word, re.IGNORECASE):
            yield f"{word} is a secret on a command line"


def _command(service: Mapping[str, Any]) -> Iterator[str]:
    """What of the project is started, is there: the command, and the part."""
    for said in (words(service), service.get("healthcheck", {}).get("test", ["NONE"])[1:]):
        if said[:3] == ["python", "-m", "infra.local"]:
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    arguments = command.parser().parse_args(said[3:])
            except SystemExit:
                yield f"{' '.join(said)} is no command"
            else:
                if getattr(arguments, "part", parts.PARTS[0]) not in parts.PARTS:
                    yield f"{' '.join(said)} names no part of the stack"


def _dependencies(name: str, service: Mapping[str, Any], services: Mapping[str, Any]) -> Iterator[str]:
    for other, how in service.get("depends_on", {}).items():
        if other not in services:
            yield f"it waits for {other}, which is not there"
        elif how["condition"] != (COMPLETED if is_one_shot(services[other]) else HEALTHY):
            yield f"it waits for {other} to be {how['condition']}"
    # `docker compose up --wait` takes one that has ended for failed, unless another waits for its end.
    awaited = any(name in other.get("depends_on", {}) for other in services.values())
    if is_one_shot(service) and not awaited and "profiles" not in service:
        yield "it ends, and nobody waits for that"


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile and what they say, comments and continuations taken out."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word.upper(), rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def environment(dockerfile: str) -> dict[str, str]:
    """The variables that an image sets."""
    said = " ".join(rest for word, rest in instructions(dockerfile) if word == "ENV")
    return dict(pair.split("=", 1) for pair in said.split())


def dockerfile_faults(dockerfile: str) -> list[str]:
    """What is wrong with a Dockerfile that hadolint does not look at."""
    found, stages, user = [], set(), ""
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            user = ""
            image, *alias = rest.split()
            if image not in stages and not PINNED.fullmatch(image):
                found.append(f"{image} is not pinned by a digest")
            stages.update(alias[1:])
        elif word == "USER":
            user = rest
        elif word == "ADD":
            found.append(f"ADD {rest}: COPY does less")
        elif word in {"ARG", "ENV"} and SECRET.search(rest):
            found.append(f"{word} {rest} is a secret in the image")
    if not NOBODYS.fullmatch(user):
        found.append("the image runs as root, or as a user that the host may have")
    return found
