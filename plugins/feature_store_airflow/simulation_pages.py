"""The reports of simulations, as pages of Airflow's API server, which fetches them from S3 on demand."""

from __future__ import annotations

import json
import re

from starlette.responses import Response, StreamingResponse

from feature_store import layout
from feature_store.templates import template
from feature_store_airflow.bucket import Bucket, NothingThereError, run_folder
from feature_store_airflow.responses import HEADERS, html
from feature_store_airflow.simulation import NAME, NAMES, RECORD

NOTHING = (
    "The task report writes it when the workers have ended. Next: see whether that task has run, and its log; trigger "
    "the simulation again if it is to be done again."
)


# No coroutines: as reports.py.
def show_simulation(dag_id: str, run_id: str) -> Response:
    """Show the report of a run's simulation, as the task has written it."""
    folder = run_folder(dag_id, run_id)
    bucket = Bucket.open()
    recorded = bucket.text(f"{folder}/{RECORD}.json")
    if recorded is None:
        raise NothingThereError(
            f"Run {run_id} of {dag_id} has begun no simulation. Next: see its task choose_name; runs of other DAGs "
            "have none."
        )
    return _shown(bucket, str(json.loads(recorded)[NAME]))


def show_named(name: str) -> Response:
    """Show the report of the simulation of a name, whoever has made it."""
    return _shown(Bucket.open(), name)


def list_simulations() -> Response:
    """List the simulations that have a report, the newest first."""
    bucket = Bucket.open()
    # By folders: the samples of a long run are thousands of objects.
    names = [name for name in bucket.folders(f"{layout.SIMULATIONS}/") if re.fullmatch(NAMES, name)]
    reports = {layout.simulation_report(name, "html"): name for name in names}
    found = {reports[key]: when for key, when in bucket.each_written(reports).items()}
    newest = sorted(found.items(), key=lambda each: each[1], reverse=True)
    return html(template("feature_store_airflow", "simulations.html.j2").render(simulations=newest))


def _shown(bucket: Bucket, name: str) -> Response:
    if not re.fullmatch(NAMES, name):
        raise NothingThereError("That is no name of a simulation. Next: come here by the list of simulations.")
    body = bucket.chunks(layout.simulation_report(name, "html"))
    if body is None:
        raise NothingThereError(f"The simulation {name} has no report. {NOTHING}")
    # The type is ours to say: whatever the object claims to be, it is shown as a page under our headers.
    return StreamingResponse(body, media_type="text/html; charset=utf-8", headers=HEADERS)
