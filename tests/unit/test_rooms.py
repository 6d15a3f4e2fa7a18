"""The arrows between the rooms: dags -> plugins -> feature_store <- spark_jobs, and nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.settings import ROOT

pytestmark = pytest.mark.unit

OURS = {"dags", "feature_store_airflow", "feature_store", "spark_jobs", "Simulation", "infra", "tests", "benchmarks"}
MAY_IMPORT = {
    "dags": {"feature_store_airflow", "feature_store"},
    "plugins/feature_store_airflow": {"feature_store_airflow", "feature_store"},
    "feature_store": {"feature_store"},
    "spark_jobs": {"spark_jobs", "feature_store"},
    "Simulation": {"Simulation", "feature_store"},
    "infra": {"infra", "feature_store"},
    # The rivals are laid out and configured as ours is.
    "benchmarks": {"benchmarks", "infra", "feature_store", "spark_jobs"},
}
NEVER = {
    "dags": {"pyspark", "delta", "boto3", "botocore"},
    "plugins/feature_store_airflow": {"pyspark", "delta"},
    "feature_store": {"pyspark", "delta", "airflow"},
    "spark_jobs": {"airflow", "boto3"},
    "Simulation": {"airflow", "pyspark", "delta"},
    "infra": {"airflow"},
    "benchmarks": {"airflow"},
}
# The modules of the domain that compute or judge features, of numpy, Arrow and DuckDB.
COMPUTING = {"arrow_readings", "blocks", "compute", "files", "folds", "kernel", "inputs", "landed_csv", "leaks"}
COMPUTING |= {"look", "judge", "records", "report", "page", "small_table"}
COMPUTING |= {"asof", "build", "digest", "errors", "events", "options", "record", "tables"}  # of training sets
COMPUTING |= {
    "backfill",
    "outlook",
    "budget",
    "cells",
    "certificates",
    "changes",
    "online_table",
    "plan",
    "proof",
    "requests",
    "synchronise",
    "whole",
    "wire",
}
# Those that talk to the online store.
ONLINE = {
    "endpoint",
    "answers",
    "connection",
    "prometheus",
    "many",
    "reader",
    "tries",
    "online_schema",
    "online_table",
    "requests",
    "wire",
    "backfill",
    "outlook",
    "budget",
    "changes",
    "plan",
    "proof",
    "synchronise",
    "whole",
}


def imports(file: Path) -> set[str]:
    """The top-level names of every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_knows_only_the_rooms_its_arrow_points_to(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files, f"no code in {room}"
    for file in files:
        names = imports(file)
        wrong = (names & OURS - MAY_IMPORT[room]) | (names & NEVER[room])
        assert not wrong, f"{file.relative_to(ROOT)} imports {sorted(wrong)}"


@pytest.mark.parametrize("computes", [False, True])
def test_the_domain_loads_neither_airflow_nor_spark(computes: bool) -> None:
    """Nor numpy, where it only declares: the online client and the DAGs do with less."""
    modules = ",".join(
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in (ROOT / "feature_store").rglob("[a-z]*.py")
        if file.stem not in ONLINE and (computes or file.stem not in COMPUTING)
    )
    unwanted = {"airflow", "pyspark", "cassandra", "deltalake", "matplotlib"} | (
        set() if computes else {"numpy", "pyarrow", "duckdb"}
    )
    code = f"import {modules}, sys; print(sorted({unwanted} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"
