"""An EMR for the operators' tests: a real boto3 client, which checks each request, over states that a test sets.

And what Airflow does around a task: its templates, and the triggerer for one that defers; and Airflow's API server with
this repository's plugins, for the tests of its pages.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from infra.local.settings import ROOT

TAGS = [{"Key": "Project", "Value": "feature-store"}, {"Key": "run_id", "Value": "r1"}]
EPOCH = dt.datetime(2014, 2, 28, tzinfo=dt.UTC)


@dataclass
class Thing:
    """A cluster or a step: each time it is described it goes on to the next of its states, until the last."""

    id: str
    name: str
    states: list[str]
    reason: dict[str, str] = field(default_factory=dict)
    failure: dict[str, str] = field(default_factory=dict)
    tags: list[dict[str, str]] = field(default_factory=list)
    steps: list[Thing] = field(default_factory=list)
    number: int = 0
    created: dt.datetime | None = None

    @property
    def state(self) -> str:
        return self.states[0]

    def next_status(self) -> dict[str, Any]:
        status = self.status()
        if len(self.states) > 1:
            self.states.pop(0)
        return status

    def status(self) -> dict[str, Any]:
        created = {"CreationDateTime": self.created or EPOCH + dt.timedelta(minutes=self.number)}
        failure = {"FailureDetails": self.failure} if self.failure else {}
        return {"State": self.state, "StateChangeReason": self.reason, "Timeline": created, **failure}


class FakeEmr:
    """Answers the calls of one client from `clusters`, and keeps them in `calls`."""

    log_uri = "s3n://lake/elasticmapreduce/"

    def __init__(self, client: Any) -> None:
        self.clusters: dict[str, Thing] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fail_next: dict[str, tuple[str, str] | tuple[str, str, int] | tuple[str, str, int, int]] = {}
        self.lose_answer: dict[str, BaseException] = {}
        self.during: dict[str, Callable[[], Any]] = {}
        self.unlisted_looks = 0
        self.new_states = ["PENDING", "RUNNING", "COMPLETED"]
        self.on_new_step: Callable[[], Any] = lambda: None
        self.client = client
        self._asked: dict[str, Any] = {}

    def cluster(self, cluster_id: str = "j-1", *states: str, name: str = "c", **more: Any) -> Thing:
        """Make a cluster that goes through these states."""
        more = {"tags": TAGS, "number": len(self.clusters), **more}
        self.clusters[cluster_id] = Thing(cluster_id, name, list(states or ["WAITING"]), **more)
        return self.clusters[cluster_id]

    def step(self, step_id: str, name: str, *states: str) -> Thing:
        """Add a step to the newest cluster."""
        made = Thing(step_id, name, list(states))
        list(self.clusters.values())[-1].steps.append(made)
        return made

    def asked(self, operation: str) -> list[dict[str, Any]]:
        return [params for name, params in self.calls if name == operation]

    def keep(self, params: dict[str, Any], **_: Any) -> None:
        self._asked = params

    def answer(self, model: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
        params = self._asked
        self.calls.append((model.name, params))
        if model.name in self.fail_next:
            return self._error(*self.fail_next.pop(model.name))
        cluster_id = params.get("ClusterId") or params.get("JobFlowId")
        if cluster_id and cluster_id not in self.clusters:
            return self._error("InvalidRequestException", f"Cluster id '{cluster_id}' is not valid.")
        body = getattr(self, model.name)(params, self.clusters.get(cluster_id or ""))
        if model.name in self.during:
            self.during.pop(model.name)()
        if model.name in self.lose_answer:
            raise self.lose_answer.pop(model.name)
        return SimpleNamespace(status_code=200), {"ResponseMetadata": {"HTTPStatusCode": 200}, **body}

    @staticmethod
    def _error(code: str, message: str, status: int = 400, retries: int = 0) -> tuple[Any, dict[str, Any]]:
        metadata = {"HTTPStatusCode": status, "RetryAttempts": retries}
        error = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
        return SimpleNamespace(status_code=status), error

    def ListClusters(self, params: dict[str, Any], _: None) -> dict[str, Any]:  # noqa: N802
        found = [each for each in self.clusters.values() if each.state in params["ClusterStates"]]
        if self.clusters and self.unlisted_looks:
            self.unlisted_looks -= 1
            found = []
        return {"Clusters": [{"Id": each.id, "Name": each.name, "Status": each.status()} for each in found]}

    def DescribeCluster(self, _: dict[str, Any], it: Thing) -> dict[str, Any]:  # noqa: N802
        described = {"Id": it.id, "Name": it.name, "Tags": it.tags, "LogUri": self.log_uri}
        return {"Cluster": {**described, "Status": it.next_status()}}

    def RunJobFlow(self, params: dict[str, Any], _: None) -> dict[str, Any]:  # noqa: N802
        new = {"name": params["Name"], "tags": params["Tags"], "created": dt.datetime.now(dt.UTC)}
        made = self.cluster(f"j-{len(self.clusters) + 1}", "STARTING", **new)
        return {"JobFlowId": made.id}

    def TerminateJobFlows(self, params: dict[str, Any], _: None) -> dict[str, Any]:  # noqa: N802
        for cluster_id in params["JobFlowIds"]:
            self.clusters[cluster_id].states = ["TERMINATING", "TERMINATING", "TERMINATED"]
        return {}

    def AddJobFlowSteps(self, params: dict[str, Any], it: Thing) -> dict[str, Any]:  # noqa: N802
        (step,) = params["Steps"]
        it.steps.insert(0, Thing(f"s-{len(it.steps) + 1}", step["Name"], list(self.new_states)))
        self.on_new_step()
        return {"StepIds": [it.steps[0].id]}

    def ListSteps(self, params: dict[str, Any], it: Thing) -> dict[str, Any]:  # noqa: N802
        found = [each for each in it.steps if each.state in params.get("StepStates", [each.state])]
        return {"Steps": [{"Id": each.id, "Name": each.name, "Status": each.status()} for each in found]}

    def DescribeStep(self, params: dict[str, Any], it: Thing) -> dict[str, Any]:  # noqa: N802
        step = next(each for each in it.steps if each.id == params["StepId"])
        return {"Step": {"Id": step.id, "Name": step.name, "Status": step.next_status()}}

    def SetTerminationProtection(self, _: dict[str, Any], __: None) -> dict[str, Any]:  # noqa: N802
        return {}

    def CancelSteps(self, params: dict[str, Any], it: Thing) -> dict[str, Any]:  # noqa: N802
        for step in it.steps:
            if step.id in params["StepIds"]:
                step.states = ["CANCELLED"]
        return {"CancelStepsInfoList": []}


@pytest.fixture
def emr(clients: Any, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEmr]:
    """The EMR that hooks talk to, and an S3 for its logs."""
    from airflow.providers.amazon.aws.hooks.emr import EmrHook

    fake = FakeEmr(clients("emr"))
    handlers = {"provide-client-params.emr.*": fake.keep, "before-call.emr.*": fake.answer}
    for event, handler in handlers.items():
        fake.client.meta.events.register(event, handler)
    monkeypatch.setattr(EmrHook, "conn", fake.client)
    yield fake
    for event, handler in handlers.items():
        fake.client.meta.events.unregister(event, handler)


def as_kept(value: Any) -> Any:
    """What comes back of a value that Airflow has kept for a deferred task in its database."""
    from airflow.sdk.serde import deserialize, serialize

    return deserialize(json.loads(json.dumps(serialize(value))))


def inflated(trigger: Any) -> Any:
    """The trigger that the triggerer makes of what it finds in the database."""
    from airflow._shared.module_loading import import_string

    path, arguments = trigger.serialize()
    made = import_string(path)(**as_kept(arguments))
    assert type(made) is type(trigger)
    return made


def first_event(trigger: Any) -> Any:
    """Run a trigger until it fires; the payload of its event."""

    async def fire() -> Any:
        async for event in trigger.run():
            return event.payload
        raise AssertionError("It has fired no event.")

    return asyncio.run(asyncio.wait_for(fire(), 10))


def triggerer(deferred: Any) -> tuple[str, dict[str, Any]]:
    """Wait as Airflow's triggerer does: the method with which the task is resumed, and its arguments."""
    event = first_event(inflated(deferred.trigger))
    return deferred.method_name, as_kept({**deferred.kwargs, "event": event})


def time_over(deferred: Any) -> tuple[str, dict[str, Any]]:
    """Resume a task as Airflow's scheduler does when the time of its deferral is over."""
    return "__fail__", {"error": "Trigger timeout"}


@pytest.fixture
def perform(context_of: Any) -> Any:
    """Run an operator as a task of its DAG: templates first; returns its result, its context afterwards.

    One that defers is resumed, each time in what would be a process of its own, after `waiting`; context["deferred"]
    has what it deferred with.
    """

    from airflow.sdk.api.datamodels._generated import DagRunType
    from airflow.sdk.exceptions import TaskDeferred
    from airflow.sdk.execution_time.context import OutletEventAccessors

    def run(
        task: Any,
        *,
        try_number: int = 1,
        max_tries: int = 1,
        run_type: str = "manual",
        active_runs: int = 1,
        waiting: Any = triggerer,
        about: dict[str, Any] | None = None,
        **xcoms: Any,
    ) -> tuple[Any, dict[str, Any]]:
        context = {**context_of(task), **(about or {})}
        context["ti"].active_runs = active_runs
        if run_type != "manual":
            context["dag_run"].run_type = DagRunType(run_type)  # as Airflow has it: its text is not its value
        context["outlet_events"] = OutletEventAccessors()
        context["ti"].try_number, context["ti"].max_tries = try_number, max_tries
        context["deferred"] = []
        for task_id, value in xcoms.items():
            context["ti"].xcoms[task_id, "return_value"] = value
        resumed: tuple[str, dict[str, Any]] | None = None
        while "result" not in context:
            ready = task.prepare_for_execution()
            ready.render_template_fields(context)
            context["task"] = ready
            try:
                context["result"] = ready.resume_execution(*resumed, context) if resumed else ready.execute(context)
            except TaskDeferred as deferred:
                context["deferred"].append(deferred)
                resumed = waiting(deferred)
            except BaseException as error:
                error.context = context  # type: ignore[attr-defined] # for tests that look at what it left behind
                raise
        return context["result"], context

    return run


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """Airflow's API server as it starts up, with this repository's plugins folder and two users."""
    from airflow import plugins_manager, settings
    from airflow.api_fastapi.app import create_app, purge_cached_app
    from airflow.models import import_all_models
    from airflow.models.base import Base

    caches = [each for each in vars(plugins_manager).values() if hasattr(each, "cache_clear")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "PLUGINS_FOLDER", str(ROOT / "plugins"))
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "reader:viewer,stranger:none")
        patch.setenv(
            "AIRFLOW__API_AUTH__JWT_SECRET", "a secret of sixty-four bytes, as it is asked for by HS512 tokens"
        )
        for each in caches:
            each.cache_clear()
        purge_cached_app()
        import_all_models()
        Base.metadata.create_all(settings.engine)
        yield create_app(apps="core")
    purge_cached_app()
    for each in caches:
        each.cache_clear()
    Base.metadata.drop_all(settings.engine)


@pytest.fixture
def client(server, s3, monkeypatch) -> Any:
    """Make a browser: client() of the reader, client(None) of nobody."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    monkeypatch.setenv("AIRFLOW_VAR_FEATURE_STORE", json.dumps({"bucket": "lake"}))

    def browser(role: str | None = "viewer") -> Any:
        cookies = {}
        if role:
            user = SimpleAuthManagerUser(username="reader", role=None if role == "none" else role)
            cookies = {"_token": get_auth_manager().generate_jwt(user)}
        return TestClient(server, cookies=cookies, follow_redirects=False, raise_server_exceptions=False)

    return browser
