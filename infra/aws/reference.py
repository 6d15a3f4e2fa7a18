"""Renders the tables of README.md from the templates: `python -m infra.aws.reference` brings the file up to date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cfnlint.decode import decode  # type: ignore[import-untyped]  # it has no types, nor are there stubs

HERE = Path(__file__).parent
README = HERE / "README.md"
TEMPLATES = HERE / "templates"


class TablesError(Exception):
    """The tables can't be rendered; the message says why."""


def tables(name: str) -> str:
    """Render what a template makes, asks for and gives, as Markdown tables."""
    template, faults = decode(str(TEMPLATES / f"{name}.yaml"))
    if faults:
        raise TablesError(f"{name}.yaml can't be read: {faults[0].message}")
    parameters = ((f"`{each}`", _default(of), _text(of)) for each, of in template["Parameters"].items())
    outputs = ((f"`{each}`", _text(of)) for each, of in template["Outputs"].items())
    kinds: dict[str, list[str]] = {}
    for each, of in template["Resources"].items():
        kinds.setdefault(of["Type"].removeprefix("AWS::"), []).append(each)
    made = ((kind, ", ".join(f"`{each}`" for each in ids)) for kind, ids in kinds.items())
    return "\n".join(
        (
            *_table(("resource", "its names in the template"), made),
            "",
            *_table(("parameter", "default", "what it is"), parameters),
            "",
            *_table(("output", "what it is"), outputs),
            "",
        )
    )


def render(text: str) -> str:
    """Put the tables of each template into the text, between the lines that name it.

    Raises:
        TablesError: a template has no such lines.
    """
    for file in TEMPLATES.glob("*.yaml"):
        begin, end = f"<!-- {file.stem} -->\n", f"<!-- end of {file.stem} -->\n"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise TablesError(f"README.md has no lines {begin.strip()} and {end.strip()}.")
        text = f"{before}{begin}{tables(file.stem)}{end}{after}"
    return text


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + " --- |" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _default(of: Mapping[str, Any]) -> str:
    if "Default" not in of:
        return "(given)"
    return f"`{of['Default']}`" if str(of["Default"]) else "(empty)"


def _text(of: Mapping[str, Any]) -> str:
    allowed = of.get("AllowedValues")
    choice = f" One of {', '.join(f'`{each}`' for each in allowed)}." if allowed else ""
    bounds = f" From {of['MinValue']} to {of['MaxValue']}." if "MinValue" in of else ""
    return f"{' '.join(of['Description'].split())}{choice}{bounds}"


if __name__ == "__main__":
    README.write_text(render(README.read_text()))
