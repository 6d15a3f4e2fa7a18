"""Ivy fetches exactly the jars of a lock, from a repository in a folder; what is not right never gets into place."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from infra.local import jars
from infra.local.java import java
from infra.local.settings import StackError
from infra.local.setup import SITE_PACKAGES

pytestmark = pytest.mark.integration

FILES = {"a-1.jar": "one", "a-1-native.jar": "two", "b-2.jar": "three"}
IVY = next((SITE_PACKAGES / "pyspark" / "jars").glob("ivy-*.jar"))


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    repository = tmp_path / "repository"
    for name, content in FILES.items():
        artifact, version = name[0], name[2]
        folder = repository / "org" / "x" / artifact / version
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    monkeypatch.setenv(jars.MIRROR, repository.as_uri())
    sha = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in FILES.items()}
    return f"s org.x:a:1 {sha['a-1.jar']}\ns org.x:a:1:native {sha['a-1-native.jar']}\nt org.x:b:2 {sha['b-2.jar']}\n"


def fetch(text: str, folder: Path) -> None:
    jars.fetch(jars.parse_lock(text), folder, java(), IVY)


def found(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.jar")}


def test_sets_are_made_whole_and_mended(lock: str, tmp_path: Path) -> None:
    target = tmp_path / "jars"
    fetch(lock, target)
    whole = {"s/a-1.jar": "one", "s/a-1-native.jar": "two", "t/b-2.jar": "three"}
    assert found(target) == whole
    assert sorted(path.name for path in target.iterdir()) == ["s", "t"]

    (target / "s" / "a-1.jar").write_text("torn")
    (target / "s" / "old-0.jar").write_text("of an earlier lock")
    (target / ".fetching-x").mkdir()
    fetch(lock, target)
    assert found(target) == whole
    assert sorted(path.name for path in target.iterdir()) == ["s", "t"]


def test_another_file_than_the_locked_one_is_refused(lock: str, tmp_path: Path) -> None:
    other = lock.replace(hashlib.sha256(b"three").hexdigest(), "0" * 64)
    with pytest.raises(StackError, match=r"b-2\.jar is not the file that jars\.lock expects"):
        fetch(other, tmp_path / "jars")
    assert found(tmp_path / "jars") == {}


def test_a_jar_that_is_nowhere_is_told(lock: str, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="set u could not be fetched"):
        fetch(f"{lock}u org.x:missing:1 {'0' * 64}\n", tmp_path / "jars")
