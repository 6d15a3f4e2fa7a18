"""docker-compose.yaml, the Dockerfiles and what goes with them: right by the rules, and each rule finds its fault."""

from __future__ import annotations

import copy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.utils import exclude_paths

from infra.local import parts
from infra.local.settings import ROOT, Hosts
from tests import containers

pytestmark = pytest.mark.unit

STACK = ROOT / "infra" / "images" / "stack.Dockerfile"
HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.fixture
def compose() -> containers.Compose:
    return containers.load()


def check_schema(file: Path) -> subprocess.CompletedProcess[str]:
    """Check a file as `make lint` does."""
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", file],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_file_keeps_every_rule(compose: containers.Compose) -> None:
    assert containers.faults(compose) == []


def test_every_part_has_its_service_and_its_health_check(compose: containers.Compose) -> None:
    run = {service["command"][-1] for service in compose["services"].values() if "serve" in containers.words(service)}
    asked = {service["healthcheck"]["test"][-1] for service in compose["services"].values() if "healthcheck" in service}
    assert run == set(parts.PARTS)
    assert run <= asked


def test_every_part_is_told_where_all_the_others_are(compose: containers.Compose) -> None:
    for name, service in compose["services"].items():
        if service["image"] == containers.OURS:
            assert service["environment"].keys() >= Hosts().environment().keys(), name


def test_what_the_main_job_needs_is_up_before_it(compose: containers.Compose) -> None:
    assert compose["services"]["main-job"]["depends_on"].keys() == set(parts.PARTS)


def test_the_example_has_every_variable_with_its_default() -> None:
    lines = [line for line in containers.EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    assert dict(line.split("=") for line in lines) == containers.variables()


def wrong_command(service: dict[str, Any]) -> None:
    service["command"] = ["python", "-m", "infra.local", "serve", "kassandra"]


def unknown_command(service: dict[str, Any]) -> None:
    service["command"] = ["python", "-m", "infra.local", "sreve", "cassandra"]


def wrong_health_check(service: dict[str, Any]) -> None:
    service["healthcheck"]["test"] = ["CMD", "python", "-m", "infra.local", "ready", "kassandra"]


def own_password(service: dict[str, Any]) -> None:
    service["environment"] = {"CASSANDRA_PASSWORD": "cassandra"}  # pragma: allowlist secret


def another_host(service: dict[str, Any]) -> None:
    service["environment"] = {"FEATURE_STORE_S3_HOST": "minio"}


def setting(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda service: service.update({key: value})


FAULTS = {
    "names no part of the stack": [wrong_command, wrong_health_check],
    "is no command": [unknown_command],
    "has no health check": [lambda service: service.pop("healthcheck"), setting("healthcheck", {"test": ["NONE"]})],
    "runs as root": [setting("user", "root"), setting("user", "0:0"), lambda service: service.pop("user")],
    "not one of loopback": [setting("ports", ["0.0.0.0:9142:9142"]), setting("ports", ["9142:9142"])],
    "is a secret in the environment": [own_password],
    "is a secret on a command line": [setting("command", ["cassandra", "--password=cassandra"])],
    "can be written to": [setting("read_only", False)],
    "has capabilities": [setting("cap_add", ["SYS_ADMIN"]), lambda service: service.pop("cap_drop")],
    "may gain privileges": [lambda service: service.pop("security_opt")],
    "it has privileged": [setting("privileged", True)],
    "mounts what is the host's": [setting("volumes", ["/var/run/docker.sock:/var/run/docker.sock"])],
    "is no volume of the file": [setting("volumes", ["other:/data"])],
    "which no service is called": [another_host],
    "which is not there": [setting("depends_on", {"secret": {"condition": "service_started"}})],
    "waits for secrets to be service_started": [setting("depends_on", {"secrets": {"condition": "service_started"}})],
    "nobody waits for that": [setting("restart", "no")],
}


@pytest.mark.parametrize(("said", "plant"), [(said, plant) for said, plants in FAULTS.items() for plant in plants])
def test_each_rule_finds_its_fault(compose: containers.Compose, said: str, plant: Any) -> None:
    planted = copy.deepcopy(compose)
    plant(planted["services"]["cassandra"])
    if said == "nobody waits for that":
        del planted["services"]["main-job"]
    assert any(fault.startswith("cassandra: ") and said in fault for fault in containers.faults(planted))


def test_an_image_is_built_once_and_first(compose: containers.Compose) -> None:
    planted = copy.deepcopy(compose)
    planted["services"]["s3"]["build"] = planted["services"]["secrets"]["build"]
    assert f"s3: {containers.OURS} is built by more than one service, all at once" in containers.faults(planted)
    compose["services"]["aws"]["depends_on"] = {}
    assert "aws: it may start before secrets has built its image" in containers.faults(compose)


def test_an_image_without_a_digest_is_found(compose: containers.Compose) -> None:
    compose["services"]["postgres"]["image"] = "postgres:17.11-bookworm"
    assert containers.faults(compose) == ["postgres: its image is not pinned by a digest"]


def test_the_file_is_one_of_the_compose_specification(compose: containers.Compose, tmp_path: Path) -> None:
    assert check_schema(containers.COMPOSE).returncode == 0
    compose["services"]["s3"]["read-only"] = True
    planted = tmp_path / "docker-compose.yaml"
    planted.write_text(yaml.safe_dump(compose))
    refused = check_schema(planted)
    assert refused.returncode == 1
    assert "'read-only' was unexpected" in refused.stdout


def test_there_are_dockerfiles() -> None:
    assert STACK in containers.DOCKERFILES


@pytest.mark.parametrize("file", containers.DOCKERFILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_dockerfiles_keep_every_rule(file: Path) -> None:
    assert containers.dockerfile_faults(file.read_text()) == []
    subprocess.run([HADOLINT, file], check=True)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("USER 10001:10001\n", "", "runs as root"),
        ("USER 10001:10001", "USER root", "runs as root"),
        ("USER 10001:10001", "USER 1000:1000", "that the host may have"),
        ("@sha256:", "#sha256:", "not pinned by a digest"),
        ("COPY . ./", "ADD https://example.org/code.tar ./", "COPY does less"),
        ("HOME=/tmp", "AWS_SECRET_ACCESS_KEY=x", "is a secret in the image"),
        ("USER 10001", "ARG DATABASE_PASSWORD\nUSER 10001", "is a secret in the image"),
    ],
)
def test_each_rule_of_a_dockerfile_finds_its_fault(old: str, new: str, said: str) -> None:
    text = STACK.read_text()
    assert old in text
    assert any(said in fault for fault in containers.dockerfile_faults(text.replace(old, new)))


def test_hadolint_finds_what_it_is_for(tmp_path: Path) -> None:
    planted = tmp_path / "Dockerfile"
    planted.write_text(STACK.read_text().replace("apt-get update", "sudo apt-get update"))
    found = subprocess.run([HADOLINT, planted], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "DL3004" in found.stdout


@pytest.fixture(scope="module")
def sent() -> set[str]:
    """The files that go into the image."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    # The rules themselves are sent, and left out of the image.
    return {path for path in exclude_paths(str(ROOT), rules) if (ROOT / path).is_file()} - {".dockerignore"}


class TestBuild:
    """What goes into the image: all that runs there, and nothing that is only here."""

    def test_nothing_but_code_and_locks_is_sent(self, sent: set[str]) -> None:
        tracked = subprocess.check_output(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
        ).splitlines()
        rooms = {path.split("/")[0] for path in sent}
        assert rooms == {
            "README.md", "pyproject.toml", "requirements.lock",
            "dags", "plugins", "feature_store", "spark_jobs", "Simulation", "infra", "EMR", "Keyspaces",
        }  # fmt: skip
        assert sent <= set(tracked)
        assert not any("__pycache__" in path for path in sent)

    def test_all_that_a_machine_runs_is_sent(self, sent: set[str]) -> None:
        tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
        elsewhere = ("tests/", "docs/", "benchmarks/", ".ci/")
        left = {path for path in tracked if not path.startswith(elsewhere)} - sent
        assert all("/" not in path for path in left), left

    def test_the_set_up_has_the_code_that_it_needs(self, tmp_path: Path) -> None:
        """Of the layer that is kept while the code changes: it imports, and finds its locks and its packages."""
        stage = STACK.read_text().split("AS setup")[1].split("\nFROM ")[0]
        for word, rest in containers.instructions(stage):
            if word == "COPY":
                *sources, target = rest.split()
                subprocess.run(["mkdir", "-p", tmp_path / target], check=True)
                for source in sources:
                    whole = (ROOT / source).is_dir()
                    copied = ROOT / source / "." if whole else ROOT / source
                    subprocess.run(["cp", "-r", copied, tmp_path / target], check=True)
            elif word == "RUN" and rest.startswith("mkdir"):
                subprocess.run(["sh", "-c", rest.split("&&")[0]], cwd=tmp_path, check=True)
        look = (
            "import sys; sys.path.insert(0, '.'); from infra.local import setup; "
            "locks = (setup.LOCK, setup.JARS_LOCK, setup.wheels.LOCK); "
            "print(all(map(setup.Path.exists, locks)), len(setup._handler_sources()))"
        )
        # Without any package: there is none yet.
        said = subprocess.check_output([sys.executable, "-I", "-S", "-c", look], cwd=tmp_path, text=True).split()
        sources = list((ROOT / "infra" / "local" / "cassandra" / "java").rglob("*.java"))
        assert said == ["True", str(len(sources))]
        packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
        assert all((tmp_path / package.replace(".", "/")).is_dir() for package in packages)
