"""What consumers can schedule on: an asset for each feature view, with an event for every range that was validated.

A DAG that is to run when new features of a view were validated has `schedule=[asset("energy_data_features")]`; what it
is about is in the event's `extra`, as `event_extra` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from feature_store import layout, registry

if TYPE_CHECKING:
    from pydantic import JsonValue

SCHEME = "feature-store"


def asset(view: str) -> Asset:
    """Make the asset of a view.

    Its URI is the same in every deployment, as an asset is known before the bucket is: a DAG is parsed without the
    Variable `feature_store`. Where the table is, each event says.

    Raises:
        UnknownViewError: there is no view of that name.
    """
    return Asset(name=view, uri=f"{SCHEME}://{layout.features(registry.view(view))}")


def assets() -> list[Asset]:
    """Make the assets of all views."""
    return [asset(view.name) for view in registry.views()]


def event_extra(view: str, features: str, summary: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Say what was validated of a view.

    Args:
        view: its name.
        features: URI of the tables of features, with `{view}` for each view's name.
        summary: what validate says it did.

    Returns:
        `view`, `uri` of its Delta table, `start` and `end` of the range (ISO days, both included), `rows` in it, `days`
        by verdict (`passed`, `warned`, `released` and `quarantined`; the last are not for use), `features_version` of
        the table in which this holds, `verdict` of them all (`passed`, `warned`, `failed`) and `report`, a JSON on S3.
    """
    judged = summary["views"][view]
    return {
        "view": view,
        "uri": features.replace(layout.VIEW, view),
        "start": summary["start"],
        "end": summary["end"],
        **{name: judged[name] for name in ("rows", "days", "features_version", "verdict", "report")},
    }
