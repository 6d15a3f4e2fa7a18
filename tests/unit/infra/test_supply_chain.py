"""What the project is made of is known, may be used, and holds no secret: each check finds a planted fault."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from jsonschema import Draft7Validator
from packageurl import PackageURL
from referencing import Registry, Resource

from infra import sbom
from infra.local.jars import parse_lock
from infra.local.settings import ROOT, VENV
from infra.local.setup import JARS_LOCK, LOCK

pytestmark = pytest.mark.unit

JARS = parse_lock(JARS_LOCK.read_text())


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    """The bill of materials, as `make sbom` leaves it."""
    assert sbom.main() == 0
    return dict(json.loads(sbom.SBOM.read_text()))


class TestBill:
    def missing(self, bill: dict[str, Any]) -> set[str]:
        """What is locked and not in a bill of materials."""
        packages = {f"pkg:pypi/{name}@{version}" for name, version in self.locked()}
        jars = {f"pkg:maven/{jar.group}/{jar.artifact}@{jar.version}" for jar in JARS}
        there = set()
        for part in bill["components"]:
            purl = PackageURL.from_string(part["purl"])
            name = purl.name.replace(".", "-") if purl.type == "pypi" else purl.name  # as the lock spells it
            # Without qualifiers: a jar's classifier is looked at below.
            there.add(purl._replace(name=name, qualifiers={}).to_string())
        return (packages | jars) - there

    def locked(self) -> list[tuple[str, str]]:
        found = re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==([^ ]+) ", LOCK.read_text(), re.MULTILINE)
        assert len(found) > 200
        return found

    def test_every_locked_package_and_jar_is_in_it(self, bill: dict[str, Any]) -> None:
        assert self.missing(bill) == set()

    def test_one_that_is_left_out_is_missed(self, bill: dict[str, Any]) -> None:
        without = [part for part in bill["components"] if part["name"] not in {"jinja2", "Jinja2", "s3proxy"}]
        assert len(self.missing({"components": without})) == 2

    def test_what_amazon_mwaa_gets_is_in_it(self, bill: dict[str, Any]) -> None:
        described = {part["purl"]: part for part in bill["components"] if part["bom-ref"].startswith("mwaa:")}
        pins = re.findall(r"^([a-z0-9-]+)==(\S+) ", sbom.MWAA_LOCK.read_text(), re.MULTILINE)
        assert set(described) == {f"pkg:pypi/{name}@{version}" for name, version in pins}
        assert all(part["hashes"] for part in described.values())

    def test_each_jar_has_its_hash_and_its_sets(self, bill: dict[str, Any]) -> None:
        described = [part for part in bill["components"] if part["purl"].startswith("pkg:maven/")]
        told = {(part["hashes"][0]["content"], said["value"]) for part in described for said in part["properties"]}
        assert told == {(jar.sha256, jar.set) for jar in JARS}

    def test_it_is_cyclonedx(self, bill: dict[str, Any]) -> None:
        folder = importlib.resources.files("cyclonedx.schema") / "_res"
        bom = f"bom-{bill['specVersion']}.SNAPSHOT.schema.json"
        schemas = {
            name: json.loads((folder / name).read_text())
            for name in (bom, "spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json")
        }
        # By the names that the first one calls the others.
        known = [(urljoin(schemas[bom]["$id"], name), Resource.from_contents(it)) for name, it in schemas.items()]
        check = Draft7Validator(schemas[bom], registry=Registry().with_resources(known))
        check.validate(bill)
        bill["components"][0].pop("name")
        assert not check.is_valid(bill)


class TestLicences:
    """The check of `make lint`: pip-licenses, by the list in pyproject.toml."""

    TOOL = VENV / "bin" / "pip-licenses"

    def test_all_that_is_installed_may_be_used(self) -> None:
        done = run(self.TOOL)
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("licence", ["AGPL-3.0-only", ""])
    def test_one_that_may_not_is_found(self, tmp_path: Path, licence: str) -> None:
        planted = tmp_path / "planted-1.0.dist-info"
        planted.mkdir()
        said = f"License-Expression: {licence}\n" if licence else ""
        (planted / "METADATA").write_text(f"Metadata-Version: 2.4\nName: planted\nVersion: 1.0\n{said}")
        done = run(self.TOOL, PYTHONPATH=str(tmp_path))
        assert done.returncode == 1
        assert f"license {licence or 'UNKNOWN'} not in allow-only" in done.stderr
        assert "planted:1.0" in done.stderr


class TestSecretScan:
    """The check of `make lint`: detect-secrets, as the Makefile calls it."""

    def scan(self, *files: Path) -> subprocess.CompletedProcess[str]:
        return run("make", "-s", "secret-scan", *([f"FILES={' '.join(map(str, files))}"] if files else []))

    @pytest.mark.parametrize(
        "secret",
        [
            # Put together here, or the scan would find them in this file.
            "key: AKIA" + "QX7TN2LB4JWCZ6RD",
            "-----BEGIN EC " + "PRIVATE KEY-----",
            "database_pass" + "word: correct-horse-battery",
            "postgresql://airflow:correct" + "-horse@postgres/airflow",
            'value = "' + hashlib.sha256(b"planted").hexdigest() + '"',
        ],
        ids=["access key", "private key", "password", "address", "token"],
    )
    def test_a_planted_secret_is_found(self, tmp_path: Path, secret: str) -> None:
        planted = tmp_path / "settings.yaml"
        planted.write_text(f"# planted\n{secret}\n")
        done = self.scan(planted)
        assert done.returncode
        assert f"{planted}:2" in done.stdout

    def test_names_of_secrets_and_references_are_none(self, tmp_path: Path) -> None:
        harmless = tmp_path / "settings.yaml"
        harmless.write_text("secret: feature-store/keyspaces\nPOSTGRES_PASSWORD_FILE: /database-password/password\n")
        assert self.scan(harmless).returncode == 0


def test_an_audit_that_could_not_look_anything_up_has_failed(tmp_path: Path) -> None:
    """Without its database pip-audit skips each package and says all is well, unless it is told to be strict."""
    (recipe,) = re.findall(r"^audit:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "--strict" in recipe
    listed = run("make", "--dry-run", "audit").stdout
    for lock in ("requirements.lock", "EMR/requirements.lock", "infra/aws/mwaa/requirements.lock"):
        assert f"--requirement {lock}" in listed
    nowhere = tmp_path / "requirements.txt"
    nowhere.write_text("jinja2==3.1.6\n")
    done = run(
        sys.executable, "-m", "pip_audit", "--strict", "--disable-pip", "--no-deps", "--requirement", nowhere,
        "--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:9/query", "--timeout", "2",
        NO_PROXY="127.0.0.1",
    )  # fmt: skip
    assert done.returncode
