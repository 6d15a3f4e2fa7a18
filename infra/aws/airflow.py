"""What Amazon MWAA gets: DAGs as files, plugins as an archive with the packages that they need, a list of those."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from infra import wheels
from infra.local.settings import ROOT
from infra.locks import pins

MWAA = Path(__file__).with_name("mwaa")
REQUIREMENTS = MWAA / "requirements.lock"
PYTHON, MACHINE = "3.12", "x86_64"  # of MWAA's image, which is Amazon Linux 2023 as the nodes are
# Where the image unpacks the archive; what is in WHEELS of it is installed without any index, as the environment's
# network has no way to one.
PLUGINS_FOLDER, WHEELS = "/usr/local/airflow/plugins", "wheels"
DAGS = "airflow/dags/"
# Named by what is in them: what an environment uses is never overwritten, and so does not expire in the bucket.
PLUGINS, LISTS = "airflow/plugins/", "airflow/requirements/"


def dags(root: Path = ROOT) -> dict[str, bytes]:
    """The DAG files, by their names in the folder of DAGs."""
    return {file.name: file.read_bytes() for file in sorted((root / "dags").glob("*.py"))}


def plugins(packages: Mapping[str, bytes], root: Path = ROOT) -> bytes:
    """Pack the plugins, the domain that they import, EMR's requests and the packages; the same bytes for the same.

    Airflow looks for plugins in every module of the folder: plugins/.airflowignore says which one there is.
    """
    files = {f"{WHEELS}/{name}": content for name, content in packages.items()}
    files |= _tree(root / "plugins", "")
    files |= _tree(root / "feature_store", "feature_store/")
    files |= {f"EMR/{file.name}": file.read_bytes() for file in sorted((root / "EMR").glob("*.json"))}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(".whl") else zipfile.ZIP_DEFLATED
            packed.writestr(entry, files[name])
    return archive.getvalue()


def requirements(locked: str) -> str:
    """Write MWAA's requirements.txt of the locked one: the same versions, from the archive alone."""
    wanted = [f"{pin.name}=={pin.version}" for pin in pins(locked)]
    return "\n".join(["--no-index", f"--find-links {PLUGINS_FOLDER}/{WHEELS}", *wanted, ""])


def fetch_wheels(folder: Path, locked: Path = REQUIREMENTS) -> dict[str, bytes]:
    """Fetch the locked packages for MWAA's Python and machine; those that are in the folder already are not fetched.

    Raises:
        StackError: one can't be had, or is not what was locked.
    """
    place = folder / hashlib.sha256(locked.read_bytes()).hexdigest()[:20]
    wheels.fetch_lock(locked.read_text(), place, PYTHON, MACHINE)
    return {file.name: file.read_bytes() for file in sorted(place.glob("*.whl"))}


def _tree(folder: Path, below: str) -> dict[str, bytes]:
    return {f"{below}{file.relative_to(folder)}": file.read_bytes() for file in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file
