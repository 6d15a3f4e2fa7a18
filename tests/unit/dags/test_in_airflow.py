"""What Airflow itself makes of the DAGs, by its own code on a database: retries, clears and the teardown of a run."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

from feature_store import registry

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette"),  # Airflow's own import of its API
]

ROOT = Path(__file__).resolve().parents[3]
DAG_ID = "feature_store_daily"
STEPS = ("schema", "ingest", "featurize", "validate", "sync")
NUMBERS = itertools.count()  # of the runs: Airflow commits some of what it does


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(str(ROOT / "dags"))


@pytest.fixture(scope="module")
def database(bag) -> Iterator[Any]:
    """An empty database with the DAGs in it, and what makes sessions of it."""
    from airflow import settings
    from airflow.models import import_all_models
    from airflow.models.base import Base
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.db import synchronize_log_template
    from airflow.utils.session import create_session

    import_all_models()
    Base.metadata.create_all(settings.engine)
    with create_session() as session:
        session.add(DagBundleModel(name="dags"))
        synchronize_log_template(session=session)
        session.flush()
        sync_bag_to_db(bag, "dags", None, session=session)
    yield create_session
    Base.metadata.drop_all(settings.engine)


class Run:
    """A run whose tasks are taken through their states by the code that does so in production."""

    def __init__(self, session: Any, bag: DagBag, context_of: Any, run_id: str) -> None:
        from airflow.models.dagbag import DBDagBag
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        self.session, self.bag, self.context_of = session, bag, context_of
        self.dag_bag = DBDagBag()
        self.dag = self.dag_bag.get_latest_version_of_dag(DAG_ID, session=session)
        assert self.dag
        self.run = self.dag.create_dagrun(
            run_id=run_id,
            run_after=datetime(2014, 2, 28, tzinfo=UTC),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            session=session,
        )

    def instance(self, task_id: str) -> Any:
        ti = self.run.get_task_instance(task_id, session=self.session)
        assert ti
        self.session.refresh(ti)
        ti.task = self.dag.get_task(task_id)
        return ti

    def start(self, task_id: str) -> str:
        """Let the scheduler start the task's next try; the name of its step."""
        from airflow.api_fastapi.execution_api.datamodels.taskinstance import TIEnterRunningPayload
        from airflow.api_fastapi.execution_api.routes.task_instances import ti_run

        self.run.schedule_tis([self.instance(task_id)], session=self.session)
        ti = self.instance(task_id)
        ti.state = "queued"
        self.session.flush()
        began = datetime.now(UTC)
        payload = TIEnterRunningPayload(state="running", hostname="h", unixname="u", pid=1, start_date=began)
        token = SimpleNamespace(claims=SimpleNamespace(scope="execution"))
        asked = {
            "task_instance_id": ti.id, "ti_run_payload": payload, "response": None, "session": self.session,
            "dag_bag": self.dag_bag, "services": None, "token": token,
        }  # fmt: skip
        # Airflow 3.2 asks for less.
        served = ti_run(**{name: asked[name] for name in inspect.signature(ti_run).parameters})
        self.session.expire_all()
        task = self.bag.dags[DAG_ID].get_task(task_id).prepare_for_execution()
        context = self.context_of(task)
        context["ti"].max_tries = served.max_tries  # as the task runner does when it makes the ti of the context
        task.render_template_fields(context)
        name: str = task.steps[0]["Name"]
        assert task.steps[0]["HadoopJarStep"]["Args"][4] == name
        return name.rpartition(".")[2]

    def succeed(self, task_id: str, summary: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """Let a step's task get its summary and tell Airflow so, as the task runner does."""
        from airflow.api_fastapi.execution_api.datamodels.taskinstance import TISuccessStatePayload
        from airflow.api_fastapi.execution_api.routes.task_instances import ti_update_state
        from airflow.sdk.execution_time.context import OutletEventAccessors
        from airflow.sdk.execution_time.task_runner import _build_asset_profiles, _serialize_outlet_events
        from feature_store_airflow.step import StepOperator

        monkeypatch.setattr(StepOperator, "execute", lambda task, context: task.done(context, summary))
        task = self.bag.dags[DAG_ID].get_task(task_id).prepare_for_execution()
        context = {**self.context_of(task), "outlet_events": OutletEventAccessors()}
        task.render_template_fields(context)
        task.execute(context)
        payload = TISuccessStatePayload(
            state="success",
            end_date=datetime.now(UTC),
            task_outlets=[profile.model_dump() for profile in _build_asset_profiles(task.outlets)],
            outlet_events=list(_serialize_outlet_events(context["outlet_events"])),
        )
        ti_update_state(self.instance(task_id).id, payload, self.session, self.dag_bag)
        self.session.expire_all()

    def events(self) -> dict[str, dict[str, Any]]:
        """The events of assets that this run has made, by asset."""
        from airflow.models.asset import AssetEvent
        from sqlalchemy import select

        found = self.session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == self.run.run_id))
        return {event.asset.name: {"task": event.source_task_id, **event.extra} for event in found}

    def finish(self, task_id: str, state: str) -> None:
        self.instance(task_id).state = state
        self.session.flush()

    def lose(self, task_id: str) -> None:
        """What the scheduler does with a task whose worker is gone."""
        self.instance(task_id).handle_failure("lost", session=self.session)

    def unpause(self, dag_id: str) -> None:
        from airflow.models.dag import DagModel

        self.session.get(DagModel, dag_id).is_paused = False
        self.session.flush()

    def end(self, state: str) -> None:
        self.run.state = state
        self.session.flush()

    def clear(self, *task_ids: str) -> None:
        """What the UI, the API and the command line do."""
        self.dag.clear(run_id=self.run.run_id, task_ids=task_ids or None, session=self.session)
        self.session.flush()


@pytest.fixture
def run(database, bag, context_of) -> Iterator[Run]:
    with database() as session:
        yield Run(session, bag, context_of, f"test-{next(NUMBERS)}")


@pytest.mark.parametrize(("setup", "teardown"), [("failed", "upstream_failed"), ("success", "scheduled")])
def test_the_cluster_is_torn_down_only_if_the_setup_succeeded(run, setup, teardown) -> None:
    """This is why create_cluster has to end the cluster of a last try that fails."""
    run.finish("plan", "success")
    run.finish("create_cluster", setup)
    run.finish("wait_for_cluster", "failed")
    for _ in range(len(STEPS) + 1):
        decision = run.run.task_instance_scheduling_decisions(session=run.session)
        run.run.schedule_tis(decision.schedulable_tis, session=run.session)
        run.session.expire_all()
    assert run.instance("terminate_cluster").state == teardown


def test_a_retry_keeps_the_name(run) -> None:
    assert run.start("ingest") == "try1"
    run.lose("ingest")
    assert run.start("ingest") == "try1"


def test_a_finished_task_that_is_cleared_gets_another(run) -> None:
    run.start("ingest")
    run.finish("ingest", "success")
    run.clear("ingest")
    assert run.start("ingest") == "try2"
    run.lose("ingest")
    assert run.start("ingest") == "try2", "and keeps it for its own retries"
    run.finish("ingest", "success")
    run.clear("ingest")
    assert run.start("ingest") == "try4"


def test_the_clear_of_another_task_changes_nothing_for_one_that_is_to_be_retried(run) -> None:
    """The run's clear_number would: a retry of featurize would not find the step that is still at work."""
    run.start("ingest")
    run.finish("ingest", "success")
    assert run.start("featurize") == "try1"
    run.clear("ingest")
    assert run.run.clear_number == 1
    run.lose("featurize")
    assert run.start("featurize") == "try1"


def test_a_clear_that_leaves_the_runs_state_alone_counts_too(run) -> None:
    """The run's clear_number does not: the API's reset_dag_runs=false leaves it as it is."""
    from airflow.models.taskinstance import clear_task_instances

    run.start("ingest")
    run.finish("ingest", "success")
    clear_task_instances([run.instance("ingest")], run.session, dag_run_state=False)
    assert run.run.clear_number == 0
    assert run.start("ingest") == "try2"


def test_a_failed_task_whose_retries_are_used_up(run) -> None:
    run.start("ingest")
    run.lose("ingest")
    run.start("ingest")
    run.lose("ingest")
    assert run.instance("ingest").state == "failed"
    run.end("failed")
    run.clear("ingest")
    assert run.start("ingest") == "try3"


def test_a_task_that_failed_for_good_on_its_first_try(run) -> None:
    run.start("ingest")
    run.finish("ingest", "failed")
    run.clear("ingest")
    assert run.start("ingest") == "try2"


def test_a_task_that_waits_for_its_retry(run) -> None:
    run.start("ingest")
    run.lose("ingest")
    run.clear("ingest")
    assert run.start("ingest") == "try2"


def test_the_whole_run(run) -> None:
    for task_id in STEPS:
        run.start(task_id)
        run.finish(task_id, "success")
    run.end("success")
    run.clear()
    assert [run.start(task_id) for task_id in STEPS] == ["try2"] * len(STEPS)


def test_a_task_with_those_after_it(run) -> None:
    for task_id in STEPS:
        run.start(task_id)
        run.finish(task_id, "success")
    run.clear("validate", "sync")
    assert [run.start(task_id) for task_id in ("validate", "sync")] == ["try2", "try2"]
    assert run.instance("featurize").max_tries == 1, "it stays as it is, and so would the name of its step"


def test_a_task_that_never_ran_is_not_counted(run) -> None:
    run.clear("ingest")
    assert run.start("ingest") == "try1"


@pytest.mark.parametrize(("reported", "name"), [("success", "try2"), ("failed", "try1")])
def test_a_task_that_is_cleared_while_it_runs(run, reported, name) -> None:
    """It is killed first, which cancels its step. Whether it gets another name then depends on what its executor says;
    the step is done anew in either case, also if EMR has not stopped the cancelled one yet (TestRetry in
    test_step.py)."""
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

    run.start("ingest")
    run.clear("ingest")
    ti = run.instance("ingest")
    assert ti.state == "restarting"
    executor = SimpleNamespace(
        get_event_buffer=lambda: {ti.key: (reported, None)}, has_task=lambda _: False, send_callback=lambda _: None
    )
    SchedulerJobRunner.process_executor_events(executor, None, run.dag_bag, run.session)  # type: ignore[arg-type]
    assert run.start("ingest") == name


class TestAssets:
    """Consumers schedule on what was validated."""

    @pytest.fixture
    def judged(self) -> dict[str, Any]:
        days = {"passed": ["2014-02-26"], "warned": [], "quarantined": ["2014-02-27"], "released": []}
        of_view = {"rows": 7, "days": days, "features_version": 5, "verdict": "failed", "report": "s3://lake/r.json"}
        views = {view.name: of_view for view in registry.views()}
        return {"start": "2014-02-26", "end": "2014-02-27", "views": views}

    def test_airflow_knows_them(self, run) -> None:
        from airflow.models.asset import AssetModel
        from sqlalchemy import select

        active = run.session.scalars(select(AssetModel).where(AssetModel.active.has()))
        assert {(each.name, each.uri) for each in active} == {
            (view.name, f"feature-store://delta/{view.name}") for view in registry.views()
        }

    def test_each_has_an_event_when_validate_succeeds(self, run, judged, monkeypatch) -> None:
        run.start("validate")
        run.succeed("validate", judged, monkeypatch)
        assert run.instance("validate").state == "success"
        events = run.events()
        assert sorted(events) == [view.name for view in registry.views()]
        for name, event in events.items():
            assert event == {
                "task": "validate",
                "view": name,
                "uri": f"s3://lake/delta/{name}",
                "start": "2014-02-26",
                "end": "2014-02-27",
                **judged["views"][name],
            }

    def test_featurize_announces_nothing(self, run, monkeypatch) -> None:
        run.start("featurize")
        run.succeed("featurize", {"views": {}}, monkeypatch)
        assert run.instance("featurize").state == "success"
        assert run.events() == {}

    def test_a_dag_that_is_scheduled_on_one_is_queued(self, run, judged, monkeypatch, tmp_path) -> None:
        from airflow.models.asset import AssetDagRunQueue
        from sqlalchemy import select

        (tmp_path / "consumer.py").write_text(
            "from airflow.sdk import DAG\n"
            "from airflow.providers.standard.operators.empty import EmptyOperator\n"
            "from feature_store_airflow.assets import asset\n"
            "with DAG('consumer', schedule=[asset('energy_data_features')]):\n"
            "    EmptyOperator(task_id='train')\n"
        )
        bag = DagBag(str(tmp_path))
        assert bag.import_errors == {}
        sync_bag_to_db(bag, "dags", None, session=run.session)
        run.session.flush()
        run.unpause("consumer")
        run.start("validate")
        run.succeed("validate", judged, monkeypatch)
        queued = run.session.scalars(select(AssetDagRunQueue.target_dag_id)).all()
        assert queued == ["consumer"]
