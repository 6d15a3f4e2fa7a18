"""Deploy: the stacks in their order, each after its changes were shown and agreed to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from infra.aws.cloudformation import Change, Proposal, Stacks
from infra.aws.errors import DeclinedError, DeploymentError
from infra.aws.settings import Settings
from infra.aws.templates import Template

MARKS = {"Add": "+", "Modify": "~", "Remove": "-", "Import": ">"}
# Makes, of the outputs so far, those parameters of a stack that are made on the way.
Maker = Callable[[Mapping[str, str]], Mapping[str, str]]


def deploy(
    settings: Settings,
    templates: Sequence[Template],
    stacks: Stacks,
    agree: Callable[[str], bool],
    say: Callable[[str], None],
    makers: Mapping[str, Maker],
    before: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Bring every stack to its template and settings; the outputs of all of them.

    A stack that is so already is left alone. Run again after whatever went wrong, it goes on from there.

    Args:
        settings: that were checked against these templates.
        templates: of all stacks, in their order.
        stacks: of the account and region that the settings name.
        agree: asks the person at the terminal a question.
        say: tells them something.
        makers: what makes parameters on the way, by stack.
        before: outputs of stacks that are deployed already, if these templates are not all.

    Raises:
        DeclinedError: the changes of a stack were not agreed to; those before it are deployed.
        DeploymentError: a stack failed, and was rolled back; those before it are deployed.
    """
    outputs = dict(before or {})
    for template in templates:
        name = settings.stack_name(template)
        made = makers[template.name](outputs) if template.name in makers else {}
        parameters = parameters_of(template, settings, {**outputs, **made})
        proposal = stacks.propose(name, template.body, parameters, settings.tags())
        if proposal is None:
            say(f"{name}: no change")
        else:
            for line in show(proposal):
                say(line)
            if not agree(f"Deploy {name}?"):
                stacks.withdraw(proposal)
                raise DeclinedError(f"{name} was not deployed, nor any stack after it.")
            stacks.carry_out(proposal)
            say(f"{name}: done")
        outputs |= stacks.outputs(name)
    return outputs


def parameters_of(template: Template, settings: Settings, outputs: Mapping[str, str]) -> dict[str, str]:
    """The values that a stack's parameters get: from the settings, from outputs of the same name, else the default.

    Raises:
        DeploymentError: there is none for a parameter without a default.
    """
    given = settings.given(template)
    values = {name: given.get(name, outputs.get(name)) for name in template.parameters}
    for name, value in values.items():
        if value is None and "Default" not in template.parameters[name]:
            raise DeploymentError(f"No stack before {template.name} has given {name} as an output.")
    return {name: value for name, value in values.items() if value is not None}


def show(proposal: Proposal) -> list[str]:
    """Write what a change set would do, a line a resource: what, resource, type, whether it is replaced."""
    head = f"{proposal.stack}: {'a new stack' if proposal.creates else 'a change'}"
    if not proposal.changes:
        return [f"{head} of its tags, outputs or description alone"]
    wide = max(len(change.resource) for change in proposal.changes)
    kinds = max(len(change.kind) for change in proposal.changes)
    return [f"{head} of {len(proposal.changes)} resource(s)", *(_line(change, wide, kinds) for change in proposal.changes)]


def _line(change: Change, wide: int, kinds: int) -> str:
    said = f"replaced: {change.replaced}" if change.replaced else ""
    if change.old:
        said = f"{said}{', the old one is ' if said else 'it is '}{change.old}"
    if change.properties:
        said = f"{said}  ({', '.join(change.properties)})"
    mark = MARKS.get(change.action, "?")
    return f"  {mark} {change.action:<7} {change.resource:<{wide}}  {change.kind:<{kinds}}  {said}".rstrip()
