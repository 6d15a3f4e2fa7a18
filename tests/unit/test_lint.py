"""What is looked at: by `make lint` every shell script there is; by `make test-unit` and its like every test."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from infra.local.settings import ROOT, VENV

pytestmark = pytest.mark.unit

SHELLCHECK = VENV / "bin" / "shellcheck"


def scripts() -> set[Path]:
    """All files of the repository that a shell runs."""
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    files = [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    return {file for file in files if re.match(rb"#!\S*(/|env )(ba|da)?sh\b", file.open("rb").readline())}


def test_every_test_is_of_a_kind() -> None:
    """Or `make test-unit`, `test-integration` and `test-e2e` would leave it out."""
    for kind in ("unit", "integration", "e2e"):
        files = list((ROOT / "tests" / kind).rglob("test_*.py"))
        assert files
        assert [file for file in files if f"pytest.mark.{kind}" not in file.read_text()] == []


def test_every_shell_script_is_checked() -> None:
    (line,) = re.findall(r"bin/shellcheck (.*)", (ROOT / "Makefile").read_text())
    checked = {file for pattern in line.split() for file in ROOT.glob(pattern)}
    assert scripts()
    assert scripts() <= checked, scripts() - checked


def test_shellcheck_finds_what_is_wrong(tmp_path: Path) -> None:
    script = tmp_path / "clean.sh"
    script.write_text('#!/bin/sh\nrm -r "$1"\n')
    assert subprocess.run([SHELLCHECK, script], check=False).returncode == 0
    script.write_text("#!/bin/sh\nrm -rf $1/*\n")
    found = subprocess.run([SHELLCHECK, script], check=False, capture_output=True, text=True)
    assert found.returncode == 1
    assert "SC2086" in found.stdout
