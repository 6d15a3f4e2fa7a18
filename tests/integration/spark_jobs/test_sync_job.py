"""sync against a real Cassandra: what is online afterwards is what Delta has, or the job says how it is not."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from feature_store import cql, online
from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.validation import records
from infra.local.settings import REGION, ROOT
from spark_jobs import featurize, sync
from spark_jobs.errors import JobError, VerdictError
from tests.integration.conftest import RunningCassandra
from tests.integration.spark_jobs.conftest import Run, reading, save_readings

pytestmark = pytest.mark.integration

DAYS = "2013-01-01..2013-01-03"
KEYSPACE, TABLE = "sync_tests", ENERGY.name


@pytest.fixture(scope="module")
def connection(cassandra: RunningCassandra) -> online.Connection:
    made = online.connect(
        host=cassandra.host,
        port=cassandra.port,
        username=cassandra.username,
        password=cassandra.password,
        ca=cassandra.ca,
        region=REGION,
        keyspace=KEYSPACE,
    )
    cql.apply(made.session, cql.keyspace(KEYSPACE) + cql.table(ENERGY, KEYSPACE))
    return made


@pytest.fixture(scope="module")
def driver_config(cassandra: RunningCassandra, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Fill in EMR/app.config, as the bootstrap script does."""
    folder = tmp_path_factory.mktemp("driver")
    store = folder / "truststore.jks"
    keytool = ["keytool", "-importcert", "-noprompt", "-storetype", "JKS", "-alias", "ca", "-storepass", "changeit"]
    subprocess.run([*keytool, "-keystore", store, "-file", cassandra.ca], check=True, capture_output=True)

    def make(name: str = "app", **other: str) -> Path:
        values = {
            "CONTACT_POINT": f"{cassandra.host}:{cassandra.port}",
            "REGION": REGION,
            "USERNAME": cassandra.username,
            "PASSWORD": cassandra.password,
            "TRUSTSTORE_PATH": str(store),
            "TRUSTSTORE_PASSWORD": "changeit",
            **other,
        }
        template = (ROOT / "EMR" / "app.config").read_text()
        file = folder / f"{name}.config"
        file.write_text(re.sub('"@([A-Z_]+)@"', lambda found: json.dumps(values[found[1]]), template))
        return file

    return make


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sync")
    start = dt.date(2012, 11, 1)
    rows = [reading(f"H{house}", start + dt.timedelta(days=n), n / 7 + house) for house in range(20) for n in range(70)]
    rows.append(reading("EMPTY", "2013-01-02", None))
    save_readings(spark, path / "readings", rows)
    return path


@pytest.fixture
def features(lake: Path, run: Run) -> Path:
    run(featurize, DAYS, readings=lake / "readings", features=lake / "features")
    return lake / "features"


def test_rows_are_online_as_they_are_in_delta(
    spark: SparkSession, features: Path, connection: online.Connection, driver_config: Callable[..., Path], run: Run
) -> None:
    # What a former run left online: a value where Delta has a null now.
    connection.session.execute(
        f"INSERT INTO {KEYSPACE}.{TABLE} (id, day_date, energy_sum_1yr) VALUES ('EMPTY', '2013-01-02', 5)"
    )
    arguments = {"features": features, "keyspace": KEYSPACE, "table": TABLE, "driver_config": driver_config()}
    for _ in range(2):
        done = run(sync, DAYS, **arguments)
        assert (done["rows_written"], done["rows_online"], done["table"]) == (61, 61, f"{KEYSPACE}.{TABLE}")
    delta = spark.read.format("delta").load(str(features)).where("day_date = DATE'2013-01-03' AND id = 'H7'").collect()
    latest = connection.latest("H7")
    assert latest == delta[0].asDict()
    assert list(latest) == [column.name for column in ENERGY.columns]
    assert type(latest["day_date"]) is dt.date
    empty = connection.latest("EMPTY")
    assert empty is not None
    assert empty["energy_sum_1yr"] is None
    assert empty["energy_count_1yr"] == 0
    assert connection.latest("nobody") is None


def test_rows_that_delta_no_longer_has_are_named(
    features: Path, connection: online.Connection, driver_config: Callable[..., Path], run: Run
) -> None:
    connection.session.execute(f"INSERT INTO {KEYSPACE}.{TABLE} (id, day_date) VALUES ('GHOST', '2013-01-02')")
    connection.session.execute(f"INSERT INTO {KEYSPACE}.{TABLE} (id, day_date) VALUES ('GHOST', '2013-01-09')")
    arguments = {"features": features, "keyspace": KEYSPACE, "table": TABLE, "driver_config": driver_config()}
    try:
        with pytest.raises(VerdictError, match=r"1 left over \(such as GHOST 2013-01-02\)") as caught:
            run(sync, DAYS, **arguments)
        assert caught.value.summary["rows_online"] == 61
        advised = re.search(r"remove them by statements like (DELETE .*;)", str(caught.value))
        assert advised is not None
        for statement in cql.statements(advised[1]):
            connection.session.execute(statement)
        assert run(sync, DAYS, **arguments)["rows_online"] == 61
    finally:
        connection.session.execute(f"DELETE FROM {KEYSPACE}.{TABLE} WHERE id = 'GHOST'")


def test_only_the_version_that_was_validated_is_synced(
    spark: SparkSession,
    features: Path,
    connection: online.Connection,
    driver_config: Callable[..., Path],
    run: Run,
    tmp_path: Path,
) -> None:
    shutil.copytree(features, tmp_path / "features")
    table = f"delta.`{tmp_path / 'features'}`"
    others = ", ".join(column.name for column in ENERGY.columns[2:])
    arguments = {
        "features": tmp_path / "features",
        "keyspace": KEYSPACE,
        "table": TABLE,
        "driver_config": driver_config(),
        "features_version": run(featurize, DAYS, readings=features.parent / "readings", features=tmp_path / "features")[
            "features_version"
        ],
    }
    spark.sql(f"DELETE FROM {table} WHERE day_date > '2013-01-03'")
    spark.sql(f"INSERT INTO {table} SELECT id, DATE'2013-02-01', {others} FROM {table} WHERE id = 'H7'")
    assert run(sync, DAYS, **arguments)["rows_online"] == 61, "other days are another run's affair"
    spark.sql(f"UPDATE {table} SET energy_sum_1yr = 0 WHERE id = 'H7' AND day_date = '2013-01-03'")
    with pytest.raises(JobError, match=r"Other features of 2013-01-01\.\.2013-01-03 were written to .* since version"):
        run(sync, DAYS, **arguments)
    latest = connection.latest("H7")
    assert latest is not None
    assert latest["energy_sum_1yr"] != 0


def test_a_day_that_is_held_back_stays_as_it_was_online(
    spark: SparkSession,
    features: Path,
    connection: online.Connection,
    driver_config: Callable[..., Path],
    run: Run,
    tmp_path: Path,
) -> None:
    copied = tmp_path / "features"
    shutil.copytree(features, copied)
    arguments = {"features": copied, "keyspace": KEYSPACE, "table": TABLE, "driver_config": driver_config()}
    assert run(sync, DAYS, **arguments)["days_held_back"] == []
    before = connection.latest("H7")
    spark.sql(f"UPDATE delta.`{copied}` SET energy_sum_1yr = -1 WHERE day_date = '2013-01-03'")
    day = dt.date(2013, 1, 3)
    judged = records.Judged(day, records.Verdict.QUARANTINED, 20, "", ("values_recomputed",))
    source = records.Source(0, 1, dt.datetime.now(dt.UTC), "report")
    records.record(str(copied), ENERGY, DayRange(day, day), {}, [judged], source)
    done = run(sync, DAYS, **arguments)
    assert (done["rows_online"], done["days_held_back"]) == (41, ["2013-01-03"])
    assert connection.latest("H7") == before
    with pytest.raises(JobError, match=r"no features of 2013-01-03 but those that validation holds back \(2013-01-03"):
        run(sync, "2013-01-03", **arguments)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ({"table": "nothing"}, {}, f"no online table {KEYSPACE}.nothing"),
        ({"keyspace": "nowhere"}, {}, f"no online table nowhere.{TABLE}"),
        ({}, {"PASSWORD": "wrong"}, "does not accept the user name and password in .*PASSWORD.config"),
        ({}, {"CONTACT_POINT": "127.0.0.1:9"}, "can't be reached at the address in .*Connection refused"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    arguments: dict,
    settings: dict[str, str],
    message: str,
    features: Path,
    connection: online.Connection,
    driver_config: Callable[..., Path],
    run: Run,
) -> None:
    config = driver_config("-".join(settings) or "app", **settings)
    given = {"features": features, "keyspace": KEYSPACE, "table": TABLE, "driver_config": config, **arguments}
    with pytest.raises(JobError, match=message) as caught:
        run(sync, DAYS, **given)
    assert "\n" not in str(caught.value)


def test_nothing_to_sync_and_no_configuration(
    features: Path, connection: online.Connection, driver_config: Callable[..., Path], run: Run, tmp_path: Path
) -> None:
    arguments = {"features": features, "keyspace": KEYSPACE, "table": TABLE}
    with pytest.raises(JobError, match="no features of 2020-01-01"):
        run(sync, "2020-01-01", **arguments, driver_config=driver_config())
    with pytest.raises(JobError, match=r"absent\.config is missing"):
        run(sync, DAYS, **arguments, driver_config=tmp_path / "absent.config")


def test_a_wrong_name_or_password_is_refused_online(cassandra: RunningCassandra, connection: online.Connection) -> None:
    good = {"host": cassandra.host, "port": cassandra.port, "username": cassandra.username, "ca": cassandra.ca}
    with pytest.raises(online.OnlineError, match=f"No connection to Keyspaces at {cassandra.host}:{cassandra.port}"):
        online.connect(**good, password="wrong", region=REGION)
