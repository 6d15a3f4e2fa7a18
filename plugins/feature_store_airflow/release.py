"""A person's word that days may go online although validation holds them back: who, and why."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

from feature_store_airflow.failures import PlanRejected

BY, REASON = "released_by", "release_reason"
BY_LENGTH, REASON_LENGTH = 100, 500  # characters; the job takes up to 500 of each

# Control characters and halves of surrogate pairs: EMR refuses a step that has them in an argument.
UNFIT = ("Cc", "Cs")


def release_params() -> dict[str, Param]:
    """Make the params of a DAG by which a run releases its days."""
    return {
        BY: Param(
            None,
            type=["null", "string"],
            maxLength=BY_LENGTH,
            title="Released by",
            description="Who lets days of this run go online that validation holds back; recorded with the verdict. "
            "Empty: nobody, they stay held back",
        ),
        REASON: Param(
            None,
            type=["null", "string"],
            maxLength=REASON_LENGTH,
            title="Reason",
            description="Why these days are right although they fail; recorded with the verdict. Goes with Released by",
        ),
    }


def resolve_release(params: Mapping[str, Any]) -> dict[str, str]:
    """Return who releases a run's days and why, under the names of the params; empty if nobody does.

    Line breaks and runs of blanks become single blanks: both texts are shown in single lines.

    Raises:
        PlanRejected: only one of the two is given, or one says nothing (not a letter, not a digit), or has characters
            that no step's argument can have.
    """
    given = {name: " ".join((params.get(name) or "").split()) for name in (BY, REASON)}
    if not any(given.values()):
        return {}
    for name, text in given.items():
        if not any(each.isalnum() for each in text):
            other = REASON if name == BY else BY
            raise PlanRejected(
                f"`{other}` is given, but `{name}` is not, or is blank: a release says who and why. "
                "Next: trigger the run again with both, or with neither."
            )
        if unfit := next((each for each in text if unicodedata.category(each) in UNFIT), None):
            raise PlanRejected(
                f"`{name}` has the character {unfit!a} in it, which no step can be given. "
                "Next: trigger the run again without it."
            )
    return given
