"""OpenLineage of a step: named datasets on both sides, with versions and rows once it has ended well."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from airflow.sdk import DAG
from feature_store_airflow.step import StepOperator

from feature_store import registry
from infra.local.settings import ROOT

pytestmark = pytest.mark.unit

RUN_ID = "manual__2014-02-28T04:00:00+00:00"
VIEWS = [view.name for view in registry.views()]
TABLES = ("--readings", "s3://lake/delta/readings", "--features", "s3://lake/delta/{view}")
ONLINE = ("--keyspace", "feature_store", "--table", "{view}")
NAMED = tuple(part for view in VIEWS for part in ("--view", view))
READINGS = ("s3://lake", "delta/readings")
FEATURES = [("s3://lake", f"delta/{view}") for view in VIEWS]
KEYSPACES = [("cassandra://cassandra.eu-west-2.amazonaws.com:9142", f"feature_store.{view}") for view in VIEWS]


def task(job: str, arguments: Sequence[str]) -> StepOperator:
    with DAG("daily", default_args={"retries": 1}):
        return StepOperator(task_id=job, job=job, arguments=arguments)


@pytest.fixture
def of(s3, emr, perform) -> Any:
    """Run a step that leaves this summary; return its lineage, as its listener in Airflow asks for it."""

    def run(job: str, arguments: Sequence[str], **did: Any) -> Any:
        emr.cluster()
        key = f"runs/daily/{RUN_ID}/{job}.json"
        emr.on_new_step = lambda: s3.put_object(Bucket="lake", Key=key, Body=json.dumps({"job": job, **did}).encode())
        _, context = perform(task(job, arguments))
        return context["task"].get_openlineage_facets_on_complete(context["ti"])

    return run


def names(datasets: Sequence[Any]) -> list[tuple[str, str]]:
    return [(each.namespace, each.name) for each in datasets]


def test_ingest_goes_from_the_landing_folder_to_the_readings(of) -> None:
    arguments = ("--source", "s3://lake/Dataset/", *TABLES[:2])
    found = of("ingest", arguments, rows_valid=88, readings_version=4)
    assert names(found.inputs) == [("s3://lake", "Dataset")]
    (readings,) = found.outputs
    assert (readings.namespace, readings.name) == READINGS
    assert readings.facets["version"].datasetVersion == "4"
    assert readings.outputFacets["outputStatistics"].rowCount == 88


def test_featurize_goes_from_the_readings_to_each_view(of) -> None:
    did = {view: {"rows_written": 7 + number, "features_version": number} for number, view in enumerate(VIEWS)}
    found = of("featurize", (*TABLES, *NAMED, "--start", "2014-02-27", "--end", "2014-02-27"), views=did)
    assert names(found.inputs) == [READINGS]
    assert names(found.outputs) == FEATURES
    for number, (view, out) in enumerate(zip(registry.views(), found.outputs, strict=True)):
        assert out.facets["version"].datasetVersion == str(number)
        assert out.outputFacets["outputStatistics"].rowCount == 7 + number
        assert [field.name for field in out.facets["schema"].fields] == [column.name for column in view.columns]


def test_validate_reads_both_and_writes_no_data(of) -> None:
    found = of("validate", (*TABLES, *NAMED), views={})
    assert names(found.inputs) == [READINGS, *FEATURES]
    assert found.outputs == []


def test_sync_goes_from_each_view_to_its_online_table(of) -> None:
    found = of("sync", (*TABLES[2:], *NAMED, *ONLINE), views={view: {"rows_written": 3} for view in VIEWS})
    assert names(found.inputs) == FEATURES
    assert names(found.outputs) == KEYSPACES
    assert {out.outputFacets["outputStatistics"].rowCount for out in found.outputs} == {3}
    assert {field.type for field in found.outputs[0].facets["schema"].fields} >= {"text", "date", "double"}


def test_schema_is_of_the_online_tables(of) -> None:
    found = of("schema", (*TABLES[2:], *NAMED, *ONLINE))
    assert (found.inputs, names(found.outputs)) == ([], KEYSPACES)


def test_of_a_step_that_has_not_ended_well_there_are_the_names(of, emr, perform) -> None:
    emr.cluster()
    emr.new_states = ["PENDING", "FAILED"]
    with pytest.raises(Exception, match="did not complete") as raised:
        perform(task("featurize", (*TABLES, *NAMED)))
    found = raised.value.context["task"].get_openlineage_facets_on_start()
    assert names(found.outputs) == FEATURES
    assert not any("version" in out.facets or out.outputFacets for out in found.outputs)


def test_it_is_off_by_default_and_costs_nothing(tmp_path) -> None:
    """There is no listener, and our part is not loaded with the operators; one setting switches it on."""
    code = (
        "import sys, feature_store_airflow.step;"
        "print('feature_store_airflow.lineage' in sys.modules);"
        "from airflow.providers.openlineage.plugins.openlineage import OpenLineageProviderPlugin as plugin;"
        "print(len(plugin.listeners))"
    )

    def said(**settings: str) -> list[str]:
        environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}", "AIRFLOW_HOME": str(tmp_path), **settings}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd="/")
        return done.stdout.splitlines()[-2:]

    assert said() == ["False", "0"]
    assert said(AIRFLOW__OPENLINEAGE__TRANSPORT='{"type": "console"}')[1] == "1"
