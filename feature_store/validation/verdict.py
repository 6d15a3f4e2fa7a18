"""What becomes of a day that was judged."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What becomes of a day: all but QUARANTINED may go online."""

    PASSED = "passed"
    WARNED = "warned"
    QUARANTINED = "quarantined"
    RELEASED = "released"
