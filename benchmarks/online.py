"""Reads of the newest features, one entity and a hundred, at rates that do not wait: ours beside other ways.

Each way reads in a process of its own, from a server on the same machine over TLS, the same rows: a table in files,
which nothing else reads or writes. First callers that wait for their answers (a closed loop), then calls at a rate (an
open loop): the same rates for all ways, those that a way can bear. Last, our calls and the driver's in turns in one
process: what ours take more.
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks import online_store, report
from benchmarks.features import LOGS
from benchmarks.online_rival import FEAST, Feast
from benchmarks.online_store import KEYSPACE, Rows
from benchmarks.online_worker import Worker
from benchmarks.open_loop import Call, Loads
from benchmarks.sync_server import Server

ROWS = 1_001_000
SECONDS = 8.0
ROUNDS = 2
SIZES = {"get": 1, "get_many": 100}  # entities of a call
OURS, BARE = "ours", "driver"
# One by one it would be `driver` again.
ONLY_MANY = {"concurrent"}
WAYS = (OURS, BARE, "concurrent", "original")
CALLERS = (1, 8)  # that wait for their answers
SHARES = (0.1, 0.25, 0.5, 0.75)  # rates, of the most that one caller of ours gets
BEARABLE = 0.9  # of the most that a way gets: above it, the queue of an open loop only grows
THREADS = 32  # of an open loop
WARM_SECONDS = 3.0
LOOKED_AT = 50  # entities whose features have to be the same by each way
PAIR_ROUNDS, PAIR_SECONDS = 5, 8.0

COLUMNS = (
    "name",
    "calls",
    "rate",
    "rows_per_s",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "p999_ms",
    "cpu_us",
    "server_cpu_us",
    "errors",
)
NOTES = (
    "rows: entities that were read. ms: of a call; in an open loop from when it was due. cpu_us: of the reader's "
    "process, and of the server's, for each row.",
    "driver: its prepared LIMIT 1, a hundred by execute_async; concurrent: by execute_concurrent_with_args; original: "
    "all columns of all days, one entity after another; feast_store: online_read; feast_features: get_online_features.",
    "All ask at LOCAL_QUORUM, but the original, which has the driver's LOCAL_ONE.",
    "p99.9 of fewer than 1,000 calls is the slowest.",
    "Feast's Cassandra store has no setting for TLS or consistency: both were set in its process, as for the others.",
)


@dataclass
class Measured:
    """What has come of one case, over all rounds."""

    name: str
    size: int
    rate: float | None = None
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    all_seconds: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    server_cpu_s: float = 0.0
    peak_mb: float = 0.0

    def add(self, found: Mapping[str, Any]) -> None:
        """Take what a round has given; RuntimeError if no call of it was answered."""
        if sum(found["errors"].values()) == len(found["latencies"]):
            raise RuntimeError(f"No call of {self.name} was answered: {found['errors']}")
        self.latencies += found["latencies"]
        self.errors.update(found["errors"])
        self.all_seconds.append(found["elapsed"])
        self.cpu_s += found["cpu_s"]
        self.server_cpu_s += found["server_cpu_s"]
        self.peak_mb = max(self.peak_mb, found["rss_mb"])

    @property
    def calls_per_s(self) -> float:
        """Calls that were answered, in a second."""
        return (len(self.latencies) - self.errors.total()) / sum(self.all_seconds)

    def summary(self) -> dict[str, object]:
        """The case as the JSON has it."""
        loads = Loads([Call(0.0, 0.0, seconds, None) for seconds in self.latencies])
        reads = (len(self.latencies) - self.errors.total()) * self.size
        each = 1e6 / reads if reads else 0.0
        return {
            "name": self.name,
            "seconds": round(statistics.median(self.all_seconds), 2),
            "all_seconds": [round(seconds, 2) for seconds in self.all_seconds],
            "runs": len(self.all_seconds),
            "calls": len(self.latencies),
            "rate": self.rate,
            "rows": reads,
            "rows_per_s": round(reads / sum(self.all_seconds)),
            **{
                f"p{name}_ms": round(1e3 * loads.quantile(share), 3)
                for name, share in {"50": 0.5, "95": 0.95, "99": 0.99, "999": 0.999}.items()
            },
            "cpu_s": round(self.cpu_s, 2),
            "cpu_us": round(self.cpu_s * each),
            "server_cpu_us": round(self.server_cpu_s * each),
            "peak_mb": round(self.peak_mb),
            "errors": dict(self.errors) or None,
        }


def run(say: Callable[[str], None], rows: int = ROWS, seconds: float = SECONDS, rounds: int = ROUNDS) -> None:
    """Measure, show a table, write build/bench/online.json.

    Args:
        say: where progress is told.
        rows: of the table, about.
        seconds: that each case has in a round.
        rounds: how often, in turns.
    """
    say("data: a million rows of features (made once), a server, the rows in its files")
    made = online_store.make(rows)
    feast = Feast(made, say)
    server = online_store.serve(made, feast.load)
    try:
        with ExitStack() as stack:
            workers = {way: stack.enter_context(_ours(way, made, server)) for way in WAYS}
            if not feast.why_not:
                workers |= {f"feast_{way}": stack.enter_context(feast.reader(way, server)) for way in FEAST}
            bench = _Bench(workers, seconds, rounds, say)
            bench.warm_up()
            _same(workers, made)
            bench.closed_loops()
            bench.open_loops()
            own = [bench.own_time(call) for call in SIZES]
    finally:
        server.stop()
    not_done = [f"Feast was not measured: {feast.why_not}"] if feast.why_not else []
    _show(bench, own, [f"The table has {made.table.num_rows:,} rows.", *NOTES, *not_done, *bench.notes])


class _Bench:
    """The cases, as they are measured."""

    def __init__(self, workers: Mapping[str, Worker], seconds: float, rounds: int, say: Callable[[str], None]) -> None:
        self.workers, self.seconds, self.rounds, self.say = workers, seconds, rounds, say
        self.measured: dict[tuple[str, str, str], Measured] = {}  # by way, call and load
        self.notes: list[str] = []

    def warm_up(self) -> None:
        """Read unmeasured: the first reads load the code of the server and the files' pages."""
        for way, call in self._pairs():
            self._do(way, call, "closed", callers=1, seconds=min(WARM_SECONDS, self.seconds))

    def closed_loops(self) -> None:
        """Callers that wait for their answers."""
        for number in range(self.rounds):
            for callers in CALLERS:
                for way, call in self._pairs():
                    found = self._do(way, call, "closed", callers=callers, seconds=self.seconds / 2)
                    self._add(way, call, f"{callers} waiting", None, found, number)

    def open_loops(self) -> None:
        """Calls at rates."""
        rates = {call: _rates(self._most(OURS, call, CALLERS[:1])) for call in SIZES}
        borne = []
        for way, call in self._pairs():
            most = self._most(way, call, CALLERS)
            borne += [(way, call, rate) for rate in rates[call] if rate <= BEARABLE * most]
            if left := [rate for rate in rates[call] if rate > BEARABLE * most]:
                at = ", ".join(f"{rate:g}" for rate in left)
                self.notes.append(f"{call} {way} was not asked for {at} calls a second: its most is {most:.1f}.")
        for number in range(self.rounds):
            for way, call, rate in sorted(borne, key=lambda case: (case[1], case[2])):
                found = self._do(way, call, "open", callers=THREADS, seconds=max(self.seconds, 2 / rate), rate=rate)
                self._add(way, call, f"{rate:g}/s", rate, found, number)

    def own_time(self, call: str) -> dict[str, object]:
        """What a call of ours takes more than the driver's, in microseconds, both in one process, in turns."""
        turns = sum(1 / self._most(way, call, CALLERS[:1]) for way in (OURS, BARE))
        pairs = max(10, int(min(self.seconds, PAIR_SECONDS) / turns))
        found = [self._do(OURS, call, "pairs", pairs=pairs) for _ in range(PAIR_ROUNDS)]
        of = {name: 1e6 * statistics.median(one[name] for one in found) for name in found[0]}
        self.say(f"own time of {call:<9} {of['clock_more']:7.1f} us, of the process's CPU {of['process_more']:7.1f} us")
        return {
            "name": f"{call} own_time",
            "pairs": pairs * PAIR_ROUNDS,
            "runs": PAIR_ROUNDS,
            "ours_us": round(of["clock_one"], 1),
            "driver_us": round(of["clock_other"], 1),
            "own_us": round(of["clock_more"], 1),
            "own_us_most_of_a_round": round(1e6 * max(one["clock_more"] for one in found), 1),
            "own_thread_cpu_us": round(of["thread_more"], 1),
            "own_process_cpu_us": round(of["process_more"], 1),
        }

    def _pairs(self) -> Iterator[tuple[str, str]]:
        return ((way, call) for call in SIZES for way in self.workers if call == "get_many" or way not in ONLY_MANY)

    def _most(self, way: str, call: str, callers: Sequence[int]) -> float:
        return max(self.measured[way, call, f"{number} waiting"].calls_per_s for number in callers)

    def _do(self, way: str, call: str, what: str, **task: object) -> Any:  # noqa: ANN401 - JSON
        return self.workers[way].do(what, size=SIZES[call], **task)

    def _add(self, way: str, call: str, load: str, rate: float | None, found: Mapping[str, Any], number: int) -> None:  # noqa: PLR0913, PLR0917
        name = f"{call} {way} {load}"
        case = self.measured.setdefault((way, call, load), Measured(name, SIZES[call], rate))
        case.add(found)
        said = case.summary()
        self.say(f"{number + 1}/{self.rounds} {name:<36} {said['rows_per_s']:>7} rows/s  p50 {said['p50_ms']:>9} ms")


def _rates(most: float) -> list[float]:
    """Rates for an open loop: shares of the most, in two figures."""
    return [float(f"{share * most:.2g}") for share in SHARES]


def _show(bench: _Bench, own: Sequence[Mapping[str, object]], notes: Sequence[str]) -> None:
    calls = list(SIZES)
    measured = sorted(bench.measured.items(), key=lambda item: (calls.index(item[0][1]), item[1].rate or 0))
    cases = [case.summary() for _, case in measured]
    known = [{name: value for name, value in case.items() if value is not None} for case in cases]
    print(f"\n{report.table(known, COLUMNS)}\n")  # noqa: T201 - this is what a person reads
    print(f"{report.table(own, list(own[0]))}\n")  # noqa: T201
    print("\n".join(notes), end="\n\n")  # noqa: T201
    found = _ratios({key: case.summary()["p50_ms"] for key, case in measured})
    for name, ratio in found.items():
        print(f"{name:<56}{ratio:8.2f}")  # noqa: T201
    print(f"\n{report.write('online', [*cases, *own], found, notes=notes)}")  # noqa: T201


def _ratios(medians: Mapping[tuple[str, str, str], Any]) -> dict[str, float]:
    """Divide the medians of one caller that waits by ours."""
    alone = {(way, call): median for (way, call, load), median in medians.items() if load == f"{CALLERS[0]} waiting"}
    return {
        f"{call}_{way}_over_{OURS}": round(median / alone[OURS, call], 3)
        for (way, call), median in alone.items()
        if way != OURS
    }


def _same(workers: Mapping[str, Worker], made: Rows) -> None:
    """Check that each way reads what is in Delta."""
    entities = made.names.read_text().split()[:LOOKED_AT]
    wanted = made.features(entities)
    for way, worker in workers.items():
        if (found := worker.do("look", entities=entities)) != wanted:
            differ = [(one, other) for one, other in zip(found, wanted, strict=False) if one != other]
            raise RuntimeError(f"{way} does not read what is there: {differ[:1]}")


def _ours(way: str, made: Rows, server: Server) -> Worker:
    where = ["--keyspace", KEYSPACE, "--server", str(server.process.pid), "--entities", str(made.names)]
    command = [sys.executable, "-m", "benchmarks.online_ways", way, *where]
    return Worker(command, server.environment, LOGS / f"online_{way}.log")
