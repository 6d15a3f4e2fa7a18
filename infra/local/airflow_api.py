"""The few calls of Airflow's REST API that the main job makes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import httpx
import tenacity

from infra.local.settings import StackError

Json: TypeAlias = Any  # what a JSON text holds; its shape is Airflow's
# A busy machine answers late, or for a moment with a 500 or 503; a question can be asked again, an order (POST, PATCH)
# not.
ASKED_AGAIN_FOR = 120.0  # seconds
PAUSE = 1.0  # seconds between two tries


class AirflowSilentError(StackError):
    """Airflow gave no answer, or none but server errors (5xx)."""


class AirflowApi:
    """A client of one Airflow. The local one asks for no sign-in: it listens on loopback only."""

    def __init__(self, url: str, is_up: Callable[[], bool] = lambda: True) -> None:
        """Make a client for the Airflow at url, such as http://127.0.0.1:8080; while is_up, questions are repeated."""
        self._url = url
        self._http = httpx.Client(base_url=f"{url}/api/v2", timeout=30)
        too_long = tenacity.stop_after_delay(ASKED_AGAIN_FOR)
        self._patiently = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(AirflowSilentError),
            stop=lambda state: too_long(state) or not is_up(),
            wait=tenacity.wait_fixed(PAUSE),
            reraise=True,
        )

    def get(self, path: str, **parameters: str) -> Json:
        """Ask for something, again and again for a while if need be.

        Raises:
            AirflowSilentError: it is not answered.
            httpx.HTTPStatusError: it is refused (4xx).
        """
        return self._patiently(self._send, "GET", path, params=parameters).json()

    def call(self, method: str, path: str, **body: Json) -> Json:
        """Send one order, once; raises as get() does."""
        answer = self._send(method, path, json=body or None)
        return answer.json() if answer.content else None

    def _send(self, method: str, path: str, **what: Json) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **what)
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            raise AirflowSilentError(f"Airflow at {self._url} gives no answer ({why}): see `make status`.") from error
        if answer.is_server_error:
            raise AirflowSilentError(
                f"Airflow at {self._url} answers {method} {path} with {answer.status_code} {answer.reason_phrase}: "
                "its log airflow-api-server.log says why."
            )
        answer.raise_for_status()
        return answer

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
        """Make a pool, unless there is one of that name: a person may have given it another size.

        Its slots are held by deferred tasks too, whose work goes on elsewhere.
        """
        try:
            self.call("POST", "/pools", name=name, slots=slots, description=description, include_deferred=True)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                raise
            there = self.get(f"/pools/{name}")
            if not there["include_deferred"]:
                # Airflow takes the change of one field only with the others beside it.
                kept = {"pool": name, "slots": there["slots"], "description": there["description"]}
                self.call("PATCH", f"/pools/{name}", **kept, include_deferred=True)

    def trigger_day(self, dag_id: str, day: dt.date, *, reader: str) -> str:
        """Start a run of one day that will see what has landed by now, and return its id.

        The run takes the day's own slot in the schedule while that is free, so that the scheduler does not start the
        same day again. If the scheduler was quicker, that run is the one, as long as its `reader`, the task that looks
        for what has landed, has not started; else the day is run again by the DAG's params.
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
            for run_id in (str(run["dag_run_id"]) for run in taken if run["state"] in ("queued", "running")):
                if not self._has_started(dag_id, run_id, reader):
                    return run_id
            conf = {"start": day.isoformat(), "end": day.isoformat()}
            run = self.call("POST", f"/dags/{dag_id}/dagRuns", logical_date=None, conf=conf)
        return str(run["dag_run_id"])

    def _has_started(self, dag_id: str, run_id: str, task_id: str) -> bool:
        # A second try may go on with what the first has begun.
        return any(
            task["state"] not in (None, "scheduled", "queued") or task["try_number"] > 1
            for task in self.tasks(dag_id, run_id)
            if task["task_id"] == task_id
        )

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
