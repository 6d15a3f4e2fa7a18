"""`make sbom`: the bill of materials, as CycloneDX's JSON: the packages of requirements.lock, the jars of jars.lock."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from packageurl import PackageURL

from infra.local.jars import Jar, parse_lock
from infra.local.settings import ROOT, VENV
from infra.local.setup import JARS_LOCK, Command
from infra.locks import pins

SBOM = ROOT / "build" / "sbom.json"
MWAA_LOCK = ROOT / "infra" / "aws" / "mwaa" / "requirements.lock"


def main() -> int:
    """Write build/sbom.json; exit 0."""
    bill = python_packages()
    bill["components"] += jars(parse_lock(JARS_LOCK.read_text()))
    bill["components"] += managed_airflow(MWAA_LOCK.read_text())
    SBOM.parent.mkdir(exist_ok=True)
    SBOM.write_text(json.dumps(bill, indent=1) + "\n")
    print(f"{SBOM.relative_to(ROOT)}: {len(bill['components'])} components")  # noqa: T201 - for the person who asked
    return 0


def python_packages() -> dict[str, Any]:
    """Describe the project's environment, which is what the lock says: versions, licences, who needs whom."""
    command: Command = [VENV / "bin" / "cyclonedx-py", "environment", VENV / "bin" / "python"]
    # Its own check of the outcome takes a minute, most of it for the syntax of links; the tests check the rest.
    command += ["--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "--no-validate"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    bill: dict[str, Any] = json.loads(done.stdout)
    return bill


def jars(locked: Iterable[Jar]) -> list[dict[str, Any]]:
    """Describe the jars of a lock, each once, with the sets that it is in."""
    found: dict[str, dict[str, Any]] = {}
    for jar in sorted(locked, key=lambda jar: (jar.module, jar.classifier, jar.set)):
        qualifiers = {"classifier": jar.classifier, "type": "jar"} if jar.classifier else {"type": "jar"}
        purl = PackageURL("maven", jar.group, jar.artifact, jar.version, qualifiers).to_string()
        component = found.setdefault(
            purl,
            {
                "type": "library",
                "bom-ref": purl,
                "group": jar.group,
                "name": jar.artifact,
                "version": jar.version,
                "hashes": [{"alg": "SHA-256", "content": jar.sha256}],
                "purl": purl,
                "properties": [],
            },
        )
        component["properties"].append({"name": "feature-store:jar-set", "value": jar.set})
    return list(found.values())


def managed_airflow(lock: str) -> list[dict[str, Any]]:
    """Describe the packages that Amazon MWAA gets, by their lock: they are installed nowhere here."""
    return [
        {
            "type": "library",
            "bom-ref": f"mwaa:{pin.name}@{pin.version}",
            "name": pin.name,
            "version": pin.version,
            "hashes": [{"alg": "SHA-256", "content": sha256} for sha256 in pin.sha256s],
            "purl": PackageURL("pypi", None, pin.name, pin.version).to_string(),
            "properties": [{"name": "feature-store:environment", "value": "Amazon MWAA"}],
        }
        for pin in pins(lock)
    ]


if __name__ == "__main__":
    sys.exit(main())
