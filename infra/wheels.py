"""The Python packages of the nodes, as files: a node has no way to a package index, and installs these alone.

EMR/requirements.lock names them with the hashes of their wheels. The installer, uv, comes with them, as
requirements.lock has it; it is not installed itself.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from pathlib import Path

from infra.local.settings import ROOT, VENV, StackError
from infra.locks import lock_entries

LOCK = ROOT / "EMR" / "requirements.lock"
WHEELS = ROOT / ".cache" / "wheels"
INSTALLER = "uv"
# Of the EMR release: its Python, and the C library of its Amazon Linux 2023 (Makefile, `lock`, names both as well).
PYTHON = "3.11"
GLIBC = (2, 34)
OLDEST_GLIBC = 5  # 2.5, that of manylinux1
# As `uname -m` says it on a node: Graviton, and all others.
ARCHITECTURES = ("aarch64", "x86_64")
HERE = platform.machine()
LAST_LINES = 5
# Beside the wheels: their SHA-256 sums, reckoned once, as there is a quarter of a gigabyte of them.
SUMS = "wheels.sha256"


def folder(architecture: str) -> Path:
    """Name the folder of an architecture's wheels; where it is, it is whole, and of the locks as they are."""
    locked = hashlib.sha256(_locked().encode()).hexdigest()
    return WHEELS / f"{architecture}-{locked[:20]}"


def fetch(architecture: str) -> Path:
    """Download the wheels of an architecture unless they are there; their folder. StackError if that can't be done."""
    target = folder(architecture)
    if not target.exists():
        fetch_lock(_locked(), target, PYTHON, architecture)
        for other in WHEELS.glob(f"{architecture}-*"):
            if other != target:  # of a lock that was
                shutil.rmtree(other)
    return target


def fetch_lock(locked: str, target: Path, python: str, architecture: str) -> None:
    """Make a folder of the wheels that a lock's text names, for a Python on Amazon Linux 2023, unless it is there.

    Raises:
        StackError: one can't be had, or is not what was locked. No folder is made then.
    """
    if target.exists():
        return
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _download(locked, part, python, architecture)
    write_sums(part)
    part.rename(target)


def fetch_all() -> dict[str, Path]:
    """Download the wheels of every architecture unless they are there; their folders."""
    return {architecture: fetch(architecture) for architecture in ARCHITECTURES}


def write_sums(folder: Path) -> None:
    """List the wheels of a folder with their sums, as `sha256sum` does."""
    lines = [
        f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}\n" for wheel in sorted(folder.glob("*.whl"))
    ]
    (folder / SUMS).write_text("".join(lines))


def _locked() -> str:
    [installer] = lock_entries((ROOT / "requirements.lock").read_text(), [INSTALLER])
    return f"{LOCK.read_text()}{installer}"


def _download(locked: str, into: Path, python: str, architecture: str) -> None:
    file = into / "locked.txt"
    file.write_text(locked)
    glibcs = [f"manylinux_{GLIBC[0]}_{minor}" for minor in range(OLDEST_GLIBC, GLIBC[1] + 1)]
    command = [
        *(str(VENV / "bin" / "python"), "-m", "pip", "download", "--quiet", "--no-cache-dir"),
        *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement", str(file)),
        *("--dest", str(into), "--implementation", "cp", "--python-version", python),
        *(f"--abi={abi}" for abi in (f"cp{python.replace('.', '')}", "abi3", "none")),
        *(f"--platform={name}_{architecture}" for name in (*glibcs, "manylinux2014")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    file.unlink()
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-LAST_LINES:]
        failed = (
            f"The packages for Python {python} on {architecture} could not be downloaded: is their index reachable?"
        )
        raise StackError("\n".join([*said, failed]))
