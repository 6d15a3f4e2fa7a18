"""What stands in for a person who pastes the guide to the first hour sees what that person would see."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import first_hour

pytestmark = pytest.mark.unit

FUNCTION = "def one():\n    return 1\n"


def test_a_block_knows_those_before_it(tmp_path: Path) -> None:
    blocks = [f"{FUNCTION}\nprint(one())\n", "one() + 1\n", "print(one() + 1)\n"]
    assert first_hour.paste(sys.executable, tmp_path, os.environ, blocks) == ["1\n", "", "2\n"]


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("print(two)\n", "name 'two' is not defined"),
        (f"{FUNCTION}print(one())\n", "invalid syntax"),
        ("def one():\n    one = 1\n\n    return one\n", "unexpected indent"),
        (FUNCTION, "a block waits for more"),
    ],
)
def test_what_a_terminal_would_not_take(tmp_path: Path, block: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        first_hour.paste(sys.executable, tmp_path, os.environ, [block])


def test_every_output_is_shown() -> None:
    assert len(first_hour.BLOCKS) == first_hour.PAGE.count("```python")
    for code, shown in first_hour.BLOCKS:
        assert bool(shown) == ("print(" in code), code


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("an error of  2.59 kWh\n", "an error of 2.60 kWh", True),
        ("an error of 2.59 kWh", "an error of 2.90 kWh", False),
        ("up to 2026-11-25", "up to 2026-11-24", False),
        ("made again: True", "made again: False", False),
        ("made again: True", "", False),
    ],
)
def test_what_is_taken_to_be_the_same(printed: str, shown: str, same: bool) -> None:
    assert first_hour.says_the_same(printed, shown) is same
