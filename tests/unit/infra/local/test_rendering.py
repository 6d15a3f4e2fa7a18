"""What the parts of a stack are started with: right, loopback only, and readable by its owner only."""

from __future__ import annotations

import configparser
import datetime as dt
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from infra.local import airflow, parts, s3
from infra.local.cassandra import server, tls
from infra.local.settings import HOST, MARK, ROOT, Ports, Stack, StackError
from infra.local.spark_defaults import BY_HAND, properties_text, spark_defaults
from infra.local.supervision import Supervisor

pytestmark = pytest.mark.unit

ODD = 'a b%d$c"\\'  # a folder's name may hold what the files' formats give a meaning to


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path / ODD, Ports(1001, 1002, 1003, 1004, 1005))


def secret_texts(stack: Stack) -> list[str]:
    return [value for name, value in stack.secrets.__dict__.items() if not name.endswith(("username", "key_id"))]


def private(file: Path) -> str:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    return file.read_text()


def test_cassandra(stack: Stack) -> None:
    command = server.prepare(stack)
    conf = yaml.safe_load(private(stack.home / "cassandra/conf/cassandra.yaml"))
    assert conf["native_transport_port"] == 1004
    assert conf["seed_provider"][0]["parameters"][0]["seeds"] == f"{HOST}:1005"
    assert conf["data_file_directories"] == [str(stack.home / "cassandra/data")]
    assert conf["client_encryption_options"]["keystore_password"] == stack.secrets.keystore_password
    assert {conf["listen_address"], conf["rpc_address"]} == {HOST}
    assert not any(secret in word for secret in secret_texts(stack) for word in command)


def test_s3(stack: Stack) -> None:
    command = s3.prepare(stack)
    lines = dict(line.split("=", 1) for line in private(stack.home / "s3proxy.properties").splitlines())
    assert lines["s3proxy.endpoint"] == f"http://{HOST}:1003"
    assert lines["s3proxy.credential"] == stack.secrets.aws_secret_access_key
    assert lines["jclouds.filesystem.basedir"].replace("\\\\", "\\") == str(stack.home / "s3")
    assert not any(secret in word for secret in secret_texts(stack) for word in command)


def variable(stack: Stack) -> Any:
    """The DAGs' variable as Airflow reads it: a text, that the templates parse."""
    text = json.loads(private(airflow.home(stack) / "variables.json"))["feature_store"]
    assert isinstance(text, str)
    return json.loads(text)


def test_airflow(stack: Stack) -> None:
    airflow.write_home(stack)
    conf = configparser.ConfigParser()
    conf.read_string(private(airflow.home(stack) / "airflow.cfg"))
    assert conf["api"]["host"] == HOST
    assert conf["api"]["port"] == "1001"
    assert conf["api_auth"]["jwt_secret"] == stack.secrets.airflow_jwt_secret
    assert conf["core"]["dags_folder"] == str(ROOT / "dags")
    assert conf["logging"]["base_log_folder"] == str(stack.logs / "airflow")
    files = json.loads(conf["secrets"]["backend_kwargs"])
    assert json.loads(private(Path(files["connections_file_path"]))) == {"aws_default": "aws://?region_name=eu-west-2"}
    assert variable(stack) == {}
    assert files["variables_file_path"] == str(airflow.home(stack) / "variables.json")


def test_airflows_variable_outlives_the_next_start(stack: Stack) -> None:
    airflow.write_variables(stack, {"bucket": "b"})
    airflow.write_home(stack)
    assert variable(stack) == {"bucket": "b"}


def test_supervisor(stack: Stack) -> None:
    conf = configparser.RawConfigParser()
    conf.read_string(Supervisor(stack)._configuration(parts.PARTS))
    assert conf["unix_http_server"]["chmod"] == "0700"
    assert "inet_http_server" not in conf
    assert conf["group:stack"]["programs"].split(",") == list(parts.PARTS)
    for part in parts.PARTS:
        program = conf[f"program:{part}"]
        assert program["command"].endswith(f"serve {part}")
        assert program["stdout_logfile"].replace("%%", "%") == str(stack.logs / f"{part}.log")
        assert int(program["stopwaitsecs"]) < 15
        assert (program["stopasgroup"], program["killasgroup"]) == ("false", "true")


def test_a_home_too_deep_for_a_unix_socket_is_refused(tmp_path: Path) -> None:
    deep = Stack(tmp_path / ("x" * 120), Ports())
    with pytest.raises(StackError, match="FEATURE_STORE_HOME"):
        Supervisor(deep).start_daemon(parts.PARTS)


def test_a_process_of_the_stack_gets_nothing_of_the_caller(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = stack.process_environment()
    assert environment[MARK] == str(stack.home)
    assert environment["KEYSPACES_PORT"] == "1004"
    assert not {"AWS_PROFILE", "PYTHONPATH"} & environment.keys()


def test_spark_defaults_hold_what_was_asked_for() -> None:
    on_node = spark_defaults(["delta", "s3a"])
    assert "connector" not in on_node["spark.driver.extraClassPath"]
    by_hand = spark_defaults(BY_HAND)
    assert [entry.split("/")[-2] for entry in by_hand["spark.driver.extraClassPath"].split(":")] == list(BY_HAND)
    assert {by_hand["spark.driver.host"], by_hand["spark.driver.bindAddress"]} == {HOST}
    text = properties_text(by_hand)
    assert dict(line.split(" ", 1) for line in text.splitlines()) == by_hand


class TestCertificate:
    def test_it_is_kept_while_it_holds(self, stack: Stack) -> None:
        tls.ensure_certificate(stack)
        first = stack.ca.read_bytes(), tls.key_store(stack).read_bytes()
        tls.ensure_certificate(stack)
        assert (stack.ca.read_bytes(), tls.key_store(stack).read_bytes()) == first
        assert sorted(path.name for path in stack.ca.parent.iterdir()) == ["ca.pem", "server.p12"]
        assert stat.S_IMODE(tls.key_store(stack).stat().st_mode) == 0o600

    def test_a_month_before_its_end_it_is_made_anew(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tls, "VALID", dt.timedelta(days=29))
        tls.ensure_certificate(stack)
        old = stack.ca.read_bytes()
        monkeypatch.undo()
        tls.ensure_certificate(stack)
        assert stack.ca.read_bytes() != old
        ends = x509.load_pem_x509_certificate(stack.ca.read_bytes()).not_valid_after_utc
        assert ends - dt.datetime.now(dt.UTC) > dt.timedelta(days=365)

    @pytest.mark.parametrize("torn", ["ca.pem", "server.p12"])
    def test_halves_of_two_authorities_are_made_anew(self, stack: Stack, torn: str) -> None:
        tls.ensure_certificate(stack)
        kept = (stack.ca.parent / torn).read_bytes()
        (stack.ca.parent / torn).unlink()
        tls.ensure_certificate(stack)
        (stack.ca.parent / torn).write_bytes(kept)
        tls.ensure_certificate(stack)
        assert (stack.ca.parent / torn).read_bytes() != kept
