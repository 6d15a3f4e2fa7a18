"""The JDK of this machine, and the class paths of the stack's JVMs. Standard library only: the set-up uses it too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from infra.local.settings import JARS, ROOT, StackError

HANDLER_SOURCES = ROOT / "infra" / "local" / "cassandra" / "java"
HANDLER_CLASSES = ROOT / ".cache" / "keyspaces-handler"
VERSION = 17


def java() -> Path:
    """The `java` of a JDK 17 (JAVA_HOME first, then PATH); StackError says what is missing."""
    return _checked(_tool("java"))


def javac() -> Path:
    """The compiler beside `java`; StackError where there is only a runtime."""
    found = java().with_name("javac")
    if not found.exists():
        raise StackError(
            f"{found.parent} holds a Java runtime without its compiler: install the whole JDK {VERSION} "
            f"(Debian, Ubuntu: openjdk-{VERSION}-jdk-headless), or set JAVA_HOME to one."
        )
    return found


def class_path(*entries: Path) -> str:
    """A class path of folders of classes and of folders of jars (a jar set is one of the latter)."""
    return os.pathsep.join(f"{entry}/*" if entry.parent == JARS else str(entry) for entry in entries)


def _tool(name: str) -> Path:
    home = os.environ.get("JAVA_HOME")
    if home:
        found = Path(home, "bin", name)
        if not found.exists():
            raise StackError(f"JAVA_HOME={home} has no bin/{name}: set it to a JDK {VERSION}, or unset it.")
        return found.resolve()
    on_path = shutil.which(name)
    if on_path is None:
        raise StackError(
            f"No {name} was found: install JDK {VERSION} (Debian, Ubuntu: openjdk-{VERSION}-jdk-headless), "
            "or set JAVA_HOME to one."
        )
    return Path(on_path).resolve()


def _checked(tool: Path) -> Path:
    said = subprocess.run([tool, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', said.stderr + said.stdout)
    if not version or int(version[1]) != VERSION:
        found = f"Java {version[1]}" if version else "no working Java"
        raise StackError(
            f"{tool} is {found}; Spark 3.5 and Cassandra 5.0 need JDK {VERSION}: install it, or set JAVA_HOME to one."
        )
    return tool
