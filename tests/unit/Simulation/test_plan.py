"""What a simulation may be asked to do, and what is said of what it may not."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from Simulation import worker
from Simulation.plan import Plan, PlanError

pytestmark = pytest.mark.unit

GIVEN: dict[str, Any] = {"name": "first", "workers": 2, "rates": (50.0, 100.0, 200.0), "seconds": 60}
LINE = shlex.split("--bucket b --name first --worker 1 --workers 2 --rates 50,100,200 --seconds 60")


def plan(**other: Any) -> Plan:
    return Plan(**{**GIVEN, **other})


def test_a_command_line_is_a_plan_with_the_defaults_of_the_contract() -> None:
    args, parsed = worker._parse(LINE)
    assert parsed == plan()
    assert (args.bucket, args.worker, args.start_within) == ("b", 1, 300.0)
    assert (parsed.strong, parsed.deadline, parsed.arrivals, parsed.ids) == (True, 1.0, "poisson", "uniform")


def test_every_argument_is_in_the_plan() -> None:
    more = (
        "--arrivals constant --shape ramp --many 0.1 --many-size 5 --ids zipf:1.1 --view energy_recent_features "
        "--keyspace k --seed 7 --deadline 0.5 --weak --capacity 300"
    )
    assert worker._parse([*LINE, *more.split()])[1] == plan(
        arrivals="constant",
        shape="ramp",
        many=0.1,
        many_size=5,
        ids="zipf:1.1",
        view="energy_recent_features",
        keyspace="k",
        seed=7,
        deadline=0.5,
        strong=False,
        capacity=300.0,
    )


def test_it_is_the_same_after_json() -> None:
    made = plan(ids="zipf:1.1", capacity=3.5)
    assert Plan.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    "said", [{"name": "x"}, {**GIVEN, "more": 1}, {**GIVEN, "rates": None}, {**GIVEN, "seconds": "x"}]
)
def test_what_is_no_plan(said: dict[str, Any]) -> None:
    with pytest.raises(PlanError):
        Plan.from_json(said)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "../up"}, "--name"),
        ({"name": "Über"}, "--name"),
        ({"name": "a" * 101}, "--name"),
        ({"workers": 0}, "--workers"),
        ({"rates": ()}, "--rates"),
        ({"rates": (0.0,)}, "--rates"),
        ({"rates": (float("nan"),)}, "--rates"),
        ({"rates": (5.0,), "shape": "ramp"}, "--rates of a ramp are two or more"),
        ({"seconds": 0}, "--seconds"),
        ({"many": 1.1}, "--many"),
        ({"many_size": 0}, "--many-size"),
        ({"ids": "zipf:0"}, "--ids"),
        ({"ids": "zipf:x"}, "--ids"),
        ({"ids": "trace:"}, "--ids"),
        ({"ids": "trace:ids.txt"}, "--ids"),
        ({"ids": "trace:s3://bucket/"}, "--ids"),
        ({"ids": "random"}, "--ids"),
        ({"view": "nothing"}, "--view is one of energy_"),
        ({"keyspace": "a b"}, "--keyspace"),
        ({"deadline": 0.0}, "--deadline"),
        ({"capacity": 0.0}, "--capacity"),
    ],
)
def test_what_it_may_not_be_asked(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said) as raised:
        plan(**wrong)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--rates x", "are like 50,100,200"),
        ("--worker 2", "--worker is 0 to 1 of --workers 2, not 2"),
        ("--seconds 1.5", "invalid int value"),
        ("--start-within 0", "--start-within"),
        ("--many 2", "--many is a share"),
    ],
)
def test_bad_arguments_end_it_with_2_before_anything_is_begun(
    more: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        worker.main([*LINE, *more.split()])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_phases_of_steps() -> None:
    assert [(each.begins, each.seconds, each.rate, each.until) for each in plan().phases] == [
        (0, 60, 50, 50),
        (60, 60, 100, 100),
        (120, 60, 200, 200),
    ]
    assert plan().total_seconds == 180


def test_phases_of_a_ramp_climb_from_each_rate_to_the_next() -> None:
    phases = plan(shape="ramp").phases
    assert [(each.begins, each.rate, each.until, each.mean) for each in phases] == [
        (0, 50, 100, 75),
        (60, 100, 200, 150),
    ]


def test_phases_of_a_spike_are_between_times_of_the_first_rate() -> None:
    assert [each.rate for each in plan(shape="spike").phases] == [50, 100, 50, 200, 50]
