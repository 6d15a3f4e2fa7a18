"""Status: what there is of a deployment, read only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infra.aws.cloudformation import Stacks
from infra.aws.settings import Settings
from infra.aws.templates import Template


def status(
    settings: Settings, templates: Sequence[Template], stacks: Stacks, say: Callable[[str], None]
) -> dict[str, str]:
    """Say each stack's state and outputs; the outputs of all of them."""
    outputs: dict[str, str] = {}
    for template in templates:
        name = settings.stack_name(template)
        stack = stacks.find(name)
        say(f"{name:<28} {stack['StackStatus'] if stack else 'not deployed'}")
        found = stacks.outputs(name)
        for key, value in sorted(found.items()):
            say(f"  {key} = {value}")
        outputs |= found
    return outputs
