"""Parts that are at other hosts, as in containers: each listens at its own name, and is found and trusted there."""

from __future__ import annotations

import configparser
import json
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from infra.local import __main__ as command
from infra.local import airflow, parts, prepare, s3, stack
from infra.local.cassandra import server, tls
from infra.local.settings import HERE, HOST, Hosts, Ports, Secrets, Stack, StackError
from infra.local.supervision import Supervisor

pytestmark = pytest.mark.unit

HOSTS = Hosts("airflow-api-server", "aws", "s3", "cassandra")


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Stack]:
    """A stack in containers, and the environment that names it."""
    there = Stack(tmp_path, Ports(1001, 1002, 1003, 1004, 1005), HOSTS, "postgres:5432")
    ports = {name.upper(): str(port) for name, port in there.ports.__dict__.items()}
    variables = {"FEATURE_STORE_HOME": str(tmp_path), "FEATURE_STORE_DATABASE": there.database, **HOSTS.environment()}
    with patch.dict(os.environ, {**ports, **variables}):
        yield there


def trusts(here: Stack, name: str) -> bool:
    """Whether a client with the stack's authority takes its server for `name`: a handshake, without a network."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stored = pkcs12.load_pkcs12(tls.key_store(here).read_bytes(), here.secrets.keystore_password.encode())
    assert stored.cert is not None
    assert stored.key is not None
    pem = here.home / "server.pem"
    no_password = NoEncryption()
    pem.write_bytes(
        stored.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, no_password)
        + stored.cert.certificate.public_bytes(Encoding.PEM)
    )
    context.load_cert_chain(pem)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    served = context.wrap_bio(up, down, server_side=True)
    client = ssl.create_default_context(cafile=str(here.ca)).wrap_bio(down, up, server_hostname=name)
    for _ in range(5):
        for end in (client, served):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as refused:
                if "mismatch" not in str(refused):
                    raise
                return False
    return client.version() is not None


def test_the_environment_names_the_hosts(there: Stack) -> None:
    assert Stack.from_environment() == there
    assert there.is_elsewhere


def test_without_variables_all_is_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Amazon's, in many a shell; not the stack's.
    monkeypatch.setenv("KEYSPACES_HOST", "cassandra.eu-west-2.amazonaws.com")
    monkeypatch.setenv("FEATURE_STORE_HOME", str(tmp_path))
    here = Stack.from_environment()
    assert set(vars(here.hosts).values()) == {HOST}
    assert (here.hosts, here.database, here.is_elsewhere) == (HERE, "", False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FEATURE_STORE_S3_HOST", "s3:5056"),
        ("FEATURE_STORE_S3_HOST", "http://s3"),
        ("FEATURE_STORE_AWS_HOST", "aws\nx: y"),
        ("FEATURE_STORE_DATABASE", "postgres"),
        ("FEATURE_STORE_DATABASE", "postgres:5432/other"),
    ],
)
def test_what_is_no_host_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StackError, match=f"^{name}="):
        Stack.from_environment()


def test_each_part_listens_at_its_own_host(there: Stack) -> None:
    server.prepare(there)
    conf = yaml.safe_load((there.home / "cassandra/conf/cassandra.yaml").read_text())
    assert {conf["listen_address"], conf["rpc_address"]} == {"cassandra"}
    assert conf["seed_provider"][0]["parameters"][0]["seeds"] == "cassandra:1005"
    s3.prepare(there)
    assert "s3proxy.endpoint=http://s3:1003\n" in (there.home / "s3proxy.properties").read_text()
    airflow.write_home(there)
    conf = configparser.ConfigParser()
    conf.read(airflow.home(there) / "airflow.cfg")
    assert conf["api"]["host"] == "airflow-api-server"


def test_the_others_find_it_there(there: Stack) -> None:
    found = there.aws_environment()
    assert (found["AWS_ENDPOINT_URL"], found["AWS_ENDPOINT_URL_S3"]) == ("http://aws:1002", "http://s3:1003")
    assert "cassandra" in prepare.bootstrap_arguments(there, "s3://b/releases/1")
    airflow.write_home(there)
    conf = configparser.ConfigParser()
    conf.read(airflow.home(there) / "airflow.cfg")
    assert conf["core"]["execution_api_server_url"] == "http://airflow-api-server:1001/execution/"
    # A browser is on the machine that the container's port is published on.
    assert conf["api"]["base_url"] == f"http://{HOST}:1001"
    login = f"airflow:{there.secrets.database_password}"
    assert conf["database"]["sql_alchemy_conn"] == f"postgresql+psycopg2://{login}@postgres:5432/airflow"
    assert stat.S_IMODE((airflow.home(there) / "airflow.cfg").stat().st_mode) == 0o600


def test_airflow_keeps_a_file_where_no_database_is_named(tmp_path: Path) -> None:
    airflow.write_home(Stack(tmp_path, Ports()))
    assert "sql_alchemy_conn" not in (tmp_path / "airflow/airflow.cfg").read_text()


def test_the_certificate_is_for_the_host_and_for_this_machine(there: Stack) -> None:
    tls.ensure_certificate(there)
    assert [trusts(there, name) for name in ("cassandra", "localhost", HOST)] == [True] * 3
    assert not trusts(there, "other")
    made = there.ca.read_bytes()
    tls.ensure_certificate(there)
    assert there.ca.read_bytes() == made


def test_a_stack_that_moves_gets_another_certificate(there: Stack) -> None:
    here = Stack(there.home, there.ports)
    tls.ensure_certificate(here)
    assert not trusts(here, "cassandra")
    tls.ensure_certificate(there)
    assert trusts(there, "cassandra")


def test_a_host_that_has_no_name_yet_is_not_ready(there: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket.socket, "connect_ex", unknown)
    assert not parts.answers(there, "cassandra")


class TestNobodysParts:
    """What runs elsewhere is waited for, and never started, stopped or looked for here."""

    @pytest.fixture(autouse=True)
    def no_supervisor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def called(*_: object) -> None:
            raise AssertionError("there is no supervisor")

        monkeypatch.setattr(Supervisor, "_call", called)
        monkeypatch.setattr(Supervisor, "start_daemon", called)

    def test_up_waits(self, there: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        def second_time(_: Stack, part: str) -> bool:
            asked.append(part)
            return asked.count(part) > 1

        monkeypatch.setattr(parts, "answers", second_time)
        said: list[str] = []
        stack.up(there, said.append)
        assert [line.split()[0] for line in said] == list(parts.PARTS)

    def test_up_says_which_is_silent(self, there: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parts, "answers", lambda _, part: part != "s3")
        monkeypatch.setattr(stack, "READY_WITHIN", 0.0)
        with pytest.raises(StackError, match=r"^s3 gave no answer .* logs of their containers"):
            stack.up(there, lambda _: None)

    def test_status(self, there: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parts, "answers", lambda _, part: part != "s3")
        states = stack.status(there)
        assert states.pop("s3") == "silent"
        assert set(states.values()) == {"running"}
        assert not stack.is_up(there)

    def test_down_refuses(self, there: Stack) -> None:
        with pytest.raises(StackError, match="docker compose down"):
            stack.down(there)

    def test_nobody_here_has_stopped_it(self, there: Stack) -> None:
        assert stack.is_going(there)
        stack.check_not_stopped(there)


def test_secrets_are_made_once(there: Stack, tmp_path: Path) -> None:
    file = tmp_path / "only" / "password"
    assert command.main(["secrets", "--database-password", str(file)]) == 0
    first = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert command.main(["secrets", "--database-password", str(file)]) == 0
    assert file.read_text() == first == Stack.from_environment().secrets.database_password


def test_a_stack_of_an_older_version_gets_the_secret_that_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    old = {name: value for name, value in vars(Secrets._make()).items() if name != "database_password"}
    file.write_text(json.dumps(old))
    made = Secrets.load_or_make(file)
    assert old.items() <= vars(made).items()
    assert Secrets.load_or_make(file) == made


@pytest.mark.parametrize(("answers", "status"), [(True, 0), (False, 1)])
def test_ready_is_an_exit_status(there: Stack, monkeypatch: pytest.MonkeyPatch, answers: bool, status: int) -> None:
    monkeypatch.setattr(parts, "is_ready", lambda *_: answers)
    assert command.main(["ready", "s3"]) == status


@pytest.mark.parametrize("verb", ["ready", "serve"])
def test_a_part_that_is_none_is_refused(there: Stack, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert command.main([verb, "kassandra"]) == 2
    assert "There is no part 'kassandra'" in capsys.readouterr().err


def test_inside_and_outside_are_told_different_places(there: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "example.org")
    inside, outside = command.environment(there), command.environment(there, outside=True)
    assert (inside["KEYSPACES_HOST"], outside["KEYSPACES_HOST"]) == ("cassandra", HOST)
    assert (inside["AIRFLOW_URL"], outside["AIRFLOW_URL"]) == ("http://airflow-api-server:1001", f"http://{HOST}:1001")
    assert {"example.org", "s3", "cassandra"} <= set(inside["NO_PROXY"].split(","))
    # Files of the containers' volume.
    assert inside.keys() - outside.keys() == {"AIRFLOW_HOME", "KEYSPACES_CA", "KEYSPACES_DRIVER_CONFIG"}
    assert str(there.home) not in " ".join(outside.values())
