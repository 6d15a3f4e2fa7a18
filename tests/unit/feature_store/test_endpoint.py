"""Who signs in, and how: by a secret's name and password, or by SigV4, whose signature botocore computes as well."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.credentials import Credentials
from cassandra.auth import PlainTextAuthProvider
from cassandra_sigv4 import auth as plugin
from moto import mock_aws

from feature_store import endpoint
from feature_store.endpoint import Endpoint, Login, OnlineError

pytestmark = pytest.mark.unit

NOW = dt.datetime(2020, 6, 9, 22, 41, 51)
NONCE = b"nonce=91703fdc2ef562e19fbdab0f58e42fe5"
# Of AWS's own plugins for these values: github.com/aws/aws-sigv4-auth-cassandra-java-driver-plugin, its tests.
PUBLISHED = "7f3691c18a81b8ce7457699effbfae5b09b4e0714ab38c1292dbdf082c9ddd87"  # pragma: allowlist secret


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "UserID-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "UserSecretKey-1")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.setattr(plugin, "datetime", SimpleNamespace(utcnow=lambda: NOW))


def signed() -> dict[str, str]:
    """What the driver would answer to a server's challenge."""
    made = endpoint._auth(Endpoint("h", 9142, Path("ca"), "us-west-2", None)).new_authenticator("h")
    assert made.initial_response() == b"SigV4\0\0"
    return dict(part.split("=", 1) for part in made.evaluate_challenge(NONCE).split(","))


def test_the_signature_is_that_of_awss_plugins_and_of_botocore(identity: None) -> None:
    answer = signed()
    scope = "20200609/us-west-2/cassandra/aws4_request"
    query = "&".join(
        [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            f"X-Amz-Credential=UserID-1%2F{scope.replace('/', '%2F')}",
            "X-Amz-Date=2020-06-09T22%3A41%3A51.000Z",
            "X-Amz-Expires=900",
        ]
    )
    nonce = hashlib.sha256(NONCE.removeprefix(b"nonce=")).hexdigest()
    canonical = f"PUT\n/authenticate\n{query}\nhost:cassandra\n\nhost\n{nonce}"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n2020-06-09T22:41:51.000Z\n{scope}\n{hashed}"
    request = SimpleNamespace(context={"timestamp": "20200609T224151Z"})
    botocores = SigV4Auth(Credentials("UserID-1", "UserSecretKey-1"), "cassandra", "us-west-2")
    assert answer == {
        "signature": botocores.signature(to_sign, request),
        "access_key": "UserID-1",
        "amzdate": "2020-06-09T22:41:51.000Z",
    }
    assert answer["signature"] == PUBLISHED


def test_a_roles_session_token_goes_along(identity: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-1")
    assert signed()["session_token"] == "token-1"


def test_nobody_to_sign_in_as(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boto3, "Session", lambda **_: SimpleNamespace(get_credentials=lambda: None))
    with pytest.raises(OnlineError, match="Nobody to sign in to Keyspaces at h:9142 as: set KEYSPACES_USERNAME"):
        endpoint._auth(Endpoint("h", 9142, Path("ca"), "us-west-2", None))


def test_with_a_name_it_is_a_password_that_is_never_shown() -> None:
    made = Endpoint("h", 9142, Path("ca"), "us-west-2", Login("me", "pass-1"))
    assert isinstance(endpoint._auth(made), PlainTextAuthProvider)
    assert "pass-1" not in repr(made)
    assert "pass-1" not in str(made)


def test_a_server_is_looked_for_as_long_as_it_takes() -> None:
    """The driver's own policy ends after 64 times."""
    pauses = list(islice(endpoint.reconnection(0.25, 2.0).new_schedule(), 1000))
    assert len(pauses) == 1000
    assert pauses[0] <= 0.3
    assert max(pauses) == 2.0


class TestNode:
    def said(self, path: Path, **changes: object) -> Path:
        values = {
            "host": "h",
            "port": 9142,
            "region": "eu-west-2",
            "ca": "/ca.pem",
            "secret": "feature-store/keyspaces",
        }
        file = path / "feature-store" / "keyspaces.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({**values, **changes}))
        return file

    def test_the_secret_is_asked_for_by_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: None
    ) -> None:
        monkeypatch.delenv("KEYSPACES_HOST", raising=False)
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
        file = self.said(tmp_path)
        with mock_aws():
            secrets = boto3.client("secretsmanager", region_name="eu-west-2")
            with pytest.raises(OnlineError, match="The secret feature-store/keyspaces in eu-west-2 can't be read"):
                Endpoint.here()
            # pragma: allowlist nextline secret
            secrets.create_secret(Name="feature-store/keyspaces", SecretString='{"username": "me", "password": "p-1"}')
            assert Endpoint.here() == Endpoint("h", 9142, Path("/ca.pem"), "eu-west-2", Login("me", "p-1"))
            # pragma: allowlist nextline secret
            secrets.put_secret_value(SecretId="feature-store/keyspaces", SecretString='{"password": "p-1"}')
            with pytest.raises(OnlineError, match="is no JSON object with username and password") as caught:
                Endpoint.of_node(file)
            assert "p-1" not in str(caught.value)

    def test_no_secret_is_sigv4(self, tmp_path: Path) -> None:
        assert Endpoint.of_node(self.said(tmp_path, secret=None)).login is None

    @pytest.mark.parametrize("change", [{"port": "nine"}, {"port": 70000}])
    def test_a_file_that_is_wrong_is_named(self, tmp_path: Path, change: dict) -> None:
        with pytest.raises(OnlineError, match=r"port='?(nine|70000)'? is not a port"):
            Endpoint.of_node(self.said(tmp_path, **change))

    def test_a_file_that_is_none_is_named(self, tmp_path: Path) -> None:
        file = self.said(tmp_path)
        file.write_text("{}")
        with pytest.raises(OnlineError, match=r"keyspaces\.json does not say where the online store is"):
            Endpoint.of_node(file)

    def test_the_environment_goes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
        self.said(tmp_path)
        for name, value in {"HOST": "other", "PORT": "", "CA": "/o.pem", "USERNAME": "u", "PASSWORD": "p"}.items():
            monkeypatch.setenv(f"KEYSPACES_{name}", value)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        assert Endpoint.here() == Endpoint("other", 9142, Path("/o.pem"), "us-east-1", Login("u", "p"))
