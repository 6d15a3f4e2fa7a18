"""`make setup`: the environment, the nodes' packages, the jars, Spark's configuration, the query handler.

Standard library only. Each stage leaves a stamp of what it was made from, written last: a second call finds the
stamps and does nothing, and a call after an interrupted one does again what has none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra import wheels
from infra.local import jars
from infra.local.java import HANDLER_CLASSES, HANDLER_SOURCES, class_path, java, javac
from infra.local.settings import JARS, NODE_PACKAGES, ROOT, VENV, StackError
from infra.local.spark_defaults import BY_HAND, properties_text, spark_defaults
from infra.locks import lock_entries

LOCK = ROOT / "requirements.lock"
JARS_LOCK = ROOT / "infra" / "local" / "jars.lock"
SITE_PACKAGES = VENV / "lib" / "python3.11" / "site-packages"
FREE_BYTES = 4 * 1024**3
LAST_LINES = 8
Command = list[str | Path]


def main() -> int:
    """Set up what is not; exit 0 done, 2 with one sentence on what the person has to do."""
    try:
        _check_python()
        (ROOT / ".cache").mkdir(exist_ok=True)
        with (ROOT / ".cache" / "setup.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second set-up waits, and then finds nothing to do
            _set_up()
    except StackError as error:
        _say(f"{error}\n")
        return 2
    return 0


def _set_up() -> None:
    python, packages = _python_stamp(), _packages_stamp()
    nodes, fetched, handler = _wheels_stamp(), _jars_stamp(), _handler_stamp()
    stamps = (python, packages, nodes, fetched, handler)
    if not all(stamp.holds() for stamp in stamps):
        tool, compiler = java(), javac()
        _check_room()
        if not python.holds():
            with _stage("Python environment", python):
                _make_environment()
        if not packages.holds():
            with _stage("Python packages", packages):
                _install_packages()
        if not nodes.holds():
            with _stage("the nodes' Python packages", nodes):
                wheels.fetch(wheels.HERE)
                for installed in NODE_PACKAGES.glob("[0-9a-f]" * 20):  # from others
                    shutil.rmtree(installed)
        if not fetched.holds():
            with _stage("jars", fetched):
                ivy = next((SITE_PACKAGES / "pyspark" / "jars").glob("ivy-*.jar"))
                jars.fetch(jars.parse_lock(JARS_LOCK.read_text()), JARS, tool, ivy)
        if not handler.holds():
            with _stage("query handler", handler):
                _compile_handler(compiler)
    _write_spark_defaults()


@dataclass(frozen=True)
class Stamp:
    """A file that says what a stage was made from; there only when that stage was completed."""

    file: Path
    wanted: str

    def holds(self) -> bool:
        """Whether the stage was completed, from the same things."""
        return self.file.exists() and self.file.read_text() == self.wanted

    @classmethod
    def of(cls, file: Path, *made_from: Path | str) -> Stamp:
        """Digest the contents of files, and texts."""
        digest = hashlib.sha256()
        for item in made_from:
            digest.update(item.read_bytes() if isinstance(item, Path) else item.encode())
        return cls(file, digest.hexdigest())


def _python_stamp() -> Stamp:
    # Scripts in an environment name its path: one that was moved must be made anew.
    return Stamp.of(VENV / "setup-python", str(ROOT), sys.version)


def _packages_stamp() -> Stamp:
    return Stamp.of(VENV / "setup-packages", LOCK, ROOT / "pyproject.toml")


def _wheels_stamp() -> Stamp:
    folder = wheels.folder(wheels.HERE)
    return Stamp.of(folder / "setup-wheels", folder.name)


def _jars_stamp() -> Stamp:
    return Stamp.of(JARS / "setup-jars", JARS_LOCK)


def _handler_stamp() -> Stamp:
    return Stamp.of(HANDLER_CLASSES / "setup-handler", JARS_LOCK, *_handler_sources())


@contextlib.contextmanager
def _stage(name: str, stamp: Stamp) -> Iterator[None]:
    """Tell of a stage and its time; the stamp goes first and comes back last."""
    begun = time.monotonic()
    _say(f"{name} ...")
    stamp.file.unlink(missing_ok=True)
    try:
        yield
    except BaseException:
        _say(" failed\n")
        raise
    stamp.file.write_text(stamp.wanted)
    _say(f" {time.monotonic() - begun:.1f} s\n")


def _check_python() -> None:
    if sys.version_info[:2] != (3, 11):
        raise StackError(
            f"{sys.executable} is Python {sys.version.split()[0]}: this project needs 3.11; set PYTHON to one."
        )
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise StackError(
            f"{sys.executable} has no venv or no ensurepip: install them (Debian, Ubuntu: python3.11-venv)."
        )


def _check_room() -> None:
    free = shutil.disk_usage(ROOT).free
    if free < FREE_BYTES:
        raise StackError(
            f"{ROOT} has {free / 1024**3:.1f} GB free; the environment and the jars need 4 GB: make room there."
        )


def _make_environment() -> None:
    """Make .venv with two tools, by the hashes of the lock: uv, and the setuptools that builds what has no wheel."""
    _run([sys.executable, "-m", "venv", "--clear", VENV], "the environment could not be made")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as tools:
        tools.write("".join(lock_entries(LOCK.read_text(), ["uv", "setuptools"])))
        tools.flush()
        pip: Command = [
            VENV / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "-r",
            tools.name,
        ]
        _run(pip, "uv could not be installed: is the package index reachable?")


def _install_packages() -> None:
    uv: Command = [VENV / "bin" / "uv", "pip"]
    into: Command = ["--quiet", "--python", VENV / "bin" / "python", "--no-build-isolation"]
    _run(
        [*uv, "sync", *into, "--require-hashes", "--compile-bytecode", LOCK],
        "the packages of requirements.lock could not be installed: is the package index reachable?",
    )
    _run([*uv, "install", *into, "--no-deps", "--editable", ROOT], "the project itself could not be installed")


def _handler_sources() -> list[Path]:
    return sorted(HANDLER_SOURCES.rglob("*.java"))


def _compile_handler(compiler: Path) -> None:
    part = HANDLER_CLASSES.with_name(f"{HANDLER_CLASSES.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    options: Command = ["-nowarn", "-proc:none", "-d", part, "-cp", class_path(JARS / "cassandra")]
    _run([compiler, *options, *_handler_sources()], "Cassandra's query handler could not be compiled")
    shutil.rmtree(HANDLER_CLASSES, ignore_errors=True)
    part.rename(HANDLER_CLASSES)


def _write_spark_defaults() -> None:
    """Configure the Spark of the environment, for jobs that are run by hand."""
    file = SITE_PACKAGES / "pyspark" / "conf" / "spark-defaults.conf"
    text = properties_text(spark_defaults(BY_HAND))
    if not file.exists() or file.read_text() != text:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


def _run(command: Command, sentence: str) -> None:
    """Run a tool silently; StackError with the last lines of what it said, and the sentence, if it fails."""
    # The first import of so many packages is compiled in one go; uv gives up after a minute unless told otherwise.
    environment = {**os.environ, "UV_COMPILE_BYTECODE_TIMEOUT": "600"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-LAST_LINES:]
        raise StackError("\n".join([*said, f"Set-up stopped: {sentence}"]))


def _say(text: str) -> None:
    # On stderr: `make -s env` is read by shells, and comes by here.
    sys.stderr.write(text)
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
