"""The commands of the guide to simulations run: those of workers as far as they need no server, reports as a whole."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from infra.local.settings import ROOT
from Simulation import bottleneck, report, throttling, worker
from Simulation.plan import Plan
from Simulation.store import Folder
from tests.unit.Simulation import made

pytestmark = pytest.mark.unit

GUIDE = (ROOT / "docs/guide/simulation.md").read_text()
BUCKET = "$FEATURE_STORE_BUCKET"
COMMANDS = [
    shlex.split(line) for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.S) for line in block.splitlines() if line
]


def of(module: str) -> list[list[str]]:
    """The arguments of the commands that run a module."""
    found = [command[3:] for command in COMMANDS if command[:3] == ["python", "-m", module]]
    assert found
    return found


def test_no_command_is_left_out() -> None:
    known = {"eval", "python", "aws", "echo"}
    assert {command[0] for command in COMMANDS} == known
    assert {command[2] for command in COMMANDS if command[0] == "python"} == {"Simulation.worker", "Simulation.report"}
    (copied,) = (command for command in COMMANDS if command[0] == "aws")
    assert copied[3] == f"s3://{BUCKET}/simulation_results/first-look/report.html"


def test_the_workers_and_the_reports_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each worker's plan is taken as it stands, and shortened, and what it would have written is reported of."""
    store = Folder(tmp_path)
    monkeypatch.setattr(report, "Bucket", {BUCKET: store}.__getitem__)
    plans: dict[str, Plan] = {}
    numbers: dict[str, list[int]] = {}
    for arguments in of("Simulation.worker"):
        args, plan = worker._parse(arguments)
        assert args.bucket == BUCKET
        assert plans.setdefault(plan.name, plan) == plan
        numbers.setdefault(plan.name, []).append(args.worker)
    for name, plan in plans.items():
        assert numbers[name] == list(range(plan.workers))
        made.write(store, plan)
    told: dict[str, Any] = {}
    for arguments in of("Simulation.report"):
        assert report.main(arguments) == 0
        summary = json.loads(capsys.readouterr().out.splitlines()[-1])
        told[summary["simulation"]] = summary
    assert set(told) == set(plans)
    assert told["first-look"]["throttling"]["state"] == "not reached"
    assert told["throttled"]["throttling"]["units"] == pytest.approx(60, rel=0.05)


def test_the_options_and_limits_that_are_named_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    for module in (worker, report):
        with pytest.raises(SystemExit) as ended:
            module.main(["--help"])
        assert ended.value.code == 0
    helped = capsys.readouterr().out
    named = set(re.findall(r"`(--[a-z0-9-]+)`", GUIDE))
    assert len(named) > 12
    assert {option for option in named if option not in helped} == set()
    late, core, machine = (
        f"{bottleneck.LATE * 1000:g} ms late",
        f"{bottleneck.PROCESS_CPU:g} of a core",
        f"over {bottleneck.MACHINE_CPU * 100:g} % busy",
    )
    assert all(said in GUIDE for said in (late, core, machine))
    assert f"more than {(throttling.AGREE - 1) * 100:.0f} %" in GUIDE
    assert throttling.SUSTAINED == 0.9
    assert "nine of ten seconds or more" in GUIDE
    assert throttling.OTHERWISE == 1 / 50
    assert "one call of fifty" in GUIDE
    assert f"`format` is {report.FORMAT}" in GUIDE
