"""Questions to a busy Airflow are asked again, orders and refusals are not; silence ends in one sentence."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from infra.local import airflow_api
from infra.local.airflow_api import AirflowApi, AirflowSilentError
from infra.local.settings import StackError

pytestmark = pytest.mark.unit

URL = "http://127.0.0.1:1"
GOOD = httpx.Response(200, json={"state": "running"})
Answer = httpx.Response | Exception


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_api, "PAUSE", 0.0)


def airflow(*answers: Answer, is_up: Callable[[], bool] = lambda: True) -> tuple[AirflowApi, list[str]]:
    """An Airflow that gives these answers, the last of them for ever; and the requests that it gets."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        this = answers[min(len(asked), len(answers)) - 1]
        if isinstance(this, Exception):
            raise this
        return this

    api = AirflowApi(URL, is_up)
    api._http = httpx.Client(base_url=f"{URL}/api/v2", transport=httpx.MockTransport(answer))
    return api, asked


@pytest.mark.parametrize(
    "hiccup",
    [
        httpx.Response(500),
        httpx.Response(503),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("closed"),
    ],
    ids=str,
)
def test_a_question_is_asked_again(hiccup: Answer) -> None:
    api, asked = airflow(hiccup, hiccup, GOOD)
    assert api.run_state("dag", "run") == "running"
    assert asked == ["GET /api/v2/dags/dag/dagRuns/run"] * 3


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
def test_a_refusal_is_final(status: int) -> None:
    api, asked = airflow(httpx.Response(status), GOOD)
    with pytest.raises(httpx.HTTPStatusError):
        api.get("/dags")
    assert len(asked) == 1


@pytest.mark.parametrize("hiccup", [httpx.Response(503), httpx.ConnectError("refused")], ids=str)
def test_an_order_is_given_once(hiccup: Answer) -> None:
    api, asked = airflow(hiccup, GOOD)
    with pytest.raises(AirflowSilentError):
        api.unpause("dag")
    assert asked == ["PATCH /api/v2/dags/dag"]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (httpx.ConnectError("refused"), f"Airflow at {URL} gives no answer (refused)"),
        (httpx.ReadTimeout(""), f"Airflow at {URL} gives no answer (ReadTimeout)"),
        (httpx.Response(500), "answers GET /dags with 500 Internal Server Error"),
    ],
    ids=str,
)
def test_silence_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch, answer: Answer, sentence: str) -> None:
    monkeypatch.setattr(airflow_api, "ASKED_AGAIN_FOR", 0.05)
    api, asked = airflow(answer)
    with pytest.raises(StackError) as told:
        api.get("/dags")
    assert sentence in str(told.value)
    assert len(asked) > 1


def test_what_is_down_is_not_asked_again() -> None:
    api, asked = airflow(httpx.ConnectError("refused"), GOOD, is_up=lambda: False)
    with pytest.raises(AirflowSilentError):
        api.get("/dags")
    assert len(asked) == 1


class TestADayWhoseSlotIsTaken:
    """What has just landed is seen by a run whose ingest is still to start, and by no other."""

    @pytest.fixture
    def trigger(self) -> Callable[..., tuple[str, list[Any]]]:
        """Trigger a day that the scheduler has a run of, in this state; the run's id and what was ordered."""

        def run(state: str, *tasks: dict[str, Any]) -> tuple[str, list[Any]]:
            ordered: list[Any] = []

            def answer(request: httpx.Request) -> httpx.Response:
                if request.method == "POST":
                    ordered.append(json.loads(request.content))
                    taken = len(ordered) == 1
                    return httpx.Response(409) if taken else httpx.Response(200, json={"dag_run_id": "by params"})
                if request.url.path.endswith("/taskInstances"):
                    return httpx.Response(200, json={"task_instances": list(tasks)})
                runs = [{"dag_run_id": "scheduled", "state": state}]
                return httpx.Response(200, json={"dag_runs": runs})

            api = AirflowApi(URL)
            api._http = httpx.Client(base_url=f"{URL}/api/v2", transport=httpx.MockTransport(answer))
            return api.trigger_day("dag", dt.date(2014, 2, 27), reader="ingest"), ordered

        return run

    @staticmethod
    def task(task_id: str, state: str | None, try_number: int = 0) -> dict[str, Any]:
        return {"task_id": task_id, "state": state, "try_number": try_number}

    @pytest.mark.parametrize("state", ["queued", "running"])
    @pytest.mark.parametrize(("reads", "tries"), [(None, 0), ("scheduled", 1), ("queued", 1), (None, 1)])
    def test_is_adopted_before_its_ingest(self, trigger, state: str, reads: str | None, tries: int) -> None:
        plan, other = self.task("plan", "success", 1), self.task("create_cluster", "running", 2)
        run_id, ordered = trigger(state, plan, other, self.task("ingest", reads, tries))
        assert run_id == "scheduled"
        assert len(ordered) == 1

    @pytest.mark.parametrize(
        ("reads", "tries"),
        [("running", 1), ("success", 1), ("failed", 1), ("up_for_retry", 1), ("restarting", 1), ("queued", 2)],
    )
    def test_is_run_again_once_its_ingest_has_started(self, trigger, reads: str, tries: int) -> None:
        run_id, ordered = trigger("running", self.task("ingest", reads, tries))
        assert run_id == "by params"
        assert ordered[1] == {"logical_date": None, "conf": {"start": "2014-02-27", "end": "2014-02-27"}}

    @pytest.mark.parametrize("state", ["success", "failed"])
    def test_is_run_again_when_that_run_is_over(self, trigger, state: str) -> None:
        assert trigger(state, self.task("ingest", None))[0] == "by params"


def test_a_pool_counts_deferred_tasks() -> None:
    """Also one that is there already; its size stays as it is."""
    there = {"name": "lake", "slots": 3, "description": "someone's", "include_deferred": False}
    api, asked = airflow(httpx.Response(409), httpx.Response(200, json=there), GOOD)
    sent: list[dict[str, Any]] = []
    api._http.event_hooks = {"request": [lambda request: sent.append(json.loads(request.content or "{}"))]}
    api.ensure_pool("lake", 1, "one writer")
    assert asked == ["POST /api/v2/pools", "GET /api/v2/pools/lake", "PATCH /api/v2/pools/lake"]
    assert sent == [
        {"name": "lake", "slots": 1, "description": "one writer", "include_deferred": True},
        {},
        {"pool": "lake", "slots": 3, "description": "someone's", "include_deferred": True},
    ]


def test_a_pool_that_counts_them_already_stays_as_it_is() -> None:
    api, asked = airflow(httpx.Response(409), httpx.Response(200, json={"include_deferred": True}))
    api.ensure_pool("lake", 1, "one writer")
    assert asked == ["POST /api/v2/pools", "GET /api/v2/pools/lake"]


def test_a_pool_that_is_refused() -> None:
    api, asked = airflow(httpx.Response(403), GOOD)
    with pytest.raises(httpx.HTTPStatusError):
        api.ensure_pool("lake", 1, "one writer")
    assert len(asked) == 1
