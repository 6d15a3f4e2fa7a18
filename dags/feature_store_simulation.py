"""The online store under load: workers on ECS read features at given rates, and a report says what callers see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, TriggerRule, chain, task
from feature_store_airflow.pipeline import DEFAULT_ARGS
from feature_store_airflow.settings import BUCKET, setting
from feature_store_airflow.simulation import (
    CHOOSE,
    REPORT_TASK,
    WORK,
    WORKERS,
    ChooseNameOperator,
    judge_simulation,
    simulation_params,
)
from feature_store_airflow.simulation_task import SimulationTaskOperator

DOC = """
# The online store under load

**What it does.** Starts *Workers* tasks of ECS on Fargate. Together they read features online at each of *Rates* calls
per second, for *Seconds* each, at times that do not depend on the answers (so a slow answer delays no other call, and
is not left out of the percentiles). Then one more task makes the report.

**Inputs.** The online table of *View*, with rows in it. The image of the simulation, pushed to the repository of the
stack `simulation` (`docs/guide/simulation-ecs.md`).

**Outputs.** Below `s3://BUCKET/simulation_results/NAME/` the plan, the samples of each worker as they come, and
`report.html` and `report.json`. The link *Simulation report* of the tasks leads to the page.

**Schedule and lag.** None: it is triggered by hand or through the API. One run at a time, as two would measure each
other.

**To rerun.** Trigger it again; a name that is used gets -2, -3 and so on. A worker that is cleared alone fails, as its
part of the results is there already: clear the run from `choose_name` on.

**To compare.** *Against* takes the name of an earlier simulation: the report shows both side by side.

**When a worker fails.** The others go on, the report is made of what there is and names what is lost, and the run fails
at its end: `verdict` says why. Marking a worker's task failed stops its task of ECS.

**Impact of failure.** None on the features. While it runs, the callers of the online store share its capacity with it:
a provisioned table may throttle them.

**Cost per run.** Fargate by the second, and Keyspaces' read units: the report has them.
"""

NAME = f"{{{{ ti.xcom_pull(task_ids='{CHOOSE}', key='name') or '' }}}}"
OPTIONAL = "{{{{ '--{option}=' ~ params.{name} if params.{name} is not none else '' }}}}"
WORKER = (
    *("python", "-m", "Simulation.worker", f"--bucket={BUCKET}", f"--name={NAME}"),
    *("--worker={{ ti.map_index }}", "--workers={{ params.workers | int }}"),
    *("--rates={{ params.rates }}", "--seconds={{ params.seconds | int }}", "--shape={{ params.shape }}"),
    *("--many={{ params.many }}", "--many-size={{ params.many_size | int }}", "--ids={{ params.ids }}"),
    *("--view={{ params.view }}", f"--keyspace={setting('keyspaces.keyspace')}"),
    OPTIONAL.format(option="capacity", name="capacity"),
)
REPORT = (
    *("python", "-m", "Simulation.report", f"--bucket={BUCKET}", f"--name={NAME}"),
    *("--p99-ms={{ params.p99_ms }}", "--errors={{ params.errors }}"),
    OPTIONAL.format(option="against", name="against"),
)

with DAG(
    dag_id="feature_store_simulation",
    description="Load on the online store: latency, throttling and cost by rate",
    doc_md=DOC,
    schedule=None,
    # A run before its DAG's start date has no tasks and is a success at once: earlier than any reading.
    start_date=datetime(2011, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    # They wait for each other: Airflow's own limit of a DAG's tasks (16) would hold the rest back.
    max_active_tasks=WORKERS,
    default_args=DEFAULT_ARGS,
    params=simulation_params(),
    tags=["feature-store", "ecs", "keyspaces"],
):
    choose = ChooseNameOperator(task_id=CHOOSE, execution_timeout=timedelta(minutes=5))
    workers = SimulationTaskOperator.partial(
        task_id=WORK,
        command=WORKER,
        of_plan=True,
        # Its part of the results is there already, and what the others measure is over.
        retries=0,
        execution_timeout=timedelta(hours=5),
    ).expand(worker=choose.output)
    report = SimulationTaskOperator(
        task_id=REPORT_TASK,
        command=REPORT,
        # Of what there is: a worker that was lost is named in it.
        trigger_rule=TriggerRule.ALL_DONE,
        execution_timeout=timedelta(minutes=30),
    )
    # The leaf decides the run's state: a report of what is left does not make it a success.
    verdict = task(task_id="verdict", trigger_rule=TriggerRule.ALL_DONE, execution_timeout=timedelta(minutes=5))(
        judge_simulation
    )()
    chain(workers, report, verdict)
