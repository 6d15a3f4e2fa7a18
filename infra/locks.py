"""What a lock of requirements says, as `uv pip compile` writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.local.settings import StackError

ENTRY = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)(?:.*\\\n)*.*\n", re.MULTILINE)
HASH = re.compile("sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """One package of a lock.

    Attributes:
        name: of the package.
        version: the only one that is taken.
        sha256s: of its files, in hexadecimal digits.
        text: the whole entry.
    """

    name: str
    version: str
    sha256s: tuple[str, ...]
    text: str


def pins(lock: str) -> Iterator[Pin]:
    """Yield the packages of a lock."""
    for entry in ENTRY.finditer(lock):
        yield Pin(entry[1], entry[2], tuple(HASH.findall(entry[0])), entry[0])


def lock_entries(lock: str, names: Sequence[str]) -> list[str]:
    """The entries of some packages in a lock, each with its hashes; StackError names one that is not in it."""
    entries = {pin.name: pin.text for pin in pins(lock)}
    for name in names:
        if name not in entries:
            raise StackError(f"requirements.lock has no entry for {name}: make it again (make lock).")
    return [entries[name] for name in names]
