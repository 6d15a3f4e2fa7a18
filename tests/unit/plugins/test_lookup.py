"""A look at one entity: what is read of Delta and online, how they are compared, and what is said where one is not."""

from __future__ import annotations

import datetime as dt
import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from feature_store_airflow import lookup, page
from feature_store_airflow.bucket import Bucket

from feature_store import endpoint, registry
from feature_store.arrow_readings import schema
from feature_store.energy import ENERGY
from feature_store.function import Type
from feature_store.metrics import Certified, ViewMetrics
from tests.unit.conftest import SETTINGS
from tests.unit.plugins.test_page import Read

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette"),  # Airflow's own import of its API
]

NOW = dt.datetime(2014, 2, 28, 6, 30, tzinfo=dt.UTC)
ONLINE: dict[str, Any] = SETTINGS["keyspaces"]  # type: ignore[assignment] # the values differ in type
AUTHORITIES = f"releases/{SETTINGS['release']}/certs"
LAST, BEFORE = dt.date(2014, 2, 27), dt.date(2014, 2, 20)
PAGE = f"/feature-store/?view={ENERGY.name}&entity="


def row(entity: str, day: dt.date, value: float = 1.25, **other: Any) -> dict[str, Any]:
    """A row of features, all of whose doubles are one number."""
    made: dict[str, Any] = {}
    for column in ENERGY.columns:
        made[column.name] = {Type.TEXT: entity, Type.DATE: day, Type.DOUBLE: value}.get(column.type, 48)
    return {**made, **other}


def write(folder: Path, *rows: dict[str, Any], **how: Any) -> None:
    write_deltalake(folder, pa.Table.from_pylist(list(rows), schema(ENERGY.columns)), **how)


class Online:
    """An online store in memory."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = list(rows)
        self.fails: str | None = None

    def latest(self, entity: str, view: object) -> dict[str, Any] | None:
        assert view is ENERGY
        of = [each for each in self.rows if each["id"] == entity]
        return max(of, key=lambda each: each["day_date"], default=None)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Online:
    made = Online()

    @contextmanager
    def connected(bucket: Bucket) -> Iterator[Online]:
        if made.fails:
            raise endpoint.OnlineError(made.fails)
        yield made

    monkeypatch.setattr(lookup, "_connected", connected)
    return made


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, s3: Any) -> Path:
    """A table with two days of A, the second at version 1, which are certified; B has the first day only."""
    folder = tmp_path / "features"
    write(folder, row("A", BEFORE, 7.0), row("B", BEFORE, 8.0))
    write(folder, row("A", LAST), row("C", LAST, math.nan), mode="append")
    # Computed again since, and not brought online.
    write(folder, row("A", LAST, 99.0), row("D", LAST), mode="overwrite", predicate=f"day_date = '{LAST}'")
    monkeypatch.setattr(lookup, "_uri", lambda bucket, view: str(folder))
    monkeypatch.setattr(page, "_now", lambda: NOW)
    known = ViewMetrics(ENERGY.name, {}, {BEFORE: Certified(2, 0, NOW), LAST: Certified(2, 1, NOW)})
    s3.put_object(Bucket="lake", Key=f"metrics/{ENERGY.name}.json", Body=known.dump().encode())
    return folder


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom Airflow's hooks ask AWS as: the connection has nobody of its own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)


def shown(client: Any, entity: str) -> Read:
    got = client().get(f"{PAGE}{entity}")
    assert got.status_code == 200, got.text
    return Read(got.text)


class TestRows:
    def test_are_equal(self, client, lake, online) -> None:
        """The row of the certified version is taken, whatever was written since."""
        online.rows = [row("A", LAST), row("A", BEFORE, 7.0)]
        said = shown(client, "A").said
        assert f"✓ Equal in all {len(ENERGY.columns)} columns: A in {ENERGY.name}" in said
        assert f"Offline: The row of {LAST}, version 1 of the table, which is the one that is certified" in said
        assert f"Online: The newest row online, of {LAST}." in said
        assert "energy_sum 1.25 1.25" in said
        assert "≠" not in said

    def test_that_differ_are_marked(self, client, lake, online) -> None:
        online.rows = [row("A", LAST, energy_sum=1.2500000000000002, energy_max=None)]
        read = shown(client, "A")
        assert f"✕ 2 of {len(ENERGY.columns)} columns differ: A" in read.said
        assert "energy_sum 1.25 1.2500000000000002 ≠ differs" in read.said
        assert "energy_max 1.25 null ≠ differs" in read.said
        assert [each.get("class") for each in read.of("tr")].count("differs") == 2

    def test_two_that_are_no_numbers_are_equal(self, client, lake, online) -> None:
        online.rows = [row("C", LAST, math.nan)]
        assert "✓ Equal in all" in shown(client, "C").said

    def test_of_an_entity_that_was_silent_are_those_of_its_own_day(self, client, lake, online) -> None:
        online.rows = [row("B", BEFORE, 8.0)]
        said = shown(client, "B").said
        assert "✓ Equal in all" in said
        assert f"There is no row of {LAST}, version 1" in said
        assert f"The row of {BEFORE}, version 0" in said

    def test_that_are_offline_only(self, client, lake, online) -> None:
        said = shown(client, "A").said
        assert "! Not compared: A" in said
        assert "Online: There is no row online." in said
        assert "energy_sum 1.25" in said

    def test_that_are_online_only(self, client, lake, online) -> None:
        online.rows = [row("X", dt.date(2014, 2, 21))]  # a day that is not certified
        said = shown(client, "X").said
        assert "! Not compared: X" in said
        assert f"Offline: There is no row of {LAST}" in said
        assert "energy_sum 1.25" in said

    def test_of_nobody(self, client, lake, online) -> None:
        read = shown(client, "nobody")
        assert "! Not compared: nobody" in read.said
        assert "The rows of nobody" not in str(read.of("div"))


class TestWhatCanNotBeRead:
    def test_online_is_said_and_the_offline_row_is_there(self, client, lake, online) -> None:
        online.fails = "No connection to Keyspaces at 127.0.0.1:9142: refused"
        said = shown(client, "A").said
        assert "Online: The online store can't be read: No connection to Keyspaces at 127.0.0.1:9142: refused." in said
        assert "energy_sum 1.25" in said

    def test_the_lake_is_said_and_the_online_row_is_there(self, client, lake, online, monkeypatch) -> None:
        online.rows = [row("A", LAST, 3.5)]
        monkeypatch.setattr(lookup, "_uri", lambda bucket, view: str(lake / "nowhere"))
        said = shown(client, "A").said
        assert "Offline: The lake can't be read: " in said
        assert "can't be opened at version 1" in said
        assert "energy_sum 3.5" in said

    def test_a_day_that_is_too_large_is_not_looked_through(self, client, lake, online, monkeypatch) -> None:
        monkeypatch.setattr(lookup, "MOST_BYTES", 100)
        said = shown(client, "A").said
        assert f"Offline: The files that have {LAST} are 0 MB, and a page looks through 0: read version 1" in said

    def test_nothing_is_certified(self, client, lake, online, s3) -> None:
        s3.delete_object(Bucket="lake", Key=f"metrics/{ENERGY.name}.json")
        online.rows = [row("A", LAST)]
        said = shown(client, "A").said
        assert "Offline: No day is known to be online: there is no version to look into." in said
        assert f"Online: The newest row online, of {LAST}." in said

    def test_a_name_that_is_too_long_is_refused_before_anything_is_read(self, client, lake, online) -> None:
        online.fails = "asked"
        said = shown(client, "x" * 2049).said
        assert "No entity has a name of more than 2048 bytes." in said
        assert "asked" not in said

    def test_a_view_that_there_is_not_is_refused_with_those_that_there_are(self, client, lake, online) -> None:
        got = client().get("/feature-store/?entity=A&view=secret")
        assert got.status_code == 404
        assert ENERGY.name in got.text

    def test_the_first_view_is_meant_where_none_is_named(self, client, lake, online) -> None:
        assert registry.views()[0] is ENERGY
        online.rows = [row("A", LAST)]
        assert "✓ Equal in all" in Read(client().get("/feature-store/?entity=A").text).said


class TestConnection:
    """By the Variable, the secret that it names, and the authorities of the release that it names."""

    SECRET = "not to be seen: 7f3a"  # pragma: allowlist secret

    @pytest.fixture
    def bucket(self, s3: Any) -> Bucket:
        import boto3

        secrets = boto3.client("secretsmanager", region_name="eu-west-2")
        login = {"username": "reader", "password": self.SECRET}
        secrets.create_secret(Name=ONLINE["credentials"], SecretString=json.dumps(login))
        for name in ("a", "b"):
            s3.put_object(Bucket="lake", Key=f"{AUTHORITIES}/{name}.pem", Body=f"pem {name}".encode())
        return Bucket(s3, "lake", SETTINGS)

    def test_is_that_of_the_clusters(self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Any] = []

        def open_session(where: endpoint.Endpoint, prepare: Any) -> Any:
            asked.append((where, where.ca.read_text(), prepare))
            raise endpoint.OnlineError("far enough")

        monkeypatch.setattr(endpoint, "open_session", open_session)
        with pytest.raises(endpoint.OnlineError, match="far enough"), lookup._connected(bucket):
            pass
        ((where, authorities, prepare),) = asked
        assert (where.host, where.port, where.region) == ("cassandra.eu-west-2.amazonaws.com", 9142, "eu-west-2")
        assert where.login == endpoint.Login("reader", self.SECRET)
        assert authorities == "pem a\npem b"
        assert not where.ca.exists()
        prepare(cluster := type("Cluster", (), {})())
        assert cluster.connect_timeout == lookup.CONNECT_SECONDS

    def test_without_a_secret_is_signed_by_the_servers_own_identity(self, bucket: Bucket, tmp_path: Path) -> None:
        where = {**ONLINE, "credentials": None}
        assert lookup._endpoint(bucket, where, tmp_path / "ca.pem").login is None

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            (
                {**SETTINGS, "release": "unpublished"},
                "releases/unpublished/certs/ has no certificate authorities to trust",
            ),
            ({name: SETTINGS[name] for name in ("bucket", "region", "release")}, "feature_store has no 'keyspaces'"),
            (
                {**SETTINGS, "keyspaces": {**ONLINE, "credentials": "other"}},
                "the secret other in eu-west-2",
            ),
        ],
    )
    def test_what_is_missing_is_named(self, bucket: Bucket, settings: dict[str, Any], said: str) -> None:
        row_online, note = lookup._online("A", ENERGY, Bucket(bucket.client, "lake", settings))
        assert row_online is None
        assert said in note
        assert note.startswith("The online store can't be read: ")

    def test_a_secret_that_is_none_is_not_quoted(self, bucket: Bucket) -> None:
        import boto3

        secrets = boto3.client("secretsmanager", region_name="eu-west-2")
        secrets.put_secret_value(SecretId=ONLINE["credentials"], SecretString=self.SECRET)
        _, note = lookup._online("A", ENERGY, bucket)
        assert "is no JSON object with username and password" in note
        assert self.SECRET not in note

    def test_a_server_that_is_not_there_is_given_up_soon(self, bucket: Bucket, tmp_path: Path, monkeypatch) -> None:
        """A port that nobody listens at, with the driver itself."""
        from infra.local.cassandra import tls
        from infra.local.settings import HOST, Ports, Stack

        stack = Stack(tmp_path, Ports.free())
        tls.ensure_certificate(stack)
        for name in ("a", "b"):
            bucket.client.put_object(Bucket="lake", Key=f"{AUTHORITIES}/{name}.pem", Body=stack.ca.read_bytes())
        where = {**ONLINE, "host": HOST, "port": stack.ports.keyspaces_port}
        before = threading.active_count()
        row_online, note = lookup._online("A", ENERGY, Bucket(bucket.client, "lake", {**SETTINGS, "keyspaces": where}))
        assert row_online is None
        assert f"No connection to Keyspaces at {HOST}:{stack.ports.keyspaces_port}" in note
        assert threading.active_count() <= before + 1  # the driver's own loop, which all of its sessions share


def test_delta_asks_s3_as_the_tasks_connection(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of a role")
    assert lookup._storage(Bucket(s3, "lake", SETTINGS)) == {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",  # pragma: allowlist secret
        "AWS_SESSION_TOKEN": "of a role",
        "AWS_REGION": "eu-west-2",
    }
    assert "AWS_REGION" not in lookup._storage(Bucket(s3, "lake", {}))
