"""Where the one-machine stack lives: its folder, its ports, its secrets. Every other module of the stack asks here."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import socket
import string
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[2]
JARS = ROOT / ".cache" / "jars"
# The one machine is all nodes of all clusters, one after the other: it keeps the Python packages that it has installed,
# where the bootstrap script's own variable says.
NODE_PACKAGES = Path(os.environ.get("FEATURE_STORE_PACKAGES", ROOT / ".cache" / "node-packages"))
VENV = ROOT / ".venv"
REGION: Final = "eu-west-2"
BUCKET = "feature-store-local"
KEYSPACE = "feature_store"
SECRET_NAME = "feature-store/keyspaces"  # noqa: S105 - the name of the secret in Secrets Manager, not its value
HOST = "127.0.0.1"

HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
HOST_AND_PORT = re.compile(rf"{HOST_NAME.pattern}:[0-9]{{1,5}}")

# Every process of a stack carries this variable, with the stack's folder as its value: so `make stop` finds all of the
# stack, orphans of a killed supervisor included, and nothing else.
MARK = "FEATURE_STORE_STACK"


# With it set, what is asked of AWS is recorded: see infra/local/aws/calls.py.
RECORD = "FEATURE_STORE_RECORD_CALLS"


class StackError(Exception):
    """The person at the terminal has to do something; the message says what. Shown without a traceback, exit 2."""


@dataclass(frozen=True)
class Ports:
    """The loopback ports of the stack; each can be set by the environment variable of its name, in capitals."""

    airflow_port: int = 8080
    aws_port: int = 5055
    s3_port: int = 5056
    keyspaces_port: int = 9142
    cassandra_storage_port: int = 7100

    @classmethod
    def from_environment(cls, otherwise: Mapping[str, int]) -> Ports:
        """Read the ports, each an integer from 1 to 65535; StackError names a variable that is not.

        A port without its variable is that of `otherwise` (by field), or the default.
        """
        found = {}
        for field in fields(cls):
            name = field.name.upper()
            text = os.environ.get(name, str(otherwise.get(field.name, field.default)))
            if not text.isdecimal() or not 0 < int(text) < 65536:
                raise StackError(f"{name}={text!r} is not a port: give a number from 1 to 65535, or unset {name}.")
            found[field.name] = int(text)
        return cls(**found)

    @classmethod
    def free(cls) -> Ports:
        """Ports on which nothing listens, no two the same: all are held at once while they are looked for."""
        with ExitStack() as held:
            found = {}
            for field in fields(cls):
                probe = held.enter_context(socket.socket())
                probe.bind((HOST, 0))
                found[field.name] = probe.getsockname()[1]
        return cls(**found)


@dataclass(frozen=True)
class Hosts:
    """Where each part listens, and its clients find it: this machine, unless its variable names another place.

    The variables are FEATURE_STORE_AIRFLOW_HOST and so on. In containers each host is the part's own name on their
    network. KEYSPACES_HOST would be no name for one of them: many a shell has it, for Amazon's.
    """

    airflow_host: str = HOST
    aws_host: str = HOST
    s3_host: str = HOST
    keyspaces_host: str = HOST

    @classmethod
    def from_environment(cls) -> Hosts:
        """Read the hosts, each a name or an IPv4 address; StackError names a variable that is neither."""
        return cls(
            **{
                name: _variable(variable, HOST_NAME, "a host's name or IPv4 address") or default
                for name, variable, default in cls._variables()
            }
        )

    @classmethod
    def _variables(cls) -> list[tuple[str, str, str]]:
        return [(field.name, f"FEATURE_STORE_{field.name.upper()}", str(field.default)) for field in fields(cls)]

    def environment(self) -> dict[str, str]:
        """Name the hosts as from_environment reads them."""
        return {variable: getattr(self, name) for name, variable, _ in self._variables()}


HERE: Final = Hosts()


def _variable(name: str, pattern: re.Pattern[str], what: str) -> str:
    """Read a variable that may be missing or empty; StackError if it is anything else than what it should be."""
    value = os.environ.get(name, "")
    if value and not pattern.fullmatch(value):
        raise StackError(f"{name}={value!r} is not {what}: give one, or unset {name}.")
    return value


@dataclass(frozen=True)
class Secrets:
    """Made once per stack at random; kept in a file that only its owner can read."""

    aws_access_key_id: str
    aws_secret_access_key: str
    keyspaces_username: str
    keyspaces_password: str
    cassandra_superuser_password: str
    keystore_password: str
    airflow_jwt_secret: str
    airflow_api_secret_key: str
    airflow_fernet_key: str
    database_password: str

    @classmethod
    def load_or_make(cls, file: Path) -> Secrets:
        """Read the secrets of a stack, or make them on its first start (mode 0600, whole or not at all).

        One that an older version did not have is made when it is first missing.
        """
        kept = json.loads(file.read_text()) if file.exists() else {}
        if set(kept) == {field.name for field in fields(cls)}:
            return cls(**kept)
        made = cls(**cls._make().__dict__ | kept)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(made.__dict__, out, indent=1)
        part.rename(file)
        return made

    @classmethod
    def _make(cls) -> Secrets:
        return cls(
            aws_access_key_id="AKIA" + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(16)),
            aws_secret_access_key=secrets.token_urlsafe(30),
            keyspaces_username="feature_store",
            keyspaces_password=secrets.token_urlsafe(24),
            cassandra_superuser_password=secrets.token_urlsafe(24),
            keystore_password=secrets.token_urlsafe(24),
            airflow_jwt_secret=secrets.token_hex(32),
            airflow_api_secret_key=secrets.token_hex(32),
            airflow_fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            database_password=secrets.token_urlsafe(24),
        )


def _ports_file(home: Path) -> Path:
    return home / "ports.json"


def _kept_ports(home: Path) -> dict[str, int]:
    file = _ports_file(home)
    kept: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    return kept


@dataclass(frozen=True)
class Stack:
    """One stack: a folder and its ports. Two stacks with other folders and ports live side by side (the tests do).

    Attributes:
        home: its folder.
        ports: where its parts listen.
        hosts: the same; where they are not all this machine, somebody else starts and stops the parts.
        database: host:port of the PostgreSQL that Airflow keeps its state in; empty: a file in the folder.
    """

    home: Path
    ports: Ports
    hosts: Hosts = HERE
    database: str = ""

    @classmethod
    def from_environment(cls) -> Stack:
        """The stack that FEATURE_STORE_HOME (default: .local in the project) and the port variables name.

        A stack keeps the ports that it was last started with: another shell need not know the variables.
        """
        home = Path(os.environ.get("FEATURE_STORE_HOME", ROOT / ".local")).resolve()
        return cls(
            home,
            Ports.from_environment(_kept_ports(home)),
            Hosts.from_environment(),
            _variable("FEATURE_STORE_DATABASE", HOST_AND_PORT, "HOST:PORT"),
        )

    @property
    def is_elsewhere(self) -> bool:
        """Whether the parts are started and stopped by somebody else, as in containers."""
        return self.hosts != HERE

    def keep_ports(self) -> None:
        """Remember the ports, for the commands to come."""
        _ports_file(self.home).write_text(json.dumps(self.ports.__dict__))

    def check_ports_kept(self) -> None:
        """Refuse, by a StackError, ports that are not those of the running stack."""
        kept = _kept_ports(self.home)
        for name, port in self.ports.__dict__.items():
            if kept.get(name, port) != port:
                raise StackError(
                    f"The stack in {self.home} is running with {name.upper()}={kept[name]}, not {port}: "
                    f"unset the variable, or `make stop` first."
                )

    @cached_property
    def secrets(self) -> Secrets:
        """The secrets of this stack, made at the first use."""
        return Secrets.load_or_make(self.home / "secrets.json")

    @property
    def logs(self) -> Path:
        """One folder for every log of the stack."""
        return self.home / "logs"

    @property
    def calls(self) -> Path:
        """Where the local AWS records what is asked of it, if it does."""
        return self.logs / "aws-calls.jsonl"

    @property
    def s3_requests(self) -> Path:
        """Where the local S3 records the requests that it gets, if it does."""
        return self.logs / "s3-requests.log"

    @property
    def ca(self) -> Path:
        """The PEM of the local certificate authority that signed the Keyspaces stand-in's certificate."""
        return self.home / "tls" / "ca.pem"

    @property
    def aws_url(self) -> str:
        """Endpoint of the local AWS: EMR, Secrets Manager, IAM, STS, EC2 (all but S3)."""
        return f"http://{self.hosts.aws_host}:{self.ports.aws_port}"

    @property
    def s3_url(self) -> str:
        """Endpoint of the local S3."""
        return f"http://{self.hosts.s3_host}:{self.ports.s3_port}"

    @property
    def airflow_url(self) -> str:
        """Where Airflow's UI and API listen."""
        return f"http://{self.hosts.airflow_host}:{self.ports.airflow_port}"

    @property
    def airflow_page(self) -> str:
        """Where a browser finds Airflow's UI: on this machine, where a container's port is published too."""
        return f"http://{HOST}:{self.ports.airflow_port}"

    def aws_environment(self) -> dict[str, str]:
        """What any AWS client (boto3, aws, S3A, delta-rs) needs to use the local AWS."""
        return {**self.aws_access(), "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}

    def aws_access(self) -> dict[str, str]:
        """The same but for the region: what on AWS the network and a role do for a process."""
        return {
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_ENDPOINT_URL_S3": self.s3_url,
            "AWS_ACCESS_KEY_ID": self.secrets.aws_access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secrets.aws_secret_access_key,
            # delta-rs and its kin refuse plain HTTP unless told; it never leaves this machine.
            "AWS_ALLOW_HTTP": "true",
        }

    def asked_by(self, role: str) -> dict[str, str]:
        """What lets a process tell AWS whose it is, in its user agent: AWS's own SDKs read one, delta-rs the other.

        It stands for the role that the process has on AWS; here all have one key.
        """
        return {"AWS_SDK_UA_APP_ID": role, "USER_AGENT": f"app/{role}"}

    def process_environment(self) -> dict[str, str]:
        """The whole environment of a process of the stack: nothing of the caller's but its home and its locale."""
        keep = {
            k: os.environ[k] for k in ("HOME", "USER", "LANG", "LC_ALL", "TZ", "JAVA_HOME", "TMPDIR") if k in os.environ
        }
        ports = {name.upper(): str(port) for name, port in self.ports.__dict__.items()}
        return {
            **keep,
            **ports,
            **self.hosts.environment(),
            "FEATURE_STORE_DATABASE": self.database,
            **self.aws_environment(),
            MARK: str(self.home),
            "FEATURE_STORE_HOME": str(self.home),
            "PATH": os.pathsep.join([str(VENV / "bin"), os.environ.get("PATH", os.defpath)]),
            "PYTHONUNBUFFERED": "1",
        }
