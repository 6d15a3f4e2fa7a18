"""The lifecycle drill: how each case ends, looked at from outside (EMR, Airflow's API, both stores), and its table."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
import pytest

from benchmarks.report import machine
from infra.local.settings import MARK, ROOT
from tests.e2e.conftest import DAILY, Live, generated, outside_look, until
from tests.support import Faults

STEPS = ("schema", "ingest", "featurize", "validate", "sync")
ONCE = dict.fromkeys(STEPS, 1)
LIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING")
RESULT = ROOT / "build" / "drill.json"


@dataclass(frozen=True)
class Ended:
    """How one case of the drill has ended.

    Attributes:
        case: what went wrong, in words.
        run_state: success or failed.
        clusters: the states of the run's clusters, in the order in which they were made.
        gone_after: seconds until the last of them was gone.
        gone_since: from when on they are counted: the fault, the last step's end, or the cluster's start.
        steps: how many steps were submitted, by task, the run's earlier clusters included.
        rows: of the run's day: `right` (features, online rows and an independent computation are equal), `none online`,
            or `wrong`.
        seconds: that the case took, its looks included.
    """

    case: str
    run_state: str
    clusters: tuple[str, ...]
    gone_after: float | None
    gone_since: str
    steps: Mapping[str, int]
    rows: str
    seconds: float


ENDED = pytest.StashKey[list[Ended]]()


@dataclass
class Case:
    """A case under way: a run, the fault that it is given, and how it ends."""

    live: Live
    name: str
    day: dt.date
    ended: list[Ended]
    run_id: str = ""
    dag_id: str = DAILY
    fault_at: dt.datetime | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def faults(self) -> Faults:
        return Faults(self.live.stack)

    def trigger(self, dag_id: str = DAILY) -> None:
        self.dag_id = dag_id
        self.run_id = self.live.trigger(dag_id, start=self.day.isoformat(), end=self.day.isoformat())

    def task(self, task_id: str) -> dict[str, Any]:
        return next(task for task in self.live.api.tasks(self.dag_id, self.run_id) if task["task_id"] == task_id)

    def wait_for_task(self, task_id: str, state: str, seconds: float = 120) -> None:
        until(lambda: self.task(task_id)["state"] == state or None, seconds, f"{task_id} of {self.name} to be {state}")

    def wait_for_step(self, task_id: str) -> dict[str, Any]:
        """Wait until a task's step runs, and describe it."""

        def running() -> dict[str, Any] | None:
            steps = [step for step in self.steps() if step["Status"]["State"] == "RUNNING"]
            return next((step for step in steps if task_of(step) == task_id), None)

        return until(running, 120, f"the step of {task_id} of {self.name}")

    def hold_step(self, task_id: str) -> list[psutil.Process]:
        """Wait until a task's step runs, and stop its processes in the middle of their work: a long step, as on AWS.

        Return the processes; who wants the step to go on resumes them.
        """
        step = self.wait_for_step(task_id)

        def held() -> list[psutil.Process] | None:
            processes = _processes("EMR_STEP_ID", step["Id"])
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            # One may have ended, or started another, meanwhile.
            return processes if processes and set(processes) == set(_processes("EMR_STEP_ID", step["Id"])) else None

        return until(held, 30, f"the processes of the step of {task_id} of {self.name}")

    def strikes(self) -> None:
        """Say that the fault comes now, and ends the run: from here on the cluster has no work."""
        self.fault_at = dt.datetime.now(dt.UTC)

    def clusters(self) -> list[dict[str, Any]]:
        found = self.live.clusters(self.run_id)
        return sorted(found, key=lambda cluster: cluster["Status"]["Timeline"]["CreationDateTime"])

    def steps(self) -> list[dict[str, Any]]:
        """All steps of the run's clusters, the first one first."""
        pages = self.live.client("emr").get_paginator("list_steps")
        lists = [pages.paginate(ClusterId=cluster["Id"]) for cluster in self.clusters()]
        found = [step for each in lists for page in each for step in page["Steps"]]
        return sorted(found, key=lambda step: step["Status"]["Timeline"]["CreationDateTime"])

    def ends(
        self,
        state: str,
        clusters: Sequence[str],
        steps: Mapping[str, int],
        rows: str = "right",
    ) -> list[dict[str, Any]]:
        """Wait for the run's end, keep how it was for the table, and check that it is so; return the run's steps.

        Whatever the case: the run has ended, no cluster of it is alive, no step is at work or waits for it, none was
        submitted again that was not cancelled before, and a run whose rows are not right is no success.
        """
        ended = self._look(self.live.wait(self.dag_id, self.run_id))
        self.ended.append(ended)
        found = self.steps()
        assert not {step["Status"]["State"] for step in found} & {"PENDING", "RUNNING"}, found
        again = Counter(step["Name"] for step in found if step["Status"]["State"] != "CANCELLED")
        assert set(again.values()) <= {1}, again
        assert ended.rows == "right" or ended.run_state == "failed"
        seen = (ended.run_state, ended.clusters, ended.steps, ended.rows)
        assert seen == (state, tuple(clusters), dict(steps), rows), self.live.task_states(self.dag_id, self.run_id)
        return found

    def give_up(self) -> None:
        """End the run, if there is one that has not ended: the next one waits for the lake's slot otherwise."""
        if self.run_id and self.live.api.run_state(self.dag_id, self.run_id) not in ("success", "failed"):
            self.live.api.call("PATCH", f"/dags/{self.dag_id}/dagRuns/{self.run_id}", state="failed")
            self.live.wait(self.dag_id, self.run_id)

    def _look(self, run_state: str) -> Ended:
        until(lambda: self._states().isdisjoint(LIVE) or None, 60, f"the clusters of {self.name} to end")
        clusters, steps = self.clusters(), self.steps()
        since, gone_after = self._gone(clusters, steps)
        return Ended(
            case=self.name,
            run_state=run_state,
            clusters=tuple(cluster["Status"]["State"] for cluster in clusters),
            gone_after=gone_after,
            gone_since=since,
            steps=dict(Counter(map(task_of, steps))),
            rows=self._rows(run_state),
            seconds=round(time.monotonic() - self.began, 1),
        )

    def _states(self) -> set[str]:
        return {cluster["Status"]["State"] for cluster in self.clusters()}

    def _gone(self, clusters: list[dict[str, Any]], steps: list[dict[str, Any]]) -> tuple[str, float | None]:
        if not clusters:
            return "", None
        line = clusters[-1]["Status"]["Timeline"]
        ends = [
            step["Status"]["Timeline"]["EndDateTime"] for step in steps if "EndDateTime" in step["Status"]["Timeline"]
        ]
        since, moment = "its start", line["CreationDateTime"]
        if self.fault_at:
            since, moment = "the fault", self.fault_at
        elif ends:
            since, moment = "its last step", max(ends)
        return since, round((line["EndDateTime"] - moment).total_seconds(), 1)

    def _rows(self, run_state: str) -> str:
        looks: list[tuple[str, dict[str, str]]] = [("right", {}), ("none online", {"ABSENT": "1"})]
        # Only a matter of time: what is likelier is looked at first.
        for answer, look in looks if run_state == "success" else reversed(looks):
            try:
                outside_look(self.live, self.day.isoformat(), *generated(self.live), **look)
            except AssertionError as error:
                print(f"{self.name}: its rows are not {answer!r}: {error}")
            else:
                return answer
        return "wrong"


def task_of(step: Mapping[str, Any]) -> str:
    """The task that has submitted a step: its name is DAG.TASK.RUN.try1."""
    return str(step["Name"]).split(".")[1]


def marked(live: Live) -> list[psutil.Process]:
    """Every process of the stack."""
    return _processes(MARK, str(live.stack.home))


def _processes(variable: str, value: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value:
                found.append(process)
        except psutil.Error:  # gone meanwhile, a zombie, or another user's
            continue
    return found


def table(ended: Iterable[Ended]) -> list[str]:
    """The lines of the drill's table."""
    rows = [("case", "run", "clusters", "cluster gone after", "steps submitted", "rows", "seconds")]
    rows += [
        (
            each.case,
            each.run_state,
            ", ".join(each.clusters) or "none",
            f"{each.gone_after:.1f} s from {each.gone_since}" if each.gone_after is not None else "-",
            _submitted(each.steps),
            each.rows,
            f"{each.seconds:.0f}",
        )
        for each in ended
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _submitted(steps: Mapping[str, int]) -> str:
    again = [f"{task} {count} times" for task, count in steps.items() if count > 1]
    return f"{sum(steps.values())}" + (f" ({', '.join(again)})" if again else "")


def write(ended: Iterable[Ended]) -> None:
    """Write build/drill.json."""
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"machine": machine(), "cases": [asdict(each) for each in ended]}, indent=1) + "\n")
