"""The release: its content decides its name, and an upload that was cut short is taken up where it ended."""

import io
import os
import zipfile
from pathlib import Path

import pytest

from infra import release, wheels
from infra.local.settings import ROOT, StackError

pytestmark = pytest.mark.unit
CERTS = [ROOT / "EMR" / "certs" / "amazon-root-ca-1.pem"]


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """A small project: `root` with EMR and two packages, `jars` with one jar, `packages` with one wheel."""
    root, jars = tmp_path / "root", tmp_path / "jars"
    files = {
        "EMR/emr_bootstrap_script.sh": "echo",
        "EMR/app.config": "a { }",
        "EMR/requirements.lock": "one==1\n",
        "feature_store/__init__.py": "",
        "feature_store/views.py": "X = 1\n",
        "feature_store/__pycache__/views.pyc": "compiled",
        "spark_jobs/ingest.py": "print()\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    jars.mkdir()
    (jars / "connector.jar").write_text("jar")
    packages = tmp_path / "wheels"
    packages.mkdir()
    (packages / "one-1-py3-none-any.whl").write_text("wheel")
    wheels.write_sums(packages)
    return {"root": root, "jars": jars, "packages": {"aarch64": packages}}


class FakeS3:
    """A bucket in a dict, in the order of arrival; fails after `capacity` uploads."""

    def __init__(self, capacity: int = 1000):
        self.objects: dict[str, bytes] = {}
        self.capacity = capacity
        self.order: list[str] = []

    def get_paginator(self, name: str):
        assert name == "list_objects_v2"
        return self

    def paginate(self, **request: str):
        found = [
            {"Key": key, "Size": len(body)} for key, body in self.objects.items() if key.startswith(request["Prefix"])
        ]
        return [{"Contents": found}] if found else [{}]

    def upload_file(self, file: str, bucket: str, key: str):
        if not self.capacity:
            raise ConnectionError("the line is cut")
        self.capacity -= 1
        self.objects[key] = Path(file).read_bytes()
        self.order.append(key)


def test_the_same_content_makes_the_same_release(sources, tmp_path):
    first = release.build(CERTS, tmp_path / "one", **sources)
    for path in sources["root"].rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    (sources["root"] / "feature_store" / "__pycache__" / "more.pyc").write_text("compiled anew")
    second = release.build(CERTS, tmp_path / "two", **sources)
    assert first.digest == second.digest
    for path in first.files():
        assert (first.folder / path).read_bytes() == (second.folder / path).read_bytes()
    assert release.build(CERTS, tmp_path / "one", **sources) == first


def test_other_content_makes_another_release(sources, tmp_path):
    first = release.build(CERTS, tmp_path / "out", **sources)
    (sources["root"] / "spark_jobs" / "ingest.py").write_text("print(1)\n")
    assert release.build(CERTS, tmp_path / "out", **sources).digest != first.digest


def test_a_release_holds_what_a_node_needs(sources, tmp_path):
    made = release.build(CERTS, tmp_path / "out", **sources)
    assert [str(path) for path in made.files()] == [
        "app.config",
        "certs/amazon-root-ca-1.pem",
        "code.zip",
        "emr_bootstrap_script.sh",
        "jars/connector.jar",
        "requirements.lock",
        "wheels.aarch64.sha256",
        "SHA256SUMS",
    ]
    assert (made.folder / "wheels.aarch64.sha256").read_text().endswith("  one-1-py3-none-any.whl\n")
    with zipfile.ZipFile(io.BytesIO((made.folder / "code.zip").read_bytes())) as code:
        assert code.namelist() == ["feature_store/__init__.py", "feature_store/views.py", "spark_jobs/ingest.py"]


@pytest.mark.parametrize("missing", ["EMR/app.config", "EMR/requirements.lock", "feature_store", "spark_jobs"])
def test_a_missing_part_is_named(sources, tmp_path, missing):
    (sources["root"] / missing).rename(tmp_path / "away")
    with pytest.raises(StackError, match=f"{missing} is missing"):
        release.build(CERTS, tmp_path / "out", **sources)


def test_a_release_without_jars_or_certificates_is_refused(sources, tmp_path):
    with pytest.raises(StackError, match="make setup"):
        release.build(CERTS, tmp_path / "out", **{**sources, "jars": tmp_path / "none"})
    with pytest.raises(StackError, match="certificates"):
        release.build([], tmp_path / "out", **sources)


def test_other_packages_make_another_release_and_the_same_ones_are_shared(sources, tmp_path, monkeypatch):
    first = release.build(CERTS, tmp_path / "out", **sources)
    (sources["root"] / "spark_jobs" / "ingest.py").write_text("print(1)\n")
    second = release.build(CERTS, tmp_path / "out", **sources)
    assert second.packages == first.packages
    [folder] = sources["packages"].values()
    (folder / "two-1-py3-none-any.whl").write_text("another")
    wheels.write_sums(folder)
    third = release.build(CERTS, tmp_path / "out", **sources)
    assert third.packages.keys().isdisjoint(first.packages)
    assert third.digest != second.digest

    s3 = FakeS3()
    monkeypatch.setattr(release.boto3.Session, "client", lambda session, service: s3)
    for each in (first, second):
        release.publish(each, "bucket")
    [name] = first.packages
    of_packages = [key for key in s3.objects if key.startswith("releases/wheels/")]
    assert sorted(of_packages) == [
        f"releases/wheels/{name}/{wheel}" for wheel in ("one-1-py3-none-any.whl", "two-1-py3-none-any.whl")
    ]
    assert len(s3.objects) == len(first.files()) + len(second.files()) + len(of_packages)
    # A release that is there has its packages: they went before its marker.
    assert s3.order.index(of_packages[-1]) < s3.order.index(f"releases/{first.digest}/SHA256SUMS")


def test_an_upload_that_was_cut_short_is_taken_up(sources, tmp_path, monkeypatch):
    made, s3 = release.build(CERTS, tmp_path / "out", **sources), FakeS3(capacity=3)
    monkeypatch.setattr(release.boto3.Session, "client", lambda session, service: s3)
    with pytest.raises(ConnectionError):
        release.publish(made, "bucket")
    assert not any(key.endswith("SHA256SUMS") for key in s3.objects)
    s3.capacity = 6  # enough for what is missing, not for all
    assert release.publish(made, "bucket") == f"s3://bucket/releases/{made.digest}"
    assert list(s3.objects)[-1] == f"releases/{made.digest}/SHA256SUMS"
    assert len(s3.objects) == len(made.files()) + 1  # the wheel
    assert s3.capacity == 0
    assert release.publish(made, "bucket") == f"s3://bucket/releases/{made.digest}"  # nothing is sent


def test_a_wheel_that_was_deleted_is_there_again(sources, tmp_path, monkeypatch):
    made, s3 = release.build(CERTS, tmp_path / "out", **sources), FakeS3()
    monkeypatch.setattr(release.boto3.Session, "client", lambda session, service: s3)
    release.publish(made, "bucket")
    [wheel] = [key for key in s3.objects if key.endswith(".whl")]
    del s3.objects[wheel]
    release.publish(made, "bucket")
    assert wheel in s3.objects
