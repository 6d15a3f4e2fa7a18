"""The nodes' packages: what the jobs import, nothing else, of the versions that the tests run with, fetched whole."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra import wheels
from infra.local.settings import ROOT, StackError

pytestmark = pytest.mark.unit

JOBS = ("spark_jobs", "feature_store")
# EMR has them: spark-submit puts its own on the path, and packages of that name would be of another Spark.
OF_SPARK = {"pyspark", "py4j"}
# Not imported by the jobs themselves.
FOR_SPARK = {"pandas"}
# What services import, and no job does.
FOR_SERVICES = ROOT / "feature_store" / "online" / "prometheus.py"


def imports(source: str) -> Iterator[str]:
    """The top-level names that a module imports when it runs, wherever in it: not those for the type checker alone."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def imported() -> set[str]:
    files = {file for room in JOBS for file in (ROOT / room).rglob("*.py")} - {FOR_SERVICES}
    names = {name for file in files for name in imports(file.read_text())}
    return names - set(sys.stdlib_module_names) - set(JOBS) - OF_SPARK


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def missing(names: set[str], lock: dict[str, str]) -> set[str]:
    """The imported names of which no package is in a lock."""
    packages = packages_distributions()
    return {name for name in names if not {normal(each) for each in packages.get(name, [])} & lock.keys()}


def test_every_import_of_the_jobs_is_in_the_nodes_lock():
    assert missing(imported(), locked(wheels.LOCK)) == set()


def test_a_package_that_is_missing_would_be_seen():
    lock = locked(wheels.LOCK)
    del lock["duckdb"]
    assert missing(imported(), lock) == {"duckdb"}
    assert "boto3" in set(imports("def later():\n    import boto3.session\n"))
    assert list(imports("if TYPE_CHECKING:\n    import mypy_boto3_s3\n")) == []


def test_no_package_is_asked_for_that_nothing_imports():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    packages = packages_distributions()
    used = {normal(each) for name in imported() for each in packages[name]} | FOR_SPARK
    assert set(groups["node"]) <= used
    assert locked(wheels.LOCK).keys().isdisjoint(OF_SPARK)


def test_the_versions_are_those_that_the_tests_run_with():
    ours = locked(ROOT / "requirements.lock")
    for name, version in locked(wheels.LOCK).items():
        assert ours[name] == version, name


def test_the_lock_names_no_index():
    assert not re.search(r"://|--index|--find-links|--extra", wheels.LOCK.read_text())


def test_the_lock_is_made_for_what_the_wheels_are_fetched_for():
    node = re.search(r"^NODE := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert node
    glibc = f"manylinux_{wheels.GLIBC[0]}_{wheels.GLIBC[1]}"
    assert node[1] == f"--python-version {wheels.PYTHON} --python-platform aarch64-{glibc}"
    script = (ROOT / "EMR" / "emr_bootstrap_script.sh").read_text()
    assert f"\npython=python{wheels.PYTHON}\n" in script
    assert f'"python{wheels.PYTHON}"' in (ROOT / "infra" / "local" / "aws" / "node.py").read_text()


class TestFetch:
    """With a pip that is not there: what it would have downloaded is made here."""

    @pytest.fixture(autouse=True)
    def pip(self, tmp_path, monkeypatch) -> SimpleNamespace:
        self.calls: list[list[str]] = []
        self.returncode = 0

        def run(command: list[str], **_: object) -> SimpleNamespace:
            self.calls.append(command)
            into = Path(command[command.index("--dest") + 1])
            self.asked = Path(command[command.index("--requirement") + 1]).read_text()
            (into / "one-1-py3-none-any.whl").write_text("wheel")
            return SimpleNamespace(returncode=self.returncode, stdout="", stderr="no such host")

        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(wheels, "WHEELS", tmp_path / "wheels")
        monkeypatch.setattr(wheels, "LOCK", tmp_path / "requirements.lock")
        (tmp_path / "requirements.lock").write_text("one==1 \\\n    --hash=sha256:0\n")
        return SimpleNamespace()

    def test_what_is_there_is_not_fetched_again(self):
        first = wheels.fetch("aarch64")
        assert wheels.fetch("aarch64") == first
        assert len(self.calls) == 1
        assert sorted(path.name for path in first.iterdir()) == ["one-1-py3-none-any.whl", wheels.SUMS]
        assert (first / wheels.SUMS).read_text() == f"{hashlib.sha256(b'wheel').hexdigest()}  one-1-py3-none-any.whl\n"

    def test_it_is_of_the_lock_and_the_installer_by_hash_and_for_the_nodes(self):
        wheels.fetch("aarch64")
        [command] = self.calls
        assert {"--require-hashes", "--no-deps", ":all:", "--platform=manylinux_2_34_aarch64"} <= set(command)
        assert "--platform=manylinux_2_35_aarch64" not in command
        assert self.asked.startswith("one==1 ")
        assert re.search(r"^uv==\S+ \\\n    --hash=sha256:", self.asked, re.MULTILINE)

    def test_another_lock_is_another_folder_and_the_old_one_goes(self):
        first = wheels.fetch("aarch64")
        other = wheels.fetch("x86_64")
        wheels.LOCK.write_text("one==2 \\\n    --hash=sha256:0\n")
        second = wheels.fetch("aarch64")
        assert second != first
        assert not first.exists()
        assert other.exists()

    def test_one_that_fails_leaves_nothing_that_looks_whole(self):
        self.returncode = 1
        with pytest.raises(StackError, match=r"no such host\nThe packages for Python 3.11 on x86_64 could not be"):
            wheels.fetch("x86_64")
        assert not wheels.folder("x86_64").exists()
