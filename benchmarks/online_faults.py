"""Reads online while something goes wrong: what they end with meanwhile, and when all are answered again.

Each case is a load of reads of single entities at a fixed rate (benchmarks/open_loop.py), by one connection to a
stand-in of its own, through whatever goes wrong and past it. The rows are few, as no case is about their number.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import open_loop, sync_server
from benchmarks.features import WORK
from benchmarks.open_loop import Call
from feature_store import cql, online
from feature_store.energy import ENERGY
from feature_store.online import Connection, Options
from infra.local.cassandra.faults import Authority, Way, add_endpoint
from infra.local.settings import HOST, REGION, Ports, Stack

KEYSPACE = "bench_faults"
TABLE = f'"{KEYSPACE}"."{ENERGY.name}"'
INSERT = f'INSERT INTO {TABLE} ("{ENERGY.entity}", "{ENERGY.day}", energy_sum) VALUES (%s, %s, %s)'  # noqa: S608 - names
ENTITIES = [f"SYN{number:06}" for number in range(100)]
RATE, THREADS = 200, 200  # reads a second, and how many may be under way: more than the deadline lets pile up
DEADLINE = 0.5  # seconds
BEFORE, FAULT, AFTER = 3.0, 5.0, 15.0  # seconds
RESTART = 30.0  # seconds that a server may take to start
SLOW_SECONDS = 0.1  # in each direction: late, and within the deadline
TOO_SLOW_SECONDS = 2.0
THROTTLED_UNITS = RATE // 10  # read units a second
WHOLE = 1.0  # second in which all reads have to be answered

COLUMNS = ("name", "fault_s", "reads", "answers", "errors", "longest_s", "recovery_s")


@dataclass(frozen=True)
class Scenario:
    """What goes wrong with the reads of a connection.

    Attributes:
        connection: by which is read.
        begin: lets it begin.
        end: lets it end, and returns when it has.
        after: seconds of the load after `begin` and FAULT.
    """

    connection: Connection
    begin: Callable[[], object] = lambda: None
    end: Callable[[], object] = lambda: None
    after: float = AFTER


@dataclass
class Server:
    """The stand-in, which can be killed and started again."""

    stack: Stack

    def __post_init__(self) -> None:
        """Start it, and fill its table."""
        self._process = sync_server.serve(self.stack)
        self.limit(0)  # a run that was broken off may have left another
        day = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
        with self.connect() as made:
            cql.apply(made.session, cql.keyspace(KEYSPACE) + cql.table(ENERGY, KEYSPACE))
            for entity in ENTITIES:
                for back in range(2):
                    made.session.execute(INSERT, (entity, day - dt.timedelta(days=back), 1.0))

    def connect(self, port: int | None = None, ca: Path | None = None) -> Connection:
        """Read by a port, trusting an authority; those of the stand-in unless others are given."""
        secrets = self.stack.secrets
        return online.connect(
            host=HOST,
            port=port or self.stack.ports.keyspaces_port,
            username=secrets.keyspaces_username,
            password=secrets.keyspaces_password,
            ca=ca or self.stack.ca,
            region=REGION,
            keyspace=KEYSPACE,
        )

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        """Start it again; it answers by then."""
        self._process = sync_server.serve(self.stack)

    def limit(self, units: float) -> None:
        """Take so many read units a second; 0 takes all."""
        file = self.stack.home / "cassandra" / "capacity.properties"
        part = file.with_suffix(".part")
        part.write_text(f"rcu = {units}\n")
        part.replace(file)


Case = Callable[[Server], AbstractContextManager[Scenario]]


@contextmanager
def _nothing(server: Server) -> Iterator[Scenario]:
    with server.connect() as connection:
        yield Scenario(connection)


@contextmanager
def _restarted(server: Server) -> Iterator[Scenario]:
    with server.connect() as connection:
        yield Scenario(connection, server.kill, server.start, RESTART + AFTER)


@contextmanager
def _throttled(server: Server) -> Iterator[Scenario]:
    with server.connect() as connection:
        yield Scenario(connection, lambda: server.limit(THROTTLED_UNITS), lambda: server.limit(0))


def _slow(seconds: float) -> Case:
    @contextmanager
    def slow(server: Server) -> Iterator[Scenario]:
        with Way(server.stack) as way, server.connect(way.port) as connection:
            yield Scenario(connection, lambda: _delay(way, seconds), lambda: _delay(way, 0.0))

    return slow


@contextmanager
def _one_of_two_slow(server: Server) -> Iterator[Scenario]:
    with (
        Way(server.stack) as way,
        Way(server.stack, "127.0.0.2", way.port) as other,
        server.connect(way.port) as connection,
    ):
        add_endpoint(connection.session, other.host, other.port)
        yield Scenario(connection, lambda: _delay(other, TOO_SLOW_SECONDS), lambda: _delay(other, 0.0))


@contextmanager
def _gone(server: Server) -> Iterator[Scenario]:
    with Way(server.stack) as way, server.connect(way.port) as connection:
        yield Scenario(connection, way.lose, way.find)


@contextmanager
def _poisoned(server: Server) -> Iterator[Scenario]:
    """One of a hundred entities has a row of a day that has not begun."""
    day = dt.date(2999, 1, 1)
    delete = f'DELETE FROM {TABLE} WHERE "{ENERGY.entity}" = %s AND "{ENERGY.day}" = %s'  # noqa: S608 - names
    with server.connect() as connection:
        run = connection.session.execute
        yield Scenario(
            connection, lambda: run(INSERT, (ENTITIES[0], day, 1.0)), lambda: run(delete, (ENTITIES[0], day))
        )


@contextmanager
def _expired(server: Server) -> Iterator[Scenario]:
    """The certificate expires, and the connections that there are end."""
    authority = Authority(server.stack, server.stack.home)
    with Way(server.stack, authority=authority) as way, server.connect(way.port, authority.ca) as connection:

        def begin() -> None:
            authority.sign(expired=True)
            way.cut()

        yield Scenario(connection, begin, lambda: authority.sign(expired=False))


def _delay(way: Way, seconds: float) -> None:
    way.delay = seconds


CASES: Mapping[str, Case] = {
    "nothing_wrong": _nothing,
    "node_restarted": _restarted,
    "throttled_to_a_tenth": _throttled,
    "slow_within_deadline": _slow(SLOW_SECONDS),
    "slow_beyond_deadline": _slow(TOO_SLOW_SECONDS),
    "one_of_two_endpoints_slow": _one_of_two_slow,
    "connection_dead_silently": _gone,
    "poisoned_row": _poisoned,
    "certificate_expired": _expired,
}


def run(
    wanted: Callable[[str], bool], runs: int | None, say: Callable[[str], None]
) -> tuple[list[Mapping[str, object]], Sequence[str]]:
    """Measure the cases that are wanted; their rows, one a run, and the columns of the table."""
    server = Server(Stack(WORK / "faults_stack", Ports.free()))
    rows: list[Mapping[str, object]] = []
    for _ in range(runs or 1):
        for name, case in CASES.items():
            if wanted(name):
                with case(server) as scenario:
                    rows.append({"name": name, **_measured(scenario)})
                say(", ".join(f"{column} {rows[-1][column]}" for column in COLUMNS))
    return rows, COLUMNS


def _measured(scenario: Scenario) -> dict[str, object]:
    reader = scenario.connection.reader(ENERGY, Options(deadline=DEADLINE))
    reader.get_many(ENTITIES[:10])  # not the first ones ever
    made: list[open_loop.Loads] = []
    seconds = BEFORE + FAULT + scenario.after

    def load() -> None:
        made.append(open_loop.run(RATE, seconds, lambda: reader.get(random.choice(ENTITIES)), THREADS))  # noqa: S311

    loading = threading.Thread(target=load)
    loading.start()
    time.sleep(BEFORE)
    began = time.monotonic()
    scenario.begin()
    time.sleep(max(0.0, began + FAULT - time.monotonic()))
    scenario.end()
    ended = time.monotonic()
    loading.join()
    return summary(made[0].calls, began, ended)


def summary(calls: Sequence[Call], began: float, ended: float) -> dict[str, object]:
    """What became of reads.

    Args:
        calls: all of them, in the order in which they were due.
        began: when the fault did, on their clock.
        ended: when it did.

    Returns:
        Seconds of the fault; of the reads that were due in it: how many, and how many of them were answered; of all
        since it began: errors by kind, and the longest call, in seconds; seconds from its end to the first second in
        which all reads that were due are answered, or "never".
    """
    meanwhile = [call for call in calls if began <= call.due < ended]
    since = [call for call in calls if call.due >= began]
    errors = Counter(call.error for call in since if call.error)
    recovered = recovery(calls, ended)
    return {
        "fault_s": round(ended - began, 1),
        "reads": len(meanwhile),
        "answers": sum(call.error is None for call in meanwhile),
        "errors": " ".join(f"{kind} {count}" for kind, count in errors.most_common()) or "none",
        "longest_s": round(max(call.latency for call in since), 3),
        "recovery_s": "never" if recovered is None else round(recovered, 2),
    }


def recovery(calls: Sequence[Call], ended: float) -> float | None:
    """Seconds from a fault's end to the first second in which all reads that are due are answered; None without one."""
    begin = ended
    for call in calls:
        if call.due >= ended:
            if call.due >= begin + WHOLE:
                return begin - ended
            if call.error:
                begin = call.due + 1e-6  # right after it
    return None
