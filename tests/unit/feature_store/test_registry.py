"""The registry: it finds the views by their files, and names the file of a wrong one."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from feature_store import registry
from feature_store.energy import ENERGY
from feature_store.view import Column, Function, Type, ViewError
from infra.local.settings import ROOT

pytestmark = pytest.mark.unit

NUMBER = itertools.count()
GOOD = """from feature_store.household_readings import HOUSEHOLD_READINGS
from feature_store.view import Aggregation, FeatureView, Function, Window

VIEW = FeatureView(
    name="good",
    description="One feature.",
    source=HOUSEHOLD_READINGS,
    windows=(Window("7days", days=7),),
    aggregations=(Aggregation("kwh", Function.SUM, "energy_sum"),),
)
"""

Package = Callable[..., ModuleType]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Make a package of files, given as name=text."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(**files: str) -> ModuleType:
        folder = tmp_path / f"declared_{next(NUMBER)}"
        folder.mkdir()
        for name, text in {"__init__": "", **files}.items():
            (folder / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module(folder.name)

    return make


def test_the_views_are_the_files() -> None:
    files = sorted(file.stem for file in (ROOT / "feature_store" / "views").glob("[a-z]*.py"))
    assert [view.name for view in registry.views()] == files
    assert registry.view("energy_data_features") is ENERGY


def test_the_recent_view() -> None:
    view = registry.view("energy_recent_features")
    assert [column.name for column in view.readings] == ["id", "day_date", "energy_sum"]
    assert [window.whole_days for window in view.windows] == [7, 28]
    assert {(a.function, a.measure) for a in view.aggregations} == {
        (Function.MIN, "energy_sum"),
        (Function.MAX, "energy_sum"),
        (Function.MEAN, "energy_sum"),
        (Function.STDDEV, "energy_sum"),
        (Function.DAYS_SEEN, None),
    }
    assert view.columns[-1] == Column("days_seen_28days", Type.BIGINT)
    assert view.source is ENERGY.source


def test_an_unknown_view_is_told_the_known_ones() -> None:
    with pytest.raises(registry.UnknownViewError) as refused:
        registry.view("energy")
    known = "energy_data_features, energy_recent_features"
    assert str(refused.value) == f"There is no feature view 'energy': there are {known}."


def test_a_file_more_is_a_view_more(package: Package) -> None:
    found = registry.load(package(good=GOOD, also=GOOD.replace('"good"', '"also"')))
    assert [view.name for view in found] == ["also", "good"]


def test_a_package_without_files_has_no_view(package: Package) -> None:
    assert registry.load(package()) == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("days=7", "days=0", "good.py:4: windows.7days of view good is of 0 days: it takes a whole number from 1"),
        (
            '"energy_sum"',
            '"water"',
            "good.py:4: aggregations.kwh of view good aggregates water, which is none of its measures",
        ),
        ('name="good"', 'name="other"', "good.py: name of view other is not its file's, good."),
        (
            "windows=",
            "window=",
            "good.py:4: TypeError: FeatureView.__init__() got an unexpected keyword argument 'window'",
        ),
        ("VIEW = ", "VIEWS = ", "good.py: VIEW is not there or is no FeatureView, and each file declares one."),
        ("Function.SUM", "Function.SUMM", "good.py:9: AttributeError: SUMM"),
        ("description", "!", "good.py:6: SyntaxError: invalid syntax"),
    ],
)
def test_a_wrong_file_is_named(package: Package, old: str, new: str, message: str) -> None:
    with pytest.raises(ViewError) as refused:
        registry.load(package(good=GOOD.replace(old, new)))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_two_views_share_a_table(package: Package) -> None:
    with pytest.raises(ViewError, match=r"second.py: name of view good is not its file's, second"):
        registry.load(package(good=GOOD, second=GOOD))


def test_a_wrong_source_is_named_and_not_the_view_that_imports_it(package: Package) -> None:
    source = "from feature_store.view import Source\nX = Source('s', 'id', 'day', (), (), 'day')\n"
    shared = package(shared=source)
    with pytest.raises(ViewError, match=r"shared.py:2: landed_entities of source s names no entity column"):
        registry.load(package(good=f"from {shared.__name__}.shared import X\n"))


def test_a_file_of_the_project_is_named_from_its_root() -> None:
    assert registry._relative(str(ROOT / "feature_store" / "views" / "x.py")) == "feature_store/views/x.py"


def test_the_release_of_the_code_has_the_views(tmp_path: Path) -> None:
    """On a node the code is one zip file."""
    import shutil

    shutil.copytree(ROOT / "feature_store", tmp_path / "code" / "feature_store")
    archive = shutil.make_archive(str(tmp_path / "code"), "zip", tmp_path / "code")
    code = "from feature_store import registry as r; print(r.__file__, len(r.views()))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": archive},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [f"{archive}/feature_store/registry.py", str(len(registry.views()))]
