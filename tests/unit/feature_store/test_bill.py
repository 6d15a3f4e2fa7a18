"""The bill: by hand where it can be reckoned by hand, and for what the cluster's files name."""

from __future__ import annotations

import re

import pytest
from feature_store_airflow import measures

from feature_store import __main__ as command
from feature_store import bill, cost, prices, registry
from infra.local.settings import ROOT

pytestmark = pytest.mark.unit

DOLLARS = {name: each.dollars for name, each in prices.PRICES.items()}
EMR = "\n".join(file.read_text() for file in sorted((ROOT / "EMR").glob("*.json")))


def of(entities: int, **more: object) -> bill.Deployment:
    return bill.Deployment(registry.views(), entities, **more)


def test_an_instance_costs_what_the_sources_say() -> None:
    assert prices.instance_hour("m5.xlarge", DOLLARS) == pytest.approx(0.192 + 0.048)
    assert prices.instance_hour("m5.12xlarge", DOLLARS) == pytest.approx(2.304 + 0.27)
    assert prices.instance_hour("m6g.4xlarge", DOLLARS) == pytest.approx(4 * 0.154 * 1.25)
    for wrong in ("r9.xlarge", "m5.huge", "m5"):
        with pytest.raises(prices.UnknownPriceError, match="m5" if "m5" in wrong else "r9"):
            prices.instance_hour(wrong, DOLLARS)


def test_each_instance_and_disk_of_the_clusters_is_priced() -> None:
    found = set(re.findall(r'"([a-z]\w*\.\d*x?large)"', EMR))
    assert found
    for instance in found:
        assert prices.instance_hour(instance, DOLLARS) > 0
    disks = re.findall(r'"SizeInGB": (\d+).*?"VolumesPerInstance": (\d+)', EMR, re.S)
    assert {int(size) * int(count) for size, count in disks} == {bill.EBS_GB}


def test_what_the_stacks_make_is_counted() -> None:
    default = of(1)
    network, monitoring = (
        (ROOT / "infra" / "aws" / "templates" / f"{name}.yaml").read_text() for name in ("network", "monitoring")
    )
    assert len(re.findall(r"VpcEndpointType: Interface$", network, re.M)) == default.endpoints
    assert len(re.findall(r"Type: AWS::CloudWatch::Alarm$", monitoring, re.M)) == default.alarms
    published = (measures.FAILED_TASKS, measures.ORPHANED_CLUSTERS, measures.FEATURE_AGE)
    assert len(published) == default.metrics


def test_units_follow_from_the_views() -> None:
    million = of(1_000_000)
    # Two views of a unit a row, one of which has 90 days online: of it a row comes and a row leaves.
    assert (million.rows, million.leaving) == (2_000_000, 1_000_000)
    assert million.write_units() == million.read_units() == 3_000_000
    assert million.daily()["Keyspaces, writes"] == pytest.approx(3 * 0.625)
    assert of(1_000_000, days=90).leaving == 0
    size = [cost.row_bytes(view, 36) + 100 for view in registry.views()]
    assert million.online_gb() == pytest.approx(1e6 * (365 * size[0] + 90 * size[1]) / 2**30)


def test_the_kit_writes_all_of_its_rows_with_each_run() -> None:
    kit = of(5_500).daily_of_the_kit()
    assert kit["Keyspaces, writes"] == pytest.approx(5_500 * 365 * 0.625 / 1e6)
    assert kit["EMR, EC2, EBS"] == pytest.approx(24 * 2 * (0.24 + 64 * 0.1 / 730))
    assert kit.keys() <= of(5_500).daily().keys()


def test_more_cores_do_more_where_they_can() -> None:
    small, large = of(1_000_000), of(1_000_000, core="m7g.4xlarge", core_count=4)
    assert large.steps["featurize"] < small.steps["featurize"] / 5
    assert large.steps["sync"] == small.steps["sync"]
    assert large.cluster_hour() > 8 * small.cluster_hour()


def test_what_does_not_run_is_said() -> None:
    assert not any("does not run" in line for line in of(1_000_000).lines())
    assert any(line.startswith("sync takes longer than the 2 h") for line in of(100_000_000).lines())


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["cost", "--entities", "1000", "--start-minutes", "5", "--price", "mwaa-small=0"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines() == [
        *bill.Deployment(registry.views(), 1000, start_minutes=5, prices={**DOLLARS, "mwaa-small": 0.0}).lines()
    ]
    assert re.search(r"^managed Airflow +0.00 ", said, re.M)
    assert command.main(["cost", "--prices"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert set(prices.PRICES) <= set(listed)
    assert command.main(["cost", "--core", "r9.xlarge"]) == 2
    assert "--price ec2-r9=DOLLARS" in capsys.readouterr().err
    for wrong in ("mwaa-small", "mwaa-small=much", "mwaa-smal=1"):
        with pytest.raises(SystemExit, match="2"):
            command.main(["cost", "--price", wrong])


def test_each_price_has_its_source() -> None:
    for name, each in prices.PRICES.items():
        assert each.dollars > 0, name
        assert "" not in (each.unit, each.as_of), name
        assert "." in each.source, name
