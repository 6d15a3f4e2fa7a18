"""checkov, which `make lint` runs over the templates from an environment of its own, finds what is planted in them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from infra.local.settings import ROOT
from tests.unit.infra.cloudformation import templates
from tests.unit.infra.cloudformation.faults import BUCKET, REMOVED, grant, put

pytestmark = pytest.mark.integration

CHECKOV = ROOT / ".cache" / "checkov" / "bin" / "checkov"
# The check's number, the template, the planted fault.
PLANTED = {
    "CKV_AWS_55": ("storage", put(f"{BUCKET}/PublicAccessBlockConfiguration/IgnorePublicAcls", False)),
    "CKV_AWS_7": ("storage", put("Resources/Key/Properties/EnableKeyRotation", False)),
    "CKV_AWS_158": ("network", put("Resources/FlowLogGroup/Metadata", REMOVED)),
    "CKV_AWS_107": ("emr", grant("NodeRole", Action="*", Resource="*")),
    "CKV_AWS_26": ("monitoring", put("Resources/AlarmTopic/Properties/KmsMasterKeyId", REMOVED)),
    "CKV_AWS_51": ("simulation", put("Resources/Repository/Properties/ImageTagMutability", "MUTABLE")),
}


def failed(folder: Path) -> set[str]:
    """The numbers of the checks that fail over a folder's templates."""
    command = [CHECKOV, "--directory", folder, "--framework", "cloudformation", "--skip-download", "--output", "json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    said = json.loads(done.stdout)
    assert said["summary"]["parsing_errors"] == 0, done.stdout
    found = {each["check_id"] for each in said["results"]["failed_checks"]}
    assert done.returncode == bool(found), done.stderr
    return found


def test_it_finds_what_is_planted(tmp_path: Path) -> None:
    """Beside `make lint`, where it finds nothing."""
    if not CHECKOV.exists() and not os.environ.get("CI"):
        pytest.skip("make lint makes checkov's environment")
    loaded = {name: templates.load(name) for name, _ in PLANTED.values()}
    for name, plant in PLANTED.values():
        plant(loaded[name])
    for name, template in loaded.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(template, indent=1))
    assert PLANTED.keys() <= failed(tmp_path)
