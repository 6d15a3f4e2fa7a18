"""Pages for people from templates: one style, light and dark, and one look of a verdict for all of them."""

from __future__ import annotations

from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

STYLE = "style.css.j2"  # which every template can include
# What a verdict looks like: a sign beside the colour, for those who see no colours.
SIGNS = {"failed": "✕", "quarantined": "✕", "warned": "!", "released": "!", "passed": "✓", "skipped": "-"}
WORDS = {"quarantined": "held back"}


@cache
def template(package: str, name: str) -> Template:
    """Load a template that lies in a package; what is put into it is escaped, and a name that it lacks is an error."""

    def text(of: str) -> str:
        # By the package's own loader, as the steps have the code in an archive.
        return resources.files(__package__ if of == STYLE else package).joinpath(of).read_text("utf-8")

    environment = Environment(
        loader=FunctionLoader(text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals = {"sign": SIGNS.__getitem__, "word": lambda verdict: WORDS.get(verdict, verdict)}
    return environment.get_template(name)
