"""The report of a simulation, for people: what it says and shows, and that nothing in it can do anything."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from Simulation.objective import Objective
from Simulation.page import headline, page
from Simulation.report import _beside, report
from Simulation.results import Results
from Simulation.store import Folder
from tests.unit.feature_store.validation.test_page import HOSTILE, Reader
from tests.unit.Simulation import made

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run with late workers, of which one was killed, beside one that was as it should be."""
    store = Folder(tmp_path_factory.mktemp("results"))
    made.write(store, made.plan("calm"))
    made.write(store, made.plan("worse"), slow=3.0, late_from=34, lost=[1], lost_at=40)
    calm, worse = (report(Results.load(store, name), Objective(p99_ms=30), None) for name in ("calm", "worse"))
    return {**worse, "against": _beside(worse, calm)}


def test_the_page_says_what_was_found(told: dict[str, Any]) -> None:
    text = " ".join(Reader(page(told)).text.split())
    assert headline(told) in text
    for said in (told["objective"]["says"], told["throttling"]["says"], *told["trouble"]):
        assert said in text
    for phase in told["phases"]:
        assert phase["title"] in text
    assert text.index("The run itself was not as it should be") < text.index("By rate")


def test_every_figure_of_a_rate_is_in_its_row(told: dict[str, Any]) -> None:
    html = page(told)
    calls = told["phases"][2]["calls"]["all"]
    row = html[html.index("<td><strong>260/s</strong>") :]
    row = row[: row.index("</tr>")]
    assert f">{calls['throttled_tries']:,}<" in row
    assert f">{calls['latency_ms']['p50']:,.0f}<" in row
    assert "workers late" in row


def test_a_picture_is_told_in_words(told: dict[str, Any]) -> None:
    labels = [str(value) for name, value in Reader(page(told)).attributes if name == "aria-label"]
    assert len(labels) == 6
    assert any("worker 1 lost from second 39" in label for label in labels)
    assert any(re.search(r"260/s: p99 [\d,.]+ ms", label) for label in labels)


def test_what_is_drawn_is_text(told: dict[str, Any]) -> None:
    """The reader's own font, and found by those who search the page."""
    html = page(told)
    for said in ("throttling begins", "worker 1 lost", "workers late", "99.9"):
        assert re.search(rf"<text [^>]*>{re.escape(said)}</text>", html), said


def test_nothing_that_is_shown_can_do_anything(told: dict[str, Any]) -> None:
    hostile = copy.deepcopy(told)
    hostile["name"] = hostile["against"]["name"] = hostile["plan"]["view"] = hostile["plan"]["ids"] = HOSTILE
    hostile["trouble"] = hostile["workers"][0]["bottleneck"] = [HOSTILE]
    hostile["throttling"]["says"] = hostile["objective"]["says"] = hostile["workers"][0]["reason"] = HOSTILE
    hostile["phases"][0]["calls"]["all"]["errors"] = {HOSTILE: 3}
    for phase in hostile["phases"]:
        phase["title"] = HOSTILE
    for event in hostile["events"]:
        event["says"] = HOSTILE
    read = Reader(page(hostile))
    assert not {"script", "img"} & set(read.tags)
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert HOSTILE in read.text
    assert ("http-equiv", "Content-Security-Policy") in read.attributes


def test_nothing_comes_from_elsewhere(told: dict[str, Any]) -> None:
    html = page(told)
    fetched = [value for name, value in Reader(html).attributes if name in ("src", "href", "xlink:href")]
    assert all(str(value).startswith("#") for value in fetched)
    assert not re.search(r"@import|url\((?!#)", html)
    assert len(html) < 600_000


def test_the_same_report_is_the_same_page(told: dict[str, Any]) -> None:
    assert page(told) == page(copy.deepcopy(told))


def test_a_run_of_one_rate_and_kind_and_few_calls(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = Folder(tmp_path_factory.mktemp("few"))
    plan = made.plan("few", rates=(2.0,), seconds=5, many=0.0, workers=1, capacity=None)
    few = report(made.write(store, plan), Objective(), None)
    text = " ".join(Reader(page(few)).text.split())
    assert "No rate is known to keep its p99 under 10 ms" in text
    assert "not up to " in text
    assert "By rate: get" not in text
    assert "The run itself" not in text
