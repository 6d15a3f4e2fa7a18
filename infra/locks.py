"""What a lock of requirements says, as `uv pip compile` writes it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from infra.local.settings import StackError


def lock_entries(lock: str, names: Sequence[str]) -> list[str]:
    """The entries of some packages in a lock, each with its hashes; StackError names one that is not in it."""
    found = []
    for name in names:
        entry = re.search(rf"^{re.escape(name)}==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
        if entry is None:
            raise StackError(f"requirements.lock has no entry for {name}: make it again (make lock).")
        found.append(entry[0])
    return found
