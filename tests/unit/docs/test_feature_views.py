"""The page on feature views is followed to the letter, in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable, Schema

from feature_store import cql, online
from feature_store.energy import ENERGY
from feature_store.table_schema import as_json
from infra.local.settings import ROOT

pytestmark = pytest.mark.unit

PAGE = (ROOT / "docs" / "guide" / "feature-views.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)
VIEW_FILE, APPLY = (text for kind, text in BLOCKS if kind == "python")
NEW = "feature_store/views/energy_weekly_features.py"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the commands touch, with the page's view in it."""
    for folder in ("feature_store", "Keyspaces"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    DeltaTable.create(tmp_path / "table", Schema.from_json(as_json(ENERGY)))
    return tmp_path


def run(command: str, project: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(  # noqa: PLW1510 - its status is asserted below, with what it said
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=project,
        env={"PATH": path, "FEATURES_URI": str(project / "table")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def test_every_command_runs_and_prints_what_the_page_shows(project: Path) -> None:
    assert f"`{Path(NEW).name}`" in PAGE
    shown = 0
    for (kind, text), (following, output) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
        if kind == "python" and text == VIEW_FILE:
            (project / NEW).write_text(text)
        if kind == "sh":
            printed = run(text, project)
            if following == "text":
                assert printed == output
                shown += 1
    assert shown == sum(kind == "text" for kind, _ in BLOCKS)


def test_the_table_is_made_by_the_file_that_the_page_writes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the test of the CQL files would be content with it."""
    (project / NEW).write_text(VIEW_FILE)
    (command,) = (text for kind, text in BLOCKS if kind == "sh" and ".cql" in text)
    run(command, project)
    text = (project / "Keyspaces" / "energy_weekly_features.cql").read_text()
    declared: dict[str, object] = {}
    exec(VIEW_FILE, declared)
    assert text == cql.table(declared["VIEW"], cql.KEYSPACE)

    ran: list[str] = []

    class Session:
        def execute(self, query: str) -> None:
            ran.append(query)

    class Connection:
        session = Session()

        @classmethod
        def from_environment(cls) -> Connection:
            return cls()

        def __enter__(self) -> Connection:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(online, "Connection", Connection)
    monkeypatch.chdir(project)
    exec(APPLY, {})
    assert ran == [text.rstrip(";\n")]


def test_the_page_warns_of_every_difference() -> None:
    from feature_store.table_schema import MEANINGS

    rows = [line.split()[1].rstrip(":") for line in PAGE.partition("| --- |")[2].splitlines() if line.startswith("| ")]
    assert sorted(rows) == sorted(MEANINGS)
    for row, meaning in (
        (line, MEANINGS[kind]) for kind in MEANINGS for line in PAGE.splitlines() if f"| {kind}" in line
    ):
        assert ("refused" in row) == ("Refused" in meaning)
