"""What the guide to reading online shows runs as it stands there."""

from __future__ import annotations

import datetime as dt
import re

import pytest

from feature_store import cql, online, registry
from infra.local.settings import ROOT
from tests.integration.online.conftest import YESTERDAY, Table
from tests.integration.sync.conftest import environment

pytestmark = pytest.mark.integration

GUIDE = (ROOT / "docs/guide/online.md").read_text()
VIEW = registry.view("energy_recent_features")


def test_the_examples_run(table: Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in environment(table.cassandra).items():
        monkeypatch.setenv(name, value)
    session = table.connection.session
    cql.apply(session, cql.keyspace(online.KEYSPACE) + cql.table(VIEW, online.KEYSPACE))
    insert = f'INSERT INTO "{online.KEYSPACE}"."{VIEW.name}" (id, day_date, energy_sum_mean_7days) VALUES (%s, %s, %s)'
    session.execute(insert, ("MAC000002", YESTERDAY, 8.5))
    session.execute(insert, ("MAC000003", dt.date(2014, 2, 27), 4.0))
    # On a busy machine an example's deadline would be a test of the machine.
    blocks = [block.replace("deadline=0.2", "deadline=20") for block in re.findall(r"```python\n(.*?)```", GUIDE, re.S)]
    assert len(blocks) == len(re.findall("^```[a-z]", GUIDE, re.M)) > 5
    names: dict[str, object] = {}
    try:
        for block in blocks:
            exec(compile(block, "docs/guide/online.md", "exec"), names)
    finally:
        names["connection"].close()  # type: ignore[attr-defined]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"State.FOUND {YESTERDAY} 1 8.5"
    assert said[1] == "[<State.FOUND: 'found'>, <State.FOUND: 'found'>, <State.MISSING: 'missing'>]"
    assert said[2] == "3"
    metrics = set(re.findall(r"^# HELP (feature_store_read_\w+(?<!_created)) ", "\n".join(said), re.M))
    assert metrics == set(re.findall(r"`(feature_store_read_\w+)`", GUIDE))
    assert names["strict"].get("MAC000002").features == {  # type: ignore[attr-defined]
        "energy_sum_mean_7days": 8.5,
        "energy_sum_mean_28days": None,
    }


def test_each_error_is_in_the_guide() -> None:
    named = set(re.findall(r"^\| `(\w+Error)`", GUIDE, re.M))
    assert named == {name for name in online.__all__ if name.endswith("Error")} - {"ReadError"}
