"""How a deployment buys its clusters' machines: the entry `cluster` of the Variable `feature_store`, made a request.

EMR/cluster.json is the request of a deployment that says nothing: instance groups, Graviton, on demand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from feature_store_airflow.failures import ClusterRefused
from feature_store_airflow.settings import deployed

# The values of the settings, the default of each first.
GROUPS, FLEETS = "groups", "fleets"
ON_DEMAND, SPOT = "on_demand", "spot"
ARM, X86 = "arm64", "x86_64"
ONE_OF = {"instances": (GROUPS, FLEETS), "core_market": (ON_DEMAND, SPOT), "architecture": (ARM, X86)}

CORE = "CORE"
# Minutes in which a fleet's spot nodes are to be had; then it is filled on demand, as the run has to be done.
SPOT_WITHIN = 10


@dataclass(frozen=True)
class Machines:
    """How machines are bought.

    Attributes:
        instances: as instance groups, of one type each, or as fleets, of whichever type there is.
        core_market: whether the core nodes are spot ones; the master never is, as the cluster ends with it.
        architecture: of all nodes.
        subnet_ids: where a fleet may be, one subnet for each zone; empty for the request's own. Groups know only one.
    """

    instances: str = GROUPS
    core_market: str = ON_DEMAND
    architecture: str = ARM
    subnet_ids: tuple[str, ...] = ()

    @classmethod
    def of(cls, setting: Mapping[str, Any]) -> Machines:
        """Read the Variable's entry `cluster`, in which each key may be left out.

        Raises:
            ClusterRefused: it says what there is not.
        """
        if fault := _fault(setting, [field.name for field in fields(cls)]):
            raise _refused(fault)
        subnets = setting.get("subnet_ids", ())
        return cls(**{**setting, "subnet_ids": tuple(subnets)})


def bought(request: Mapping[str, Any], machines: Machines) -> dict[str, Any]:
    """Return a RunJobFlow request of instance groups for these machines; settings that are empty are left out.

    Raises:
        ClusterRefused: there is no subnet for fleets.
    """
    asked = {key: value for key, value in request.items() if value != ""}
    asked["Instances"] = {key: value for key, value in request["Instances"].items() if value != ""}
    if machines == Machines():
        return asked
    groups = [_group(group, machines) for group in request["Instances"]["InstanceGroups"]]
    limits = dict(request["ManagedScalingPolicy"]["ComputeLimits"])
    if machines.core_market == SPOT:
        # Without it each node that is added would be bought on demand. Of a fleet some may have had to be.
        limits["MaximumOnDemandCapacityUnits"] = limits["MinimumCapacityUnits"] if machines.instances == FLEETS else 0
    if machines.instances == FLEETS:
        subnet = asked["Instances"].pop("Ec2SubnetId", "")
        if not machines.subnet_ids and not subnet:
            raise _refused("neither cluster.subnet_ids nor subnet_id: fleets need a subnet")
        del asked["Instances"]["InstanceGroups"]
        asked["Instances"] |= {
            "Ec2SubnetIds": list(machines.subnet_ids) or [subnet],
            "InstanceFleets": [_fleet(group, machines) for group in groups],
        }
        limits["UnitType"] = "InstanceFleetUnits"
    else:
        asked["Instances"]["InstanceGroups"] = groups
    return {**asked, "ManagedScalingPolicy": {"ComputeLimits": limits}}


def types(of: str, architecture: str) -> list[str]:
    """Return the instance types of an architecture that are as large as this one, it first if it is one of them.

    One of a family that is in no list was chosen by someone, who knows what it is: it alone is returned.
    """
    families: dict[str, list[str]] = json.loads(deployed(Path("EMR") / "instance_families.json").read_text())
    chosen, _, size = of.partition(".")
    if chosen not in {family for some in families.values() for family in some}:
        return [of]
    return sorted((f"{family}.{size}" for family in families[architecture]), key=lambda each: each != of)


def _group(group: Mapping[str, Any], machines: Machines) -> dict[str, Any]:
    spot = machines.core_market == SPOT and group["InstanceRole"] == CORE
    return {
        **group,
        "InstanceType": types(group["InstanceType"], machines.architecture)[0],
        "Market": "SPOT" if spot else "ON_DEMAND",
    }


def _fleet(group: Mapping[str, Any], machines: Machines) -> dict[str, Any]:
    """Return the fleet of a group: as many nodes of its size, of whichever family there is."""
    spot = group["Market"] == "SPOT"
    specification = {
        "SpotSpecification": {
            "AllocationStrategy": "price-capacity-optimized",
            "TimeoutDurationMinutes": SPOT_WITHIN,
            "TimeoutAction": "SWITCH_TO_ON_DEMAND",
        }
    }
    return {
        "Name": group["Name"],
        "InstanceFleetType": group["InstanceRole"],
        "TargetSpotCapacity" if spot else "TargetOnDemandCapacity": group["InstanceCount"],
        "InstanceTypeConfigs": [
            {"InstanceType": each, "WeightedCapacity": 1, "EbsConfiguration": group["EbsConfiguration"]}
            for each in types(group["InstanceType"], machines.architecture)
        ],
        "LaunchSpecifications": {
            **(specification if spot else {}),
            "OnDemandSpecification": {"AllocationStrategy": "lowest-price"},
        },
    }


def _refused(fault: str) -> ClusterRefused:
    return ClusterRefused(f"The Airflow Variable feature_store says {fault}. Next: correct it, then clear the run.")


def _fault(setting: Mapping[str, Any], known: list[str]) -> str:
    """Say what there is not in the Variable's entry `cluster`; nothing if all is well."""
    if not isinstance(setting, Mapping):
        return f"cluster={setting!r}: it is an object with {', '.join(known)}"
    if unknown := setting.keys() - set(known):
        return f"cluster.{min(unknown)}: there are {', '.join(known)}"
    for name, values in ONE_OF.items():
        if setting.get(name, values[0]) not in values:
            return f"cluster.{name}={setting[name]!r}: it is {' or '.join(values)}"
    subnets = setting.get("subnet_ids", [])
    if not isinstance(subnets, list) or not all(isinstance(subnet, str) for subnet in subnets):
        return f"cluster.subnet_ids={subnets!r}: it is a list of subnet ids"
    return ""
