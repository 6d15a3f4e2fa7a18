"""Where the online client looks for its settings, and what it says about missing ones."""

import certifi
import pytest

from feature_store import online

pytestmark = pytest.mark.unit

GOOD = {
    "KEYSPACES_HOST": "127.0.0.1",
    "KEYSPACES_PORT": "9142",
    "KEYSPACES_USERNAME": "someone",
    "KEYSPACES_PASSWORD": "something",  # pragma: allowlist secret
    "KEYSPACES_CA": "/nowhere/ca.pem",
    "AWS_DEFAULT_REGION": "eu-west-2",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", sorted(GOOD.keys() - {"KEYSPACES_PORT", "KEYSPACES_USERNAME"}))
def test_a_missing_variable_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(online.OnlineError, match=name):
        online.Connection.from_environment()


def test_a_wrong_port_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYSPACES_PORT", "nine")
    with pytest.raises(online.OnlineError, match="KEYSPACES_PORT='nine'"):
        online.Connection.from_environment()


def test_a_missing_certificate_file_is_named_and_the_password_never() -> None:
    with pytest.raises(online.OnlineError, match=r"/nowhere/ca\.pem") as caught:
        online.Connection.from_environment()
    assert "something" not in str(caught.value)


def test_a_host_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYSPACES_HOST", "nowhere.invalid")
    monkeypatch.setenv("KEYSPACES_CA", certifi.where())
    with pytest.raises(online.OnlineError, match=r"No connection to Keyspaces at nowhere\.invalid:9142: no address"):
        online.Connection.from_environment()
