"""Tell of a simulation: simulation_results/NAME/report.json for machines, and report.html for people.

It takes what is there, also of a run in which workers were lost, and says so. With --against, another run is set beside
it.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from feature_store import layout
from feature_store.cost import PRICES
from Simulation import command, figures
from Simulation.figures import ALL, Figures, Of
from Simulation.objective import Met, Objective, Seen, meet
from Simulation.page import page
from Simulation.plan import NAME
from Simulation.recording import DONE, MOST_CALLERS, RecordError
from Simulation.results import Results, ResultsError
from Simulation.store import Bucket, Store, StoreError, moment
from Simulation.throttling import Throttling, throttling

FORMAT = 1  # of report.json: another number for one that those who read this one could not read
ASKED = 0.95  # share of the calls that were planned, below which it was not that rate
UNUSED = ("name", "workers")  # of a plan, what two runs may differ in and be compared all the same
log = logging.getLogger(__name__)


class ReportError(Exception):
    """There is nothing to tell of; one sentence says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report; the exit status: 0 done, 1 failed, 2 bad arguments."""
    began = time.monotonic()
    args = _parse(argv)
    command.log_to_stderr()
    summary: dict[str, Any] = {"simulation": args.name, "state": "failed"}
    status = command.FAILED
    try:
        summary |= run(Bucket(args.bucket), args)
        status = command.DONE
    except (ReportError, ResultsError, RecordError, StoreError) as error:
        summary["error"] = str(error)
        log.error("%s", error)  # noqa: TRY400 - one sentence, and no trace
    summary["seconds"] = round(time.monotonic() - began, 1)
    return command.end(status, summary)


def run(store: Store, args: argparse.Namespace) -> dict[str, Any]:
    """Write the report of a run; what it says in short.

    Raises:
        ReportError: no call was made in it.
        ResultsError, RecordError: there is no such run, or what there is can't be read.
        StoreError: the bucket can't be read or written.
    """
    objective = Objective(args.p99_ms, args.errors)
    told = report(Results.load(store, args.name), objective, args.region)
    if args.against:
        other = report(Results.load(store, args.against), objective, args.region)
        told["against"] = _beside(told, other)
    keys = {kind: layout.simulation_report(args.name, kind) for kind in ("json", "html")}
    store.write(keys["json"], (json.dumps(told, indent=1) + "\n").encode())
    store.write(keys["html"], page(told).encode(), kind="text/html; charset=utf-8")
    for said in (told["objective"]["says"], told["throttling"]["says"], *told["trouble"]):
        log.info("%s", said)
    return {
        "state": DONE,
        "report": f"{store}/{keys['json']}",
        "page": f"{store}/{keys['html']}",
        "objective": {name: told["objective"][name] for name in ("says", "rate", "dollars")},
        "throttling": {name: told["throttling"][name] for name in ("state", "says", "calls", "units")},
        "trouble": told["trouble"],
    }


def report(results: Results, objective: Objective, region: str | None) -> Figures:
    """All that there is to say of a run.

    Args:
        results: of its workers.
        objective: that is to be met.
        region: whose prices count; None for that of the workers.

    Raises:
        ReportError: no call was made in it.
    """
    phases = figures.phases(results)
    if not phases:
        came = f"{len(results.workers)} of {results.plan.workers} worker(s) came"
        said = [worker.ended.reason for worker in results.workers.values() if worker.ended and worker.ended.reason]
        raise ReportError(f"No call was made in {results.name}: {came}{'; ' + said[0] if said else '.'}")
    plan = results.plan
    where = region or next(iter(results.workers.values())).ready.region
    told = [of.figures() for of in phases]
    limit = throttling([of.asked() for of in phases], figures.units_a_call(results), plan.deadline)
    met = meet(objective, [_seen(of, said) for of, said in zip(phases, told, strict=True)], where)
    trouble = _trouble(results, phases)
    return {
        "format": FORMAT,
        "name": results.name,
        "plan": plan.to_json(),
        "began": None if results.start is None else moment(results.start),
        "ran": max(each.second for each in results.samples) + 1,
        "ids": max(worker.ready.ids for worker in results.workers.values()),
        "verdict": _verdict(met, trouble),
        "objective": {"p99_ms": objective.p99_ms, "errors": objective.errors, **asdict(met)},
        "throttling": _limit(limit, plan.capacity),
        "trouble": trouble,
        "phases": told,
        "curves": [of.curve() for of in phases],
        "timeline": figures.timeline(results),
        "events": _events(results, phases, limit),
        "workers": figures.workers(results),
        "against": None,
    }


def _seen(of: Of, told: Figures) -> Seen:
    calls = told["calls"][ALL]
    p99 = calls["latency_ms"]["p99"]
    share, units = calls["without_answer_share"], calls["read_units_per_s"]
    planned = of.phase.mean * of.seconds
    # By chance, too, as arrivals are: four standard deviations.
    whole = calls["offered"] >= ASKED * planned - 4 * math.sqrt(planned)
    return Seen(of.phase.mean, calls["offered"], p99, share, units, not of.late, whole)


def _limit(limit: Throttling, capacity: float | None) -> Figures:
    said = {**asdict(limit), "state": limit.state.value, "provisioned": capacity}
    if capacity is not None and limit.units is not None:
        off = limit.units / capacity - 1
        said["says"] += f" The table is provisioned with {capacity:,.6g}: {off:+.1%}."
    return said


def _verdict(met: Met, trouble: Sequence[str]) -> str:
    if trouble:
        return "warned"
    return "passed" if met.rate is not None else "failed"


def _trouble(results: Results, phases: Sequence[Of]) -> list[str]:
    """What was wrong with the run itself, a sentence each."""
    found = [f"Worker {number} has not come." for number in results.missing]
    for number, worker in sorted(results.workers.items()):
        last = worker.last_second
        until = "without a sample" if last is None else f"its last samples are of second {last}"
        if worker.ended is None:
            found.append(f"Worker {number} was lost, or runs still: {until}. Its calls after that are missing here.")
        elif worker.ended.state != DONE:
            found.append(f"Worker {number} has {worker.ended.state}: {worker.ended.reason} ({until})")
    for of in phases:
        found += [f"At {of.title}: {why}" for why in of.late]
    asked = {of.phase for of in phases}
    found += [
        f"At {figures.title(phase)} no call was due: the run had ended before, or it was too short for one."
        for phase in results.plan.phases
        if phase not in asked
    ]
    waited = sum(each.waited for worker in results.workers.values() for each in worker.vitals)
    never = sum(each.offered - each.sent for each in results.samples)
    if waited or never:
        few = any(worker.ready.callers >= MOST_CALLERS for worker in results.workers.values())
        why = f"workers have {MOST_CALLERS:,} callers at most, and there were too few, or " if few else ""
        found.append(
            f"{waited:,} calls began late, and {never:,} never, as no more could be under way: {why}those before them "
            "were slow. Their latency is from when they were due, and has it."
        )
    return found


def _events(results: Results, phases: Sequence[Of], limit: Throttling) -> list[Figures]:
    """What to mark on the timeline, in its order."""
    found = []
    if limit.first is not None:
        found.append({"second": limit.first, "kind": "throttled", "says": "throttling begins"})
    for number, worker in sorted(results.workers.items()):
        if worker.state != DONE:
            said = f"worker {number} {worker.state}"
            found.append({"second": worker.last_second or 0, "kind": "worker", "says": said})
    found += [{"second": of.phase.begins, "kind": "late", "says": "workers late"} for of in phases if of.late]
    return sorted(found, key=lambda event: (event["second"], event["says"]))


def _beside(told: Figures, other: Figures) -> Figures:
    """Another run as it is set beside this one: what differs in the plan, and its figures."""
    plans = told["plan"], other["plan"]
    names = [name for name in plans[0] if name not in UNUSED and plans[0][name] != plans[1][name]]
    shown = ("name", "began", "phases", "objective", "throttling", "trouble")
    return {
        **{name: other[name] for name in shown},
        "differs": [{"name": name, "here": plans[0][name], "there": plans[1][name]} for name in names],
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="Simulation.report", description=__doc__, allow_abbrev=False)
    parser.add_argument("--bucket", required=True, help="where the results are")
    parser.add_argument("--name", required=True, help="of the simulation")
    parser.add_argument("--against", metavar="OTHER", help="the name of another simulation, to set beside it")
    parser.add_argument(
        "--p99-ms", type=float, default=10.0, metavar="MS", help="objective: 99 of 100 calls end before (default: 10)"
    )
    parser.add_argument(
        "--errors",
        type=float,
        default=0.0001,
        metavar="SHARE",
        help="objective: a smaller share of calls is without an answer (default: 0.0001)",
    )
    parser.add_argument("--region", help="whose prices count (default: the table's)")
    args = parser.parse_args(argv)
    for option, name in (("--name", args.name), ("--against", args.against)):
        if name is not None and not NAME.fullmatch(name):
            parser.error(f"{option} is a-z, 0-9, '.', '_' and '-', 100 at most, not {name!r}.")
    if args.against == args.name:
        parser.error("--against names another simulation than --name.")
    if not 0 < args.p99_ms < float("inf"):
        parser.error(f"--p99-ms is milliseconds, more than 0, not {args.p99_ms}.")
    if not 0 < args.errors <= 1:
        parser.error(f"--errors is a share of the calls, more than 0 and 1 at most, not {args.errors}.")
    if args.region is not None and args.region not in PRICES:
        parser.error(f"--region has no known prices: {args.region}. Known are those of {', '.join(PRICES)}.")
    return args


if __name__ == "__main__":
    sys.exit(main())
