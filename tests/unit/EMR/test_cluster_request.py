"""EMR/cluster.json: a valid RunJobFlow request once rendered, and one that the local EMR takes."""

import json
from typing import Any

import botocore.session
import pytest
from botocore.validate import validate_parameters
from jinja2 import Environment, StrictUndefined

from infra.local.aws.requests import check_run_job_flow
from infra.local.settings import ROOT

pytestmark = pytest.mark.unit

VARIABLE = {
    "bucket": "lake",
    "region": "eu-west-2",
    "release": "0123abcd",
    "keyspaces": {
        "host": "127.0.0.1",
        "port": 9142,
        "credentials": "feature-store/keyspaces",
        "keyspace": "feature_store",
    },
    "subnet_id": "subnet-1",
    "job_flow_role": "node",
    "service_role": "emr",
    "poll_seconds": 1,
}


def render(value: Any) -> Any:
    """Render every string of a JSON value, as Airflow renders the fields of an operator."""
    jinja = Environment(undefined=StrictUndefined, autoescape=False)
    context = {
        "var": {"json": {"feature_store": VARIABLE}},
        "dag": {"dag_id": "daily"},
        "run_id": "manual__1",
        "dag_run": {"run_type": "manual"},
        "params": {"cluster_size": "small"},
    }
    if isinstance(value, str):
        return jinja.from_string(value).render(context)
    if isinstance(value, dict):
        return {key: render(inner) for key, inner in value.items()}
    return [render(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
def request_() -> dict[str, Any]:
    return dict(render(json.loads((ROOT / "EMR" / "cluster.json").read_text())))


def test_it_is_a_valid_request(request_):
    model = botocore.session.get_session().get_service_model("emr").operation_model("RunJobFlow")
    validate_parameters(request_, model.input_shape)


def test_the_local_emr_takes_it(request_):
    settings = check_run_job_flow(request_)
    assert settings.spark_defaults["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension"
    assert settings.exports["PYSPARK_PYTHON"] == "/usr/bin/python3.11"


def test_the_cluster_ends_by_itself_and_says_whose_it_is(request_):
    assert request_["AutoTerminationPolicy"]["IdleTimeout"] == 3600
    assert request_["Instances"]["TerminationProtected"] is False
    tags = {tag["Key"]: tag["Value"] for tag in request_["Tags"]}
    assert tags == {
        "Project": "feature-store",
        "for-use-with-amazon-emr-managed-policies": "true",
        "bucket": "lake",
        "dag_id": "daily",
        "run_id": "manual__1",
    }
    assert request_["Name"] == "feature-store daily manual__1"


def test_the_bootstrap_action_gets_the_release_and_where_keyspaces_is(request_):
    (action,) = [action["ScriptBootstrapAction"] for action in request_["BootstrapActions"]]
    assert action["Path"] == "s3://lake/releases/0123abcd/emr_bootstrap_script.sh"
    given = dict(zip(action["Args"][::2], action["Args"][1::2], strict=True))
    assert given == {
        "--release": "s3://lake/releases/0123abcd",
        "--secret": "feature-store/keyspaces",
        "--keyspaces-host": "127.0.0.1",
        "--keyspaces-port": "9142",
        "--region": "eu-west-2",
    }
