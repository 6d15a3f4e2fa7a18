"""How a job says that it can't, or that the answer is no."""

from __future__ import annotations

import re
from typing import Any

Summary = dict[str, Any]

# The JVM's names of them; where Delta's own Python package is imported, it makes exceptions of the same names of them.
CONFLICT = re.compile(r"\bdelta\.exceptions\.(?:\w+\.)?(?:Concurrent|MetadataChanged|ProtocolChanged)")


class JobError(Exception):
    """The job can't do its work for a reason that is understood: one sentence says what, where, and what to do."""


class VerdictError(JobError):
    """The job did its work, and the answer is no: the summary is complete and holds the details."""

    def __init__(self, sentence: str, summary: Summary) -> None:
        """Keep the summary that goes with the sentence."""
        super().__init__(sentence)
        self.summary = summary


def java_causes(error: BaseException) -> list[str]:
    """What an error of the JVM says, from what was caught to what it came from; empty for Python's own errors."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    said = []
    while java is not None:
        said.append(str(java.toString()).strip())
        java = java.getCause()
    return said


def is_conflict(error: BaseException) -> bool:
    """Whether Delta has refused a commit because of what another writer committed meanwhile."""
    kind = type(error)
    return any(CONFLICT.search(said) for said in (f"{kind.__module__}.{kind.__name__}", *java_causes(error)))


def first_cause(error: BaseException) -> str:
    """The first line of what an error, Java's or Python's, came from."""
    said = java_causes(error) or [f"{type(error).__name__}: {error}".strip()]
    return said[-1].splitlines()[0]
