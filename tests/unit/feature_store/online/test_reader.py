"""Reads by a session that answers as it is told: answers, errors, tries and deadlines, of each way to read alike."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import os
import threading
import time
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut, ReadFailure, ReadTimeout, Unavailable
from cassandra.cluster import ExecutionProfile, NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.pool import NoConnectionsAvailable
from cassandra.protocol import ServerError
from cassandra.util import Date

from feature_store import online
from feature_store.endpoint import UndecodableError
from feature_store.energy import ENERGY
from feature_store.online import Answer, Options, Reader, State
from feature_store.online.many import Found
from feature_store.online.tries import Tries

pytestmark = pytest.mark.unit

NOW = dt.datetime(2014, 3, 1, 23, 30, tzinfo=dt.UTC)
THROTTLED = ReadTimeout("out of capacity", consistency=6, required_responses=2, received_responses=0)
Reply = list[Any] | Exception | None  # rows, an error, or no answer


class Future:
    """A ResponseFuture that has its outcome from the beginning, or hears of it in a thread of its own."""

    def __init__(self, reply: Reply, timeout: float) -> None:
        self._reply, self._timeout = reply, timeout

    def outcome(self) -> Reply:
        if self._reply is None:
            time.sleep(self._timeout)  # as the driver does it
            return OperationTimedOut()
        return self._reply

    def result(self) -> Any:
        outcome = self.outcome()
        if isinstance(outcome, Exception):
            raise outcome
        return SimpleNamespace(current_rows=outcome)

    def add_callbacks(self, callback: Callable[[Any], None], errback: Callable[[Exception], None]) -> None:
        def settle() -> None:
            outcome = self.outcome()
            for _ in range(2):  # as the driver does it if two endpoints have answered
                (errback if isinstance(outcome, Exception) else callback)(outcome)  # type: ignore[arg-type]

        threading.Thread(target=settle, daemon=True).start()


@dataclass
class Server:
    """A session. Of each entity what it answers, one after the other; the last for ever."""

    replies: Mapping[str, list[Reply]]
    asked: list[str] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    statement: Any = None
    under_way: int = 0
    most: int = 0

    def execution_profile_clone_update(self, _: Any, **changes: Any) -> ExecutionProfile:
        return ExecutionProfile(**changes)

    def prepare(self, statement: str) -> Any:
        self.statement = SimpleNamespace(text=statement, fetch_size=None)
        return self.statement

    def execute_async(
        self, statement: Any, parameters: tuple[str], *, execution_profile: ExecutionProfile, timeout: float
    ) -> Future:
        assert statement.fetch_size == 1
        assert execution_profile.row_factory(["a"], [(1,)]) == [(1,)]
        (entity,) = parameters
        replies = self.replies.get(entity, [[]])
        reply = replies[min(self.asked.count(entity), len(replies) - 1)]
        self.asked.append(entity)
        self.timeouts.append(timeout)
        return Future(reply, timeout)


def row(day: str, *values: Any) -> list[Any]:
    return [(Date(day), *values)]


def reader(server: Server, **options: Any) -> Reader:
    options = {"features": ("energy_sum", "energy_sum_1yr"), "deadline": 0.5, **options}
    return Reader(server, ENERGY, "feature_store", Options(**options), NOW.timestamp)  # type: ignore[arg-type]


def _get(of: Reader, entity: str) -> Answer:
    return of.get(entity)


def _one_of_many(of: Reader, entity: str) -> Answer:
    (answer,) = of.get_many([entity])
    return answer


def _aget(of: Reader, entity: str) -> Answer:
    return asyncio.run(of.aget(entity))


def _one_of_many_awaited(of: Reader, entity: str) -> Answer:
    (answer,) = asyncio.run(of.aget_many([entity]))
    return answer


@pytest.fixture(params=[_get, _one_of_many, _aget, _one_of_many_awaited], ids=lambda way: way.__name__)
def read(request: pytest.FixtureRequest) -> Callable[[Reader, str], Answer]:
    way: Callable[[Reader, str], Answer] = request.param
    return way


Read = Callable[[Reader, str], Answer]


class TestAnswers:
    def test_the_day_and_the_features_that_were_asked_for(self, read: Read) -> None:
        server = Server({"A": [row("2014-02-27", 1.5, None)]})
        answer = read(reader(server), "A")
        assert answer.features == {"energy_sum": 1.5, "energy_sum_1yr": None}
        assert answer == Answer("A", State.FOUND, dt.date(2014, 2, 27), 2, tuple(answer.features), (1.5, None))
        assert answer["energy_sum"] == 1.5
        assert server.statement.text == (
            'SELECT "day_date", "energy_sum", "energy_sum_1yr" FROM "feature_store"."energy_data_features" '
            'WHERE "id" = ? LIMIT 1'
        )

    def test_who_is_not_there(self, read: Read) -> None:
        answer = read(reader(Server({})), "nobody")
        assert answer == Answer("nobody", State.MISSING)
        with pytest.raises(KeyError):
            answer["energy_sum"]

    @pytest.mark.parametrize(("day", "state"), [("2014-02-27", State.FOUND), ("2014-02-26", State.STALE)])
    def test_what_is_older_than_it_may_be_is_marked(self, read: Read, day: str, state: State) -> None:
        answer = read(reader(Server({"A": [row(day, 1.0, 2.0)]}), max_age=2), "A")
        assert answer.state is state
        assert answer.features

    def test_or_refused(self, read: Read) -> None:
        of = reader(Server({"A": [row("2014-02-26", 1.0, 2.0)]}), max_age=2, refuse_stale=True)
        with pytest.raises(
            online.StaleError, match=r"energy_data_features of 'A' are of 2014-02-26, 3 days ago: more th"
        ):
            read(of, "A")

    @pytest.mark.parametrize(
        ("day", "said"),
        [("2014-03-02", "is of 2014-03-02, a day that has not begun"), (2**31, "is unreadable: ")],
    )
    def test_a_day_that_can_not_be(self, read: Read, day: Any, said: str) -> None:
        with pytest.raises(online.PoisonedRowError, match=said):
            read(reader(Server({"A": [[(Date(day), 1.0, 2.0)]]})), "A")

    @pytest.mark.parametrize("value", [math.nan, math.inf, "text", 7, b"\0", dt.date(2014, 1, 1)])
    def test_a_value_that_can_not_be(self, read: Read, value: Any) -> None:
        with pytest.raises(online.PoisonedRowError, match=r"of 2014-02-28 has energy_sum_1yr .*no row of the view has"):
            read(reader(Server({"A": [row("2014-02-28", 1.0, value)]})), "A")

    @pytest.mark.parametrize("values", [(math.inf, -math.inf), (None, math.nan), (1e308, math.inf)])
    def test_nor_beside_any_other(self, read: Read, values: tuple[float | None, float]) -> None:
        with pytest.raises(online.PoisonedRowError, match="no row of the view has"):
            read(reader(Server({"A": [row("2014-02-28", *values)]})), "A")

    @pytest.mark.parametrize("values", [(1.7e308, 1.7e308), (None, 1.7e308), (None, None)])
    def test_values_whose_sum_is_no_number(self, read: Read, values: tuple[float | None, float | None]) -> None:
        answer = read(reader(Server({"A": [row("2014-02-28", *values)]})), "A")
        assert tuple(answer.features.values()) == values

    def test_a_row_that_can_not_be_decoded_is_not_asked_for_again(self, read: Read) -> None:
        server = Server({"A": [UndecodableError("Failed decoding")]})
        with pytest.raises(online.PoisonedRowError, match="of 'A' is unreadable: Failed decoding"):
            read(reader(server), "A")
        assert server.asked == ["A"]

    @pytest.mark.parametrize(("zone", "age"), [("UTC", 0), ("Europe/Berlin", 1), ("America/New_York", 0)])
    def test_days_are_those_of_the_features_zone(self, read: Read, zone: str, age: int) -> None:
        """At 23:30 UTC it is the next day in Berlin already, where the day of the row is over."""
        assert read(reader(Server({"A": [row("2014-03-01", 1.0, 2.0)]}), zone=zone), "A").age == age

    def test_a_reader_that_is_kept_sees_the_days_go_by(self) -> None:
        now = [NOW.timestamp()]
        of = Reader(
            Server({"A": [row("2014-02-27", 1.0, 2.0)]}),  # type: ignore[arg-type]
            ENERGY,
            "feature_store",
            Options(features=("energy_sum", "energy_sum_1yr"), zone="Asia/Kathmandu"),  # a quarter off the full hour
            lambda: now[0],
        )
        midnight = dt.datetime(2014, 3, 3, tzinfo=zoneinfo.ZoneInfo("Asia/Kathmandu")).timestamp()
        ages = []
        for now[0] in (midnight - 1, midnight, midnight + 86_399, midnight + 86_400, midnight - 1):
            ages.append(of.get("A").age)
        assert ages == [3, 4, 4, 5, 3]

    @pytest.mark.parametrize("cells", [(), (Date("2014-02-28"),), (Date("2014-02-28"), 1.0, 2.0, 3.0)])
    def test_a_row_of_another_length(self, read: Read, cells: tuple[Any, ...]) -> None:
        with pytest.raises(online.PoisonedRowError, match=rf"has {len(cells)} values"):
            read(reader(Server({"A": [[cells]]})), "A")

    def test_a_row_that_is_read_after_one_with_nulls_elsewhere(self, read: Read) -> None:
        rows = {"A": [row("2014-02-28", None, 2.0)], "B": [row("2014-02-28", 1.0, None)], "C": [[(None, 1.0, 2.0)]]}
        of = reader(Server(rows))
        for entity, values in (("A", [None, 2.0]), ("B", [1.0, None]), ("A", [None, 2.0])):
            assert list(read(of, entity).features.values()) == values
        with pytest.raises(online.PoisonedRowError, match="has day_date None"):
            read(of, "C")

    def test_all_features_of_the_view_unless_some_are_named(self) -> None:
        of = reader(Server({}), features=None)
        assert of.features == tuple(column.name for column in ENERGY.columns[2:])

    def test_many_in_their_order_each_asked_for_once(self) -> None:
        server = Server({name: [row("2014-02-28", float(value), 0.0)] for value, name in enumerate("ABC")})
        of = reader(server, concurrency=2)
        for answers in (of.get_many(["C", "A", "nobody", "C"]), asyncio.run(of.aget_many(["C", "A", "nobody", "C"]))):
            assert [answer.entity for answer in answers] == ["C", "A", "nobody", "C"]
            assert [answer.features.get("energy_sum") for answer in answers] == [2, 0, None, 2]
        assert sorted(server.asked) == sorted(["C", "A", "nobody"] * 2)

    def test_many_are_asked_for_though_most_of_those_under_way_are_slow(self) -> None:
        # All but one: each answer comes twice, so that two of those left would be a share to begin more at.
        silent: dict[str, list[Reply]] = {f"silent {number}": [None] for number in range(19)}
        good: dict[str, list[Reply]] = {f"good {number}": [row("2014-02-28", 1.0, 2.0)] for number in range(40)}
        server = Server(silent | good)
        with pytest.raises(online.DeadlineError) as failure:
            reader(server, concurrency=20, deadline=3.0).get_many([*silent, *good])
        assert set(failure.value.answers) == set(good)

    def test_of_nobody_nothing_is_asked(self) -> None:
        of = reader(Server({}))
        assert of.get_many([]) == []
        assert asyncio.run(of.aget_many([])) == []


class TestFailures:
    @pytest.mark.parametrize(
        "passing",
        [
            THROTTLED,
            Unavailable("none"),
            NoHostAvailable("none", {}),
            ConnectionShutdown("closed"),
            OperationTimedOut(),
            ServerError(0, "Internal server error", {}),
            ReadFailure("failed"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_passes_is_tried_again(self, read: Read, passing: Exception) -> None:
        server = Server({"A": [passing, passing, row("2014-02-28", 1.0, 2.0)]})
        assert read(reader(server), "A").state is State.FOUND
        assert server.asked == ["A"] * 3

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (THROTTLED, online.ThrottledError),
            (NoHostAvailable("none", {}), online.UnreachableError),
            (ConnectionShutdown("closed"), online.UnreachableError),
            (ServerError(0, "Internal server error", {}), online.UnreachableError),
            (None, online.DeadlineError),
        ],
        ids=lambda each: getattr(each, "__name__", type(each).__name__),
    )
    def test_until_the_deadline(self, read: Read, error: Reply, kind: type[Exception]) -> None:
        server = Server({"A": [error]})
        began = time.monotonic()
        with pytest.raises(
            kind, match=r"The latest energy_data_features of 'A' can't be read within 0.5 s, in \d+ tries"
        ):
            read(reader(server), "A")
        assert time.monotonic() - began < 5  # a busy machine's, not the deadline's
        assert max(server.timeouts) <= 0.5
        if error:
            assert len(server.asked) > 1

    def test_why_a_last_try_without_time_is_none(self, read: Read) -> None:
        """What the tries before it have ended with, and not that it had no answer."""
        with pytest.raises(online.ThrottledError):
            read(reader(Server({"A": [THROTTLED, None]})), "A")

    def test_why_one_that_was_never_asked_for_is_none(self) -> None:
        """What the others of the call have ended with; one that was asked for says it itself."""
        call = Tries.within(0)
        throttled, waits, slow = call.again(), call.again(), call.again()
        throttled.count = slow.count = 1
        assert waits.told(online.DeadlineError) is online.DeadlineError
        assert throttled.told(online.ThrottledError) is throttled.told(online.DeadlineError) is online.ThrottledError
        assert slow.told(online.DeadlineError) is online.DeadlineError
        assert waits.told(online.DeadlineError) is online.ThrottledError

    @pytest.mark.parametrize(
        ("causes", "kind"),
        [
            ([ConnectionShutdown("closed")], online.UnreachableError),
            ([ConnectionShutdown("closed"), OperationTimedOut()], online.DeadlineError),
            ([OperationTimedOut(), THROTTLED], online.ThrottledError),
        ],
    )
    def test_of_several_endpoints(self, read: Read, causes: list[Exception], kind: type[Exception]) -> None:
        with pytest.raises(kind):
            read(reader(Server({"A": [NoHostAvailable("none", dict(enumerate(causes)))]}), deadline=0.1), "A")

    def test_however_many_tries_there_were(self) -> None:
        """As in minutes of a deadline; a float holds no more than 1,024 doublings."""
        tries = Tries.within(1000)
        tries.count = 5000
        assert 0 <= (tries.pause() or 0) <= 0.1

    def test_another_error_is_none_to_wait_for(self, read: Read) -> None:
        server = Server({"A": [InvalidRequest("no such table")]})
        with pytest.raises(online.RefusedError, match=r"'A' can't be read: .*no such table"):
            read(reader(server), "A")
        assert server.asked == ["A"]

    @pytest.mark.parametrize(
        ("reply", "kind"),
        [
            (THROTTLED, online.ThrottledError),
            (row("2014-03-02", 1.0, 2.0), online.PoisonedRowError),
            (UndecodableError("no"), online.PoisonedRowError),
            (None, online.DeadlineError),
        ],
    )
    def test_one_that_fails_of_many(self, reply: Reply, kind: type[online.ReadError]) -> None:
        """It takes no answer from the others."""
        server = Server({"A": [reply], **{name: [row("2014-02-28", 1.0, 2.0)] for name in "BC"}})
        for call in (lambda of: of.get_many([*"ABC"]), lambda of: asyncio.run(of.aget_many([*"ABC"]))):
            with pytest.raises(kind, match="of 'A'") as caught:
                call(reader(server, concurrency=2))
            assert set(caught.value.answers) == {"B", "C"}

    def test_many_that_are_refused_are_not_all_asked_for(self) -> None:
        names = [f"{number}" for number in range(100)]
        for call in (lambda of: of.get_many(names), lambda of: asyncio.run(of.aget_many(names))):
            server = Server({name: [InvalidRequest("no such table")] for name in names})
            with pytest.raises(online.RefusedError):
                call(reader(server, concurrency=2))
            assert len(server.asked) < 10

    def test_what_is_not_begun_at_the_deadline_is_not_asked_for(self) -> None:
        """One at a time is under way, and the first takes all the time."""
        for call in (lambda of: of.get_many([*"ABC"]), lambda of: asyncio.run(of.aget_many([*"ABC"]))):
            server = Server({"A": [None]})
            began = time.monotonic()
            with pytest.raises(online.DeadlineError):
                call(reader(server, concurrency=1, deadline=0.2))
            assert server.asked == ["A"]
            assert time.monotonic() - began < 5

    def test_nor_is_each_of_them_told_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Thousands of errors, of which one is raised, would take seconds after the deadline."""
        made = []
        monkeypatch.setattr(Found, "fail", lambda self, error: (made.append(error), setattr(self, "failed", error)))
        names = [f"{number}" for number in range(1000)]
        for call in (lambda of: of.get_many(names), lambda of: asyncio.run(of.aget_many(names))):
            made.clear()
            with pytest.raises(online.DeadlineError):
                call(reader(Server({name: [None] for name in names}), concurrency=4, deadline=0.05))
            assert len(made) <= 8

    @pytest.mark.timeout(20)
    def test_one_whose_pause_ends_after_the_deadline(self) -> None:
        """One at a time is under way: while the first one pauses, the second one takes all the time."""
        for call in (lambda of: of.get_many([*"AB"]), lambda of: asyncio.run(of.aget_many([*"AB"]))):
            server = Server({"A": [THROTTLED], "B": [None]})
            with pytest.raises((online.DeadlineError, online.ThrottledError)):
                call(reader(server, concurrency=1, deadline=0.2))

    def test_an_entity_that_is_no_text(self, read: Read) -> None:
        with pytest.raises(TypeError, match="An entity of energy_data_features is a text, not 7"):
            read(reader(Server({})), 7)  # type: ignore[arg-type]

    @pytest.mark.parametrize("entity", ["", "x" * 2049, "\u00e9" * 1025, "half of a pair: \ud800"])
    def test_an_entity_that_can_be_nobody(self, read: Read, entity: str) -> None:
        """The server is not asked, and the others of a list are."""
        server = Server({"B": [row("2014-02-28", 1.0, 2.0)]})
        with pytest.raises(online.EntityError, match="an entity has 1 to 2048 bytes of UTF-8"):
            read(reader(server), entity)
        assert not server.asked
        for call in (lambda of: of.get_many(["A", entity, "B"]), lambda of: asyncio.run(of.aget_many([entity, "B"]))):
            with pytest.raises(online.EntityError) as caught:
                call(reader(server, concurrency=1))
            assert caught.value.answers["B"].state is State.FOUND

    def test_an_entity_as_long_as_it_may_be(self, read: Read) -> None:
        assert read(reader(Server({})), "\u00e9" * 1024).state is State.MISSING

    def test_a_process_that_has_forked(self, read: Read) -> None:
        """The driver's thread is not in the child, where it would wait for ever."""
        of, (heard, told) = reader(Server({})), os.pipe()
        child = os.fork()
        if not child:
            try:
                read(of, "A")
            except online.OnlineError as error:
                os.write(told, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(0)
        os.close(told)
        with os.fdopen(heard) as said:
            assert said.read().startswith("OnlineError: The connection is another process's")
        os.waitpid(child, 0)

    def test_entities_are_no_text(self) -> None:
        with pytest.raises(TypeError, match="a list of texts, not the text 'ABC'"):
            reader(Server({})).get_many("ABC")

    @pytest.mark.parametrize("many", [False, True])
    @pytest.mark.parametrize("after", [0.5, 0.0])
    @pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
    def test_what_a_caller_has_cancelled(self, many: bool, after: float, caplog: pytest.LogCaptureFixture) -> None:
        """The answer that comes too late is nobody's, be there still a loop or none."""
        heard, server = Heard(), Server({"A": [None]})

        async def cancelled() -> None:
            of = reader(server, observer=heard, deadline=0.3)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(of.aget_many(["A", "B"]) if many else of.aget("A"), 0.05)
            await asyncio.sleep(after)

        asyncio.run(cancelled(), debug=True)
        time.sleep(0.5)
        assert [call[2] for call in heard.calls] == ["CancelledError"]
        assert not [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}]


class TestOptions:
    @pytest.mark.parametrize("features", [("energy_summ",), ()])
    def test_a_feature_that_there_is_not(self, features: tuple[str, ...]) -> None:
        with pytest.raises(
            online.UnknownFeatureError, match=r"energy_data_features has no feature .*: it has energy_med"
        ):
            reader(Server({}), features=features)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("deadline", 0), ("deadline", math.nan), ("concurrency", 0), ("max_age", -1), ("zone", "'London'")],
    )
    def test_one_out_of_its_bounds(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            reader(Server({}), **{name: value.strip("'") if name == "zone" else value})

    def test_features_are_no_text(self) -> None:
        with pytest.raises(TypeError, match="features is the text 'energy_sum'"):
            reader(Server({}), features="energy_sum")

    def test_a_feature_that_is_asked_for_twice_is_there_once(self) -> None:
        assert reader(Server({}), features=["energy_sum", "energy_mean", "energy_sum"]).features == (
            "energy_sum",
            "energy_mean",
        )

    def test_features_that_can_be_gone_through_once(self) -> None:
        names = ["energy_sum", "energy_mean"]
        assert reader(Server({}), features=(name for name in names)).features == tuple(names)

    @pytest.mark.parametrize("error", [ConnectionShutdown("closed"), NoConnectionsAvailable("none")])
    def test_a_connection_that_is_lost_while_it_is_made(self, error: Exception) -> None:
        class Lost(Server):
            def prepare(self, statement: str) -> Any:
                raise error

        with pytest.raises(online.OnlineError, match="The latest energy_data_features can't be asked for"):
            reader(Lost({}))

    def test_another_endpoint_is_asked_when_half_of_the_deadline_is_over(self) -> None:
        policies = []

        class Noting(Server):
            def execution_profile_clone_update(self, _: Any, **changes: Any) -> ExecutionProfile:
                policies.append(changes["speculative_execution_policy"])
                return super().execution_profile_clone_update(_, **changes)

        server = Noting({})
        reader(server, deadline=3)
        plan = policies[0].new_plan("feature_store", None)
        assert server.statement.is_idempotent
        assert [plan.next_execution(None) for _ in range(2)] == [1.5, -1]

    def test_how_many_replicas_have_to_agree(self) -> None:
        levels = []

        class Noting(Server):
            def execution_profile_clone_update(self, _: Any, **changes: Any) -> ExecutionProfile:
                levels.append(changes["consistency_level"])
                return super().execution_profile_clone_update(_, **changes)

        for strong in (True, False):
            reader(Noting({}), strong=strong)
        assert levels == [6, 10]  # LOCAL_QUORUM, LOCAL_ONE


@dataclass
class Heard:
    answers: list[Answer] = field(default_factory=list)
    failures: list[tuple[str, type[online.ReadError]]] = field(default_factory=list)
    calls: list[tuple[str, str, str]] = field(default_factory=list)

    def answered(self, view: str, answer: Answer) -> None:
        assert view == ENERGY.name
        self.answers.append(answer)

    def failed(self, view: str, kind: type[online.ReadError]) -> None:
        self.failures.append((view, kind))

    def called(self, view: str, call: str, seconds: float, error: BaseException | None) -> None:
        assert seconds >= 0
        self.calls.append((view, call, type(error).__name__))


def test_an_observer_hears_of_everything() -> None:
    heard = Heard()
    server = Server({"A": [row("2014-02-28", 1.0, 2.0)], "B": [InvalidRequest("no")]})
    of = reader(server, observer=heard)
    of.get("A")
    of.get_many(["A", "nobody"])
    with pytest.raises(online.OnlineError):
        of.get("B")
    assert [answer.state for answer in heard.answers] == [State.FOUND, State.FOUND, State.MISSING]
    view = ENERGY.name
    assert heard.calls == [(view, "get", "NoneType"), (view, "get_many", "NoneType"), (view, "get", "RefusedError")]


def test_an_observer_hears_of_tries_that_fail_also_where_there_is_an_answer_in_the_end(read: Read) -> None:
    heard = Heard()
    server = Server({"A": [THROTTLED, Unavailable("none"), row("2014-02-28", 1.0, 2.0)], "B": [InvalidRequest("no")]})
    of = reader(server, observer=heard)
    assert read(of, "A").state is State.FOUND
    with pytest.raises(online.RefusedError):
        read(of, "B")
    assert heard.failures == [(ENERGY.name, online.ThrottledError), (ENERGY.name, online.UnreachableError)]
