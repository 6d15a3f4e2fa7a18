"""The life of one cluster: bootstrap actions, then steps, until someone or something ends it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from moto.core.utils import utcnow

from infra.local.aws.execution import Execution
from infra.local.aws.models import BY_USER, CRASHED, LIVE, STEP_FAILED, STEPS_DONE, Ending, LocalCluster, LocalStep
from infra.local.aws.node import Node
from infra.local.aws.s3 import S3, S3Error
from infra.local.aws.sessions import GRACE_SECONDS
from infra.local.settings import StackError

log = logging.getLogger(__name__)

# How often an idle cluster looks at the clock.
IDLE_TICK_SECONDS = 0.2


class ClusterEndedError(Exception):
    """The cluster takes no more steps."""


class ClusterRunner:
    """Runs one cluster on its node in a thread; the API calls its methods from others.

    `_changed` guards everything: the states of the cluster and its steps change only while it is held.
    """

    def __init__(
        self,
        cluster: LocalCluster,
        node: Node,
        s3: S3,
        *,
        idle_timeout: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a cluster that is STARTING; `clock` is what idle time (seconds) is measured with."""
        self.cluster = cluster
        self.idle_timeout = idle_timeout
        self._node = node
        self._s3 = s3
        self._clock = clock
        self._changed = threading.Condition()
        self._ending: Ending | None = None
        self._active: dict[str, Execution] = {}
        self._workers: list[threading.Thread] = []
        self._grace = GRACE_SECONDS
        self._idle_since = clock()
        self._thread = threading.Thread(target=self._run, name=cluster.id, daemon=True)

    def start(self) -> None:
        """Start the cluster."""
        self._thread.start()

    # What the API asks for

    def add_steps(self, steps: Sequence[Mapping[str, Any]]) -> list[LocalStep]:
        """Take steps; ClusterEndedError if the cluster is ending or has ended."""
        with self._changed:
            if self.cluster.state not in LIVE:
                raise ClusterEndedError
            added = self.cluster.add_steps(steps)
            self._changed.notify_all()
        return added

    def cancel_step(self, step: LocalStep, *, force: bool) -> bool:
        """Cancel a step that is pending or running (force: by KILL at once); False if it has ended already."""
        with self._changed:
            if step.state == "PENDING":
                step.settle("CANCELLED")
                return True
            if step.state != "RUNNING":
                return False
            step.cancel_asked = True
            self._stop([self._active[step.id]], 0.0 if force else self._grace)
        return True

    def set_idle_timeout(self, seconds: int | None) -> None:
        """End the cluster after so many idle seconds; None: never."""
        with self._changed:
            self.idle_timeout = seconds
            self._changed.notify_all()

    def set_concurrency(self, level: int) -> None:
        """Let so many steps run at a time."""
        with self._changed:
            self.cluster.step_concurrency_level = level
            self._changed.notify_all()

    def terminate(self, ending: Ending = BY_USER, grace: float = GRACE_SECONDS) -> None:
        """End the cluster; returns at once. The first reason given is the one that counts."""
        with self._changed:
            self._grace = min(grace, self._grace)
            self._end(ending)

    def join(self, timeout: float) -> None:
        """Wait for the cluster's end, for so many seconds at most."""
        self._thread.join(timeout)

    # The cluster's own thread

    def _run(self) -> None:
        try:
            self._bootstrap()
            self._serve()
        except (OSError, StackError) as error:
            with self._changed:
                self._end(Ending(CRASHED.code, str(error)))
        finally:
            self._finish()

    def _bootstrap(self) -> None:
        self._node.prepare()
        with self._changed:
            if self._ending is None:
                self.cluster.state = "BOOTSTRAPPING"
        for number, action in enumerate(self.cluster.bootstrap_actions, 1):
            if self._ending is None:
                self._run_bootstrap_action(number, str(action.script_path), list(action.args or []))

    def _run_bootstrap_action(self, number: int, path: str, args: list[str]) -> None:
        instance, action = self._node.instance_id, f"bootstrap action {number}"
        execution = self._execution(f"node/{instance}/bootstrap-actions/{number}")
        script = self._node.folder / "bootstrap" / str(number) / Path(path).name
        failure = ""
        try:
            self._s3.fetch(path, script)
        except S3Error as error:
            execution.note(f"ERROR {error}")
            failure = f"Master instance ({instance}) failed attempting to download {action} file from S3"
        else:
            self._launch(execution, ["bash", str(script), *args])
            if execution.wait() != 0:
                failure = f"On the master instance ({instance}), {action} returned a non-zero return code"
        execution.put_logs()
        with self._changed:
            # What it has started in the background stays: on EMR too it lives as long as the node.
            self._active.pop(execution.where, None)
            if failure:
                self._end(Ending("BOOTSTRAP_FAILURE", failure))

    def _serve(self) -> None:
        with self._changed:
            self.cluster.ready_datetime = utcnow()
            self._idle_since = self._clock()
            while self._ending is None:
                self._start_steps()
                self._rest()

    def _rest(self) -> None:
        """Say what the cluster is doing, and wait for something to change. The lock is held."""
        if self._running():
            self.cluster.state = "RUNNING"
            self._changed.wait()
        elif not self.cluster.keep_job_flow_alive_when_no_steps:
            self._end(STEPS_DONE)
        else:
            self.cluster.state = "WAITING"
            if self.idle_timeout is None:
                self._changed.wait()
            elif self._clock() - self._idle_since < self.idle_timeout:
                self._changed.wait(IDLE_TICK_SECONDS)
            else:
                # The API documents no code of its own for this: the nearest of those that it does.
                message = f"Auto-terminated after {self.idle_timeout} idle seconds"
                self._end(Ending(STEPS_DONE.code, message, STEPS_DONE.state))

    def _finish(self) -> None:
        with self._changed:
            self._end(CRASHED)  # counts only if there is no reason yet: something that nobody thought of
            ending = self._ending or CRASHED
            self._cancel_pending()
        for worker in self._workers:
            worker.join()
        try:
            self._node.close(self._grace)
        except OSError as error:
            log.warning("%s: what is left of its node can't be removed: %s", self.cluster.id, error)
        with self._changed:
            self.cluster.end(ending.state)

    # Steps

    def _start_steps(self) -> None:
        """Start as many pending steps as may run. The lock is held."""
        for step in self.cluster.steps:
            if step.state == "PENDING" and self._running() < self.cluster.step_concurrency_level:
                step.begin()
                execution = self._execution(f"steps/{step.id}")
                self._launch(execution, step.args, step.id)
                worker = threading.Thread(target=self._wait_for, args=(step, execution), daemon=True)
                self._workers.append(worker)
                worker.start()

    def _wait_for(self, step: LocalStep, execution: Execution) -> None:
        status = execution.wait()
        execution.stop(self._grace)  # nothing of a step may still write when the next one starts
        execution.put_logs()  # before the state: whoever sees that a step has failed finds its logs
        with self._changed:
            self._active.pop(step.id, None)
            self._idle_since = self._clock()
            if step.cancel_asked:
                step.settle("CANCELLED")
            elif status == 0:
                step.settle("COMPLETED")
            elif self._ending:
                step.settle(self._ending.steps)
            else:
                step.failure_details = execution.failure(status)
                step.settle("FAILED")
                self._act_on_failure(step.action_on_failure)
            self._changed.notify_all()

    def _act_on_failure(self, action: str) -> None:
        if action in {"TERMINATE_CLUSTER", "TERMINATE_JOB_FLOW"}:
            self._end(STEP_FAILED)
        elif action == "CANCEL_AND_WAIT":
            self._cancel_pending()

    # Pieces; the lock is held by all but _execution and _launch

    def _execution(self, where: str) -> Execution:
        return Execution(self._node, self._s3, self.cluster.log_uri, where)

    def _launch(self, execution: Execution, argv: Sequence[str], step_id: str = "") -> None:
        """Start a program of the node such that `_end` ends it."""
        with self._changed:
            execution.start(argv, step_id)
            self._active[step_id or execution.where] = execution
            if self._ending:  # it came between the decision to start this and the start
                self._stop([execution], self._grace)

    def _running(self) -> int:
        return sum(step.state == "RUNNING" for step in self.cluster.steps)

    def _cancel_pending(self) -> None:
        for step in self.cluster.steps:
            if step.state == "PENDING":
                step.settle("CANCELLED")

    def _end(self, ending: Ending) -> None:
        """Decide that the cluster ends, if that is not decided yet, and end what runs."""
        if self._ending is None:
            self._ending = ending
            self.cluster.state = "TERMINATING"
            self.cluster.state_change_code, self.cluster.last_state_change_reason = ending.code, ending.message
            self.cluster.error_details = ending.details
        self._stop(list(self._active.values()), self._grace)
        self._changed.notify_all()

    def _stop(self, executions: Sequence[Execution], grace: float) -> None:
        for execution in executions:
            threading.Thread(target=execution.stop, args=(grace,), daemon=True).start()
