"""The DAGs as Airflow sees them: what there is, how it hangs together, what each task is allowed."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization
from feature_store_airflow.notifier import notify_failure

from feature_store import registry

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
DAG_IDS = ["feature_store_backfill", "feature_store_daily"]  # of the pipeline
ALL_DAG_IDS = [*DAG_IDS, "feature_store_simulation", "feature_store_sweeper"]
EDGES = {
    "plan": {"create_cluster"},
    "create_cluster": {"wait_for_cluster", "terminate_cluster", "verdict"},
    "wait_for_cluster": {"schema"},
    "schema": {"ingest"},
    "ingest": {"featurize"},
    "featurize": {"validate"},
    "validate": {"sync"},
    "sync": {"terminate_cluster"},
    "terminate_cluster": {"verdict"},
    "verdict": set(),
}
AT_ONCE = {**EDGES, "ingest": {"featurize", "catch_up"}, "catch_up": {"terminate_cluster"}}
IN_CHUNKS = {
    **EDGES,
    "plan": {"preview"},
    "preview": {"create_cluster"},
    "ingest": {"choose_days"},
    "choose_days": {"featurize"},
}
WRITERS = {"ingest", "featurize", "sync"}
HEADINGS = (
    "What it does",
    "Inputs",
    "Outputs",
    "Schedule and lag",
    "To rerun a day",
    "Days held back",
    "For consumers",
    "To backfill",
    "Late readings",
    "Impact of failure",
)

# Airflow 3.2 refuses a run's parameters by a ValueError, later ones by an error of their own that is one too.
REFUSED = (ParamValidationError, ValueError)
# In a process of its own: what the tests have imported already costs no time, and may have opened what it liked.
PARSE = """
import os, runpy, sys, time
import airflow.sdk
import airflow.providers.amazon.aws.hooks.base_aws

def deny(event, arguments):
    # A local socket pair is asyncio's own; everything that reaches out goes by one of these.
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise RuntimeError(f"{event} at parse time: {arguments}")

sys.addaudithook(deny)
for file in sys.argv[1:]:
    began = time.process_time()
    runpy.run_path(file)
    print(time.process_time() - began)
"""

DEFERRED = """
import sys
from airflow.dag_processing.dagbag import DagBag
(dag,) = DagBag(sys.argv[1]).dags.values()
flags = ("defers", "deferrable")
print(*(sorted(task.task_id for task in dag.tasks if getattr(task, flag, False)) for flag in flags))
"""


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(str(ROOT / "dags"))


@pytest.fixture(params=DAG_IDS)
def dag(request, bag) -> Any:
    return bag.dags[request.param]


def test_all_dags_load_and_these_are_all(bag) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == ALL_DAG_IDS
    assert {Path(each.fileloc).stem for each in bag.dags.values()} == set(ALL_DAG_IDS)


def test_the_sweeper(bag) -> None:
    dag = bag.dags["feature_store_sweeper"]
    assert {each.task_id: each.downstream_task_ids for each in dag.tasks} == {
        "sweep_clusters": set(),
        "measure_ages": set(),
    }
    assert {(each.owner, each.retries) for each in dag.tasks} == {("feature-store", 1)}
    task = dag.get_task("sweep_clusters")
    assert dag.max_active_runs == 1
    assert not dag.catchup
    assert [tag["Key"] for tag in task.cluster_tags] == ["Project", "bucket"]
    for heading in (
        "What it does",
        "Schedule and lag",
        "When it fails",
        "To rerun",
        "Cost per run",
        "Impact of failure",
    ):
        assert f"**{heading}.**" in dag.doc_md


def test_the_edges(dag) -> None:
    edges = IN_CHUNKS if dag.dag_id == "feature_store_backfill" else AT_ONCE
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == edges


def test_the_backfill_does_its_days_in_chunks(bag) -> None:
    """A group of tasks, as often as choose_days returns chunks; the daily run does all of its days at once."""
    of_days = {"featurize", "validate", "sync"}
    mapped = {
        dag_id: {task.task_id for task in bag.dags[dag_id].tasks if task.get_closest_mapped_task_group()}
        for dag_id in DAG_IDS
    }
    assert mapped == {"feature_store_backfill": of_days, "feature_store_daily": set()}


def test_under_ten_boxes_when_folded(dag) -> None:
    assert len(dag.task_group.children) < 10


def test_a_dry_run_is_what_one_gets_who_does_not_ask_for_more(bag) -> None:
    params = bag.dags["feature_store_backfill"].params
    assert params["dry_run"] is True
    assert params["reprocess"] == "missing"
    assert "dry_run" not in bag.dags["feature_store_daily"].params


def test_the_cluster_is_torn_down_whatever_happens(dag) -> None:
    create, terminate, verdict = (dag.get_task(name) for name in ("create_cluster", "terminate_cluster", "verdict"))
    assert [task.task_id for task in dag.tasks if task.is_setup] == ["create_cluster"]
    assert [task.task_id for task in dag.tasks if task.is_teardown] == ["terminate_cluster", "verdict"]
    assert create in terminate.upstream_list
    assert create in verdict.upstream_list


def test_the_verdict_alone_decides_the_run(dag) -> None:
    assert [task.task_id for task in dag.tasks if task.on_failure_fail_dagrun] == ["verdict"]
    assert [task.task_id for task in dag.leaves] == ["verdict"]


def test_owner_retries_and_timeouts(dag) -> None:
    assert dag.dagrun_timeout is None, "it would skip the teardown"
    for task in dag.tasks:
        assert task.owner == "feature-store"
        assert task.retries == (3 if task.task_id == "terminate_cluster" else 1)
        assert timedelta() < task.execution_timeout <= timedelta(hours=12)


def test_waits_end_before_their_tasks_do(dag) -> None:
    ready, terminate = dag.get_task("wait_for_cluster"), dag.get_task("terminate_cluster")
    assert ready.timeout < ready.execution_timeout.total_seconds()
    assert terminate.deadline < terminate.execution_timeout
    create = dag.get_task("create_cluster")
    assert timedelta() < create.listed_within < create.execution_timeout


def test_writers_of_the_lake_share_its_one_slot(dag) -> None:
    # A chunk is judged before another one is computed, as a rule.
    holders = WRITERS | ({"validate"} if dag.dag_id == "feature_store_backfill" else set())
    assert {task.task_id for task in dag.tasks if task.pool == "feature_store_lake"} == holders
    assert all(task.pool_slots == 1 for task in dag.tasks)
    # Upstream: the nearer to the end of its run, the sooner a task gets the slot.
    assert {task.weight_rule.value for task in dag.tasks if task.task_id in WRITERS} == {"upstream"}


def test_days_that_are_due_go_before_all_of_a_backfill(bag) -> None:
    def weights(dag_id: str) -> list[int]:
        tasks = [task for task in bag.dags[dag_id].tasks if task.pool == "feature_store_lake"]
        return [
            task.priority_weight + sum(each.priority_weight for each in task.get_flat_relatives(upstream=True))
            for task in tasks
        ]

    assert min(weights("feature_store_daily")) > max(weights("feature_store_backfill"))


@pytest.mark.parametrize("deferrable", ["True", "False", None])
def test_all_that_wait_do_so_as_airflow_is_set(tmp_path, deferrable) -> None:
    """In the triggerer, or not; and never by the provider's own triggers."""
    told = {"AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": deferrable} if deferrable else {}
    done = subprocess.run(
        [sys.executable, "-c", DEFERRED, str(ROOT / "dags" / "feature_store_daily.py")],
        env={
            "PATH": "",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}",
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            **told,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    waiting = {*EDGES} - {"create_cluster", "verdict"} if deferrable == "True" else set()
    assert done.stdout.splitlines()[-1:] == [f"{sorted(waiting)} []"], done.stderr


def test_a_failure_is_told_by_every_task(dag) -> None:
    assert all(task.on_failure_callback == [notify_failure] for task in dag.tasks)


def test_the_plan_gives_its_worker_back_while_it_waits(dag) -> None:
    plan = dag.get_task("plan")
    assert (plan.mode, plan.poke_interval, plan.timeout) == ("reschedule", 60, 12 * 3600)


def test_docs_say_what_an_operator_of_the_dag_needs(dag) -> None:
    for heading in HEADINGS:
        assert f"**{heading}.**" in dag.doc_md
    assert dag.description
    assert "feature-store" in dag.tags


def test_schedules(bag) -> None:
    daily, backfill = bag.dags["feature_store_daily"], bag.dags["feature_store_backfill"]
    assert daily.timetable == type(daily.timetable)("0 0 * * *", timezone="UTC")
    assert type(daily.timetable).__name__ == "CronDataIntervalTimetable"
    assert daily.start_date == backfill.start_date == datetime(2011, 1, 1, tzinfo=UTC)
    assert (daily.catchup, backfill.catchup) == (False, False)
    assert (daily.max_active_runs, backfill.max_active_runs) == (3, 1)
    assert type(backfill.timetable).__name__ == "NullTimetable"


def check(dag: Any, conf: dict[str, Any]) -> None:
    """Check a trigger's conf as the API server does, on the DAG that it reads from the database."""
    served = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    served.params.deep_merge(conf).validate()


@pytest.mark.parametrize(
    "conf", [{}, {"start": "2014-02-27"}, {"start": "2014-02-26", "end": "2014-02-27"}, {"start": None}]
)
def test_days_that_the_daily_dag_takes(bag, conf) -> None:
    check(bag.dags["feature_store_daily"], conf)


def test_days_that_the_backfill_takes(bag) -> None:
    check(bag.dags["feature_store_backfill"], {"start": "2014-02-26", "end": "2014-02-27"})


@pytest.mark.parametrize(
    ("dag_id", "conf"),
    [
        ("feature_store_daily", {"start": "2014-02-30"}),
        ("feature_store_daily", {"end": "yesterday"}),
        ("feature_store_daily", {"start": 20140227}),
        ("feature_store_backfill", {}),
        ("feature_store_backfill", {"start": "2014-02-26"}),
        ("feature_store_backfill", {"end": "2014-02-26"}),
        ("feature_store_backfill", {"start": "2014-02-26", "end": None}),
        ("feature_store_backfill", {"start": "2014-02-26", "end": "2014-02-30"}),
        ("feature_store_backfill", {"start": "2014-02-26", "end": "2014-02-27", "reprocess": "some"}),
        ("feature_store_backfill", {"start": "2014-02-26", "end": "2014-02-27", "dry_run": "no"}),
        ("feature_store_backfill", {"start": "2014-02-26", "end": "2014-02-27", "views": ["none"]}),
        ("feature_store_daily", {"cluster_size": "huge"}),
        ("feature_store_daily", {"skip_sync": 1}),
    ],
)
def test_days_that_are_refused_at_the_trigger(bag, dag_id, conf) -> None:
    with pytest.raises(REFUSED):
        check(bag.dags[dag_id], conf)


@pytest.mark.parametrize("dag_id", DAG_IDS)
@pytest.mark.parametrize(
    ("release", "fits"),
    [
        ({"released_by": "Ada", "release_reason": "the last day of the trial"}, True),
        ({"released_by": None, "release_reason": None}, True),
        ({"released_by": "A" * 101}, False),
        ({"release_reason": "w" * 501}, False),
        ({"released_by": 7}, False),
    ],
)
def test_a_release_at_the_trigger(bag, dag_id, release, fits) -> None:
    conf = {"start": "2014-02-26", "end": "2014-02-27", **release}
    if fits:
        check(bag.dags[dag_id], conf)
    else:
        with pytest.raises(REFUSED):
            check(bag.dags[dag_id], conf)


def test_the_dialog_says_what_a_release_is(dag) -> None:
    shown = {name: dag.params.get_param(name) for name in ("released_by", "release_reason")}
    assert [param.schema["title"] for param in shown.values()] == ["Released by", "Reason"]
    assert all("recorded with the verdict" in param.description for param in shown.values())
    assert [param.value for param in shown.values()] == [None, None]


def test_only_what_was_validated_is_announced(dag) -> None:
    """An asset's event on the writer would let consumers read what may be held back a minute later."""
    outlets = {task.task_id: [each.name for each in task.outlets] for task in dag.tasks if task.outlets}
    assert outlets == {"validate": [view.name for view in registry.views()]}


def test_the_reports_are_one_click_from_the_task_that_makes_them(dag) -> None:
    served = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    linked = [task.task_id for task in served.tasks if "Validation report" in task.extra_links]
    assert linked == ["validate"]


def test_the_logs_of_a_step_are_one_click_from_its_task(dag) -> None:
    served = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    links = {"Step log (stderr)", "Step log (stdout)", "EMR Cluster"}
    linked = {task.task_id for task in served.tasks if links <= set(task.extra_links)}
    assert linked == {"schema", "ingest", "featurize", "validate", "sync"}


@pytest.mark.alone
def test_parsing_is_quick_and_talks_to_nobody(tmp_path) -> None:
    files = [str(ROOT / "dags" / f"{dag_id}.py") for dag_id in ALL_DAG_IDS]
    done = subprocess.run(
        [sys.executable, "-c", PARSE, *files],
        env={"PATH": "", "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}", "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Airflow may have said something before, on the same stream.
    assert all(float(seconds) < 2 for seconds in done.stdout.splitlines()[-len(files) :]), done.stdout
