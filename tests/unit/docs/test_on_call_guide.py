"""What the guide for those on call names is so."""

from __future__ import annotations

import json
import re

import pytest
from feature_store_airflow.causes import CLUSTER_ENDED, REFUSED
from feature_store_airflow.links import StepStderrLink, StepStdoutLink, ValidationReportLink
from feature_store_airflow.logs import LINES
from feature_store_airflow.notifier import KNOWN
from feature_store_airflow.pipeline import LAKE

from infra.local.settings import ROOT
from infra.local.supervision import PASSED_ON

pytestmark = pytest.mark.unit

GUIDE = (ROOT / "docs/guide/on-call.md").read_text()


def test_the_codes_are_those_of_the_table() -> None:
    rows = GUIDE.partition("| what happened | what follows |")[2].splitlines()
    lost = next(row for row in rows if row.startswith("| the cluster ended before it was ready"))
    assert set(re.findall(r"`([A-Z_]+)`", lost)) == {code for code, passes in CLUSTER_ENDED.items() if passes}
    assert not CLUSTER_ENDED["VALIDATION_ERROR"]
    assert REFUSED["ThrottlingException"]


def test_the_settings_are_those_of_the_notifier() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", GUIDE, re.S)
    assert json.loads(shown)["notify"].keys() == KNOWN


def test_what_it_names_is_there() -> None:
    assert f"the last {LINES} lines" in GUIDE
    for link in (StepStderrLink, StepStdoutLink, ValidationReportLink):
        assert f"*{link.name}*" in GUIDE
    assert f"`{LAKE}`" in GUIDE
    (setting,) = re.findall(r"^(\w+)=True make run$", GUIDE, re.M)
    assert setting in PASSED_ON
