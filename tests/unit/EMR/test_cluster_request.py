"""EMR/cluster.json: a valid RunJobFlow request once rendered, and one that the local EMR takes; in every variant."""

import json
import re
import tomllib
from itertools import product
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ParamValidationError
from botocore.validate import validate_parameters
from feature_store_airflow.failures import ClusterRefused
from feature_store_airflow.machines import ONE_OF, Machines, bought, types
from feature_store_airflow.options import sized, sizes
from jinja2 import Environment, StrictUndefined

from infra import wheels
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


# What a deployment may say besides.
SAID = {
    "security_configuration": "feature-store-emr",
    "security_groups": {"master": "sg-1", "core": "sg-2", "service": "sg-3"},
}
VARIANTS = [(size, dict(zip(ONE_OF, values, strict=True))) for size in sizes() for values in product(*ONE_OF.values())]


def render(value: Any, **more: Any) -> Any:
    """Render every string of a JSON value, as Airflow renders the fields of an operator."""
    jinja = Environment(undefined=StrictUndefined, autoescape=False)
    context = {
        "var": {"json": {"feature_store": {**VARIABLE, **more}}},
        "dag": {"dag_id": "daily"},
        "run_id": "manual__1",
        "dag_run": {"run_type": "manual"},
        "params": {"cluster_size": "small"},
    }
    if isinstance(value, str):
        return jinja.from_string(value).render(context)
    if isinstance(value, dict):
        return {key: render(inner, **more) for key, inner in value.items()}
    return [render(inner, **more) for inner in value] if isinstance(value, list) else value


def rendered(**more: Any) -> dict[str, Any]:
    return dict(render(json.loads((ROOT / "EMR" / "cluster.json").read_text()), **more))


@pytest.fixture
def request_() -> dict[str, Any]:
    return rendered()


@pytest.fixture(scope="module")
def shape() -> Any:
    return botocore.session.get_session().get_service_model("emr").operation_model("RunJobFlow").input_shape


def empty(value: Any) -> list[str]:
    """The keys of a request whose value is an empty string."""
    if isinstance(value, list):
        return [key for inner in value for key in empty(inner)]
    if not isinstance(value, dict):
        return []
    return [key for key, inner in value.items() if inner == "" or empty(inner)]


def test_it_is_a_valid_request(request_, shape):
    validate_parameters(request_, shape)


@pytest.mark.parametrize(
    ("size", "setting"), VARIANTS, ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else value
)
@pytest.mark.parametrize("more", [{}, SAID], ids=["least", "most"])
def test_every_variant_is_valid_and_taken_by_the_local_emr(shape, size, setting, more):
    asked = bought(sized(rendered(**more), size), Machines.of(setting))
    validate_parameters(asked, shape)
    check_run_job_flow(asked)
    assert not empty(asked)
    instances = asked["Instances"]
    assert ("InstanceFleets" in instances) is (setting["instances"] == "fleets") is ("InstanceGroups" not in instances)
    assert asked.get("SecurityConfiguration") == more.get("security_configuration")
    assert instances.get("EmrManagedSlaveSecurityGroup") == more.get("security_groups", {}).get("core")
    # Whatever is asked for, the cluster ends by itself, and EMR may change its size within limits only.
    assert asked["AutoTerminationPolicy"] == {"IdleTimeout": 3600}
    limits = asked["ManagedScalingPolicy"]["ComputeLimits"]
    assert limits["MinimumCapacityUnits"] == sizes()[size]["core_count"]
    assert limits["MaximumCapacityUnits"] == sizes()[size]["core_limit"]
    assert limits["UnitType"] == ("InstanceFleetUnits" if setting["instances"] == "fleets" else "Instances")


def test_the_projects_spark_delta_and_python_are_those_of_the_release(request_):
    """As EMR/README.md states them, with the source."""
    table = re.search(r"^\| (emr-\S+) \| (\S+) \| (\S+) \| ([^|]+) \|", (ROOT / "EMR" / "README.md").read_text(), re.M)
    assert table
    label, spark, delta, python = table.groups()
    assert request_["ReleaseLabel"] == label
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {f"pyspark=={spark}", f"delta-spark=={delta}"} <= set(project["dependencies"])
    assert wheels.PYTHON in python
    assert project["requires-python"].startswith(f">={wheels.PYTHON},")


def test_botocore_does_refuse_what_is_wrong(request_, shape):
    limits = request_["ManagedScalingPolicy"]["ComputeLimits"]
    limits["MinimumCapacityUnits"] = "one"
    with pytest.raises(ParamValidationError, match="MinimumCapacityUnits"):
        validate_parameters(request_, shape)


def test_a_deployment_that_says_nothing_has_groups_on_demand_on_graviton(request_):
    asked = bought(request_, Machines.of({}))
    assert asked["Instances"]["InstanceGroups"] == request_["Instances"]["InstanceGroups"]
    groups = {group["InstanceRole"]: group for group in asked["Instances"]["InstanceGroups"]}
    assert {group["Market"] for group in groups.values()} == {"ON_DEMAND"}
    for size in sizes().values():
        assert (size["master"], size["core"]) == (types(size["master"], "arm64")[0], types(size["core"], "arm64")[0])


def test_only_core_nodes_are_spot_ones(request_):
    groups = bought(request_, Machines(core_market="spot"))
    assert [group["Market"] for group in groups["Instances"]["InstanceGroups"]] == ["ON_DEMAND", "SPOT"]
    assert groups["ManagedScalingPolicy"]["ComputeLimits"]["MaximumOnDemandCapacityUnits"] == 0
    fleets = bought(sized(request_, "large"), Machines(instances="fleets", core_market="spot"))
    master, core = fleets["Instances"]["InstanceFleets"]
    assert (master["InstanceFleetType"], master["TargetOnDemandCapacity"]) == ("MASTER", 1)
    assert "TargetSpotCapacity" not in master
    assert (core["InstanceFleetType"], core["TargetSpotCapacity"]) == ("CORE", 4)
    assert core["LaunchSpecifications"]["SpotSpecification"]["TimeoutAction"] == "SWITCH_TO_ON_DEMAND"


def test_a_fleet_takes_machines_of_one_size_and_one_architecture_in_any_of_its_zones(request_):
    subnets = ["subnet-1", "subnet-2"]
    asked = bought(request_, Machines.of({"instances": "fleets", "architecture": "x86_64", "subnet_ids": subnets}))
    assert asked["Instances"]["Ec2SubnetIds"] == subnets
    assert "Ec2SubnetId" not in asked["Instances"]
    core = asked["Instances"]["InstanceFleets"][1]
    assert [each["InstanceType"] for each in core["InstanceTypeConfigs"]] == types("m7g.xlarge", "x86_64")
    assert all(name.endswith(".xlarge") and "g." not in name for name in types("m7g.xlarge", "x86_64"))
    alone = bought(request_, Machines(instances="fleets"))
    assert alone["Instances"]["Ec2SubnetIds"] == [request_["Instances"]["Ec2SubnetId"]]


def test_a_type_that_someone_has_chosen_comes_first():
    assert types("r7g.xlarge", "arm64")[0] == "r7g.xlarge"
    assert types("c7g.xlarge", "arm64") == ["c7g.xlarge"]  # of no list: whoever chose it knows
    request = rendered()
    for group in request["Instances"]["InstanceGroups"]:
        group["InstanceType"] = "c7g.2xlarge"
    asked = bought(request, Machines(subnet_ids=("subnet-1", "subnet-2")))
    assert {group["InstanceType"] for group in asked["Instances"]["InstanceGroups"]} == {"c7g.2xlarge"}


def test_fleets_without_any_subnet_are_refused(request_):
    request_["Instances"]["Ec2SubnetId"] = ""
    with pytest.raises(ClusterRefused, match=r"neither cluster.subnet_ids nor subnet_id: .* Next: correct it"):
        bought(request_, Machines(instances="fleets"))


def test_the_local_emr_takes_it(request_):
    settings = check_run_job_flow(request_)
    assert settings.spark_defaults["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension"
    # Of the release's packages: EMR's own has none of them.
    python = "/home/hadoop/feature-store/python/bin/python"
    assert (settings.exports["PYSPARK_PYTHON"], settings.exports["PYSPARK_DRIVER_PYTHON"]) == (python, python)
    region = render("{{ var.json.feature_store.region }}")
    assert (settings.exports["AWS_REGION"], settings.exports["AWS_DEFAULT_REGION"]) == (region, region)


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


def test_without_a_secret_the_bootstrap_action_is_told_so():
    (action,) = rendered(keyspaces={**VARIABLE["keyspaces"], "credentials": ""})["BootstrapActions"]
    arguments = action["ScriptBootstrapAction"]["Args"]
    assert arguments[arguments.index("--secret") + 1] == "-"
