"""What the DAGs send to EMR, word for word: GOLDEN_REWRITE=1 writes the files anew, and the review shows the change."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from jinja2 import UndefinedError

from feature_store import registry

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = Path(__file__).parent / "golden"
DAG_IDS = ("feature_store_backfill", "feature_store_daily")
SENT = {
    "create_cluster": ("RunJobFlow", "job_flow_overrides"),
    "schema": ("AddJobFlowSteps", "steps"),
    "ingest": ("AddJobFlowSteps", "steps"),
    "featurize": ("AddJobFlowSteps", "steps"),
    "validate": ("AddJobFlowSteps", "steps"),
    "sync": ("AddJobFlowSteps", "steps"),
}
CASES = [(dag_id, task_id) for dag_id in DAG_IDS for task_id in SENT]


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(str(ROOT / "dags"))


@pytest.fixture
def render(bag, context_of) -> Any:
    """Render a task's templates as its run does."""

    def rendered(dag_id: str, task_id: str, context: dict[str, Any] | None = None) -> Any:
        task = bag.dags[dag_id].get_task(task_id).prepare_for_execution()
        task.render_template_fields(context or context_of(task))
        return task

    return rendered


@pytest.mark.parametrize(("dag_id", "task_id"), CASES)
def test_what_is_sent_is_what_was_reviewed(render, dag_id, task_id) -> None:
    file = GOLDEN / f"{dag_id}.{task_id}.json"
    text = json.dumps(getattr(render(dag_id, task_id), SENT[task_id][1]), indent=2) + "\n"
    if os.environ.get("GOLDEN_REWRITE") == "1":
        file.write_text(text)
    assert file.read_text() == text


def test_a_budget_and_a_look_at_the_whole_table_are_passed_on(bag, render, context_of) -> None:
    def arguments(**params: Any) -> list[str]:
        context = context_of(bag.dags["feature_store_daily"].get_task("sync"))
        context["params"] |= params
        return list(render("feature_store_daily", "sync", context).steps[0]["HadoopJarStep"]["Args"])

    assert {"--budget=", "--whole=no"} <= set(arguments())
    assert {"--budget=0", "--whole=yes"} <= set(arguments(budget=0, whole_table=True))
    assert "--budget=2.5" in arguments(budget=2.5)


def test_there_is_no_golden_file_too_many() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == {f"{dag_id}.{task_id}" for dag_id, task_id in CASES}


@pytest.mark.parametrize(("dag_id", "task_id"), CASES)
def test_emr_would_take_it(render, clients, dag_id, task_id) -> None:
    """Checked against EMR's own service model: names, types, what is required."""
    from botocore.validate import ParamValidator

    operation, field = SENT[task_id]
    sent = getattr(render(dag_id, task_id), field)
    request = sent if operation == "RunJobFlow" else {"JobFlowId": "j-1", "Steps": sent}
    shape = clients("emr").meta.service_model.operation_model(operation).input_shape
    assert ParamValidator().validate(request, shape).generate_report() == ""


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_every_task_renders(bag, render, dag_id) -> None:
    for task in bag.dags[dag_id].tasks:
        rendered = render(dag_id, task.task_id)
        left = [name for name in rendered.template_fields if "{{" in str(getattr(rendered, name))]
        assert not left, (task.task_id, left)


@pytest.mark.parametrize("task_id", ["plan", "create_cluster", "wait_for_cluster", "ingest", "terminate_cluster"])
def test_a_setting_that_is_missing_is_an_error_and_not_an_empty_string(bag, render, context_of, task_id) -> None:
    context = context_of(bag.dags["feature_store_daily"].get_task(task_id))
    context["var"]["json"]["feature_store"].clear()
    with pytest.raises(UndefinedError):
        render("feature_store_daily", task_id, context)


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_the_teardown_looks_for_the_very_cluster_that_the_setup_asks_for(render, dag_id) -> None:
    request = render(dag_id, "create_cluster").job_flow_overrides
    terminate = render(dag_id, "terminate_cluster")
    assert (terminate.cluster_name, terminate.cluster_tags) == (request["Name"], request["Tags"])
    assert terminate.job_flow_id == "j-1"


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_retry_asks_for_the_very_cluster_that_the_setup_has_asked_for(render, dag_id) -> None:
    wait = render(dag_id, "wait_for_cluster")
    assert wait.request == render(dag_id, "create_cluster").job_flow_overrides
    assert wait.job_flow_id == "j-1"


@pytest.mark.parametrize(("ready", "used"), [("j-2", "j-2"), (None, "j-1")])
def test_steps_are_for_the_cluster_that_became_ready(bag, render, context_of, ready, used) -> None:
    """Or, if someone has marked the wait a success, for the first one."""
    context = context_of(bag.dags["feature_store_daily"].get_task("ingest"))
    context["ti"].xcoms["wait_for_cluster", "return_value"] = ready
    assert render("feature_store_daily", "ingest", context).job_flow_id == used


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_airflow_is_not_trusted_alone_to_end_a_cluster(render, dag_id) -> None:
    request = render(dag_id, "create_cluster").job_flow_overrides
    assert 60 <= request["AutoTerminationPolicy"]["IdleTimeout"] <= 7200
    tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
    assert tags["Project"] == "feature-store"
    assert (tags["dag_id"], tags["run_id"]) == (dag_id, "manual__2014-02-28T04:00:00+00:00")
    assert request["Name"] == f"feature-store {dag_id} manual__2014-02-28T04:00:00+00:00"


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_cleared_run_may_take_its_cluster_that_still_lives(bag, render, context_of, dag_id) -> None:
    context = context_of(bag.dags[dag_id].get_task("create_cluster"))
    context["ti"].try_number, context["ti"].max_tries = 4, 4
    first, cleared = (render(dag_id, "create_cluster", each).job_flow_overrides for each in (None, context))
    assert cleared == first


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_what_was_validated_is_what_is_synced(bag, render, context_of, dag_id) -> None:
    def of_views(task_id: str) -> list[tuple[str, str]]:
        arguments = render(dag_id, task_id).steps[0]["HadoopJarStep"]["Args"]
        told = ("--view", "--readings-version", "--features-version")
        return [(name, arguments[at + 1]) for at, name in enumerate(arguments) if name in told]

    one, other = ("--view", "energy_data_features"), ("--view", "energy_recent_features")
    assert of_views("validate") == [
        *(one, ("--readings-version", "7"), ("--features-version", "5")),
        *(other, ("--readings-version", "8"), ("--features-version", "6")),
    ]
    assert of_views("sync") == [one, ("--features-version", "5"), other, ("--features-version", "6")]
    assert of_views("featurize") == [one, other]
    assert of_views("ingest") == []


@pytest.mark.parametrize("task_id", ["schema", "featurize", "validate", "sync"])
def test_every_declared_view_is_worked_for(render, task_id) -> None:
    arguments = render("feature_store_daily", task_id).steps[0]["HadoopJarStep"]["Args"]
    named = [arguments[at + 1] for at, name in enumerate(arguments) if name == "--view"]
    assert named == [view.name for view in registry.views()]


@pytest.mark.parametrize("task_id", ["validate", "sync"])
def test_without_a_version_to_validate_or_sync_there_is_no_step(bag, render, context_of, task_id) -> None:
    """As when someone marks featurize a success: the newest features are not taken for it."""
    context = context_of(bag.dags["feature_store_daily"].get_task(task_id))
    del context["ti"].xcoms["featurize", "return_value"]
    with pytest.raises(UndefinedError):
        render("feature_store_daily", task_id, context)


def test_step_names_are_their_own(render) -> None:
    names = {render(dag_id, task_id).steps[0]["Name"] for dag_id, task_id in CASES if task_id != "create_cluster"}
    assert len(names) == len(DAG_IDS) * (len(SENT) - 1)
