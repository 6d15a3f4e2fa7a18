"""jars.lock is read exactly, and Ivy is asked for exactly what it lists."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from infra.local import jars
from infra.local.settings import StackError
from infra.local.setup import JARS_LOCK

pytestmark = pytest.mark.unit

SHA = "a" * 64
CLASSIFIER = "{http://ant.apache.org/ivy/maven}classifier"


def test_a_line_gives_the_name_of_the_file() -> None:
    plain, native = jars.parse_lock(f"# a comment\n\nx g.h:art:1.2 {SHA}\nx g.h:art:1.2:linux-x86_64 {SHA}\n")
    assert (plain.set, plain.group, plain.file) == ("x", "g.h", "art-1.2.jar")
    assert native.file == "art-1.2-linux-x86_64.jar"


@pytest.mark.parametrize("line", ["x g:a:1", f"x g:a {SHA}", "x g:a:1 abc", f"x g:a:1:c:d {SHA}"])
def test_a_line_that_is_none_is_named(line: str) -> None:
    with pytest.raises(StackError, match="line 2"):
        jars.parse_lock(f"# first\n{line}\n")


def test_the_lock_of_the_project_has_no_two_files_of_one_name_in_a_set() -> None:
    files = [(jar.set, jar.file) for jar in jars.parse_lock(JARS_LOCK.read_text())]
    assert len(files) == len(set(files))
    assert {name for name, _ in files} == {"cassandra", "connector", "delta", "s3", "s3a"}


def test_classifiers_are_artifacts_of_one_dependency() -> None:
    locked = jars.parse_lock(f"x g:a:1 {SHA}\nx g:a:1:native {SHA}\nx g:b:2 {SHA}\n")
    first, second = ET.fromstring(jars.module_xml(locked)).iter("dependency")
    assert [artifact.get(CLASSIFIER) for artifact in first] == [None, "native"]
    assert (second.get("name"), second.get("rev"), second.get("transitive")) == ("b", "2", "false")


def test_a_mirror_replaces_the_repository() -> None:
    def resolver(mirror: str | None) -> ET.Element:
        found = ET.fromstring(jars.settings_xml(Path("/c"), mirror)).find("resolvers/ibiblio")
        assert found is not None
        return found

    assert resolver(None).get("root") is None
    assert resolver("https://mirror/maven?a&b").get("root") == "https://mirror/maven?a&b"
