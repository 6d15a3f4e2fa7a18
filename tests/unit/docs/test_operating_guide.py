"""The guide to operating has every case of the drill, and no other."""

from __future__ import annotations

import re

import pytest

from infra.local.settings import ROOT

pytestmark = pytest.mark.unit

GUIDE = (ROOT / "docs/guide/operating.md").read_text()
DRILL = (ROOT / "tests/e2e/test_lifecycle.py").read_text()
CASES = set(re.findall(r'(?:new_case\(|clear_run\(\w+, )"([^"]+)"', DRILL))


def test_each_case_is_explained() -> None:
    rows = re.findall(r"^\| (.+?) \|", GUIDE, re.M)
    assert set(rows) - {"what happens", "---"} == CASES


def test_each_case_is_in_the_table_that_was_measured() -> None:
    (shown,) = re.findall(r"```text\n(.*?)```", GUIDE, re.S)
    head, *rows = shown.splitlines()
    assert head.startswith("case ")
    assert {re.split(r"  +", row)[0] for row in rows} == CASES
