"""The DAG of simulations: how it hangs together, what it takes, and what ECS is to run, word for word."""

from __future__ import annotations

import argparse
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization
from feature_store_airflow.notifier import notify_failure
from feature_store_airflow.simulation import LONGEST, START_WITHIN, WORKERS
from feature_store_airflow.simulation_task import BESIDE

from Simulation.plan import MOST, Plan, add_arguments

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = Path(__file__).parent / "golden_simulation"
DAG_ID = "feature_store_simulation"
ALL = {
    "name": "load", "against": "before", "capacity": 500, "ids": "zipf:1.1", "many": 0.25, "shape": "ramp",
    "workers": 4,
}  # fmt: skip
CASES = {"run_worker": {}, "report": {}, "run_worker_all": ALL, "report_all": ALL}
HEADINGS = (
    "What it does",
    "Inputs",
    "Outputs",
    "Schedule and lag",
    "To rerun",
    "When a worker fails",
    "Impact of failure",
)


@pytest.fixture(scope="module")
def dag() -> Any:
    bag = DagBag(str(ROOT / "dags" / f"{DAG_ID}.py"))
    assert bag.import_errors == {}
    return bag.dags[DAG_ID]


@pytest.fixture
def render(dag: Any, context_of: Any) -> Any:
    def rendered(task_id: str, map_index: int = 3, **params: Any) -> Any:
        task = dag.get_task(task_id)
        if task_id == "run_worker":
            task = task.unmap({"worker": map_index})
            task.dag = dag
        ready = task.prepare_for_execution()
        context = context_of(dag.get_task(task_id))
        context["ti"].map_index = map_index if task_id == "run_worker" else -1
        context["params"] = {**dag.params.dump(), **params}
        ready.render_template_fields(context)
        return ready

    return rendered


def plan_of(task: Any) -> Plan:
    """What a worker makes of its command."""
    parser = argparse.ArgumentParser()
    for option in ("--bucket", "--worker"):
        parser.add_argument(option)
    add_arguments(parser)
    command = task.overrides["containerOverrides"][0]["command"]
    return Plan.from_arguments(parser.parse_args([word for word in command[3:] if word]))


def check(dag: Any, conf: dict[str, Any]) -> None:
    """Check a trigger's conf as the API server does, on the DAG that it reads from the database."""
    served = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    served.params.deep_merge(conf).validate()


def test_the_edges(dag: Any) -> None:
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "choose_name": {"run_worker"},
        "run_worker": {"report"},
        "report": {"verdict"},
        "verdict": set(),
    }


def test_owner_retries_and_timeouts(dag: Any) -> None:
    assert dag.dagrun_timeout is None
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    assert dag.max_active_tasks >= WORKERS  # they wait for each other
    assert type(dag.timetable).__name__ == "NullTimetable"
    for task in dag.tasks:
        assert task.owner == "feature-store"
        assert task.retries == (0 if task.task_id == "run_worker" else 1)
        assert timedelta() < task.execution_timeout <= timedelta(hours=5)
        assert list(task.on_failure_callback) == [notify_failure]
    # The wait of the longest plan is over first, and says what was waited for.
    assert dag.get_task("run_worker").execution_timeout > LONGEST + START_WITHIN + BESIDE


def test_the_report_is_made_whatever_becomes_of_the_workers_and_the_verdict_decides(dag: Any) -> None:
    assert {task.task_id: task.trigger_rule for task in dag.tasks} == {
        "choose_name": "all_success",
        "run_worker": "all_success",
        "report": "all_done",
        "verdict": "all_done",
    }
    assert [task.task_id for task in dag.leaves] == ["verdict"]


def test_docs_say_what_an_operator_of_the_dag_needs(dag: Any) -> None:
    for heading in HEADINGS:
        assert f"**{heading}.**" in dag.doc_md
    assert "feature-store" in dag.tags
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.schema["title"]
        assert param.description, name


def test_the_report_is_one_click_away(dag: Any) -> None:
    served = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert {task.task_id for task in served.tasks if "Simulation report" in task.extra_links} == {
        "run_worker",
        "report",
    }


@pytest.mark.parametrize("case", CASES)
def test_what_is_run_is_what_was_reviewed(render: Any, case: str) -> None:
    task = render(case.removesuffix("_all"), **CASES[case])
    sent = {
        "cluster": task.cluster,
        "taskDefinition": task.task_definition,
        "launchType": task.launch_type,
        "networkConfiguration": task.network_configuration,
        "overrides": task.overrides,
    }
    file = GOLDEN / f"{case}.json"
    text = json.dumps(sent, indent=2) + "\n"
    if os.environ.get("GOLDEN_REWRITE") == "1":
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.read_text() == text


def test_there_is_no_golden_file_too_many() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize("task_id", ["run_worker", "report"])
def test_ecs_would_take_it(render: Any, clients: Any, task_id: str) -> None:
    from botocore.validate import ParamValidator

    task = render(task_id, **ALL)
    request = {
        "cluster": task.cluster,
        "taskDefinition": task.task_definition,
        "launchType": task.launch_type,
        "networkConfiguration": task.network_configuration,
        "overrides": task.overrides,
    }
    shape = clients("ecs").meta.service_model.operation_model("RunTask").input_shape
    assert ParamValidator().validate(request, shape).generate_report() == ""


@pytest.mark.parametrize("task_id", ["choose_name", "run_worker", "report"])
def test_every_template_renders(render: Any, task_id: str) -> None:
    task = render(task_id)
    assert not [name for name in task.template_fields if "{{" in str(getattr(task, name))]


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"rates": "1"},
        {"rates": "0.5,10,1000"},
        {"rates": "999999.999"},
        {"ids": "zipf:1.1"},
        {"ids": "zipf:0.001"},
        {"ids": "trace:s3://lake/simulation_results/ids.txt"},
        {"name": "before-1", "against": "load.2", "capacity": 100, "workers": 32, "many": 1},
    ],
)
def test_what_it_takes(dag: Any, render: Any, conf: dict[str, Any]) -> None:
    check(dag, conf)
    assert plan_of(render("run_worker", 0, **{"name": "load", **conf}))


def test_whatever_it_takes_is_a_plan(dag: Any, render: Any) -> None:
    """At the bounds of each param."""
    assert float("9" * 6 + ".999") <= MOST
    tried = 0
    for name in ("seconds", "workers", "shape", "many", "many_size", "view"):
        schema = dag.params.get_param(name).schema
        values = schema.get("enum") or [schema[bound] for bound in ("minimum", "maximum")]
        for value in values:
            check(dag, {name: value})
            assert getattr(plan_of(render("run_worker", 0, **{name: value})), name) == value
            tried += 1
    assert tried >= 12


@pytest.mark.parametrize("param", ["seconds", "workers", "many_size"])
def test_a_whole_number_may_be_written_with_a_point(dag: Any, render: Any, param: str) -> None:
    check(dag, {param: 20.0})  # JSON knows no difference
    assert getattr(plan_of(render("run_worker", 0, **{param: 20.0})), param) == 20


def test_what_is_asked_for_is_no_template(render: Any) -> None:
    ids = "trace:s3://lake/{{var.json.feature_store.region}}'\"$(id)`id`"
    assert plan_of(render("run_worker", 0, ids=ids)).ids == ids


@pytest.mark.parametrize(
    "conf",
    [
        {"rates": ""},
        {"rates": "50,,100"},
        {"rates": "50;rm"},
        {"rates": "-1"},
        {"rates": "1000000"},
        {"rates": "50\n"},
        {"name": "load\n"},
        {"ids": "zipf:0.0"},
        {"ids": "uniform\n"},
        {"ids": "trace:s3://lake/a b"},
        {"ids": "trace:s3://lake/" + "a" * 1025},
        {"seconds": 0},
        {"seconds": 3601},
        {"workers": 33},
        {"workers": 0},
        {"many": 1.1},
        {"many_size": 0},
        {"ids": "zipf"},
        {"ids": "trace:/etc/passwd"},
        {"shape": "wave"},
        {"view": "none"},
        {"name": "Load"},
        {"name": "../runs"},
        {"name": "a" * 101},
        {"against": ""},
        {"p99_ms": 0},
        {"errors": 0},
        {"capacity": 0},
    ],
)
def test_what_is_refused_at_the_trigger(dag: Any, conf: dict[str, Any]) -> None:
    with pytest.raises((ParamValidationError, ValueError)):
        check(dag, conf)
