"""The schema job against a real Cassandra: tables follow the declarations, and nothing is destroyed."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from deltalake import write_deltalake

from feature_store import endpoint, online, online_schema
from feature_store.endpoint import OnlineError
from feature_store.energy import ENERGY
from feature_store.online_schema import Done, Tables
from feature_store.view import Aggregation, FeatureView, Function
from infra.local.settings import REGION
from spark_jobs import schema
from spark_jobs.errors import JobError
from tests.integration.conftest import RunningCassandra
from tests.integration.sync.conftest import Store, day, features

pytestmark = pytest.mark.integration

WIDER = replace(ENERGY, aggregations=(*ENERGY.aggregations, Aggregation("days_seen", Function.DAYS_SEEN)))


def run(store: Store, view: FeatureView, **others: Any) -> str:
    arguments = {"features": store.lake.uri, "keyspace": store.online.keyspace, "table": ENERGY.name, **others}
    return str(schema.run(Namespace(view=view, **arguments))["done"])


def test_a_table_is_made_once_and_follows_new_features(store: Store) -> None:
    assert run(store, ENERGY) == "nothing"
    assert run(store, WIDER) == "changed"
    assert run(store, WIDER) == "nothing"
    found = store.online.connection.session.execute(
        f"SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = '{store.online.keyspace}'"
    )
    assert {row["column_name"]: row["type"] for row in found} == {
        column.name: column.type.cql for column in WIDER.columns
    }
    assert run(store, ENERGY, table="another") == "made"


def test_a_column_that_is_new_is_written_by_the_next_sync(store: Store) -> None:
    store.lake.put(features(["A"], [day(0)]))
    store.sync(str(day(0)))
    run(store, WIDER)
    store.lake.view = store.online.view = WIDER
    rows = features(["A"], [day(0)], view=WIDER)
    write_deltalake(store.lake.uri, rows, mode="overwrite", schema_mode="overwrite")
    assert store.sync(str(day(0)))["rows_online"] == 1
    store.equal([day(0)])


def test_what_would_destroy_is_refused_with_what_to_do(store: Store) -> None:
    assert run(store, WIDER) == "changed"
    with pytest.raises(JobError) as caught:
        run(store, ENERGY)
    said = str(caught.value)
    assert "days_seen_3months is no column of the view; days_seen_6months is no column of the view" in said
    assert f'run DROP TABLE "{store.online.keyspace}"."energy_data_features"; yourself' in said
    last = replace(ENERGY, aggregations=(*ENERGY.aggregations[:-1], replace(ENERGY.aggregations[-1], name="other")))
    with pytest.raises(JobError, match="energy_stddev_3months is no column of the view"):
        run(store, last)
    other_key = replace(ENERGY, source=replace(ENERGY.source, entity="house"))
    with pytest.raises(JobError, match=r"its key is \(id, day_date\)"):
        run(store, other_key)
    store.online.connection.session.execute(
        f'CREATE TABLE "{store.online.keyspace}".narrow '
        "(id text, day_date date, energy_median int, PRIMARY KEY (id, day_date))"
    )
    with pytest.raises(JobError, match="energy_median is int, not double"):
        run(store, ENERGY, table="narrow")
    assert run(store, WIDER) == "nothing"


def test_rows_that_expired_by_themselves_no_longer_do(store: Store) -> None:
    session = store.online.connection.session
    session.execute(f"ALTER TABLE {store.online.table} WITH default_time_to_live = 7776000")
    assert run(store, ENERGY) == "changed"
    [row] = session.execute(
        "SELECT default_time_to_live FROM system_schema.tables "
        f"WHERE keyspace_name = '{store.online.keyspace}' AND table_name = '{ENERGY.name}'"
    )
    assert row["default_time_to_live"] == 0


def test_what_was_certified_of_a_table_that_was_dropped_is_forgotten(cassandra: RunningCassandra, store: Store) -> None:
    store.lake.put(features(["A", "B"], [day(0)]))
    store.sync(str(day(0)))
    secrets = cassandra.stack.secrets
    login = endpoint.Login("cassandra", secrets.cassandra_superuser_password)
    root = endpoint.open_session(endpoint.Endpoint(cassandra.host, cassandra.port, cassandra.ca, REGION, login))
    root.execute(f"DROP TABLE {store.online.table}")
    root.cluster.shutdown()
    assert run(store, ENERGY) == "made"
    assert store.known == {}
    assert store.sync(str(day(0)))["rows_written"] == 2
    store.equal([day(0)])


class Slow:
    """A session of a Keyspaces that takes its time: each look at a table is a state further."""

    def __init__(self, states: list[str | None]) -> None:
        self.states = states
        self.ran: list[str] = []

    def execute(self, statement: str, _: object = None) -> list[dict[str, object]]:
        if "system_schema_mcs.keyspaces" in statement:
            return [{"keyspace_name": "k"}]
        if "system_schema_mcs.tables" in statement:
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            return [] if state is None else [{"status": state}]
        self.ran.append(statement)
        return []


def test_it_waits_until_the_table_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_schema, "POLL_SECONDS", 0.01)
    session = Slow([None, "CREATING", "CREATING", "ACTIVE"])
    assert Tables(session, "k").ensure(ENERGY, "t") is Done.MADE
    assert len(session.ran) == 1
    with pytest.raises(OnlineError, match=r"The table k\.t is not ready after 0 s: run this again later"):
        Tables(Slow([None, "CREATING"]), "k", active_seconds=0.1).ensure(ENERGY, "t")


def test_signing_in_as_an_aws_identity_reaches_the_server(
    cassandra: RunningCassandra, monkeypatch: pytest.MonkeyPatch, reach: Callable[..., None]
) -> None:
    """The driver starts with AWS's plugin and sends its answer; the stand-in knows passwords only, and says no."""
    reach(cassandra)
    monkeypatch.delenv("KEYSPACES_USERNAME")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    with pytest.raises(OnlineError, match=r"No connection to Keyspaces at .*: .*[Aa]uthenticat"):
        online.Connection.from_environment()


def test_what_was_certified_is_forgotten_before_the_table_is_made_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the making ends before the table is ready: the next run finds it there, and it is empty."""
    store.lake.put(features(["A"], [day(0)]))
    store.sync(str(day(0)))
    assert store.known
    monkeypatch.setattr(Tables, "is_there", lambda *_: False)  # as after a DROP TABLE, which the stand-in refuses

    def never(*_: object) -> None:
        raise OnlineError("not ready")

    monkeypatch.setattr(Tables, "ensure", never)
    with pytest.raises(JobError, match="not ready"):
        run(store, ENERGY)
    assert store.known == {}
