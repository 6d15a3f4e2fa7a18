"""A stack keeps its ports: a shell that does not know the variables finds it all the same."""

from __future__ import annotations

import pytest

from infra.local.settings import Ports, Stack, StackError

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATURE_STORE_HOME", str(tmp_path))
    for name in Ports.__dataclass_fields__:
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_fresh_stack_has_the_default_ports():
    assert Stack.from_environment().ports == Ports()


def test_the_next_shell_finds_the_ports_of_the_last_start(monkeypatch):
    monkeypatch.setenv("AIRFLOW_PORT", "9000")
    Stack.from_environment().keep_ports()
    monkeypatch.delenv("AIRFLOW_PORT")
    assert Stack.from_environment().ports == Ports(airflow_port=9000)


def test_a_variable_moves_a_stack_that_is_down_and_is_refused_by_one_that_runs(monkeypatch):
    Stack.from_environment().keep_ports()
    monkeypatch.setenv("S3_PORT", "9001")
    moved = Stack.from_environment()
    assert moved.ports.s3_port == 9001
    with pytest.raises(StackError, match=r"S3_PORT=5056, not 9001.*make stop"):
        moved.check_ports_kept()


@pytest.mark.parametrize("text", ["", "0", "65536", "80a", "-1"])
def test_what_is_no_port_is_named(monkeypatch, text):
    monkeypatch.setenv("AWS_PORT", text)
    with pytest.raises(StackError, match="AWS_PORT="):
        Stack.from_environment()
