"""The guide to the first hour, pasted into a Python session as a person does it."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.local.settings import ROOT

PAGE = (ROOT / "docs" / "guide" / "first-hour.md").read_text()
# What is pasted, and what the page shows that it prints, if anything.
BLOCKS = [
    (code, shown) for code, shown in re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", PAGE, re.M | re.S)
]
# What has to come out with any data.
FOUND = re.compile(r"^found: .* on \S+, \d+ days old$", re.M)
EQUAL = re.compile(r"^(\d+) of \1 predictions are equal", re.M)
MADE_AGAIN = re.compile(r"made again: True$", re.M)
END = "--- end of a block"
# Line by line, as a terminal does: a blank line ends what is indented, and the next line must not be indented.
SESSION = f"""
import code, json, sys, traceback


class Session(code.InteractiveConsole):
    def showtraceback(self):
        traceback.print_exc()
        raise SystemExit(1)

    def showsyntaxerror(self, *arguments, **named):
        self.showtraceback()


sys.displayhook = lambda value: None  # what is not printed is not shown
session = Session({{"__name__": "__main__"}})
for block in json.load(sys.stdin):
    unfinished = [session.push(line) for line in block.splitlines()]
    if unfinished[-1]:
        sys.exit("a block waits for more: " + block)
    print({END!r}, flush=True)
"""


def paste(
    python: str, folder: Path, environment: Mapping[str, str], blocks: Sequence[str] = tuple(code for code, _ in BLOCKS)
) -> list[str]:
    """Run blocks in their order in one fresh session; what each of them has printed."""
    done = subprocess.run(
        [python, "-c", SESSION],
        input=json.dumps(blocks),
        env=dict(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout.split(f"{END}\n")
    assert len(printed) == len(blocks) + 1
    return printed[:-1]


def says_the_same(printed: str, shown: str) -> bool:
    """Whether two outputs have the same words, and nearly the same numbers."""
    ours, theirs = printed.split(), shown.split()
    return len(ours) == len(theirs) and all(map(_near, ours, theirs))


def _near(ours: str, theirs: str) -> bool:
    try:
        return math.isclose(float(ours), float(theirs), rel_tol=0.02)
    except ValueError:
        return ours == theirs
