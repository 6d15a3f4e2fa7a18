"""What every command is given: where, of what, and whom to ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from infra.aws.cloudformation import Stacks
from infra.aws.settings import Settings
from infra.aws.templates import Template

if TYPE_CHECKING:
    import boto3


@dataclass(frozen=True)
class Person:
    """The one at the terminal.

    Attributes:
        agree: asks them a question.
        say: tells them something.
    """

    agree: Callable[[str], bool]
    say: Callable[[str], None]


@dataclass(frozen=True)
class Target:
    """A deployment.

    Attributes:
        settings: that were checked against the templates.
        templates: of all stacks, in their order.
        stacks: of the account and region that the settings name.
        session: of the same.
        person: who deploys.
    """

    settings: Settings
    templates: Sequence[Template]
    stacks: Stacks
    session: boto3.Session
    person: Person

    def only(self, stack: str) -> Target:
        """The same with one of its stacks."""
        return replace(self, templates=[template for template in self.templates if template.name == stack])
