"""The set-up says what is missing in one sentence, does nothing twice, and mends what was interrupted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.local import java, setup
from infra.local.settings import ROOT, StackError
from infra.locks import lock_entries

pytestmark = pytest.mark.unit


def fake_jdk(folder: Path, version: str, *, compiler: bool = True) -> Path:
    (folder / "bin").mkdir(parents=True)
    for name in ("java", "javac") if compiler else ("java",):
        tool = folder / "bin" / name
        tool.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
        tool.chmod(0o755)
    return folder


def test_a_jdk_17_is_taken_from_java_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_jdk(tmp_path / "jdk", "17.0.1")))
    assert java.java() == tmp_path / "jdk/bin/java"
    assert java.javac() == tmp_path / "jdk/bin/javac"


def test_another_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_jdk(tmp_path / "jdk", "21.0.2")))
    with pytest.raises(StackError, match=r"is Java 21; .* need JDK 17"):
        java.java()


def test_a_runtime_without_compiler_gets_its_own_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_jdk(tmp_path / "jre", "17.0.1", compiler=False)))
    with pytest.raises(StackError, match="without its compiler"):
        java.javac()


def test_no_java_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match="install JDK 17"):
        java.java()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(StackError, match=r"JAVA_HOME=.* has no bin/java"):
        java.java()


def test_too_little_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1024**3))
    with pytest.raises(StackError, match=r"1\.0 GB free"):
        setup._check_room()


def test_a_python_without_ensurepip_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(StackError, match=r"python3\.11-venv"):
        setup._check_python()


def test_another_python_is_refused_by_name() -> None:
    said = subprocess.run(
        ["sh", str(ROOT / "infra/local/setup.sh")],
        env={"PATH": os.environ["PATH"], "PYTHON": "/nowhere/python3.12"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 2
    assert said.stderr.startswith("/nowhere/python3.12 is not a Python 3.11")
    assert len(said.stderr.splitlines()) == 1


def test_the_tools_are_taken_from_the_lock_with_their_hashes() -> None:
    uv, tools = lock_entries(setup.LOCK.read_text(), ["uv", "setuptools"])
    assert uv.startswith("uv==")
    assert tools.startswith("setuptools==")
    for entry in (uv, tools):
        first, *hashes = entry.splitlines()
        assert hashes
        assert first.endswith("\\")
        assert all(line.strip().startswith("--hash=sha256:") for line in hashes)


def test_a_package_that_is_not_locked_is_named() -> None:
    with pytest.raises(StackError, match="no entry for uv"):
        lock_entries("uvloop==1 \\\n    --hash=sha256:0\n", ["uv"])


def test_a_stage_that_fails_leaves_no_stamp(tmp_path: Path) -> None:
    stamp = setup.Stamp.of(tmp_path / "stamp", "one")
    with setup._stage("first", stamp):
        pass
    assert stamp.holds()
    assert not setup.Stamp.of(tmp_path / "stamp", "two").holds()
    with pytest.raises(KeyboardInterrupt), setup._stage("second", stamp):
        raise KeyboardInterrupt
    assert not stamp.holds()


def test_a_tool_that_fails_is_quoted_shortly() -> None:
    noise = "for n in range(100): print(n)\nraise SystemExit(1)"
    with pytest.raises(StackError) as failed:
        setup._run([sys.executable, "-c", noise], "the thing is wrong.")
    assert str(failed.value).splitlines() == [*map(str, range(92, 100)), "Set-up stopped: the thing is wrong."]
