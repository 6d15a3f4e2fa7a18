"""The guide on lineage: its settings are those that are passed on, its table is what the steps say."""

from __future__ import annotations

import re

import pytest
from feature_store_airflow.lineage import READ, WRITTEN

from infra.local.settings import ROOT
from infra.local.supervision import PASSED_ON

pytestmark = pytest.mark.unit

GUIDE = (ROOT / "docs" / "guide" / "lineage.md").read_text()


def test_the_command_sets_what_is_passed_on() -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", GUIDE, re.S)
    stop, run = block.splitlines()
    setting, rest = run.split("=", 1)
    assert (stop, setting in PASSED_ON, rest.endswith("make run")) == ("make stop", True, True)


def test_each_step_is_in_the_table() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", GUIDE, re.M))
    assert set(rows) == set(READ) | set(WRITTEN)
    for step, sides in rows.items():
        reads, writes = (bool(side.strip()) for side in sides.split("|"))
        assert (reads, writes) == (bool(READ.get(step)), bool(WRITTEN.get(step))), step
