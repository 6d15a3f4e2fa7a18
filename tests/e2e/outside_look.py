"""Compare Delta, the online tables and an independent computation of one day, knowing only what `make -s env` prints.

Of the two views whose windows and aggregates are written down here once more, in DuckDB's SQL. With ABSENT set: that
no row of the day is online.
"""

import datetime as dt
import math
import os
import ssl
import sys

import duckdb
from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.query import dict_factory
from deltalake import DeltaTable

day, csvs = dt.date.fromisoformat(sys.argv[1]), sys.argv[2:]
MEASURES = ["energy_median", "energy_mean", "energy_max", "energy_count", "energy_std", "energy_sum", "energy_min"]
# Of each view: the measures that a row carries, its windows and its aggregates.
VIEWS = {
    "energy_data_features": (
        MEASURES,
        {"3months": "3 MONTH", "6months": "6 MONTH", "1yr": "12 MONTH"},
        {
            "energy_sum": "sum(energy_sum)",
            "energy_count": "sum(energy_count)",
            "energy_max": "max(energy_max)",
            "energy_mean": "avg(energy_mean)",
            "energy_stddev": "stddev_samp(energy_sum)",
        },
    ),
    "energy_recent_features": (
        ["energy_sum"],
        {"7days": "6 DAY", "28days": "27 DAY"},
        {
            "energy_sum_min": "min(energy_sum)",
            "energy_sum_max": "max(energy_sum)",
            "energy_sum_mean": "avg(energy_sum)",
            "energy_sum_stddev": "stddev_samp(energy_sum)",
            "days_seen": "count(*)",
        },
    ),
}


def close(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return a == b


def readings_of():
    rows = duckdb.read_csv(csvs, all_varchar=True, ignore_errors=True)
    entity = "household_id" if "household_id" in rows.columns else "LCLid"
    casts = ", ".join(f"try_cast({m} AS {'BIGINT' if m == 'energy_count' else 'DOUBLE'}) AS {m}" for m in MEASURES)
    # A malformed row is one whose measure is there and is no number, or is negative.
    bad = " OR ".join(f"({m} IS NOT NULL AND coalesce(try_cast({m} AS DOUBLE), -1) < 0)" for m in MEASURES)
    readings = duckdb.sql(
        f"SELECT DISTINCT {entity} AS id, try_cast(day AS DATE) AS day_date, {casts} FROM rows"
        f" WHERE {entity} IS NOT NULL AND try_cast(day AS DATE) IS NOT NULL AND NOT ({bad})"
    )
    assert readings is not None
    return readings


def independent(measures, windows, aggregates):
    readings = readings_of()  # noqa: F841 - DuckDB finds it by its name
    frames = ", ".join(
        f"{expression} FILTER (WHERE day_date >= DATE '{day}' - INTERVAL {reach}) AS {name}_{window}"
        for name, expression in aggregates.items()
        for window, reach in windows.items()
    )
    today = ", ".join(f"max({m}) FILTER (WHERE day_date = DATE '{day}') AS {m}" for m in measures)
    found = duckdb.sql(
        f"SELECT id, {today}, {frames} FROM readings WHERE day_date <= DATE '{day}'"
        f" GROUP BY id HAVING max(day_date) = DATE '{day}'"
    )
    return {row[0]: dict(zip(found.columns, row, strict=True)) | {"day_date": day} for row in found.fetchall()}


def offline(view):
    uri = f"s3://{os.environ['FEATURE_STORE_BUCKET']}/delta/{view}"
    table = DeltaTable(uri, storage_options=endpoint())
    rows = table.to_pyarrow_table(filters=[("day_date", "=", day)]).to_pylist()
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows), "Delta has a household twice"
    return found


def endpoint():
    return {"AWS_ENDPOINT_URL": os.environ.get("AWS_ENDPOINT_URL_S3", os.environ["AWS_ENDPOINT_URL"])}


def online(view, ids):
    profile = ExecutionProfile(consistency_level=ConsistencyLevel.LOCAL_QUORUM, row_factory=dict_factory)
    cluster = Cluster(
        [os.environ["KEYSPACES_HOST"]],
        port=int(os.environ["KEYSPACES_PORT"]),
        ssl_context=ssl.create_default_context(cafile=os.environ["KEYSPACES_CA"]),
        auth_provider=PlainTextAuthProvider(os.environ["KEYSPACES_USERNAME"], os.environ["KEYSPACES_PASSWORD"]),
        protocol_version=4,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    )
    session = cluster.connect()
    query = session.prepare(f"SELECT * FROM feature_store.{view} WHERE id = ? AND day_date = ?")
    rows = [session.execute(query, (entity, day)).one() for entity in ids]
    cluster.shutdown()
    return {row["id"]: row | {"day_date": row["day_date"].date()} for row in rows if row}


def absent(view):
    ids = [row[0] for row in readings_of().select("id").distinct().fetchall()]
    assert ids, "no readings"
    served = online(view, ids)
    assert not served, (view, "online", len(served))
    print(f"{view}: no row of {len(ids)} is online")


def compare(view):
    expected, delta = independent(*VIEWS[view]), offline(view)
    served = online(view, expected)
    assert expected, f"no readings of {day}"
    for name, there in (("delta", delta), ("online", served)):
        assert there.keys() == expected.keys(), (view, name, len(there), list(there.keys() ^ expected.keys())[:5])
    for entity, row in expected.items():
        offline_row, online_row = delta[entity], served[entity]
        assert offline_row.keys() == row.keys() == online_row.keys(), (view, offline_row.keys(), online_row.keys())
        for column, value in row.items():
            assert close(offline_row[column], value), (view, entity, column, "delta", offline_row[column], value)
            assert online_row[column] == offline_row[column], (view, entity, column, "online", online_row[column])
    print(f"{view}: {len(expected)} rows agree")


assert os.environ["FEATURES_URI"] == f"s3://{os.environ['FEATURE_STORE_BUCKET']}/delta/energy_data_features"
for each in os.environ.get("ONLY_VIEWS", " ".join(VIEWS)).split():
    (absent if "ABSENT" in os.environ else compare)(each)
