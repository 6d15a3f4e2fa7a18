"""A Keyspaces stand-in for a benchmark: up as long as the benchmark's process, on ports of its own."""

from __future__ import annotations

import atexit
import datetime as dt
import json
import os
import re
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from feature_store import cql
from feature_store.endpoint import Endpoint, Login, open_session
from feature_store.energy import ENERGY
from infra.local import parts
from infra.local.settings import HOST, REGION, ROOT, Ports, Stack

START_SECONDS = 120.0


@dataclass(frozen=True)
class Server:
    """A running stand-in, and the driver's configuration for Java's clients."""

    stack: Stack
    endpoint: Endpoint
    driver_config: Path
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which clients find it."""
        login = self.endpoint.login
        return {
            "KEYSPACES_HOST": HOST,
            "KEYSPACES_PORT": str(self.endpoint.port),
            "KEYSPACES_USERNAME": login.username if login else "",
            "KEYSPACES_PASSWORD": login.password if login else "",
            "KEYSPACES_CA": str(self.endpoint.ca),
            "AWS_REGION": REGION,
            "KEYSPACES_DRIVER_CONFIG": str(self.driver_config),
        }

    def fresh(self, keyspace: str) -> None:
        """Make the table anew, empty, in a keyspace; whoever drops a table has to be a superuser here."""
        root = open_session(
            Endpoint(HOST, self.endpoint.port, self.endpoint.ca, REGION, Login("cassandra", self._superusers()))
        )
        root.execute(f'DROP KEYSPACE IF EXISTS "{keyspace}"')
        root.cluster.shutdown()
        session = open_session(self.endpoint)
        cql.apply(session, cql.keyspace(keyspace) + cql.table(ENERGY, keyspace))
        session.cluster.shutdown()

    def stop(self) -> None:
        """End it, all that was written being on disk; it can be started again in the same folder."""
        self.process.terminate()
        self.process.wait(START_SECONDS)

    def rows(self, keyspace: str) -> int:
        """Count a table's rows, by paging."""
        session = open_session(self.endpoint)
        session.default_fetch_size = 5000
        count = sum(1 for _ in session.execute(f'SELECT "{ENERGY.day}" FROM "{keyspace}"."{ENERGY.name}"'))  # noqa: S608 - names
        session.cluster.shutdown()
        return count

    def _superusers(self) -> str:
        return self.stack.secrets.cassandra_superuser_password


def start(home: Path) -> Server:
    """Start a stand-in; it ends with this process."""
    stack = Stack(home, Ports.free())
    process = serve(stack)
    login = Login(stack.secrets.keyspaces_username, stack.secrets.keyspaces_password)
    endpoint = Endpoint(HOST, stack.ports.keyspaces_port, stack.ca, REGION, login)
    return Server(stack, endpoint, _driver_config(stack, login), process)


def serve(stack: Stack) -> subprocess.Popen[bytes]:
    """Run a stack's stand-in, which answers by then; it ends with this process. RuntimeError if it does not start."""
    stack.logs.mkdir(parents=True, exist_ok=True)
    begun = dt.datetime.now(dt.UTC)
    log = (stack.logs / "cassandra.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.local", "serve", "cassandra"],
        cwd=ROOT,
        env={**os.environ, **stack.process_environment()},
        stdout=log,
        stderr=log,
    )
    atexit.register(process.kill)
    deadline = time.monotonic() + START_SECONDS
    while not parts.is_ready(stack, "cassandra", begun):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Cassandra does not start: see {log.name}")
        time.sleep(0.2)
    return process


def _driver_config(stack: Stack, login: Login) -> Path:
    """Fill in EMR/app.config, as the bootstrap script does on a node."""
    store, file = stack.home / "truststore.jks", stack.home / "app.config"
    store.unlink(missing_ok=True)
    password = secrets.token_urlsafe(24)
    keytool = ["keytool", "-importcert", "-noprompt", "-storetype", "JKS", "-alias", "ca", "-keystore", str(store)]
    subprocess.run(
        [*keytool, "-storepass:env", "STORE_PASSWORD", "-file", str(stack.ca)],
        env={**os.environ, "STORE_PASSWORD": password},
        check=True,
        capture_output=True,
    )
    values = {
        "CONTACT_POINT": f"{HOST}:{stack.ports.keyspaces_port}",
        "REGION": REGION,
        "USERNAME": login.username,
        "PASSWORD": login.password,
        "TRUSTSTORE_PATH": str(store),
        "TRUSTSTORE_PASSWORD": password,
    }
    template = (ROOT / "EMR" / "app.config").read_text()
    file.touch(mode=0o600)
    file.write_text(re.sub('"@([A-Z_]+)@"', lambda found: json.dumps(values[found[1]]), template))
    return file
