"""What the local EMR takes: a request for anything that it does not do is refused, and the refusal says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from moto.emr.exceptions import ValidationException

from infra.local.aws.node import Settings
from infra.local.aws.s3 import S3Error, split

# Done here, or recorded by moto where it changes nothing on one machine (sizes, roles, networks).
RUN_JOB_FLOW = frozenset(
    {
        "Name",
        "LogUri",
        "ReleaseLabel",
        "Instances",
        "Steps",
        "BootstrapActions",
        "Applications",
        "Configurations",
        "VisibleToAllUsers",
        "JobFlowRole",
        "ServiceRole",
        "Tags",
        "ScaleDownBehavior",
        "StepConcurrencyLevel",
        "AutoTerminationPolicy",
        "ManagedScalingPolicy",
        "SecurityConfiguration",
        "EbsRootVolumeSize",
        "EbsRootVolumeIops",
        "EbsRootVolumeThroughput",
    }
)
INSTANCES = frozenset(
    {
        "MasterInstanceType",
        "SlaveInstanceType",
        "InstanceCount",
        "InstanceGroups",
        "InstanceFleets",
        "Ec2KeyName",
        "Placement",
        "KeepJobFlowAliveWhenNoSteps",
        "TerminationProtected",
        "Ec2SubnetId",
        "Ec2SubnetIds",
        "EmrManagedMasterSecurityGroup",
        "EmrManagedSlaveSecurityGroup",
        "ServiceAccessSecurityGroup",
        "AdditionalMasterSecurityGroups",
        "AdditionalSlaveSecurityGroups",
    }
)
INSTANCE_GROUP = frozenset(
    {
        "Name",
        "Market",
        "InstanceRole",
        "BidPrice",
        "InstanceType",
        "InstanceCount",
        "EbsConfiguration",
    }
)
INSTANCE_FLEET = frozenset(
    {
        "Name",
        "InstanceFleetType",
        "TargetOnDemandCapacity",
        "TargetSpotCapacity",
        "InstanceTypeConfigs",
        "LaunchSpecifications",
    }
)
STEP = frozenset({"Name", "ActionOnFailure", "HadoopJarStep"})
JAR_STEP = frozenset({"Jar", "Args"})
APPLICATIONS = frozenset({"hadoop", "spark"})
IDLE_SECONDS = (60, 604_800)
CONCURRENT_STEPS = (1, 256)


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Turn moto's parsed request (case-insensitive mappings) into plain dicts with the API's own names."""
    if hasattr(value, "original_dict"):
        value = value.original_dict()
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def check_run_job_flow(request: Mapping[str, Any]) -> Settings:
    """Check a RunJobFlow request, a plain dict; its Configurations. ValidationException names what is not done here."""
    _only(RUN_JOB_FLOW, request, "RunJobFlow")
    instances = request.get("Instances", {})
    _only(INSTANCES, instances, "Instances")
    for group in instances.get("InstanceGroups", []):
        _only(INSTANCE_GROUP, group, "InstanceGroups")
    for fleet in instances.get("InstanceFleets", []):
        _only(INSTANCE_FLEET, fleet, "InstanceFleets")
        if not fleet.get("InstanceTypeConfigs"):
            raise ValidationException("An instance fleet needs InstanceTypeConfigs.")
        # docs.aws.amazon.com/emr/latest/APIReference/API_InstanceFleetConfig.html
        capacities = [fleet.get(f"Target{of}Capacity", 0) for of in ("OnDemand", "Spot")]
        if not any(capacities):
            raise ValidationException("An instance fleet needs a target capacity of more than 0.")
        if fleet.get("InstanceFleetType") == "MASTER" and sorted(capacities) != [0, 1]:
            raise ValidationException("The master's instance fleet has one target capacity, and that is 1.")
    if "InstanceFleets" in instances and "InstanceGroups" in instances:
        raise ValidationException("Instance groups and instance fleets are mutually exclusive.")
    if "InstanceGroups" in instances and "Ec2SubnetIds" in instances:
        raise ValidationException("Instance groups take one Ec2SubnetId; Ec2SubnetIds are for instance fleets.")
    for application in request.get("Applications", []):
        _one_of(APPLICATIONS, application.get("Name", "").lower(), "application")
    if request.get("LogUri"):
        _in_s3(request["LogUri"], "LogUri")
    for action in request.get("BootstrapActions", []):
        _in_s3(action["ScriptBootstrapAction"]["Path"], "bootstrap action")
    if "AutoTerminationPolicy" in request:
        check_idle_timeout(request["AutoTerminationPolicy"])
    if "ManagedScalingPolicy" in request:
        check_scaling(request["ManagedScalingPolicy"], "InstanceFleets" in instances)
    check_concurrency(request.get("StepConcurrencyLevel", 1))
    check_steps(request.get("Steps", []))
    return read_configurations(request.get("Configurations", []))


def check_steps(steps: Iterable[Mapping[str, Any]]) -> None:
    """Check the steps of a request, plain dicts."""
    for step in steps:
        _only(STEP, step, "a step")
        jar_step = step["HadoopJarStep"]
        _only(JAR_STEP, jar_step, "HadoopJarStep")
        _one_of({"command-runner.jar"}, jar_step["Jar"], "jar of a step")
        if not jar_step.get("Args"):
            raise ValidationException("command-runner.jar needs Args: the command, and its arguments.")


def check_scaling(policy: Mapping[str, Any], of_fleets: bool) -> None:
    """Check a ManagedScalingPolicy: one machine does not scale, but EMR would refuse limits that can't be."""
    limits = policy.get("ComputeLimits", {})
    if missing := {"UnitType", "MinimumCapacityUnits", "MaximumCapacityUnits"} - limits.keys():
        raise ValidationException(f"A ManagedScalingPolicy needs {min(missing)}.")
    if (limits["UnitType"] == "InstanceFleetUnits") != of_fleets:
        raise ValidationException(f"UnitType {limits['UnitType']} does not go with how the instances are given.")
    bounds = limits["MinimumCapacityUnits"], limits["MaximumCapacityUnits"]
    if not 1 <= bounds[0] <= bounds[1]:
        raise ValidationException(f"Managed scaling from {bounds[0]} to {bounds[1]} units can't be.")
    _within((0, bounds[1]), limits.get("MaximumOnDemandCapacityUnits", 0), "MaximumOnDemandCapacityUnits")


def as_groups(fleets: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return groups, as moto's parsed requests have them: it knows no fleets. Of each fleet its first type is taken."""
    return [
        {
            "name": fleet.get("Name", ""),
            "instance_role": fleet["InstanceFleetType"],
            "instance_type": fleet["InstanceTypeConfigs"][0]["InstanceType"],
            "instance_count": fleet.get("TargetOnDemandCapacity", 0) + fleet.get("TargetSpotCapacity", 0),
            "market": "SPOT" if fleet.get("TargetSpotCapacity") else "ON_DEMAND",
        }
        for fleet in fleets
    ]


def check_idle_timeout(policy: Mapping[str, Any]) -> int:
    """Check an AutoTerminationPolicy; its seconds."""
    return _within(IDLE_SECONDS, int(policy.get("IdleTimeout", 0)), "IdleTimeout (seconds)")


def check_concurrency(level: int) -> int:
    """Check a StepConcurrencyLevel."""
    return _within(CONCURRENT_STEPS, int(level), "StepConcurrencyLevel")


def read_configurations(configurations: Sequence[Mapping[str, Any]]) -> Settings:
    """Read a cluster's Configurations: spark-defaults, spark-env's exports, and Delta, which is always on here."""
    defaults: dict[str, str] = {}
    exports: dict[str, str] = {}
    for configuration in configurations:
        name, properties = configuration.get("Classification", ""), configuration.get("Properties", {})
        inner = configuration.get("Configurations", [])
        _one_of({"spark-defaults", "spark-env", "delta-defaults"}, name, "classification")
        if name == "spark-defaults":
            defaults.update(properties)
        elif name == "delta-defaults" and properties != {"delta.enabled": "true"}:
            raise _refusal(f"delta-defaults other than delta.enabled=true: {properties}")
        elif name == "spark-env" and properties:
            raise _refusal("properties of spark-env itself: give them in its classification export")
        for export in inner:
            if name != "spark-env":
                raise _refusal(f"configurations within {name}")
            _one_of({"export"}, export.get("Classification", ""), "classification within spark-env")
            exports.update(export.get("Properties", {}))
    return Settings(defaults, exports)


def _only(known: frozenset[str], request: Mapping[str, Any], where: str) -> None:
    unknown = sorted(key for key, value in request.items() if key not in known and value not in (None, [], {}))
    if unknown:
        raise _refusal(f"{', '.join(unknown)} (of {where})")


def _one_of(known: Iterable[str], value: str, what: str) -> None:
    if value not in known:
        raise _refusal(f"the {what} {value!r}; known: {', '.join(sorted(known))}")


def _in_s3(uri: str, what: str) -> None:
    try:
        split(uri)
    except S3Error as error:
        raise ValidationException(f"{what}: {error}.") from error


def _within(bounds: tuple[int, int], value: int, what: str) -> int:
    low, high = bounds
    if not low <= value <= high:
        raise ValidationException(f"{what} must be between {low} and {high}: {value}.")
    return value


def _refusal(what: str) -> ValidationException:
    return ValidationException(f"The local EMR does not do this: {what}.")
