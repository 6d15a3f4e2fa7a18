"""Status: what there is of a deployment, read only."""

from __future__ import annotations

from infra.aws.target import Target


def status(target: Target) -> dict[str, str]:
    """Say each stack's state and outputs; the outputs of all of them."""
    outputs: dict[str, str] = {}
    for template in target.templates:
        name = target.settings.stack_name(template)
        stack = target.stacks.find(name)
        target.person.say(f"{name:<28} {stack['StackStatus'] if stack else 'not deployed'}")
        found = target.stacks.outputs(name)
        for key, value in sorted(found.items()):
            target.person.say(f"  {key} = {value}")
        outputs |= found
    return outputs
