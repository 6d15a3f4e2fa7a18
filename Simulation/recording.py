"""What a worker writes: samples of each second, encoded so that those of all workers merge without loss."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import uuid4

from Simulation.plan import Plan

GET, GET_MANY = "get", "get_many"
DONE, STOPPED, FAILED = "done", "stopped", "failed"  # how a worker has ended

THROTTLED = "ThrottledError"  # the class of feature_store.online, by whose name it is counted
MOST_CALLERS = 1000  # calls of a worker that may be under way, each in a thread of its own


class RecordError(ValueError):
    """That is nothing that a worker has written."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What has come of the calls of one kind that were due in one second, as far as they have ended.

    Those of another file, or of another worker, are added: see `merged`.

    Attributes:
        second: from the start of the run, in which they were due.
        phase: the number of the phase.
        call: `get` or `get_many`.
        offered: how many were due.
        sent: how many of them have begun.
        answered: how many gave an answer; those of `sent` that are in neither this nor `errors` have not ended.
        latency: histograms of how long calls that have ended took, answered or not, since they were due.
        service: the same since they began.
        errors: how many calls failed, by the name of the error's class.
        failed_tries: tries that failed and may pass, by what they are if they do not, also of calls that were answered.
        entities: how many were asked for by calls that have ended.
        missing: how many of those have no row.
        stale: how many are too old; none, as workers take them of any age, unless readers are told otherwise.
        read_units: what their answers are estimated to have consumed.
    """

    second: int
    phase: int
    call: str
    offered: int = 0
    sent: int = 0
    answered: int = 0
    latency: tuple[str, ...] = ()
    service: tuple[str, ...] = ()
    errors: Mapping[str, int] = field(default_factory=dict)
    failed_tries: Mapping[str, int] = field(default_factory=dict)
    entities: int = 0
    missing: int = 0
    stale: int = 0
    read_units: float = 0.0

    @property
    def key(self) -> tuple[int, int, str]:
        """What samples that are added have in common."""
        return self.second, self.phase, self.call

    @property
    def failed(self) -> int:
        """How many calls failed."""
        return sum(self.errors.values())

    @property
    def throttled(self) -> int:
        """How many tries the table refused for want of capacity."""
        return self.failed_tries.get(THROTTLED, 0)

    @classmethod
    def merged(cls, samples: Iterable[Samples]) -> list[Samples]:
        """Add those of the same second, phase and call; in their order."""
        found: dict[tuple[int, int, str], list[Samples]] = {}
        for each in samples:
            found.setdefault(each.key, []).append(each)
        return [_sum(found[key]) for key in sorted(found)]


def _sum(samples: list[Samples]) -> Samples:
    first = samples[0]
    return Samples(
        second=first.second,
        phase=first.phase,
        call=first.call,
        offered=sum(each.offered for each in samples),
        sent=sum(each.sent for each in samples),
        answered=sum(each.answered for each in samples),
        latency=tuple(text for each in samples for text in each.latency),
        service=tuple(text for each in samples for text in each.service),
        errors=counted(each.errors for each in samples),
        failed_tries=counted(each.failed_tries for each in samples),
        entities=sum(each.entities for each in samples),
        missing=sum(each.missing for each in samples),
        stale=sum(each.stale for each in samples),
        read_units=sum(each.read_units for each in samples),
    )


def counted(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add counts by name, the most first."""
    found: Counter[str] = Counter()
    for part in parts:
        found.update(part)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """How a worker itself was in one second.

    Attributes:
        second: from the start of the run.
        late: seconds, at most, from when a call was due that somebody was free to make to when it began: the worker's
            own delay.
        waited: how many calls began late as no more may be under way: the server's delay, or too few callers.
        under_way: how many were, at most.
        process_cpu: cores that this process used; Python's own code uses one at most.
        machine_cpu: the share, 0 to 1, of the machine's CPU that was used, by whomever; None where nothing tells it.
        throttled_cpu: seconds for which the container was stopped as it had used up its share of CPU.
    """

    second: int
    late: float = 0.0
    waited: int = 0
    under_way: int = 0
    process_cpu: float = 0.0
    machine_cpu: float | None = None
    throttled_cpu: float = 0.0

    @classmethod
    def merged(cls, vitals: Iterable[Vitals]) -> list[Vitals]:
        """Put together what one worker has said of each second, some of it later; in their order."""
        found: dict[int, Vitals] = {}
        for each in vitals:
            known = found.get(each.second) or cls(second=each.second)
            found[each.second] = cls(
                second=each.second,
                late=max(known.late, each.late),
                waited=known.waited + each.waited,
                under_way=max(known.under_way, each.under_way),
                process_cpu=max(known.process_cpu, each.process_cpu),
                machine_cpu=each.machine_cpu if known.machine_cpu is None else known.machine_cpu,
                throttled_cpu=max(known.throttled_cpu, each.throttled_cpu),
            )
        return [found[second] for second in sorted(found)]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a worker writes every few seconds: what has ended since it last did.

    Attributes:
        worker: its number.
        number: of the batch, from 0.
        start: seconds since 1970 when the run began, by the store's clock: second 0 of all workers.
        samples: by second, phase and call.
        vitals: by second.
    """

    worker: int
    number: int
    start: float
    samples: tuple[Samples, ...] = ()
    vitals: tuple[Vitals, ...] = ()

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, content: bytes) -> Batch:
        """Take what `encode` has given; RecordError if it is none of it."""
        said = _object(content)
        try:
            samples = tuple(_samples(each) for each in said.pop("samples"))
            return cls(samples=samples, vitals=tuple(Vitals(**each) for each in said.pop("vitals")), **said)
        except (KeyError, TypeError) as error:
            raise RecordError(f"That is no batch of samples: {error}.") from error


def _samples(said: Mapping[str, Any]) -> Samples:
    return Samples(**{**said, "latency": tuple(said["latency"]), "service": tuple(said["service"])})


@dataclass(frozen=True, kw_only=True)
class Ready:
    """What a worker writes first: it is there, and this is what it will do.

    Attributes:
        worker: its number.
        plan: the same for all.
        cores: of the machine, or of the container's share of it.
        callers: calls that may be under way at once.
        ids: how many distinct ones it draws from.
        units: read units of an entity's read, as estimated.
        region: of the table.
        token: drawn by each, so that it knows its own file from that of another of its number.
    """

    worker: int
    plan: Plan
    cores: float = 0.0
    callers: int = 0
    ids: int = 0
    units: float = 1.0
    region: str = ""
    token: str = field(default_factory=lambda: uuid4().hex)

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps({**asdict(self), "plan": self.plan.to_json()}).encode()

    @classmethod
    def decode(cls, content: bytes) -> Ready:
        """Take what `encode` has given; RecordError if it is none of it."""
        said = _object(content)
        try:
            return cls(**{**said, "plan": Plan.from_json(said["plan"])})
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"That is no plan of a worker: {error}") from error


@dataclass(frozen=True)
class Ended:
    """What a worker writes last.

    Attributes:
        state: `done`, `stopped` (by SIGTERM) or `failed`.
        reason: a sentence; empty where it is done.
    """

    state: str
    reason: str = ""

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, content: bytes) -> Ended:
        """Take what `encode` has given; RecordError if it is none of it."""
        try:
            return cls(**_object(content))
        except TypeError as error:
            raise RecordError(f"That is no end of a worker: {error}.") from error


def _object(content: bytes) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except ValueError as error:
        raise RecordError(f"That is no JSON: {error}.") from error
    if not isinstance(said, dict):
        raise RecordError("That is no JSON object.")
    return said
