"""Workers under way: what they write, how they end, and that an open loop sees a stall."""

from __future__ import annotations

import math
import signal
import time
from typing import Any

import pytest

from benchmarks.online_worker import closed_loop
from feature_store import cql
from feature_store.energy import ENERGY
from feature_store.online import Options
from infra.local.cassandra.faults import Way
from Simulation import entities
from Simulation.latencies import Latencies
from Simulation.recording import Ended
from tests.integration.capacity import Capacity
from tests.integration.online.conftest import IDS, KEYSPACE, PATIENT, Table
from tests.integration.Simulation.conftest import Simulation

# Calls are made by the clock, and processes have seconds to end.
pytestmark = [pytest.mark.integration, pytest.mark.alone]


class TestRuns:
    def test_a_worker_that_is_killed_loses_seconds_only(self, simulation: Simulation) -> None:
        """Both begin together; the one that is left makes its own share and no more."""
        line = "--rates 80 --seconds 12 --arrivals constant --many 0.25 --many-size 5"
        kept, killed = (simulation.start(line, workers=2, worker=worker) for worker in (0, 1))
        simulation.until(lambda keys: any("workers/01/samples-000001" in key for key in keys))
        killed.process.kill()
        ended = kept.end()
        assert ended.status == 0, ended.log
        results = simulation.results()
        assert (results.lost, results.missing) == ([1], [])
        whole, part = ({each.second for each in results.workers[worker].samples if each.answered} for worker in (0, 1))
        assert whole == set(range(12))
        assert part >= set(range(10))
        assert results.workers[0].start == results.workers[1].start
        assert results.workers[0].ended == Ended("done")
        summary = ended.summary
        assert (summary["state"], summary["offered"], summary["answered"], summary["errors"]) == ("done", 480, 480, {})
        assert sum(each.answered for each in results.workers[0].samples) == 480
        assert summary["entities"] == 480 + 4 * sum(
            each.answered for each in results.workers[0].samples if each.call == "get_many"
        )
        assert summary["read_units"] == summary["entities"]  # a row is less than 4 KB
        assert summary["missing"] == 0
        assert "answered, p50" in ended.log
        assert all(each.process_cpu for each in results.workers[0].vitals[:11])
        again = simulation.start(line, workers=2).end()
        assert (again.status, again.summary["state"]) == (2, "failed")
        assert again.summary["error"].startswith(f"The name {simulation.name} is used:")

    def test_what_the_table_refuses_is_seen_by_tries_and_by_errors(
        self, simulation: Simulation, capacity: Capacity
    ) -> None:
        before = simulation.table.counted()
        capacity.set(rcu=100)
        ended = simulation.start("--rates 50,200 --seconds 3 --arrivals constant --deadline 0.5 --ids zipf:1.1").end()
        assert ended.status == 0, ended.log
        first, second = ([each for each in simulation.results().samples if each.phase == phase] for phase in (0, 1))
        assert not any(each.throttled or each.failed for each in first)
        assert {kind for each in second for kind in each.errors} == {"ThrottledError"}
        throttled = sum(each.throttled for each in second)
        assert throttled > sum(each.failed for each in second)  # some were answered all the same
        # The last try of a call may have had no time left: it counts as what those before it were.
        assert simulation.table.counted()[1] - before[1] == pytest.approx(throttled, rel=0.1)

    def test_a_task_that_is_stopped_writes_what_it_has(self, simulation: Simulation) -> None:
        worker = simulation.start("--rates 50 --seconds 600")
        simulation.until(lambda keys: any("samples-000000" in key for key in keys))
        time.sleep(1)
        asked = time.monotonic()
        worker.process.send_signal(signal.SIGTERM)
        ended = worker.end()
        assert time.monotonic() - asked < 10
        assert (ended.status, ended.summary["state"]) == (1, "stopped")
        assert "It was stopped after" in ended.summary["error"]
        results = simulation.results()
        assert results.workers[0].ended == Ended("stopped", ended.summary["error"])
        assert sum(each.answered for each in results.samples) == ended.summary["answered"] > 100

    def test_a_task_that_is_stopped_while_it_waits_for_the_others(self, simulation: Simulation) -> None:
        worker = simulation.start("--rates 50 --seconds 600", workers=2)
        simulation.until(lambda keys: any("plan.json" in key for key in keys))
        worker.process.send_signal(signal.SIGTERM)
        ended = worker.end(10)
        assert (ended.status, ended.summary["state"]) == (1, "stopped")
        assert simulation.results().workers[0].ended == Ended("stopped", "It was stopped before the run began.")


class TestCanNot:
    """It ends with 1 and one sentence, soon; and what is secret is in nothing that it says (Worker.end looks)."""

    LINE = "--rates 10 --seconds 1"

    def refused(self, simulation: Simulation, said: str, environ: Any = None, **other: Any) -> None:
        began = time.monotonic()
        ended = simulation.start(self.LINE, environ, **other).end()
        assert (ended.status, ended.summary["state"]) == (1, "failed")
        assert said in ended.summary["error"]
        assert "Traceback" not in ended.log
        assert time.monotonic() - began < 30

    def test_sign_in(self, simulation: Simulation) -> None:
        wrong = {"KEYSPACES_PASSWORD": "none"}  # pragma: allowlist secret
        self.refused(simulation, "No connection to Keyspaces at", wrong)
        assert not simulation.store.list(f"simulation_results/{simulation.name}/")  # the name may be used again

    def test_read_a_table_that_is_not_there(self, simulation: Simulation) -> None:
        self.refused(simulation, "can't be asked for", view="energy_recent_features")

    def test_find_anybody(self, simulation: Simulation, table: Table) -> None:
        cql.apply(table.connection.session, cql.keyspace("nobody") + cql.table(ENERGY, "nobody"))
        self.refused(simulation, "nobody.energy_data_features is empty: there is nobody to ask for", keyspace="nobody")

    def test_write_to_a_bucket_that_is_not_there(self, simulation: Simulation) -> None:
        self.refused(simulation, "There is no bucket missing", bucket="missing")

    def test_begin_without_the_others(self, simulation: Simulation) -> None:
        self.refused(simulation, "are missing: 1, 2 (of 0 to 2)", **{"workers": 3, "start-within": 2})
        assert simulation.results().workers[0].ended is not None


def test_ids_are_found_by_one_row_of_each(table: Table, capacity: Capacity) -> None:
    before = table.counted()
    session = table.connection.session
    assert entities.find(session, ENERGY, KEYSPACE) == IDS
    reads = table.counted()[0] - before[0]
    assert reads <= len(IDS) + 2 * entities.PARTS
    some = entities.find(session, ENERGY, KEYSPACE, most=50)
    assert len(some) == 50
    capacity.set(rcu=100)
    assert entities.find(session, ENERGY, KEYSPACE) == IDS  # in spite of what is refused


class Stalling(Way):
    """A way on which nothing passes for the last second of every ten."""

    EVERY, STALL = 10.0, 1.0

    @property  # type: ignore[override]
    def delay(self) -> float:
        into = time.monotonic() % self.EVERY
        return self.EVERY - into if into > self.EVERY - self.STALL else 0.0

    @delay.setter
    def delay(self, seconds: float) -> None:
        """Way's own beginning sets it."""


def test_a_stall_is_seen_by_an_open_loop_and_hidden_by_a_closed_one(simulation: Simulation, table: Table) -> None:
    """1 s of 10: 10 % of the calls of an open loop wait for up to a second; of a closed one, one in thousands does.

    One after the other: a closed loop takes all that the machine has, and would be seen in the other's calls.
    """
    with Stalling(table.cassandra.stack) as way, table.by(way) as connection:
        ended = simulation.start(
            "--rates 100 --seconds 20 --deadline 5", {"KEYSPACES_HOST": way.host, "KEYSPACES_PORT": str(way.port)}
        ).end()
        reader = connection.reader(ENERGY, Options(deadline=PATIENT))
        closed, errors = closed_loop(1, 20, lambda: reader.get(IDS[0]))
    assert ended.status == 0, ended.log
    assert not errors
    latencies = Latencies.merged(text for each in simulation.results().samples for text in each.latency)
    print({share: (latencies.quantile(share), quantile(closed, share)) for share in (0.5, 0.9, 0.99, 0.999, 1.0)})
    # Of those that are due in the stall, each tenth waits for more than 0.9 s, which is 1 % of all.
    assert latencies.quantile(0.5) < 0.1
    assert 0.8 < latencies.quantile(0.99) < 1.1
    assert 0.95 < latencies.quantile(0.999) < 1.3
    assert quantile(closed, 0.99) < 0.2
    assert quantile(closed, 0.999) < 0.8
    assert max(closed) > 0.8  # it was there
    assert sum(took > 0.5 for took in closed) / len(closed) < 0.005


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
