"""Make one worker's share of a simulation's calls, and write what comes of them to simulation_results/NAME/.

The online store is what KEYSPACES_HOST, _PORT and _CA name; without KEYSPACES_USERNAME it signs in as the AWS identity
of this process. All workers begin together when all are there. --rates are of all of them together.
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from feature_store import cost, layout
from feature_store.endpoint import Endpoint
from feature_store.online import Connection, OnlineError, Options
from feature_store.online import Reader as OnlineReader
from Simulation import barrier, command, entities, load, machine
from Simulation.barrier import BarrierError, UsedError
from Simulation.entities import EntitiesError
from Simulation.load import Load
from Simulation.plan import TRACE, Plan, PlanError, add_arguments
from Simulation.recorder import Recorder, Tries
from Simulation.recording import DONE, FAILED, STOPPED, Ended, Ready
from Simulation.results import ENDED
from Simulation.store import Bucket, Store, StoreError
from Simulation.writer import Writer

# After the last call is due, those that have not ended may still: so often the deadline, and seconds at least.
GRACE_DEADLINES, GRACE_SECONDS = 2, 5.0
# ECS kills a task 30 s after it has asked it to stop: 5 are for the calls under way, 5 for counting those that are not.
WRITTEN = 15.0  # seconds, at most, of writing what is left
# A thread that wakes waits for Python's lock as long as another one computes, but for so long at most; 5 ms without it.
SWITCH_SECONDS = 0.0005
log = logging.getLogger(__name__)


class Stopped(BaseException):
    """Who runs this process wants it to end: SIGTERM, as ECS stops a task, or SIGINT.

    As KeyboardInterrupt it is no Exception: nobody takes it for what may pass.
    """


@dataclass(frozen=True)
class Share:
    """What this worker is told: the plan of all, who it is, where to write, and how long it waits for the others."""

    plan: Plan
    worker: int
    store: Store
    start_within: float

    @property
    def folder(self) -> str:
        """Where its files are."""
        return layout.simulation_worker(self.plan.name, self.worker)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker; the exit status: 0 done, 1 failed or stopped, 2 bad arguments or a name that is used."""
    began = time.monotonic()
    args, plan = _parse(argv)
    command.log_to_stderr()
    _listen()
    summary: dict[str, Any] = {"simulation": plan.name, "worker": args.worker, "state": FAILED}
    status = command.FAILED
    try:
        summary |= run(Share(plan, args.worker, Bucket(args.bucket), args.start_within))
        status = command.DONE if summary["state"] == DONE else command.FAILED
    except UsedError as error:
        summary["error"], status = str(error), command.BAD_ARGUMENTS
    except (OnlineError, EntitiesError, BarrierError, StoreError) as error:
        summary["error"] = _sentence(error)
    except Stopped:
        summary |= {"state": STOPPED, "error": "It was stopped before the run began."}
    if "error" in summary:
        log.error("%s", summary["error"])
    summary["seconds"] = round(time.monotonic() - began, 1)
    return command.end(status, summary)


def run(share: Share) -> dict[str, Any]:
    """Come, wait for the others, make the calls and write of them; what was done.

    Raises:
        UsedError: there are results of that name.
        OnlineError: the online store can't be reached, or its table can't be asked.
        EntitiesError: there is nobody to ask for.
        BarrierError: not all workers have come.
        StoreError: results can't be written.
        Stopped: before the run began.
    """
    plan = share.plan
    barrier.check_unused(share.store, plan.name, share.worker, share.start_within)
    endpoint = Endpoint.from_environment()
    tries = Tries()
    with Connection.from_environment() as connection:
        reader = OnlineReader(
            connection.session,
            plan.feature_view,
            plan.keyspace,
            Options(deadline=plan.deadline, strong=plan.strong, observer=tries),
        )
        ids = _ids(plan, connection)
        units = _units(plan, ids)
        ready = Ready(
            worker=share.worker,
            plan=plan,
            cores=machine.cores(),
            callers=load.callers(plan),
            ids=len(set(ids)),
            units=units,
            region=endpoint.region,
        )
        log.info("%d ids of %s.%s at %s.", ready.ids, plan.keyspace, plan.view, endpoint)
        with _ended(share):
            barrier.come(share.store, ready)
            start = barrier.wait(share.store, ready, share.start_within)
            begins = barrier.together(share.store, ready, start)
            recorder = Recorder(units)
            draw = entities.drawer(plan, share.worker, ids)
            made = Load(reader, load.calls(plan, share.worker), draw, recorder, tries)
            writer = Writer(share.store, plan.name, share.worker, start, made, recorder)
            return _make(share, begins, made, writer, ready.callers)


def _make(share: Share, begins: float, made: Load, writer: Writer, threads: int) -> dict[str, Any]:
    """Make all calls, and write of them as they end; the state and what was done."""
    plan = share.plan
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # what is there stays: no collection while calls are made need look at it
    ended = Ended(DONE)
    try:
        made.begin(begins, threads)
        writer.begin()
        grace = max(GRACE_SECONDS, GRACE_DEADLINES * plan.deadline)
        made.done(plan.total_seconds - made.now() + grace)
        _listen(signal.SIG_IGN)  # what is left is to write; within the try, so that no signal comes between
    except Stopped:
        ended = Ended(STOPPED, f"It was stopped after {max(0.0, made.now()):.0f} s of {plan.total_seconds}.")
    waiting = made.stop()
    if not made.done(min(GRACE_DEADLINES * plan.deadline, GRACE_SECONDS)):
        log.warning("Some calls have not ended, and are counted as begun alone.")
    if waiting and ended.state == DONE:
        log.warning("%d calls were never made, as no more could be under way: they are counted as due alone.", waiting)
    if made.error is not None:
        ended = Ended(FAILED, f"The next call could not be told: {made.error!r}.")
    if why := _written(share, writer, ended):
        ended = Ended(FAILED, f"{ended.reason} {why}".strip())
    said = {"error": ended.reason} if ended.reason else {}
    folder = f"{share.store}/{share.folder}"
    return {"state": ended.state, **said, "results": folder, **writer.summary(), "never_sent": waiting}


def _written(share: Share, writer: Writer, ended: Ended) -> str:
    """Write what is left, and how the worker has ended; why it could not be, a sentence, or none if it was.

    By a thread of its own, which is waited for no longer than ECS would: neither DNS nor a connection that hangs keeps
    the worker from saying what it has done.
    """
    failed = [f"What was left could not be written to {share.store} within {WRITTEN:g} s."]

    def write() -> None:
        try:
            writer.end()
            share.store.write(share.folder + ENDED, ended.encode())
            failed[0] = ""
        except StoreError as error:
            failed[0] = _sentence(error)

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    writing.join(WRITTEN)
    return failed[0]


@contextmanager
def _ended(share: Share) -> Iterator[None]:
    """Write that the worker has failed, or was stopped, and why: the others need not wait for it."""
    try:
        yield
    except UsedError:  # what is there is another run's
        raise
    except BaseException as error:
        state = STOPPED if isinstance(error, Stopped) else FAILED
        why = _sentence(error) if isinstance(error, Exception) else "It was stopped before the run began."
        try:
            share.store.write(share.folder + ENDED, Ended(state, why).encode(), new=True)
        except StoreError as failure:
            log.warning("%s", failure)  # beside what has gone wrong before, which is raised
        raise


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Plan]:
    parser = argparse.ArgumentParser(prog="Simulation.worker", description=__doc__, allow_abbrev=False)
    parser.add_argument("--bucket", required=True, help="where results are written")
    parser.add_argument("--worker", type=int, required=True, metavar="I", help="which worker this is, from 0")
    parser.add_argument(
        "--start-within", type=float, default=300.0, metavar="SECONDS", help="for so long all may come (default: 300)"
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        plan = Plan.from_arguments(args)
    except PlanError as error:
        parser.error(str(error))
    if not 0 <= args.worker < plan.workers:
        parser.error(f"--worker is 0 to {plan.workers - 1} of --workers {plan.workers}, not {args.worker}.")
    if not 0 < args.start_within < 24 * 3600:
        parser.error(f"--start-within is seconds, more than 0, not {args.start_within}.")
    return args, plan


def _ids(plan: Plan, connection: Connection) -> list[str]:
    if plan.ids.startswith(TRACE):
        return entities.trace(plan.ids.partition(":")[2])
    return entities.find(connection.session, plan.feature_view, plan.keyspace)


def _units(plan: Plan, ids: Sequence[str]) -> float:
    """Read units of a read of one entity: by the size of a row of the view, half of it where no quorum is asked."""
    longest = max(len(entity.encode()) for entity in ids)
    return cost.read_units(cost.row_bytes(plan.feature_view, longest)) * (1.0 if plan.strong else 0.5)


def _stop(signum: int, frame: object) -> NoReturn:  # noqa: ARG001
    _listen(signal.SIG_IGN)  # once is enough
    raise Stopped


def _listen(do: Callable[[int, Any], Any] | signal.Handlers = _stop) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, do)


def _sentence(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said if said.endswith((".", "!", "?")) else f"{said}."


if __name__ == "__main__":
    sys.exit(main())
