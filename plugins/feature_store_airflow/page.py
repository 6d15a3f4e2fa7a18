"""The page of all feature views in Airflow's UI, from what the jobs have left of each: one small object a view.

Nothing of the lake is opened for it; only a look at one entity does that (lookup.py).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.responses import Response

from feature_store import layout, metrics, registry
from feature_store.metrics import ViewMetrics
from feature_store.templates import template
from feature_store.view import FeatureView
from feature_store_airflow import lookup, view_page
from feature_store_airflow.bucket import Bucket, NothingThereError
from feature_store_airflow.responses import html

AT_ONCE = 8  # requests to S3

Known = ViewMetrics | str  # of a view; a sentence where there are none


def show_views(entity: str | None = None, view: str | None = None) -> Response:
    """Show how all views are doing, and, if an entity is named, its rows in one of them."""
    bucket = Bucket.open()
    views = registry.views()
    known = _known(bucket, views)
    now = _now()
    found = _look_up(entity, view, known, bucket) if entity else None
    return html(
        template("feature_store_airflow", "page.html.j2").render(
            views=[_shown(each, known[each.name], bucket.name, now) for each in views],
            now=now,
            shown_days=view_page.SHOWN_DAYS,
            kept_days=metrics.KEPT_DAYS,
            entity=entity or "",
            chosen=view or views[0].name,
            found=found,
            money=view_page.money,
            value=_value,
        ),
        form=True,
    )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _known(bucket: Bucket, views: Sequence[FeatureView]) -> dict[str, Known]:
    """Fetch the metrics of all views, one object each."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = threads.map(lambda view: _of_view(bucket, view), views)
        return {view.name: each for view, each in zip(views, found, strict=True)}


def _of_view(bucket: Bucket, view: FeatureView) -> Known:
    key = layout.VIEW_METRICS.replace(layout.VIEW, view.name)
    text = bucket.text(key)
    if text is None:
        return "No run of this feature store has validated it yet. Next: trigger feature_store_daily."
    try:
        return metrics.load(text, view.name)
    except metrics.MetricsError as error:
        return f"s3://{bucket.name}/{key} can't be read: {error}. Next: run a day, which makes it anew."


def _shown(view: FeatureView, known: Known, bucket: str, now: dt.datetime) -> dict[str, Any]:
    """What the template takes of a view."""
    base = {"name": view.name, "description": view.description}
    if isinstance(known, str):
        return {**base, "missing": known, "status": view_page.Status("skipped", "nothing is known of it")}
    yesterday = now.date() - dt.timedelta(days=1)
    return {
        **base,
        "missing": None,
        "status": view_page.status(known, yesterday),
        "facts": view_page.facts(known, now),
        "pictures": view_page.pictures(known, now),
        "held": view_page.held_back(known, bucket),
        "days": view_page.days(known, yesterday, bucket),
        "columns": view_page.columns(known, view, yesterday),
        "costs": view_page.costs(known, now),
    }


def _value(value: object, row: object) -> str:
    """Write a value so that two that differ never look the same; nothing where there is no row."""
    if row is None:
        return ""
    return "null" if value is None else repr(value) if isinstance(value, float) else str(value)


def _look_up(entity: str, name: str | None, known: Mapping[str, Known], bucket: Bucket) -> lookup.LookUp | str:
    """Look an entity up; a sentence where that is not possible."""
    try:
        view = registry.view(name) if name else registry.views()[0]
    except registry.UnknownViewError as error:
        raise NothingThereError(str(error)) from error
    if wrong := lookup.fault(entity):
        return wrong
    of = known[view.name]
    return lookup.look_up(entity, view, of if isinstance(of, ViewMetrics) else ViewMetrics(view.name), bucket)
