"""The cost page shows what its commands print, and says what it is computed from as it is."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from feature_store import __main__ as command
from feature_store import bill, registry, speeds
from infra.local.settings import ROOT

pytestmark = pytest.mark.unit

PAGE = (ROOT / "docs" / "cost.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)


def test_every_command_prints_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    shown = 0
    for (kind, text), (following, output) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
        if kind == "sh":
            *python, name, rest = text.strip().split(" ", 4)
            assert ([*python, name], rest.startswith("--")) == (["python", "-m", "feature_store", "cost"], True)
            assert command.main(["cost", *shlex.split(rest)]) == 0
            printed = capsys.readouterr().out
            if following == "text":
                assert printed == output
                shown += 1
    assert shown == sum(kind == "text" for kind, _ in BLOCKS)
    assert shown > 3


def test_the_defaults_are_those_that_it_tells() -> None:
    default = bill.Deployment(registry.views(), 5_500)
    for said in (
        f"{speeds.STEP_SECONDS:.0f} s of a step",
        f"{default.start_minutes:.0f} minutes (`--start-minutes`)",
        f"{bill.ROW_OVERHEAD_BYTES} bytes",
        f"{bill.LANDED_BYTES} bytes a reading",
        f"{bill.READING_BYTES} in `readings`",
        f"{bill.FEATURES_BYTES} a row of features",
        f"{default.puts:,} and {default.gets:,} a run",
        f"{default.alarms} alarms, {default.metrics + len(default.views)} metrics, a dashboard",
        f"{default.logs_gb:.0f} GB a month",
        f"{default.endpoints}, in two zones",
    ):
        assert said in PAGE, said
    assert default.zones == 2


def test_what_it_costs_without_airflow_and_endpoints() -> None:
    day = bill.Deployment(registry.views(), 5_500).daily()
    rest = sum(day.values()) - day["managed Airflow"] - day["VPC endpoints"]
    assert f"that you have anyway it is ${rest:.2f} a day" in PAGE


def test_every_option_that_it_names_is_one() -> None:
    named = set(re.findall(r"`--([a-z][a-z-]+)`", PAGE)) | set(re.findall(r" --([a-z][a-z-]+)", PAGE))
    assert named <= {*(name.replace("_", "-") for name in bill.settings()), "entities", "price", "prices"}


def test_the_scale_page_has_the_same_minutes() -> None:
    sizes = json.loads((ROOT / "EMR" / "cluster_sizes.json").read_text())
    scale = (ROOT / "docs" / "scale.md").read_text()
    rows = re.findall(r"^\| ([\d,]+) \| (\w+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", scale, re.M)
    assert len(rows) == 4
    for entities, size, *said in rows:
        nodes = {name: sizes[size][name] for name in ("master", "core", "core_count")}
        of = bill.Deployment(registry.views(), int(entities.replace(",", "")), **nodes)
        assert said == [bill.duration(of.steps[step]) for step in ("featurize", "validate", "sync")]
