"""What one run of a DAG has done for each feature view: a tab of the run, from its jobs' summaries."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from feature_store_airflow.settings import chunk_folder
from feature_store_airflow.view_page import money

JOBS = ("validate", "sync")


def show_run(dag_id: str, run_id: str) -> Response:
    """Show what a run is to do, if it has looked, how far it has come, and verdicts, certificates and costs by view."""
    folder = run_folder(dag_id, run_id)
    bucket = Bucket.open()
    outlook = _summary(bucket.text(f"{folder}/{OUTLOOK}.json"))
    done = None
    if outlook:
        said_of = _of_chunks(bucket, folder, outlook)
        validate, sync = (combined(said_of[job]) for job in JOBS)
        done = _done(outlook, said_of)
    else:
        validate, sync = (_summary(bucket.text(f"{folder}/{job}.json")) for job in JOBS)
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
            done=done,
            views=views,
        )
    )


def _of_chunks(bucket: Bucket, folder: str, outlook: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What each job says it did for the chunks of a run that have ended, since it has looked what is to be done.

    What is there of before is of before the run was cleared.
    """
    written = bucket.written(f"{folder}/")
    looked = written[f"{folder}/{OUTLOOK}.json"]
    found: dict[str, list[dict[str, Any]]] = {}
    for job in JOBS:
        keys = [f"{folder}/{chunk_folder(chunk['start'], chunk['end'])}/{job}.json" for chunk in outlook["chunks"]]
        texts = bucket.texts([key for key in keys if key in written and written[key] >= looked])
        found[job] = [said for text in texts.values() if (said := _summary(text)) and "views" in said]
    return found


def _done(outlook: Mapping[str, Any], said_of: Mapping[str, list[dict[str, Any]]]) -> dict[str, int]:
    """How far a run has come: chunks whose last job has said that it is done, and their days."""
    ended = {said["start"] for said in said_of[outlook["last_job"]] if "error" not in said}
    chunks = [chunk for chunk in outlook["chunks"] if chunk["start"] in ended]
    return {"chunks": len(chunks), "days": sum(chunk["days"] for chunk in chunks)}


def _summary(text: str | None) -> dict[str, Any] | None:
    """What a job says it did; None if it has said nothing, or has died while it did."""
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
