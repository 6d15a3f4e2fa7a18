"""Writes what a worker has recorded, every few seconds and beside its calls, and says how it goes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from feature_store import layout
from Simulation import bottleneck
from Simulation.latencies import Latencies
from Simulation.load import Load
from Simulation.machine import Used
from Simulation.recorder import Recorder
from Simulation.recording import Batch, Samples, Vitals, counted
from Simulation.store import Store, StoreError

NOTHING = Samples(second=0, phase=0, call="")
EVERY = 5.0  # seconds: what a worker that is killed loses
log = logging.getLogger(__name__)


class Writer:
    """What has been recorded so far, written in batches by a thread of its own; another one looks at the CPU."""

    def __init__(self, store: Store, name: str, worker: int, start: float, load: Load, recorder: Recorder) -> None:  # noqa: PLR0913, PLR0917
        """Write to a worker's folder; `start` is second 0 by the store's clock."""
        self._store, self._folder = store, layout.simulation_worker(name, worker)
        self._worker, self._start, self._load, self._recorder = worker, start, load, recorder
        self._over = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._look_on, self._write_on)]
        self._taking = threading.Lock()
        self._unwritten: list[Batch] = []
        self._batches = 0
        self._said = 0.0
        self._total = NOTHING
        self._latencies = Latencies()
        self._vitals: list[Vitals] = []

    def begin(self) -> None:
        """Begin to write."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Write what is left.

        Raises:
            StoreError: it can't be written.
        """
        self._over.set()
        for thread in self._threads:
            self._take()  # before a write that hangs is waited for: the summary has it in any case
            if thread.ident is not None:  # or a signal came before it was started
                thread.join()
        self._take()
        self._write()

    def summary(self) -> dict[str, Any]:
        """What was done so far, as the summary has it."""
        total = self._total
        quantiles = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999} if len(self._latencies) else {}
        return {
            **{name: getattr(total, name) for name in ("offered", "sent", "answered", "entities", "missing")},
            "errors": dict(total.errors),
            "failed_tries": dict(total.failed_tries),
            "read_units": total.read_units,
            **{name: round(self._latencies.quantile(share) * 1000, 3) for name, share in quantiles.items()},
            "bottleneck": bottleneck.reasons(Vitals.merged(self._vitals), self._load.callers),
        }

    def _write_on(self) -> None:
        while not self._over.wait(self._until_next(EVERY)):
            self._take()
            try:
                self._write()
            except StoreError as error:
                log.warning("%s It is tried again in %g s.", error, EVERY)

    def _look_on(self) -> None:
        """Look at the CPU when a second is over, from when the run begins."""
        if self._over.wait(max(0.0, -self._load.now())):
            return
        before, second, looked = Used.now(), int(self._load.now()), self._load.now()
        while not self._over.wait(self._until_next(1.0)):
            used, now = Used.now(), self._load.now()
            seconds = now - looked
            process, stopped = (used.process - before.process) / seconds, (used.stopped - before.stopped) / seconds
            self._recorder.cpu(second, process, used.machine_share(before), stopped)
            before, second, looked = used, int(now), now

    def _until_next(self, seconds: float) -> float:
        """Seconds until so many are over once more, of the run: all workers look at the same moments."""
        now = max(0.0, self._load.now())
        return (now // seconds + 1) * seconds - self._load.now()

    def _take(self) -> None:
        with self._taking:
            samples, vitals = self._recorder.take()
            if not (samples or vitals):
                return
            batch = Batch(
                worker=self._worker,
                number=self._batches,
                start=self._start,
                samples=tuple(samples),
                vitals=tuple(vitals),
            )
            self._unwritten.append(batch)
            self._batches += 1
            self._vitals += vitals
            self._say(samples)

    def _write(self) -> None:
        while self._unwritten:
            batch = self._unwritten[0]
            self._store.write(f"{self._folder}samples-{batch.number:06}.json", batch.encode())
            self._unwritten.pop(0)

    def _say(self, samples: Sequence[Samples]) -> None:
        """A line of the seconds since the last one, for who looks on."""
        now = self._load.now()
        seconds, self._said = max(now - self._said, 1e-3), now
        latencies = Latencies.merged(text for each in samples for text in each.latency)
        self._latencies.add(latencies)
        # Numbers alone: the histograms are in one already.
        same = (replace(each, second=0, phase=0, call="", latency=(), service=()) for each in samples)
        (self._total,) = Samples.merged([self._total, *same])
        errors = counted(each.errors for each in samples)
        took = (
            f"p50 {latencies.quantile(0.5) * 1000:.1f} ms, p99 {latencies.quantile(0.99) * 1000:.1f} ms"
            if len(latencies)
            else "none has ended"
        )
        log.info(
            "%4.0f s: %.1f calls/s due, %.1f answered, %s; %s",
            *(now, sum(each.offered for each in samples) / seconds, sum(each.answered for each in samples) / seconds),
            *(took, ", ".join(f"{count} {name}" for name, count in errors.items()) or "no errors"),
        )
