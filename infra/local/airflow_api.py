"""The few calls of Airflow's REST API that the main job makes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any, TypeAlias

import httpx
import tenacity

Json: TypeAlias = Any  # what a JSON text holds; its shape is Airflow's
# A busy machine answers late; a question can be asked again, an order (POST, PATCH) not.
ASKED_AGAIN_FOR = 120.0  # seconds


class AirflowApi:
    """A client of one Airflow. The local one asks for no sign-in: it listens on loopback only."""

    def __init__(self, url: str) -> None:
        """Make a client for the Airflow at url, such as http://127.0.0.1:8080."""
        self._http = httpx.Client(base_url=f"{url}/api/v2", timeout=30)

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(httpx.TransportError),
        stop=tenacity.stop_after_delay(ASKED_AGAIN_FOR),
        wait=tenacity.wait_fixed(1),
        reraise=True,
    )
    def get(self, path: str, **parameters: str) -> Json:
        """Ask for something; httpx.HTTPStatusError tells of any answer that is not a success."""
        answer = self._http.get(path, params=parameters)
        answer.raise_for_status()
        return answer.json()

    def call(self, method: str, path: str, **body: Json) -> Json:
        """Send one request, once; httpx.HTTPStatusError tells of any answer that is not a success."""
        answer = self._http.request(method, path, json=body or None)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def dags(self) -> set[str]:
        """Name the DAGs that Airflow has parsed so far."""
        return {dag["dag_id"] for dag in self.get("/dags")["dags"]}

    def import_errors(self) -> list[str]:
        """Say what kept a DAG file from being parsed, one text a file."""
        return [f"{error['filename']}: {error['stack_trace']}" for error in self.get("/importErrors")["import_errors"]]

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run a DAG."""
        self.call("PATCH", f"/dags/{dag_id}", is_paused=False)

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Make a pool, unless there is one of that name: a person may have given it another size."""
        try:
            self.call("POST", "/pools", name=name, slots=slots, description=description)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                raise

    def trigger_day(self, dag_id: str, day: dt.date) -> str:
        """Start a run of one day and return its id.

        The run takes the day's own slot in the schedule while that is free, so that the scheduler does not start the
        same day again. If the scheduler was quicker and that run is still under way, it is the one; a day that has run
        before is run again by the DAG's params.
        """
        start = dt.datetime.combine(day, dt.time(), dt.UTC)
        end = start + dt.timedelta(days=1)
        slot = {
            "logical_date": start.isoformat(),
            "data_interval_start": start.isoformat(),
            "data_interval_end": end.isoformat(),
        }
        try:
            run = self.call("POST", f"/dags/{dag_id}/dagRuns", **slot)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                raise
            at = start.isoformat()
            taken = self.get(f"/dags/{dag_id}/dagRuns", logical_date_gte=at, logical_date_lte=at)["dag_runs"]
            if under_way := [run for run in taken if run["state"] in ("queued", "running")]:
                return str(under_way[0]["dag_run_id"])
            conf = {"start": day.isoformat(), "end": day.isoformat()}
            run = self.call("POST", f"/dags/{dag_id}/dagRuns", logical_date=None, conf=conf)
        return str(run["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Tell a run's state: queued, running, success or failed."""
        return str(self.get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Json]]:
        """List a run's task instances: task_id, state, start_date, duration, try_number ..."""
        answer = self.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return list(answer["task_instances"])

    def result(self, dag_id: str, run_id: str, task_id: str) -> Json:
        """Return what a task returned (its XCom `return_value`); None where it returned nothing."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        try:
            return self.get(path, deserialize="true")["value"]
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise

    def errors(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> Iterator[str]:
        """Yield the messages of the exceptions that a task's log holds, oldest first."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        for event in self.get(path)["content"]:
            for detail in (event.get("error_detail") or []) if isinstance(event, dict) else []:
                yield f"{detail['exc_type']}: {detail['exc_value']}"
