"""What the jobs of a run's chunks of days say, put together as if it had been one step of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

REPORTS = ("page", "report")
VERDICTS = ("failed", "warned", "passed")  # the worst comes first
# Of numbers that are no amounts: how many of the same households, checks or versions there are.
LARGEST, SMALLEST = {"entities", "checks"}, {"features_version", "readings_version"}


def combined(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Put summaries of one job together, chunk after chunk; None if there are none.

    Returns:
        `seconds` of all, and of each view under `views`: amounts summed up, lists one after the other, the worst
        verdict and the report in which it is, and of other texts the last.
    """
    if not summaries:
        return None
    names = dict.fromkeys(name for each in summaries for name in each.get("views", {}))
    views = {name: _view([each["views"][name] for each in summaries if name in each["views"]]) for name in names}
    return {"seconds": sum(each["seconds"] for each in summaries), "views": views}


def _view(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for part in parts for name in part)
    found = {name: _value(name, [part[name] for part in parts if name in part]) for name in names}
    worst = next((part for part in parts if "verdict" in part and part["verdict"] == found["verdict"]), {})
    return {**found, **{name: worst[name] for name in REPORTS if name in worst}}


def _value(name: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - whatever a summary has
    known = [value for value in values if value is not None]
    first = known[0] if known else None
    if name == "verdict":
        found: Any = min(known, key=VERDICTS.index)
    elif first is None or isinstance(first, bool | str):
        found = known[-1] if known else None
    elif isinstance(first, Mapping):
        found = {key: _value(key, [each[key] for each in known if key in each]) for key in first}
    elif isinstance(first, Sequence):
        found = [item for each in known for item in each]
    elif name in LARGEST | SMALLEST:
        found = (max if name in LARGEST else min)(known)
    else:
        found = sum(known)
    return found
