"""The feature views that there are: the files of feature_store/views, loaded and checked."""

from __future__ import annotations

import importlib
import pkgutil
import traceback
from functools import cache
from pathlib import Path
from types import ModuleType

from feature_store import views as declared
from feature_store.validation.checks import checks
from feature_store.view import FeatureView, ViewError

ROOT = Path(__file__).parents[1]


class UnknownViewError(LookupError):
    """There is no view of that name; the message names those that there are."""


@cache
def views() -> tuple[FeatureView, ...]:
    """All feature views, by name.

    Raises:
        ViewError: a file declares none, or a wrong one; the message begins with the file.
    """
    return load(declared)


def view(name: str) -> FeatureView:
    """Find a view; UnknownViewError if there is none of that name, ViewError if a declaration is wrong."""
    for each in views():
        if each.name == name:
            return each
    known = ", ".join(each.name for each in views())
    raise UnknownViewError(f"There is no feature view {name!r}: there are {known}.")


def load(package: ModuleType) -> tuple[FeatureView, ...]:
    """Load the views of a package's files; ViewError as in `views`.

    A view is named as its file, and its tables as the view: so no two of a package share a table.
    """
    found = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(_view(package, name) for name in found)


def _view(package: ModuleType, name: str) -> FeatureView:
    try:
        module = importlib.import_module(f"{package.__name__}.{name}")
    except Exception as error:
        # A declaration is a program, and can fail as one: whatever it was, the file that it is in has to be named.
        fallback = str(Path(package.__path__[0], f"{name}.py"))
        said = str(error) if isinstance(error, ViewError) else f"{type(error).__name__}: {error}"
        raise ViewError(f"{_place(error, fallback)}: {said}") from error
    file = _relative(str(module.__file__))
    view = getattr(module, "VIEW", None)
    if not isinstance(view, FeatureView):
        raise ViewError(f"{file}: VIEW is not there or is no FeatureView, and each file declares one.")
    if view.name != name:
        raise ViewError(f"{file}: name of view {view.name} is not its file's, {name}.")
    try:
        checks(view)
    except ViewError as error:
        raise ViewError(f"{file}: {error}.") from error
    return view


def _place(error: Exception, fallback: str) -> str:
    """The file and line that an error of a declaration is from: the view's, or that of the source it is over."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename)}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    return f"{_relative(frames[-1].filename)}:{frames[-1].lineno}" if frames else _relative(fallback)


def _relative(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else file
