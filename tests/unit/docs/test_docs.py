"""What the documents name exists: paths, links, make targets, options; no address of an index anywhere."""

from __future__ import annotations

import re
import subprocess

import pytest

from infra.local.settings import ROOT

pytestmark = pytest.mark.unit

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
# Made by a run, or named as a thing of the bucket and not of the repository.
NOT_FILES = (
    ".local/",
    "build/",
    "Dataset/",
    "airflow/",
    "delta/",
    "elasticmapreduce/",
    "emr/",
    "feature-store/",
    "infra/aws/settings.yaml",
    "metrics/",
    "path/to/",
    "releases/",
    "runs/",
)


def relative(path: object) -> str:
    return str(path).removeprefix(f"{ROOT}/")


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_link_and_path_exists(document) -> None:
    text = document.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    paths = [path for path in re.findall(r"`((?:[A-Za-z_.-]+/)+[A-Za-z_.-]*)`", text) if not path.startswith(NOT_FILES)]
    missing += [path for path in paths if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_make_target_exists(document) -> None:
    named = set(
        re.findall(
            r"make (?:-s )?([a-z][a-z0-9-]*)", " ".join(re.findall(r"`[^`]+`|```.*?```", document.read_text(), re.S))
        )
    )
    assert named <= TARGETS, named - TARGETS


def test_the_readme_shows_the_help_as_it_is() -> None:
    printed = subprocess.check_output(["make", "-s", "help"], text=True, cwd=ROOT)
    assert printed.strip() in (ROOT / "README.md").read_text()


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)", (ROOT / "README.md").read_text()))
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "guide").glob("*.md")]
    assert [relative(page) for page in sorted(pages) if relative(page) not in linked] == []


def test_no_document_has_a_gap_to_fill() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"\b[A-Z]+_[A-Z_]+\b(?=\s*\|)|TODO|TBD|FIXME", document.read_text()), document
