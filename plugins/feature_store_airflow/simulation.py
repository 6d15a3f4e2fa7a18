"""What a person may ask of a simulation, the name that it gets, and whether its run did its work."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import BaseOperator, Context, Param, get_current_context
from airflow.sdk.configuration import conf

from feature_store import layout, registry
from feature_store_airflow.failures import PlanRejected, RunIncomplete, failure_of, records_failure
from feature_store_airflow.settings import BUCKET, RUN_FOLDER
from feature_store_airflow.triggers import DEFERRABLE

# The XCom, of the task choose_name, with the simulation's name.
NAME = "name"
CHOOSE, WORK, REPORT_TASK = "choose_name", "run_worker", "report"
RECORD = "simulation"  # .json, in the folder of the run: which simulation it has made
NAMES = layout.SIMULATION_NAME
# As Simulation/plan.py has them, which a DAG may not import; a test says they agree.
SHAPES = ("steps", "ramp", "spike")
NUMBER = r"[0-9]{1,6}(\.[0-9]{1,3})?"
# To Python a $ is also before a line's end; to the browser, whose form checks the same patterns, it is not.
END = r"$(?!\n)"
WORKERS = 32  # at most
LONGEST = timedelta(hours=4)  # of a plan
START_WITHIN = timedelta(minutes=5)  # so long a worker waits for the others
SUFFIX = 5  # characters that are left for -2, -3 and so on


def simulation_params() -> dict[str, Param]:
    """Make the params of the DAG of simulations."""
    views = [view.name for view in registry.views()]
    name: dict[str, Any] = {"type": ["null", "string"], "pattern": rf"^{NAMES}{END}"}
    return {
        "rates": Param(
            "50,100,200",
            type="string",
            pattern=rf"^{NUMBER}(,{NUMBER}){{0,19}}{END}",
            title="Rates",
            description="Calls per second of all workers together, one after the other, such as 50,100,200",
        ),
        "seconds": Param(
            60, type="integer", minimum=1, maximum=3600, title="Seconds", description="How long each rate lasts"
        ),
        "workers": Param(
            2,
            type="integer",
            minimum=1,
            maximum=WORKERS,
            title="Workers",
            description="Fargate tasks that share the calls. The report says if they were the bottleneck",
        ),
        "shape": Param(
            SHAPES[0],
            type="string",
            enum=list(SHAPES),
            title="Shape",
            description="steps: each rate at once; ramp: evenly from one to the next; spike: the first rate, and each "
            "of the others suddenly between",
        ),
        "many": Param(
            0.0, type="number", minimum=0, maximum=1, title="Share of get_many", description="Of all calls, 0 to 1"
        ),
        "many_size": Param(
            20, type="integer", minimum=1, maximum=1000, title="Entities of a get_many", description="In each such call"
        ),
        "ids": Param(
            "uniform",
            type="string",
            pattern=rf"^(uniform|zipf:(?=[0-9.]*[1-9]){NUMBER}|trace:s3://[a-z0-9.-]+/[^\s]{{1,1024}}){END}",
            title="Entities",
            description="Who is asked for: uniform, zipf:1.1 (few of them often), or trace:s3://BUCKET/KEY (one id a "
            f"line; the task may read below {layout.SIMULATIONS}/ of the feature store's bucket)",
        ),
        "view": Param(views[0], type="string", enum=views, title="View", description="Whose features are read"),
        "name": Param(
            None, **name, title="Name", description="Of the folder of results. Empty: made of the run's id. If it is "
            "used already, -2, -3 and so on is put after it",
        ),
        "against": Param(
            None, **name, title="Against", description="The name of an earlier simulation, to be compared with this one"
        ),
        "p99_ms": Param(
            10,
            type="number",
            exclusiveMinimum=0,
            maximum=60_000,
            title="Objective: p99",
            description="Milliseconds that 99 % of the calls may take at the highest rate that the report names",
        ),
        "errors": Param(
            0.0001,
            type="number",
            exclusiveMinimum=0,
            maximum=1,
            title="Objective: errors",
            description="The share of calls that may fail there",
        ),
        "capacity": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
            title="Provisioned read units",
            description="Per second, of the table, if it is provisioned; empty if it is on demand or not known",
        ),
    }  # fmt: skip


class ChooseNameOperator(BaseOperator):
    """Choose the simulation's name, and say how many workers it has.

    The name is left as XCom and, for the pages of Airflow's server, in the run's folder.
    """

    template_fields: Sequence[str] = ("bucket", "folder")

    def __init__(self, *, aws_conn_id: str = "aws_default", **kwargs: Any) -> None:  # noqa: ANN401 - whatever BaseOperator takes
        """Make the task."""
        super().__init__(**kwargs)
        self.aws_conn_id = aws_conn_id
        self.bucket, self.folder = BUCKET, RUN_FOLDER
        self.defers = DEFERRABLE

    @records_failure
    def execute(self, context: Context) -> list[int]:
        """Return the numbers of the workers, from 0.

        Raises:
            PlanRejected: what is asked for can't be done; nothing has been started.
        """
        params = context["params"]
        check(params, None if self.defers else conf.getint("core", "parallelism"))
        s3 = S3Hook(aws_conn_id=self.aws_conn_id)
        if (against := params["against"]) and not self._is_used(s3, against):
            raise PlanRejected(
                f"There is no simulation {against} to compare with: s3://{self.bucket}/{layout.simulation(against)} is "
                "empty. Next: trigger the run again with the name of one that there is, or with none."
            )
        wanted = params["name"] or name_of(context["run_id"])
        number, name = 1, wanted
        while self._is_used(s3, name):
            number += 1
            name = f"{wanted[: 100 - SUFFIX]}-{number}"
        bucket, key = S3Hook.parse_s3_url(f"{self.folder}/{RECORD}.json")
        s3.load_string(json.dumps({NAME: name}), key, bucket, replace=True)
        context["ti"].xcom_push(key=NAME, value=name)
        self.log.info("The simulation is s3://%s/%s", self.bucket, layout.simulation(name))
        return list(range(int(params["workers"])))  # to JSON 2.0 is a whole number

    def _is_used(self, s3: S3Hook, name: str) -> bool:
        return bool(s3.list_keys(self.bucket, prefix=layout.simulation(name), max_items=1))


def check(params: Mapping[str, Any], slots: int | None) -> None:
    """Check what no param's own bounds can say.

    Args:
        params: of the run.
        slots: how many tasks Airflow runs at a time, where each worker's task takes one; None where it takes none.

    Raises:
        PlanRejected: it can't be done.
    """
    again = "Next: trigger the run again with other params."
    rates = [float(rate) for rate in params["rates"].split(",")]
    if min(rates) <= 0:
        raise PlanRejected(f"The rates {params['rates']} are not all more than 0. {again}")
    if len(rates) == 1 and params["shape"] != SHAPES[0]:
        raise PlanRejected(f"A {params['shape']} needs two rates or more, and {params['rates']} is one. {again}")
    if length(params) > LONGEST:
        raise PlanRejected(
            f"That may take {length(params)}, and {LONGEST} is the most: fewer rates or seconds. {again}"
        )
    if slots is not None and params["workers"] > slots:
        raise PlanRejected(
            f"Airflow runs {slots} tasks at a time here (core.parallelism), so {params['workers']} workers would wait "
            f"for each other in vain. Next: ask for {slots} workers at most, or let tasks wait in the triggerer "
            "(operators.default_deferrable)."
        )


def length(params: Mapping[str, Any]) -> timedelta:
    """Return how long the calls of a plan may take, whatever its shape: a spike returns to its first rate each time."""
    return timedelta(seconds=2 * len(params["rates"].split(",")) * params["seconds"])


def name_of(run_id: str) -> str:
    """Make a simulation's name of the id of its run."""
    return re.sub(r"[^a-z0-9._-]+", "-", run_id.lower()).strip("._-")[: 100 - SUFFIX] or "run"


def judge_simulation() -> str:
    """Fail the run if a task of it did not do its work; a report that could be made all the same is no success.

    Raises:
        RunIncomplete: names the tasks that failed, with their reasons, and those that never ran.
    """
    ti: Any = get_current_context()["ti"]
    states: Mapping[str, str] = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    wrong = []
    for key, state in sorted(states.items()):
        task_id, _, number = key.rpartition("_")
        # As Airflow names the instances of a mapped task, where it tells their states.
        index = int(number) if task_id == WORK and number.isdecimal() else -1
        named = f"worker {index}" if index >= 0 else key
        if state == "failed":
            reason = failure_of(ti, WORK if index >= 0 else key, index) or "its worker was lost, or it was ended."
            wrong.append(f"{named} failed: {reason}")
        elif state != "success" and key != ti.task_id:
            wrong.append(f"{named} did not run ({state}).")
    name = ti.xcom_pull(task_ids=CHOOSE, key=NAME)
    if wrong:
        raise RunIncomplete("This simulation did not do its work.\n" + "\n".join(wrong))
    return f"The simulation {name} is done. Its report: the link of the task {REPORT_TASK}, and the page Simulations."
