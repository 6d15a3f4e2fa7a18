"""What the page says of a view: its sum in a few words, the days it shows, its plots and its costs."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace

import pytest
from feature_store_airflow import view_page
from feature_store_airflow.plots import Plot, bars, in_words, line

from feature_store.calendar import DayRange
from feature_store.energy import ENERGY
from feature_store.metrics import Certified, Synced, Validated, ViewMetrics
from feature_store.validation.verdict import Verdict

pytestmark = pytest.mark.unit

NOW = dt.datetime(2014, 2, 28, 6, 30, tzinfo=dt.UTC)
YESTERDAY = dt.date(2014, 2, 27)
PASSED = Validated(Verdict.PASSED, 10, {"energy_sum": 0.0}, {}, {}, None, None, "report", NOW)
HELD = replace(PASSED, verdict=Verdict.QUARANTINED, failed={"day_filled": "half a day"})
SYNCED = Synced(NOW, 1, 10, 0, 10, 1, 0.5)


def before(days: int) -> dt.date:
    return YESTERDAY - dt.timedelta(days=days)


def known(*, validated: dict[int, Validated] | None = None, online: tuple[int, ...] = ()) -> ViewMetrics:
    """Metrics of days, by how many days before yesterday they are."""
    return ViewMetrics(
        "v",
        {before(number): each for number, each in (validated or {}).items()},
        {before(number): Certified(10, 3, NOW) for number in online},
    )


@pytest.mark.parametrize(
    ("metrics", "verdict", "text"),
    [
        (known(), "skipped", "no day is known to be online"),
        (known(validated={0: PASSED}), "warned", "no day is known to be online"),
        (known(validated={0: PASSED}, online=(0,)), "passed", "online up to 2014-02-27, which is yesterday"),
        (known(validated={0: PASSED}, online=(1,)), "passed", "online up to 2014-02-26, 1 day behind yesterday"),
        (known(validated={0: PASSED}, online=(2,)), "warned", "online up to 2014-02-25, 2 days behind yesterday"),
        (
            known(validated={0: HELD, 1: PASSED}, online=(1,)),
            "failed",
            "online up to 2014-02-26, 1 day behind yesterday; 2014-02-27 is held back",
        ),
        (
            known(validated={0: PASSED, 1: HELD, 5: HELD}, online=(0,)),
            "warned",
            "online up to 2014-02-27, which is yesterday; 2 days are held back, to 2014-02-26",
        ),
        (known(validated={0: HELD}), "failed", "no day is known to be online; 2014-02-27 is held back"),
    ],
)
def test_a_view_is_summed_up(metrics: ViewMetrics, verdict: str, text: str) -> None:
    assert view_page.status(metrics, YESTERDAY) == view_page.Status(verdict, text)


def test_the_days_end_yesterday_unless_the_view_has_been_still_for_longer() -> None:
    first = before(view_page.SHOWN_DAYS - 1)
    assert view_page.window(known(), YESTERDAY) == DayRange(first, YESTERDAY)
    assert view_page.window(known(online=(89,)), YESTERDAY) == DayRange(first, YESTERDAY)
    still = view_page.window(known(validated={90: PASSED, 1000: PASSED}, online=(91,)), YESTERDAY)
    assert (still.end, len(still)) == (before(90), 90)


def test_a_day_is_online_that_validation_knows_nothing_of() -> None:
    (listed,) = view_page.days(known(online=(3,)), YESTERDAY, "lake")
    assert (listed["day"], listed["verdict"], listed["online"].rows) == (before(3), None, 10)


def test_the_column_with_the_most_nulls_is_named() -> None:
    some = replace(PASSED, nulls={"energy_sum": 0.001, "energy_max": 0.25})
    metrics = known(validated={0: some, 1: PASSED, 2: replace(PASSED, nulls={})})
    assert [each["nulls"] for each in view_page.days(metrics, YESTERDAY, "lake")] == ["25.0% energy_max", "0", None]
    columns = {each["name"]: each for each in view_page.columns(metrics, ENERGY, YESTERDAY)}
    assert columns == {
        "energy_sum": {"name": "energy_sum", "last": "0.10%", "least": "0%", "most": "0.10%"},
        "energy_max": {"name": "energy_max", "last": "25.0%", "least": "25.0%", "most": "25.0%"},
    }


def test_costs_are_of_the_days_of_spending_whatever_days_they_were_for() -> None:
    old = replace(SYNCED, at=NOW - dt.timedelta(days=view_page.SHOWN_DAYS))
    twice = (replace(SYNCED, at=NOW - dt.timedelta(days=1)), SYNCED, replace(SYNCED, at=NOW, dollars=None, days=30))
    metrics = replace(known(), syncs=(old, *twice))
    today, day_before = view_page.costs(metrics, NOW)
    assert (today["day"], today["total"]) == (NOW.date(), view_page.Total(2, 20, 0, 20, 2, 0.5))
    assert day_before["total"].syncs == 1
    fact = view_page.facts(metrics, NOW)[-1]
    assert (fact.value, fact.note) == (
        "$1.00",
        "on demand, 3 sync(s) of the last 90 days, without 1 in a region whose prices are not known",
    )


@pytest.mark.parametrize(
    ("dollars", "text"), [(0, "$0.00"), (0.000382, "$0.000382"), (0.3577123, "$0.3577"), (1234.5, "$1,234.50")]
)
def test_dollars_are_written_also_where_they_are_few(dollars: float, text: str) -> None:
    assert view_page.money(dollars) == text


class TestPlots:
    DAYS = DayRange(before(9), YESTERDAY)

    def plot(self, values: dict[int, float], held: tuple[int, ...] = ()) -> Plot:
        by_day = {before(number): value for number, value in values.items()}
        return Plot("Rows", self.DAYS, by_day, "{:,.0f}".format, frozenset(map(before, held)))

    def heights(self, svg: str) -> list[float]:
        return [float(height) for height in re.findall(r'<rect class="bar[^>]* height="([\d.]+)"', svg)]

    def test_a_bar_is_as_high_as_its_value(self) -> None:
        svg = bars(self.plot({3: 5000, 2: 2500, 1: 0}))
        high, half, none = self.heights(svg)
        assert high == pytest.approx(2 * half, abs=0.2)
        assert none == 0
        assert ">5,000<" in svg
        assert "2014-02-24: 5,000" in svg

    def test_an_axis_ends_at_a_round_number_that_holds_all(self) -> None:
        for most, top in ((5531, "6,000"), (1000, "1,000"), (1001, "1,200"), (97, "100")):
            assert f">{top}</text>" in bars(self.plot({0: most}))

    def test_days_that_are_held_back_have_another_shape(self) -> None:
        svg = bars(self.plot({1: 10, 0: 10}, held=(0,)))
        assert svg.count('class="bar held"') == 1
        assert svg.count("✕") == 1
        assert "2014-02-27: 10, held back" in svg
        assert line(self.plot({1: 10, 0: 10}, held=(0,))).count("✕") == 1

    def test_a_line_breaks_off_where_nothing_is_known(self) -> None:
        svg = line(self.plot({9: 1, 8: 2, 5: 3, 1: 2, 0: 1}))
        (path,) = re.findall(r'<path class="line" d="([^"]*)"', svg)
        assert re.sub(r"[\d. ]", "", path) == "MLMML"
        assert svg.count('class="dot"') == 2  # the day that stands alone, and the last one

    def test_a_line_begins_within_its_days(self) -> None:
        plot = Plot("Rows", self.DAYS, {before(10): 5, before(9): 1}, "{:,.0f}".format)
        assert re.findall(r' d="([A-Z])', line(plot)) == ["M"]
        assert "NaN" not in line(plot)

    def test_nothing_known_is_an_empty_plot_that_says_so(self) -> None:
        plot = self.plot({})
        assert self.heights(bars(plot)) == []
        assert "<path" not in line(plot)
        assert in_words(plot) == "Rows: nothing is known of 2014-02-18..2014-02-27"

    def test_it_is_said_in_words(self) -> None:
        assert in_words(self.plot({3: 20, 1: 10, 0: 15}, held=(1,))) == (
            "Rows: 15 on 2014-02-27; 10 to 20 on the 2 days before that are known; nothing on 7 of 10 days; "
            "held back: 2014-02-26"
        )
        assert in_words(self.plot({0: 15})) == "Rows: 15 on 2014-02-27; nothing on 9 of 10 days"
