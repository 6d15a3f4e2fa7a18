"""The questions of a security review, asked of every template; and each shown to find what it is there for."""

from __future__ import annotations

import pytest

from tests.unit.infra.cloudformation import templates
from tests.unit.infra.cloudformation.faults import FAULTS, Change
from tests.unit.infra.cloudformation.review import QUESTIONS

pytestmark = pytest.mark.unit

PLANTED = [(question, *fault) for question, faults in FAULTS.items() for fault in faults]


@pytest.mark.parametrize("name", templates.NAMES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_security_review_finds_nothing(question: str, name: str) -> None:
    assert list(QUESTIONS[question](templates.load(name))) == []


@pytest.mark.parametrize(
    ("question", "name", "plant", "said"), PLANTED, ids=lambda each: each[:40] if isinstance(each, str) else ""
)
def test_what_is_planted_is_found(question: str, name: str, plant: Change, said: str) -> None:
    template = templates.load(name)
    assert not any(said in finding for finding in QUESTIONS[question](template))
    plant(template)
    assert any(said in finding for finding in QUESTIONS[question](template))


def test_every_question_has_a_planted_fault() -> None:
    assert all(FAULTS.values())
    assert FAULTS.keys() == QUESTIONS.keys()


def test_these_are_all_templates() -> None:
    assert {file.stem for file in templates.FOLDER.glob("*.yaml")} == set(templates.NAMES)
