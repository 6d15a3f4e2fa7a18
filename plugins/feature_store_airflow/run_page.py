"""What one run of a DAG has done for each feature view: a tab of the run, from its jobs' summaries."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from feature_store import registry
from feature_store.templates import template
from feature_store_airflow.bucket import Bucket, NothingThereError, run_folder
from feature_store_airflow.choose_days import OUTLOOK
from feature_store_airflow.chunks import combined
from feature_store_airflow.gate import named
from feature_store_airflow.responses import html
from feature_store_airflow.view_page import money

JOBS = ("validate", "sync")


def show_run(dag_id: str, run_id: str) -> Response:
    """Show what a run is to do, if it has looked, how far it has come, and verdicts, certificates and costs by view."""
    folder = run_folder(dag_id, run_id)
    bucket = Bucket.open()
    outlook = _summary(bucket, f"{folder}/{OUTLOOK}.json")
    validate, sync = (_of_job(bucket, folder, job, in_chunks=outlook is not None) for job in JOBS)
    if validate is None and sync is None and outlook is None:
        raise NothingThereError(
            f"Run {run_id} of {dag_id} has neither validated nor synced anything yet. Next: see its task validate; "
            "runs of other DAGs have nothing here."
        )
    views = [_shown(view.name, validate, sync) for view in registry.views()] if validate or sync else []
    said = outlook or validate or sync or {}
    here = quote(run_id, safe="")
    return html(
        template("feature_store_airflow", "run.html.j2").render(
            dag_id=dag_id,
            run_id=run_id,
            # Relative to this page, wherever a proxy has put Airflow.
            reports=f"../../reports/{quote(dag_id, safe='')}/{here}",
            in_chunks=outlook is not None,
            start=said.get("start"),
            end=said.get("end"),
            outlook=outlook,
            done=_done(bucket, folder, outlook) if outlook else None,
            views=views,
        )
    )


def _of_job(bucket: Bucket, folder: str, job: str, *, in_chunks: bool) -> dict[str, Any] | None:
    """What a job says it did; of a run in chunks, all that it says of those that have ended."""
    if not in_chunks:
        return _summary(bucket, f"{folder}/{job}.json")
    keys = [key for key in bucket.names(f"{folder}/") if key.endswith(f"/{job}.json")]
    return combined([said for key in sorted(keys) if (said := _summary(bucket, key)) and "views" in said])


def _done(bucket: Bucket, folder: str, outlook: dict[str, Any]) -> dict[str, int]:
    """How far a run has come: chunks whose last job has said that it is done, and their days."""
    keys = set(bucket.names(f"{folder}/"))
    ended = [
        chunk
        for chunk in outlook["chunks"]
        if (key := f"{folder}/{chunk['start']}_{chunk['end']}/{JOBS[-1]}.json") in keys
        and "error" not in (_summary(bucket, key) or {"error": ""})
    ]
    return {"chunks": len(ended), "days": sum(chunk["days"] for chunk in ended)}


def _summary(bucket: Bucket, key: str) -> dict[str, Any] | None:
    """What a job says it did; None if it has said nothing, or has died while it did."""
    text = bucket.text(key)
    try:
        said = json.loads(text) if text else None
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _shown(name: str, validate: dict[str, Any] | None, sync: dict[str, Any] | None) -> dict[str, Any]:
    """What the template takes of a view: None for a job that has said nothing of it."""
    judged, synced = (_of_view(said, name) for said in (validate, sync))
    days = (judged or {}).get("days") or {}
    return {
        "name": name,
        "judged": judged,
        "days": [(verdict, len(of), named(of)) for verdict, of in days.items() if of],
        "synced": synced,
        "held": named(synced.get("days_held_back") or ()) if synced else "",
        "price": money(synced["dollars"]) if synced and synced.get("dollars") is not None else None,
    }


def _of_view(said: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    of: dict[str, Any] | None = ((said or {}).get("views") or {}).get(name)
    return of
