"""Who releases a run's days and why: what is refused, and what the step is given of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from feature_store_airflow.failures import PlanRejected
from feature_store_airflow.release import BY_LENGTH, REASON_LENGTH, release_params, resolve_release

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
ODD = 'a "clock" change; it\'s known: $HOME `id` \\n {view} Zähler 電気 👍'


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"released_by": None, "release_reason": None},
        {"released_by": "", "release_reason": ""},
        {"released_by": " ", "release_reason": "\n"},
        {"released_by": None, "release_reason": ""},
    ],
)
def test_nobody_releases_anything(params) -> None:
    assert resolve_release(params) == {}


@pytest.mark.parametrize(
    ("by", "reason", "missing"),
    [
        ("Ada", None, "release_reason"),
        ("Ada", "", "release_reason"),
        ("Ada", " \t\n", "release_reason"),
        (None, "known", "released_by"),
        ("  ", "known", "released_by"),
        ("Ada", "--", "release_reason"),
        (".", "known", "released_by"),
    ],
)
def test_one_without_the_other_is_refused(by, reason, missing) -> None:
    with pytest.raises(
        PlanRejected, match=f"is given, but `{missing}` is not, or is blank.*Next: trigger the run again"
    ):
        resolve_release({"released_by": by, "release_reason": reason})


@pytest.mark.parametrize("text", ["a\x00b", "\x1b[31mred", "half \ud83d of a pair", "a\x7f"])
def test_what_no_step_can_be_given_is_refused(text) -> None:
    for name, other in (("released_by", "release_reason"), ("release_reason", "released_by")):
        with pytest.raises(PlanRejected, match=f"`{name}` has the character '.*Next: trigger") as caught:
            resolve_release({name: text, other: "fine"})
        assert str(caught.value).isprintable(), "the message is for a terminal"


def test_texts_become_single_lines_and_stay_what_they_are_otherwise() -> None:
    given = {"released_by": " Ada\tL. ", "release_reason": f"one\r\n\r\ntwo\u2028{ODD}\n"}
    assert resolve_release(given) == {"released_by": "Ada L.", "release_reason": f"one two {ODD}"}


def test_the_params_are_bounded_as_the_job_takes_them() -> None:
    lengths = {name: param.schema["maxLength"] for name, param in release_params().items()}
    assert lengths == {"released_by": BY_LENGTH, "release_reason": REASON_LENGTH}
    # spark_jobs/validate.py refuses longer ones, with a cluster up.
    assert max(lengths.values()) <= 500


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(str(ROOT / "dags"))


class TestArguments:
    """What the step of validate is given; argparse takes it apart as the job does."""

    @pytest.fixture
    def given(self, bag, context_of) -> Any:
        def rendered(**params: str) -> tuple[str, str]:
            task = bag.dags["feature_store_daily"].get_task("validate").prepare_for_execution()
            context = context_of(task)
            plan = context["ti"].xcoms["plan", "return_value"]
            context["ti"].xcoms["plan", "return_value"] = {**plan, **resolve_release(params)}
            context["secret"] = "rendered"  # pragma: allowlist secret
            task.render_template_fields(context)
            arguments = task.steps[0]["HadoopJarStep"]["Args"]
            parser = argparse.ArgumentParser(allow_abbrev=False)
            parser.add_argument("--released-by", default="")
            parser.add_argument("--release-reason", default="")
            got, _ = parser.parse_known_args(arguments[arguments.index("--report") :])
            return got.released_by, got.release_reason

        return rendered

    def test_of_no_release_are_empty(self, given) -> None:
        assert given() == ("", "")

    @pytest.mark.parametrize(
        "reason",
        [
            ODD,
            "{{ secret }} {% if secret %}yes{% endif %} {# no #}",
            "--summary s3://elsewhere",
            "-x",
            "-- no",
            "s3://lake/reason.json",
            "a=b",
        ],
    )
    def test_are_what_was_typed(self, given, reason) -> None:
        assert given(released_by="Ada", release_reason=reason) == ("Ada", reason)
        assert given(released_by=reason, release_reason="known") == (reason, "known")
