"""The release: all that a node fetches at its start, as a folder named after its content, and its copy in S3.

The nodes' Python packages, a hundred times the rest, lie beside the releases in folders that are named after their
content too: releases that need the same packages share them.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

from feature_store import layout
from infra import wheels
from infra.local.settings import JARS, ROOT, StackError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

PACKAGES = ("feature_store", "spark_jobs")
# Uploaded last: where it is, all of the release is. The bootstrap script checks the files against it.
SUMS = "SHA256SUMS"
# Of a release, and of what it calls its packages: the bootstrap script reckons the latter itself.
DIGEST_LENGTH = 20


@dataclass(frozen=True)
class Release:
    """A release on this machine; `digest` depends on the content only.

    Attributes:
        digest: its name.
        folder: where it is.
        packages: by the names of their folders in the bucket, the wheels that its nodes install.
    """

    digest: str
    folder: Path
    packages: Mapping[str, Path]

    def files(self) -> list[Path]:
        """List the files of the release, relative to its folder, the marker last."""
        found = sorted(path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return sorted(found, key=lambda path: path == Path(SUMS))


def build(
    certs: Sequence[Path],
    out: Path,
    *,
    root: Path = ROOT,
    jars: Path = JARS / "connector",
    packages: Mapping[str, Path] | None = None,
) -> Release:
    """Make the release as `out`/<digest>: bootstrap script, driver template, certificates, code, connector.

    Args:
        certs: PEM files of the authorities that a node trusts.
        out: where to make it.
        root: the project.
        jars: the connector's folder.
        packages: the folders of the wheels of each architecture that nodes may have; None downloads what is missing of
            all of them.

    Raises:
        StackError: a part is missing.
    """
    packages = wheels.fetch_all() if packages is None else packages
    out.mkdir(parents=True, exist_ok=True)
    part = out / ".part"
    shutil.rmtree(part, ignore_errors=True)
    for name in ("emr_bootstrap_script.sh", "app.config", wheels.LOCK.name):
        _copy(root / "EMR" / name, part / name)
    for cert in certs:
        _copy(cert, part / layout.AUTHORITIES / f"{cert.stem}.pem")
    for jar in sorted(jars.glob("*.jar")):
        _copy(jar, part / "jars" / jar.name)
    if not certs or not (part / "jars").exists():
        raise StackError(
            f"A release needs certificates and the connector's jars: is {jars} there? `make setup` makes it."
        )
    _zip_code(root, part / "code.zip")
    named = {}
    for architecture, folder in packages.items():
        listed = (folder / wheels.SUMS).read_text()
        (part / f"wheels.{architecture}.sha256").write_text(listed)
        named[_digest(listed)] = folder
    sums = _sums(part)
    (part / SUMS).write_text(sums)
    release = Release(_digest(sums), part, named)
    target = out / release.digest
    if target.exists():  # renamed into place whole, and named after its content: it is the same
        shutil.rmtree(part)
    else:
        part.rename(target)
    return Release(release.digest, target, named)


def publish(release: Release, bucket: str) -> str:
    """Upload what is not in the bucket yet, the marker last; the release's URI. The environment says which S3."""
    s3 = boto3.Session().client("s3")
    prefix = f"{layout.RELEASES}/{release.digest}/"
    there = {entry["Key"]: entry["Size"] for entry in _objects(s3, bucket, prefix)}
    for name, folder in release.packages.items():
        of_packages = f"{layout.RELEASES}/wheels/{name}/"
        there |= {entry["Key"]: entry["Size"] for entry in _objects(s3, bucket, of_packages)}
        for wheel in sorted(folder.glob("*.whl")):
            _upload(s3, bucket, wheel, f"{of_packages}{wheel.name}", there)
    if prefix + SUMS not in there:
        for path in release.files():
            _upload(s3, bucket, release.folder / path, f"{prefix}{path}", there)
    return f"s3://{bucket}/{prefix.rstrip('/')}"


def _objects(s3: S3Client, bucket: str, prefix: str) -> Iterator[ObjectTypeDef]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", [])


def _upload(s3: S3Client, bucket: str, file: Path, key: str, there: Mapping[str, int]) -> None:
    # An object appears when its upload is whole, and its name holds its content: the size is check enough.
    if there.get(key) != file.stat().st_size:
        s3.upload_file(str(file), bucket, key)


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise StackError(f"{source} is missing: a release needs it.")
    if target.exists():
        raise StackError(f"Two files of a release have the name {target.name}: {source} is the second.")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _zip_code(root: Path, target: Path) -> None:
    """Zip the packages such that the same files make the same bytes: sorted, one time, one mode, not compressed."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as code:
        for package in PACKAGES:
            files = sorted(path for path in (root / package).rglob("*") if path.is_file())
            if not files:
                raise StackError(f"{root / package} is missing: a release needs it.")
            for file in files:
                if "__pycache__" not in file.parts:
                    entry = zipfile.ZipInfo(str(file.relative_to(root)), (1980, 1, 1, 0, 0, 0))
                    entry.external_attr = 0o644 << 16
                    code.writestr(entry, file.read_bytes())


def _sums(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder)}\n" for file in files)


def _digest(sums: str) -> str:
    return hashlib.sha256(sums.encode()).hexdigest()[:DIGEST_LENGTH]
