"""The verdict: a run that did not do its work fails, whatever its last tasks did."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from airflow.sdk import DAG, task
from feature_store_airflow import verdict
from feature_store_airflow.failures import FAILURE, RunIncomplete

pytestmark = pytest.mark.unit

ORDER = (
    *("plan", "create_cluster", "wait_for_cluster", "schema", "ingest", "featurize", "validate", "sync"),
    "terminate_cluster",
)
GOOD = dict.fromkeys(ORDER, "success")


def entry(check: str, message: str = "wrong") -> dict[str, Any]:
    return {
        "check": check,
        "severity": "error",
        "day": None,
        "count": 1,
        "examples": [],
        "message": f"{check}: {message}",
    }


def judged(verdict: str = "passed", *, view: str = "a", checks: int = 9, **more: Any) -> dict[str, Any]:
    """What validate's summary has of a view of two days; more: days by verdict, and failed and warned."""
    days = {name: more.pop(name, []) for name in ("passed", "warned", "quarantined", "released")}
    if not any(days.values()):
        days["passed"] = ["2014-02-26", "2014-02-27"]
    of = {"verdict": verdict, "checks": checks, "rows": 2, "days": days, "page": f"s3://lake/{view}.html"}
    # `warned` is both a list of days and one of findings.
    return {**of, "failed": more.pop("failed", []), "warned": more.pop("warnings", [])}


SYNCED = {"rows_online": 1, "rows_written": 1, "rows_deleted": 0, "dollars": None}
SUMMARIES = {
    "schema": {"seconds": 2, "views": {"a": {"done": "nothing"}, "b": {"done": "made"}}},
    "ingest": {
        "files": 2,
        "rows_in": 12345,
        "rows_quarantined": 3,
        "last_day": "2014-02-27",
        "days_changed": 2,
        "first_day_changed": "2014-02-26",
        "last_day_changed": "2014-02-27",
        "seconds": 10.4,
    },
    "featurize": {
        "seconds": 20.6,
        "views": {
            "a": {"rows_written": 111, "entities": 56, "features_version": 5},
            "b": {"rows_written": 0, "entities": 55, "features_version": 0},
        },
    },
    "validate": {"seconds": 5, "views": {"a": judged(checks=9), "b": judged(view="b", checks=8)}},
    "sync": {
        "seconds": 7,
        "views": {
            "a": {"rows_online": 111, "rows_written": 90, "rows_deleted": 2, "dollars": 0.5, "days_held_back": []},
            "b": {"rows_online": 100, "rows_written": 0, "rows_deleted": 0, "dollars": 0.0, "days_held_back": []},
        },
    },
}


@pytest.fixture
def judge(context_of, monkeypatch) -> Any:
    """Judge a run: judge(states of its tasks, {task: message}, returned={task: value}, of ingest's summary ...)."""

    def run(
        states: dict[str, str],
        why: dict[str, str] | None = None,
        returned: dict[str, Any] | None = None,
        **ingested: Any,
    ) -> str:
        with DAG("daily"):
            operator = task(task_id="verdict")(verdict.judge_run)(ORDER).operator
        context = context_of(operator)
        context["ti"].states = {**states, "verdict": "running"}
        for name, summary in SUMMARIES.items():
            context["ti"].xcoms[name, "return_value"] = summary
        context["ti"].xcoms["ingest", "return_value"] = {**SUMMARIES["ingest"], **ingested}
        for name, value in (returned or {}).items():
            context["ti"].xcoms[name, "return_value"] = value
        for name, message in (why or {}).items():
            context["ti"].xcoms[name, FAILURE] = message
        monkeypatch.setattr(verdict, "get_current_context", lambda: context)
        return verdict.judge_run(ORDER)

    return run


def test_a_good_run_says_what_it_did(judge, caplog) -> None:
    with caplog.at_level("INFO"):
        said = judge(GOOD)
    assert said == (
        "2014-02-26 to 2014-02-27 (2 day(s)): 12,345 rows read from 2 file(s), 3 quarantined; "
        "111 rows of features written for 56 entities, of 2 view(s); validation passed (17 checks); "
        "211 rows online and equal, 90 of them written and 2 deleted ($0.5000 at on-demand prices). "
        "schema 2 s, ingest 10 s, featurize 21 s, validate 5 s, sync 7 s."
    )
    assert said in caplog.text


def test_a_failed_step_is_named_with_its_reason(judge) -> None:
    states = {**GOOD, "validate": "failed", "sync": "upstream_failed"}
    with pytest.raises(RunIncomplete) as caught:
        judge(states, {"validate": "validate of 2014-02-26: 3 rows are negative."})
    assert str(caught.value).splitlines() == [
        "This run did not do its work.",
        "validate failed: validate of 2014-02-26: 3 rows are negative.",
        "Not run: sync.",
    ]


def test_a_cluster_that_did_not_end_fails_a_run_that_did_its_work(judge) -> None:
    with pytest.raises(RunIncomplete, match="terminate_cluster failed: j-1 did not end"):
        judge({**GOOD, "terminate_cluster": "failed"}, {"terminate_cluster": "j-1 did not end"})


def test_a_run_marked_failed_by_hand(judge) -> None:
    """Airflow skips what comes after, and would call the run a success."""
    states = {**GOOD, "ingest": "failed", "featurize": "skipped", "validate": "skipped", "sync": "skipped"}
    with pytest.raises(RunIncomplete) as caught:
        judge(states)
    assert "ingest failed: it could not say why (marked by hand, or its worker was lost)" in str(caught.value)
    assert "Not run: featurize, validate, sync." in str(caught.value)


@pytest.mark.parametrize("state", ["failed", "upstream_failed", "skipped"])
@pytest.mark.parametrize("name", ORDER)
def test_every_task_counts(judge, name, state) -> None:
    with pytest.raises(RunIncomplete, match=name):
        judge({**GOOD, name: state})


@pytest.mark.parametrize("name", ["plan", "schema", "ingest", "featurize", "validate", "sync"])
def test_a_task_marked_a_success_by_hand(judge, name) -> None:
    """Nobody knows what it did: a run is not called good for its sake."""
    with pytest.raises(RunIncomplete) as caught:
        judge(GOOD, returned={name: None})
    assert str(caught.value).splitlines()[1:] == [
        f"{name} was marked a success by hand (it returned nothing): nobody knows whether its work was done. Next: "
        "clear the run; or, if it is to stay as it is, mark verdict a success too."
    ]


def test_a_task_marked_a_success_by_hand_before_one_that_failed(judge) -> None:
    with pytest.raises(RunIncomplete, match=r"sync failed: no table\nvalidate was marked a success by hand"):
        judge({**GOOD, "sync": "failed"}, {"sync": "no table"}, returned={"validate": None})


HELD = judged(
    "failed", passed=["2014-02-27"], quarantined=["2014-02-26"], failed=[entry("key_unique", "3 of 5"), entry("fresh")]
)


class TestHeldBack:
    """Validation is a gate: a run with days that did not get through it fails, at its end."""

    def of(self, view: dict[str, Any], **others: Any) -> dict[str, Any]:
        return {"validate": {"seconds": 5, "views": {"a": view, "b": judged(view="b", checks=8), **others}}}

    def synced(self, **held: list[str]) -> dict[str, Any]:
        views = {name: {**SYNCED, "days_held_back": held.get(name, [])} for name in ("a", "b")}
        return {"sync": {"seconds": 7, "views": views}}

    def test_days_fail_the_run_with_what_is_wrong_and_what_to_do(self, judge) -> None:
        with pytest.raises(RunIncomplete) as caught:
            judge(GOOD, returned={**self.of(HELD), **self.synced(a=["2014-02-26"])})
        said = str(caught.value).splitlines()
        assert said[:-1] == [
            "Validation holds days back; all other days of this run are online.",
            "a: 2014-02-26 (1 of 2 day(s)): key_unique: 3 of 5; failed too: fresh. Report: s3://lake/a.html",
            "Next: if the data is wrong, have it mended and compute these days anew:",
            'airflow dags trigger daily --conf \'{"start": "2014-02-26", "end": "2014-02-26"}\'',
            "If it is right and only unusual, release them, which is recorded with the verdict:",
            'airflow dags trigger daily --conf \'{"start": "2014-02-26", "end": "2014-02-26", "released_by": "WHO", '
            '"release_reason": "WHY"}\'',
        ]
        assert said[-1].startswith("What was done: 2014-02-26 to 2014-02-27 (2 day(s)): ")
        assert "validation failed (17 checks); 2 rows online and equal" in said[-1]

    def test_days_that_another_run_has_held_back_since(self, judge) -> None:
        """sync asks for the verdicts again; that it left something out must not pass for a success."""
        with pytest.raises(RunIncomplete, match=r"b: 2014-02-27 \(1 of 2 day\(s\)\): this run's .*another run's has"):
            judge(GOOD, returned=self.synced(b=["2014-02-27"]))

    def test_every_view_is_named(self, judge) -> None:
        both = self.of(HELD, b=judged("failed", view="b", quarantined=["2014-02-27"], failed=[entry("columns")]))
        with pytest.raises(
            RunIncomplete, match=r"\na: 2014-02-26 .*\nb: 2014-02-27 \(1 of 1 day\(s\)\): columns: wrong"
        ):
            judge(GOOD, returned=both)

    def test_after_a_failure_too_and_nothing_is_said_to_be_online(self, judge) -> None:
        with pytest.raises(RunIncomplete) as caught:
            judge({**GOOD, "sync": "failed"}, {"sync": "no quorum"}, returned={**self.of(HELD), "sync": None})
        said = str(caught.value).splitlines()
        assert said[:4] == [
            "This run did not do its work.",
            "sync failed: no quorum",
            "Validation holds days back.",
            "a: 2014-02-26 (1 of 2 day(s)): key_unique: 3 of 5; failed too: fresh. Report: s3://lake/a.html",
        ]
        assert said[4].startswith("Next: if the data is wrong")
        assert "are online" not in str(caught.value)

    def test_not_from_what_validate_said_before_a_clear(self, judge) -> None:
        with pytest.raises(RunIncomplete) as caught:
            judge({**GOOD, "validate": "failed", "sync": "upstream_failed"}, returned=self.of(HELD))
        assert "holds days back" not in str(caught.value)

    def test_features_of_other_days_are_told_as_well(self, judge) -> None:
        with pytest.raises(RunIncomplete, match="dags trigger feature_store_backfill"):
            judge(GOOD, returned=self.of(HELD), **LATE)


class TestNotes:
    """What validation found of days that are online all the same."""

    def test_warnings_are_named(self, judge) -> None:
        warned = judged("warned", warned=["2014-02-26"], warnings=[entry("entities_whole", "0.93"), entry("fresh")])
        said = judge(GOOD, returned={"validate": {"seconds": 5, "views": {"a": warned, "b": judged()}}}).splitlines()
        assert "validation warned (18 checks)" in said[0]
        assert said[1:] == [
            "Validation warned: a: entities_whole: 0.93; fresh: wrong. Report: s3://lake/a.html",
        ]

    @pytest.mark.parametrize(
        ("given", "by"),
        [
            ({"released_by": "Ada", "release_reason": "the last day"}, "by Ada: the last day"),
            ({}, "in an earlier run"),
        ],
    )
    def test_a_release_is_named(self, judge, given, by) -> None:
        released = judged("warned", released=["2014-02-26", "2014-02-27"], failed=[entry("day_filled", "0.4")])
        plan = {"start": "2014-02-26", "end": "2014-02-27", "days": ["2014-02-26", "2014-02-27"], **given}
        views = {"a": released, "b": judged()}
        said = judge(GOOD, returned={"plan": plan, "validate": {"seconds": 5, "views": views}}).splitlines()
        assert said[1:] == [f"Released: a: 2014-02-26 to 2014-02-27 {by} (failed: day_filled: 0.4)"]

    def test_stale_features_come_last(self, judge) -> None:
        warned = judged("warned", warned=["2014-02-26"], warnings=[entry("fresh")])
        views = {"a": warned, "b": judged()}
        said = judge(GOOD, returned={"validate": {"seconds": 5, "views": views}}, **LATE).splitlines()
        assert [line.split()[0] for line in said[1:]] == ["Validation", "Readings"]


LATE = {"days_changed": 5, "first_day_changed": "2013-06-01", "last_day_changed": "2014-02-27"}


class TestReadingsOfOtherDays:
    """The run's days are 2014-02-26 and 2014-02-27."""

    @pytest.fixture
    def named(self, judge) -> Any:
        """The range of the backfill that the verdict names, None if it names none."""

        def run(first: str | None, last: str | None, **more: Any) -> tuple[str, str] | None:
            changed = {"days_changed": 2 if first else 0, "first_day_changed": first, "last_day_changed": last, **more}
            _, _, stale = judge(GOOD, **changed).partition("\n")
            if not stale:
                return None
            conf = json.loads(stale.partition("--conf '")[2].rstrip("'"))
            return conf["start"], conf["end"]

        return run

    def test_there_are_no_features_of_them_before_the_first_run(self, judge) -> None:
        made = {"rows_written": 1, "entities": 1, "features_version": 0}
        first = {"seconds": 1, "views": {"a": made, "b": made}}
        assert len(judge(GOOD, returned={"featurize": first}, **LATE).splitlines()) == 1

    def test_are_told_with_the_command_that_computes_their_features(self, judge) -> None:
        said = judge(GOOD, **LATE).splitlines()
        assert said[1:] == [
            "Readings of 2013-06-01 to 2014-02-27 (5 day(s)) came or changed, and features of other days than this "
            "run's are not recomputed by it: those of 2013-06-01 to 2014-02-25, if there are any, are of the older "
            "readings. "
            'Next: airflow dags trigger feature_store_backfill --conf \'{"start": "2013-06-01", "end": "2014-02-25", '
            '"reprocess": "stale", "dry_run": false}\''
        ]

    @pytest.mark.parametrize(
        ("first", "last"), [(None, None), ("2014-02-26", "2014-02-27"), ("2014-02-27", "2014-02-27")]
    )
    def test_there_are_none(self, named, first, last) -> None:
        assert named(first, last) is None

    @pytest.mark.parametrize(
        ("first", "last", "newest", "start", "end"),
        [
            pytest.param("2011-11-23", "2014-02-27", "2014-02-27", "2011-11-23", "2014-02-25", id="the first run ever"),
            pytest.param("2012-03-01", "2012-03-02", "2014-02-27", "2012-03-01", "2013-03-02", id="a year on"),
            pytest.param("2013-12-01", "2013-12-01", "2014-02-27", "2013-12-01", "2014-02-25", id="up to the run"),
            pytest.param("2014-02-25", "2014-02-25", "2014-02-28", "2014-02-25", "2014-02-28", id="past the run"),
            pytest.param("2014-02-27", "2014-02-27", "2014-06-01", "2014-02-28", "2014-06-01", id="only after the run"),
            pytest.param("2014-03-01", "2014-03-02", "2014-03-02", "2014-03-01", "2014-03-02", id="after the run"),
            pytest.param("2014-03-01", "2014-03-02", "2014-02-27", "2014-03-01", "2014-03-02", id="newest withdrawn"),
            pytest.param("2014-03-01", "2014-03-02", None, "2014-03-01", "2014-03-02", id="all withdrawn"),
            pytest.param("2011-02-28", "2011-02-28", "2014-02-27", "2011-02-28", "2012-02-29", id="a leap day"),
        ],
    )
    def test_the_range(self, named, first, last, newest, start, end) -> None:
        assert named(first, last, last_day=newest) == (start, end)

    def test_of_a_failed_run_too(self, judge) -> None:
        """When it is cleared, ingest has nothing new to tell of."""
        states = {**GOOD, "validate": "failed", "sync": "upstream_failed"}
        with pytest.raises(RunIncomplete, match=r"Not run: sync\.\nReadings of 2013-06-01 to 2014-02-27 .*backfill"):
            judge(states, **LATE)

    @pytest.mark.parametrize("state", ["failed", "upstream_failed"])
    def test_not_from_what_ingest_said_before_a_clear(self, judge, state) -> None:
        with pytest.raises(RunIncomplete) as caught:
            judge({**GOOD, "ingest": state, "featurize": "upstream_failed"}, **LATE)
        assert "came or changed" not in str(caught.value)

    @pytest.mark.parametrize(("plan", "ingest"), [(None, LATE), ({"days": []}, None), ({"days": []}, {"rows_in": 1})])
    def test_nothing_is_said_without_what_it_takes(self, plan, ingest) -> None:
        assert verdict.stale_features(plan, ingest, today=date(2014, 3, 1)) is None

    @pytest.mark.parametrize(
        ("first", "last", "said"),
        [
            pytest.param("2014-02-26", "9999-12-31", ("2014-02-28", "2014-03-09"), id="from the run on"),
            pytest.param("2014-02-20", "2014-02-27", ("2014-02-20", "2014-03-09"), id="up to yesterday"),
            pytest.param("2014-03-09", "2014-03-11", ("2014-03-09", "2014-03-09"), id="yesterday alone"),
            pytest.param("2014-03-10", "9999-12-31", None, id="today"),
            pytest.param("9999-12-31", "9999-12-31", None, id="no day at all"),
        ],
    )
    def test_end_yesterday_as_no_later_day_can_be_computed(self, first, last, said) -> None:
        plan = {"days": ["2014-02-26", "2014-02-27"]}
        changed = {"days_changed": 2, "first_day_changed": first, "last_day_changed": last, "last_day": "9999-12-31"}
        advice = verdict.stale_features(plan, changed, today=date(2014, 3, 10))
        if said is None:
            assert advice is None
        else:
            assert advice
            asked = {"start": said[0], "end": said[1], "reprocess": "stale", "dry_run": False}
            assert advice.endswith(json.dumps(asked) + "'")

    def test_a_day_that_stands_for_none_fails_no_run(self, judge) -> None:
        changed = {"last_day_changed": "9999-12-31", "last_day": "9999-12-31"}
        assert "feature_store_backfill" in judge(GOOD, **changed)
        with pytest.raises(RunIncomplete, match="sync failed: no quorum"):
            judge({**GOOD, "sync": "failed"}, {"sync": "no quorum"}, **changed)

    def test_what_can_not_be_told_fails_no_run(self, judge) -> None:
        """Whatever is wrong with the summary, the run did what it did."""
        odd = {"first_day_changed": "soon"}
        said = judge(GOOD, **odd).splitlines()
        assert len(said) == 2
        assert "can't be told (ValueError(\"'soon' is not a day" in said[1]
        with pytest.raises(RunIncomplete, match=r"sync failed: no quorum\n.*can't be told"):
            judge({**GOOD, "sync": "failed"}, {"sync": "no quorum"}, **odd)


class TestChunks:
    """A run whose days were done in chunks: featurize, validate and sync are there once for each."""

    CHUNKS = (
        {"start": "2014-02-01", "end": "2014-02-10", "days": 10},
        {"start": "2014-02-26", "end": "2014-02-27", "days": 2},
    )
    ORDER = (
        "plan",
        "preview",
        "create_cluster",
        "wait_for_cluster",
        "schema",
        "ingest",
        "choose_days",
        *verdict.OF_DAYS,
        "terminate_cluster",
    )

    @pytest.fixture
    def judge_chunks(self, context_of, monkeypatch) -> Any:
        def run(
            chunks: list[dict[str, Any]] | None,
            why: dict[tuple[str, int], str] | None = None,
            plan: dict[str, Any] | None = None,
            outlook: dict[str, Any] | None = None,
            **states: str,
        ) -> str:
            with DAG("feature_store_backfill"):
                operator = task(task_id="verdict")(verdict.judge_run)(list(self.ORDER), in_chunks=True).operator
            context = context_of(operator)
            ti = context["ti"]
            ti.xcoms["plan", "return_value"] = {**ti.xcoms["plan", "return_value"], **(plan or {})}
            ti.xcoms["choose_days", "return_value"] = chunks
            ti.xcoms |= {("choose_days", key): value for key, value in (outlook or {}).items()}
            ti.states = {name: "success" for name in self.ORDER if name not in verdict.OF_DAYS}
            ti.states |= {name: "skipped" for name in verdict.OF_DAYS if not chunks}
            for name, summary in SUMMARIES.items():
                ti.xcoms[name, "return_value"] = summary
                for number in range(len(chunks or [])) if name in verdict.OF_DAYS else ():
                    ti.states[f"{name}_{number}"] = "success"
                    ti.xcoms[name, "return_value", number] = summary
            ti.states |= states
            for (name, number), message in (why or {}).items():
                ti.xcoms[name, FAILURE, number] = message
            monkeypatch.setattr(verdict, "get_current_context", lambda: context)
            return verdict.judge_run(list(self.ORDER), in_chunks=True)

        return run

    def test_all_of_them_are_told_together(self, judge_chunks) -> None:
        said = judge_chunks(list(self.CHUNKS))
        assert said.startswith("2014-02-26 to 2014-02-27 (12 of 2 day(s), in 2 chunk(s)): 12,345 rows read")
        assert "222 rows of features written for 56 entities, of 2 view(s)" in said
        assert "422 rows online and equal, 180 of them written and 4 deleted ($1.0000 at on-demand prices)" in said

    def test_one_that_failed_is_named_by_its_days(self, judge_chunks) -> None:
        with pytest.raises(RunIncomplete) as caught:
            judge_chunks(
                list(self.CHUNKS), {("validate", 1): "all is wrong"}, validate_1="failed", sync_1="upstream_failed"
            )
        assert str(caught.value).splitlines() == [
            "This run did not do its work.",
            "validate of 2014-02-26..2014-02-27 failed: all is wrong",
            "Not run: sync of 2014-02-26..2014-02-27.",
        ]

    def test_one_that_was_marked_a_success_is_named_too(self, judge_chunks, monkeypatch) -> None:
        returned = verdict._returned
        monkeypatch.setattr(
            verdict,
            "_returned",
            lambda ti, each: None if (each.task_id, each.map_index) == ("sync", 0) else returned(ti, each),
        )
        with pytest.raises(RunIncomplete, match=r"sync of 2014-02-01..2014-02-10 was marked a success by hand"):
            judge_chunks(list(self.CHUNKS))

    def test_nothing_to_do_is_no_failure(self, judge_chunks) -> None:
        said = {"outlook": "2014-02-26..2014-02-27: 2 done\nThere is nothing to do.", "left": None}
        assert judge_chunks([], outlook=said) == f"Nothing was to be done: {said['outlook']}"

    def test_what_is_left_as_it_is_is_named(self, judge_chunks) -> None:
        said = judge_chunks(list(self.CHUNKS), outlook={"left": "Left as they are, by view: days 2 missing."})
        assert said.splitlines()[-1] == "Left as they are, by view: days 2 missing."

    def test_a_chunk_of_which_airflow_says_nothing_was_not_done(self, judge_chunks) -> None:
        with pytest.raises(RunIncomplete, match=r"Not run: sync of 2014-02-01\.\.2014-02-10"):
            judge_chunks(list(self.CHUNKS), sync_0="removed")

    def test_a_choice_that_failed_is_one(self, judge_chunks) -> None:
        later = dict.fromkeys(verdict.OF_DAYS, "upstream_failed")
        with pytest.raises(RunIncomplete, match="Not run: featurize, validate, sync"):
            judge_chunks(None, choose_days="failed", **later)

    def test_a_sync_that_nobody_wanted_is_no_failure(self, judge_chunks) -> None:
        said = judge_chunks(list(self.CHUNKS), plan={"skip_sync": True}, sync_0="skipped", sync_1="skipped")
        assert "nothing brought online, as was asked" in said
