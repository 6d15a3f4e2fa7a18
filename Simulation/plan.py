"""What a simulation is to do: how many calls at which times, of whom, and read how. It is the same for all workers."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import accumulate, pairwise
from typing import Any

from feature_store import cql, layout, registry
from feature_store.energy import ENERGY
from feature_store.view import FeatureView

ARRIVALS, SHAPES = ("poisson", "constant"), ("steps", "ramp", "spike")
UNIFORM, ZIPF, TRACE = "uniform", "zipf", "trace"
NAME = re.compile(layout.SIMULATION_NAME)
OBJECT = re.compile(r"s3://[^/]+/.+")
WORKERS = 100  # so that two digits name one
LONGEST, MOST = 24 * 3600, 1e6  # seconds of a rate, and calls per second of all workers: more is a slip of the pen
MANY = 10_000  # entities of a call


class PlanError(ValueError):
    """What is asked for can't be done; one sentence says what, and what could."""


@dataclass(frozen=True)
class Phase:
    """A time of one rate, or of one that climbs or falls evenly.

    Attributes:
        number: which phase it is, from 0.
        begins: seconds from the start of the run.
        seconds: how long it is.
        rate: calls per second of all workers, when it begins.
        until: the same when it ends: another one in a ramp.
    """

    number: int
    begins: int
    seconds: int
    rate: float
    until: float

    @property
    def mean(self) -> float:
        """Calls per second of all workers, over the whole of it."""
        return (self.rate + self.until) / 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all workers of a simulation do together.

    Attributes:
        name: of the simulation, and of its folder.
        workers: how many there are.
        rates: calls per second of all workers together, in their order.
        seconds: of each rate.
        arrivals: `poisson`, as of many callers who know nothing of each other, or `constant`, evenly spaced.
        shape: `steps` from rate to rate; `ramp`, which climbs evenly from each to the next; `spike`, in which each rate
            but the first comes at once, and the first is before and after it.
        many: the share of the calls, 0 to 1, that are get_many.
        many_size: entities of such a call.
        ids: who is asked for: `uniform`, `zipf:S` or `trace:URI`.
        view: whose features.
        keyspace: of its table.
        seed: of all that is drawn.
        deadline: seconds of a call, all tries included.
        strong: whether reads are at LOCAL_QUORUM.
        capacity: read units per second that the table is provisioned with; None where that is not known.
    """

    name: str
    workers: int
    rates: tuple[float, ...]
    seconds: int
    arrivals: str = "poisson"
    shape: str = "steps"
    many: float = 0.0
    many_size: int = 20
    ids: str = UNIFORM
    view: str = ENERGY.name
    keyspace: str = cql.KEYSPACE
    seed: int = 0
    deadline: float = 1.0
    strong: bool = True
    capacity: float | None = None

    def __post_init__(self) -> None:
        """Raise PlanError for what can't be done."""
        for value, good, what in self._rules():
            if not good:
                raise PlanError(f"{what}, not {value!r}.")

    def _rules(self) -> Sequence[tuple[object, bool, str]]:
        rates = bool(self.rates) and all(0 < rate <= MOST for rate in self.rates)
        several = len(self.rates) > 1 or self.shape == "steps"
        return (
            (self.name, bool(NAME.fullmatch(self.name)), "--name is a-z, 0-9, '.', '_' and '-', 100 at most"),
            (self.workers, 0 < self.workers <= WORKERS, f"--workers is 1 to {WORKERS}"),
            (self.rates, rates, f"--rates are calls per second like 50,100,200, each more than 0 and {MOST:g} at most"),
            (self.rates, several, f"--rates of a {self.shape} are two or more"),
            (self.seconds, 0 < self.seconds <= LONGEST, f"--seconds is a whole number, 1 to {LONGEST}"),
            (self.arrivals, self.arrivals in ARRIVALS, f"--arrivals is {' or '.join(ARRIVALS)}"),
            (self.shape, self.shape in SHAPES, f"--shape is one of {', '.join(SHAPES)}"),
            (self.many, 0 <= self.many <= 1, "--many is a share of the calls, 0 to 1"),
            (self.many_size, 0 < self.many_size <= MANY, f"--many-size is 1 to {MANY} entities"),
            (self.ids, _is_choice(self.ids), "--ids is uniform, zipf:S with S more than 0, or trace:s3://BUCKET/KEY"),
            (
                self.view,
                self.view in {view.name for view in registry.views()},
                f"--view is one of {', '.join(view.name for view in registry.views())}",
            ),
            (
                self.keyspace,
                bool(re.fullmatch(r"\w{1,48}", self.keyspace)),
                "--keyspace is a name of letters and digits",
            ),
            (self.deadline, 0 < self.deadline <= 600, "--deadline is seconds, more than 0 and 600 at most"),
            (self.capacity, self.capacity is None or 0 < self.capacity <= 1e9, "--capacity is read units per second"),
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases, one after the other."""
        first, *others = self.rates
        if self.shape == "ramp":
            ends = list(pairwise(self.rates))
        elif self.shape == "spike":
            ends = [(first, first), *((rate, rate) for peak in others for rate in (peak, first))]
        else:
            ends = [(rate, rate) for rate in self.rates]
        begins = accumulate(ends, lambda at, _: at + self.seconds, initial=0)
        return tuple(
            Phase(number, at, self.seconds, *rates)
            for number, (at, rates) in enumerate(zip(begins, ends, strict=False))
        )

    @property
    def total_seconds(self) -> int:
        """Seconds from when the first call may be due to when the last one may."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def feature_view(self) -> FeatureView:
        """Whose features are read."""
        return registry.view(self.view)

    @property
    def skew(self) -> float:
        """The S of `zipf:S`; ValueError where entities are chosen otherwise."""
        return float(self.ids.removeprefix(f"{ZIPF}:"))

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        return {**asdict(self), "rates": list(self.rates)}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Plan:
        """The plan of what to_json gives.

        Raises:
            PlanError: it is none.
        """
        names = {field.name for field in fields(cls)}
        try:
            if unknown := sorted(set(said) - names):
                raise PlanError(f"A plan has no {', '.join(unknown)}.")
            return cls(**{**said, "rates": tuple(map(float, said["rates"]))})
        except (KeyError, TypeError, AttributeError) as error:
            raise PlanError(f"That is no plan of a simulation: {error}.") from error

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Plan:
        """The plan of a command line that add_arguments has parsed.

        Raises:
            PlanError: an argument is out of its bounds.
        """
        given = {field.name: getattr(args, field.name) for field in fields(cls) if field.name != "strong"}
        return cls(**given, strong=not args.weak)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command take a plan."""
    default = {field.name: field.default for field in fields(Plan)}

    def add(name: str, of: Callable[[str], Any], metavar: str, what: str) -> None:
        value = default[name.lstrip("-").replace("-", "_")]
        said = "" if value is None else f" (default: {value})"
        parser.add_argument(name, type=of, metavar=metavar, default=value, help=f"{what}{said}")

    parser.add_argument(
        "--name", required=True, help="of the simulation: what is written is in simulation_results/NAME/"
    )
    parser.add_argument("--workers", type=int, required=True, metavar="N", help="how many workers there are")
    parser.add_argument(
        "--rates", type=rates, required=True, metavar="R,R,…", help="calls per second of all workers together"
    )
    parser.add_argument("--seconds", type=int, required=True, metavar="S", help="seconds of each rate")
    parser.add_argument("--arrivals", choices=ARRIVALS, default=default["arrivals"], help="how calls are spaced")
    parser.add_argument("--shape", choices=SHAPES, default=default["shape"], help="how one rate follows on another")
    add("--many", float, "SHARE", "share of the calls that are get_many")
    add("--many-size", int, "K", "entities of a get_many")
    add("--ids", str, "HOW", "who is asked for: uniform, zipf:S, or trace:s3://BUCKET/KEY (one id a line, gzip or not)")
    add("--view", str, "NAME", "whose features")
    add("--keyspace", str, "NAME", "of the view's table")
    add("--seed", int, "N", "of all that is drawn")
    add("--deadline", float, "SECONDS", "of a call, all tries included")
    parser.add_argument("--weak", action="store_true", help="read at LOCAL_ONE: half the read units")
    add("--capacity", float, "RRU_PER_S", "read units per second that the table is provisioned with, if that is known")


def rates(text: str) -> tuple[float, ...]:
    """Rates of an argument like 50,100,200."""
    try:
        return tuple(map(float, text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} are no rates: they are like 50,100,200") from error


def _is_choice(ids: str) -> bool:
    how, _, of = ids.partition(":")
    if how == ZIPF:
        try:
            return 0 < float(of) < math.inf
        except ValueError:
            return False
    return ids == UNIFORM or (how == TRACE and bool(OBJECT.fullmatch(of)))
