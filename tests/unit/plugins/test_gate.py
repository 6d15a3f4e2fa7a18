"""What is said of days that are held back: which, why, and how they come online."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from feature_store_airflow.gate import HeldBack, held_back, named, next_steps, stretches

pytestmark = pytest.mark.unit

VIEW = "energy_data_features"


def held(*days: str, view: str = VIEW, checks: tuple[str, ...] = ("day_filled",)) -> HeldBack:
    return HeldBack(view, days, 9, [{"check": check, "message": f"{check}: wrong"} for check in checks], "s3://lake/p")


def confs(said: str) -> list[dict[str, Any]]:
    """The confs of the commands that are named, read as a shell does."""
    commands = [shlex.split(line) for line in said.splitlines() if line.startswith("airflow ")]
    assert all(command[:4] == ["airflow", "dags", "trigger", "daily"] for command in commands)
    return [json.loads(command[5]) for command in commands]


@pytest.mark.parametrize(
    ("days", "found"),
    [
        ([], []),
        (["2014-02-26"], [("2014-02-26", "2014-02-26")]),
        (["2014-03-01", "2014-02-28"], [("2014-02-28", "2014-03-01")]),
        (["2014-02-26", "2014-02-28", "2014-02-26"], [("2014-02-26",) * 2, ("2014-02-28",) * 2]),
    ],
)
def test_stretches_of_days(days, found) -> None:
    assert stretches(days) == found


def test_few_days_are_named_and_many_are_counted() -> None:
    assert named(["2014-02-26", "2014-02-28", "2014-03-01"]) == "2014-02-26, 2014-02-28 to 2014-03-01"
    assert named(f"2014-02-{day:02}" for day in range(1, 15, 2)).endswith("2014-02-09 and 2 more")


def test_the_commands_are_of_the_first_stretch_and_the_others_are_named() -> None:
    said = next_steps("daily", [held("2014-02-26"), held("2014-02-27", "2014-03-05", view="energy_recent_features")])
    days = {"start": "2014-02-26", "end": "2014-02-27"}
    assert confs(said) == [days, {**days, "released_by": "WHO", "release_reason": "WHY"}]
    assert said.endswith("\nThe same for 2014-03-05.")


def test_a_range_that_is_named_has_no_day_that_is_not_held_back() -> None:
    """A release is of all days of its run: one that was good must not be let through unseen."""
    said = next_steps("daily", [held("2014-02-26", "2014-02-28")])
    assert all(conf["start"] == conf["end"] == "2014-02-26" for conf in confs(said))


def test_what_can_not_be_released_is_said() -> None:
    said = next_steps("daily", [held("2014-02-26", checks=("day_filled", "key_unique", "columns"))])
    assert "release them (not what fails by columns, key_unique), which" in said
    assert "(not what" not in next_steps("daily", [held("2014-02-26", checks=("day_filled", "a_new_one"))])


def test_many_checks_are_counted() -> None:
    said = str(held("2014-02-26", checks=tuple(f"c{number}" for number in range(9))))
    assert "c0: wrong; failed too: c1; c2; c3; c4; c5 and 3 more. Report" in said


@pytest.mark.parametrize("summary", [None, {}, {"views": {}}, {"views": {"a": {"error": "no table"}}}])
def test_nothing_is_held_back_where_nothing_was_judged(summary) -> None:
    assert held_back(summary) == []


def test_what_another_run_holds_back_is_not_blamed_on_what_this_one_found() -> None:
    """A released day has failures too; the one that is left out was fine in this run."""
    days = {"passed": ["2014-02-26"], "released": ["2014-02-27"], "warned": [], "quarantined": []}
    judged = {"days": days, "failed": [{"check": "fresh", "message": "fresh: wrong"}], "page": "s3://lake/p"}
    (found,) = held_back({"views": {VIEW: judged}}, {"views": {VIEW: {"days_held_back": ["2014-02-26"]}}})
    assert (found.days, found.of) == (["2014-02-26"], 2)
    assert str(found).endswith("this run's validation let them pass, and another run's has held them back since.")
