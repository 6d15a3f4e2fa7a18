"""The report's page: what is wrong comes first, nothing that is shown can do anything, and it needs no network."""

from __future__ import annotations

import copy
import datetime as dt
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from feature_store.validation.page import headline, page
from spark_jobs import validate
from tests.unit.feature_store.validation import planted
from tests.unit.feature_store.validation.planted import DAY

pytestmark = pytest.mark.unit

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Three days of which the last is held back: a real one, as the job writes it."""
    folder = tmp_path_factory.mktemp("page")
    readings = planted.readings()
    start = DAY - dt.timedelta(days=2)
    made = planted.features(readings, days=planted.DayRange(start, DAY))
    wrong = planted.IS_DAY & (planted.pl.col("energy_sum") > 5)
    off = planted.pl.col("energy_sum_1yr") * planted.pl.when(wrong).then(1.1).otherwise(1)
    planted.save(folder, readings, made.with_columns(energy_sum_1yr=off))
    validate.run(planted.arguments(folder, start, DAY))
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    assert (folder / "report.html").read_text() == page(found)
    return found


class Reader(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(value: Any) -> Any:
    """The same report with hostile text in every field that is free."""
    fixed = {"verdict", "severity", "day", "start", "end", "made_at", "days", "columns"}
    if isinstance(value, dict):
        return {
            key: [*value[key], HOSTILE]
            if key == "examples"
            else each
            if key in fixed and isinstance(each, str)
            else hostile(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [hostile(each) for each in value]
    return HOSTILE if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", value) else value


def test_nothing_that_is_shown_can_do_anything(report: dict[str, Any]) -> None:
    read = Reader(page(hostile(report)))
    assert "script" not in read.tags
    assert "img" not in read.tags
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert HOSTILE in read.text
    assert ("http-equiv", "Content-Security-Policy") in read.attributes


def test_nothing_comes_from_elsewhere(report: dict[str, Any]) -> None:
    html = page(report)
    fetched = [value for name, value in Reader(html).attributes if name in ("src", "href", "xlink:href")]
    assert all(str(value).startswith("#") for value in fetched)
    assert not re.search(r"@import|url\((?!#)", html)
    assert len(html) < 600_000


def test_what_is_wrong_comes_first(report: dict[str, Any]) -> None:
    text = Reader(page(report)).text
    assert text.index(f"Held back: {DAY}") < text.index("values_recomputed") < text.index("energy_sum_grows")
    assert "energy_sum_1yr is " in text
    days = text[text.index("3 days, the worst first") :]
    assert days.index("held back") < days.index("passed")
    for column in report["series"]["columns"]:
        assert column in text


def test_a_picture_is_told_in_words(report: dict[str, Any]) -> None:
    labels = [value for name, value in Reader(page(report)).attributes if name == "aria-label"]
    assert len(labels) == 4 + len(report["series"]["columns"])
    assert any(
        re.fullmatch(rf"energy_sum: [\d.]+ on {DAY}; [\d.]+ to [\d.]+ in the 30 days before", str(said))
        for said in labels
    )


@pytest.mark.parametrize(
    ("verdict", "days", "said"),
    [
        ("passed", ["passed"], "Passed"),
        ("warned", ["warned"], "Passed with warnings"),
        ("warned", ["passed", "released"], "Released: day 1"),
        ("warned", ["released", "released"], "Released: 2 days"),
        ("failed", ["passed", "quarantined"], "Held back: day 1"),
        ("failed", ["quarantined", "quarantined", "passed"], "Held back: 2 of 3 days"),
        ("failed", [], "Held back"),
    ],
)
def test_the_headline_says_the_verdict(verdict: str, days: list[str], said: str) -> None:
    of = [{"day": f"day {number}", "verdict": each} for number, each in enumerate(days)]
    assert headline({"verdict": verdict, "days": of}) == said


def test_the_same_report_is_the_same_page(report: dict[str, Any]) -> None:
    assert page(report) == page(copy.deepcopy(report))


def test_where_nothing_could_be_looked_at(report: dict[str, Any]) -> None:
    empty = {"days": [], "own": [], "held_back": [], "metrics": {}, "columns": {}}
    text = Reader(page({**report, "days": [], "series": empty})).text
    assert "Held back" in text
    one = {"days": [str(DAY)], "own": [True], "held_back": [True], "metrics": {"rows": [3.0]}, "columns": {}}
    assert "rows" in Reader(page({**report, "series": one})).text


def test_a_long_range_is_still_a_small_page(report: dict[str, Any]) -> None:
    days = [str(DAY + dt.timedelta(days=n)) for n in range(900)]
    of = {name: [float(n % 7) for n in range(900)] for name in ("p05", "p25", "p50", "p75", "p95", "nulls")}
    series = {
        "days": days,
        "own": [True] * 900,
        "held_back": [False] * 900,
        "metrics": {},
        "columns": dict.fromkeys("abcdef", of),
    }
    assert len(page({**report, "series": series})) < 1_500_000


def test_the_template_is_found_in_an_archive(tmp_path: Path) -> None:
    """As the steps get the code: by --py-files."""
    import subprocess
    import sys
    import zipfile

    from infra.local.settings import ROOT

    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        for file in sorted((ROOT / "feature_store").rglob("*")):
            if file.suffix in (".py", ".j2"):
                archive.write(file, file.relative_to(ROOT))
    code = """if True:
        import sys
        sys.path.insert(0, "code.zip")
        from feature_store.validation import page
        from feature_store.templates import template
        print(page.__file__, template(page.__package__, page.TEMPLATE))
    """
    said = subprocess.check_output([sys.executable, "-I", "-c", code], cwd=tmp_path, text=True)
    assert "code.zip/feature_store/validation/page.py" in said
    assert "Template" in said
