"""The upload: what it puts where, that it does so once, and what Airflow makes of it."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from jinja2 import Environment, StrictUndefined
from moto import mock_aws

from infra import dags, release
from infra.aws import airflow, certificates, templates
from infra.aws.cloudformation import Stacks
from infra.aws.deploy import deploy
from infra.aws.errors import DeclinedError, DeploymentError
from infra.aws.settings import Settings
from infra.aws.status import status
from infra.aws.target import Person, Target
from infra.aws.upload import Upload, variable
from infra.local.settings import ROOT, StackError
from tests.unit.infra.aws import cloudformation
from tests.unit.infra.aws.cloudformation import ACCOUNT, REGION, SESSION

pytestmark = pytest.mark.unit

TEMPLATES = templates.load()
BUCKET = f"fs-{ACCOUNT}-{REGION}"
STORED_AT = "fs/airflow/variables/feature_store"


class Deployment:
    """Stacks in an AWS in memory, and what is uploaded to them."""

    def __init__(self, root: Path, **stacks: dict[str, Any]) -> None:
        self.settings = Settings(account=ACCOUNT, region=REGION, prefix="fs", cost_centre="data", stacks=stacks)
        self.said: list[str] = []
        self.agrees = True
        stacks_there = Stacks(SESSION.client("cloudformation"), self.said.append, lambda _: None)
        person = Person(lambda _: self.agrees, self.said.append)
        self.target = Target(self.settings, TEMPLATES, stacks_there, SESSION, person)
        self.upload = Upload(self.target, root)

    def deploy(self) -> dict[str, str]:
        def versions(outputs: Mapping[str, str]) -> Mapping[str, str]:
            SESSION.client("s3").put_bucket_versioning(  # moto makes a bucket without what its template says of that
                Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}
            )
            return self.upload.makers()["airflow"](outputs)

        outputs = deploy(self.target, {"airflow": versions})
        SESSION.client("secretsmanager").create_secret(Name=STORED_AT)  # moto passes over that of the stack
        self.said.clear()
        return outputs

    def run(self) -> None:
        self.said.clear()
        self.upload.run()

    def variable(self) -> dict[str, Any]:
        secret = SESSION.client("secretsmanager").get_secret_value(SecretId=STORED_AT)["SecretString"]
        return dict(json.loads(secret))

    def variable_versions(self) -> list[str]:
        versions = SESSION.client("secretsmanager").list_secret_version_ids(SecretId=STORED_AT)["Versions"]
        return [each["VersionId"] for each in versions]

    def objects(self) -> set[str]:
        listed = SESSION.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {entry["Key"] for entry in listed}

    def body(self, key: str) -> bytes:
        return bytes(SESSION.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def parameters(self) -> dict[str, str]:
        (stack,) = SESSION.client("cloudformation").describe_stacks(StackName="fs-airflow")["Stacks"]
        return {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}


@pytest.fixture
def root(tmp_path) -> Path:
    """A checkout that a test can change."""
    for name in ("dags/daily.py", "plugins/feature_store_airflow/__init__.py", "feature_store/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# one\n")
    (tmp_path / "EMR").mkdir()
    (tmp_path / "EMR/cluster.json").write_text("{}")
    return tmp_path


@pytest.fixture(autouse=True)
def aws(monkeypatch, tmp_path) -> Iterator[None]:
    def build(*_: Any, **__: Any) -> release.Release:
        folder = tmp_path / "release"
        folder.mkdir(exist_ok=True)
        (folder / release.SUMS).write_text("sums")
        return release.Release("0123abcd", folder, {})

    monkeypatch.setattr(release, "build", build)
    monkeypatch.setattr(airflow, "fetch_wheels", lambda _: {"duckdb-2.0.1-cp312-any.whl": b"a wheel"})
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    cloudformation.install(monkeypatch)
    with mock_aws():
        yield


@pytest.fixture
def mwaa() -> Iterator[Stubber]:
    with Stubber(SESSION.client("mwaa")) as stubbed:
        yield stubbed


def pool_made(mwaa: Stubber) -> None:
    expected = {
        "Name": "fs", "Method": "POST", "Path": "/pools",
        "Body": {"name": dags.POOL, "slots": 1, "description": dags.POOL_DESCRIPTION, "include_deferred": True},
    }  # fmt: skip
    mwaa.add_response("invoke_rest_api", {"RestApiStatusCode": 201, "RestApiResponse": {}}, expected)


def pool_there(mwaa: Stubber, status: int = 409) -> None:
    mwaa.add_client_error("invoke_rest_api", "RestApiClientException", modeled_fields={"RestApiStatusCode": status})


MANAGED = {"network": {"ManagedAirflow": True}}


def test_a_self_hosted_airflow_gets_a_release_and_its_settings(root) -> None:
    here = Deployment(root)
    outputs = here.deploy()
    here.run()
    assert here.objects() == {"releases/0123abcd/SHA256SUMS", certificates.KEY}
    assert here.variable() == variable(here.settings, outputs, "0123abcd")
    assert here.said[0] == f"release: s3://{BUCKET}/releases/0123abcd"
    assert here.said[-1].startswith("Your Airflow needs the pool once: `airflow pools set feature_store_lake 1 ")


def test_a_managed_airflow_gets_everything_while_it_is_deployed(root, mwaa) -> None:
    here = Deployment(root, **MANAGED)
    here.deploy()
    parameters = here.parameters()
    keys = [parameters["PluginsKey"], parameters["RequirementsKey"]]
    assert here.objects() == {*keys, "airflow/dags/daily.py"}
    for key, pattern in zip(keys, ("airflow/plugins/{}.zip", "airflow/requirements/{}.txt"), strict=True):
        assert key == pattern.format(hashlib.sha256(here.body(key)).hexdigest()[:20])
    versions = {
        each["Key"]: each["VersionId"] for each in SESSION.client("s3").list_object_versions(Bucket=BUCKET)["Versions"]
    }
    assert [parameters["PluginsVersion"], parameters["RequirementsVersion"]] == [versions[key] for key in keys]
    pool_made(mwaa)
    here.run()
    assert "fs-airflow: no change" in here.said
    assert f"made the pool {dags.POOL}" in here.said
    mwaa.assert_no_pending_responses()


def test_a_second_upload_changes_nothing(root, mwaa) -> None:
    here = Deployment(root, **MANAGED)
    here.deploy()
    pool_made(mwaa)
    here.run()
    before = SESSION.client("s3").list_object_versions(Bucket=BUCKET)["Versions"]
    secret = here.variable_versions()
    pool_there(mwaa)
    here.run()
    assert SESSION.client("s3").list_object_versions(Bucket=BUCKET)["Versions"] == before
    assert here.variable_versions() == secret
    assert not [line for line in here.said if line.startswith(("uploaded", "removed", "made"))]


def test_what_has_changed_comes_into_use_and_what_is_gone_goes(root, mwaa) -> None:
    here = Deployment(root, **MANAGED)
    here.deploy()
    before = here.parameters()
    (root / "plugins/feature_store_airflow/__init__.py").write_text("# two\n")
    (root / "dags/daily.py").rename(root / "dags/nightly.py")
    pool_there(mwaa)
    here.run()
    after = here.parameters()
    assert after["PluginsKey"] != before["PluginsKey"]
    assert after["RequirementsKey"] == before["RequirementsKey"]
    assert {after["PluginsKey"], after["RequirementsKey"]} < here.objects()
    assert before["PluginsKey"] not in here.objects()
    assert {key for key in here.objects() if key.startswith(airflow.DAGS)} == {"airflow/dags/nightly.py"}
    assert f"removed: s3://{BUCKET}/airflow/dags/daily.py" in here.said


def test_plugins_that_are_declined_leave_the_dags_and_the_release_as_they_are(root, mwaa) -> None:
    here = Deployment(root, **MANAGED)
    here.deploy()
    pool_made(mwaa)
    here.run()
    (root / "plugins/feature_store_airflow/__init__.py").write_text("# two\n")
    (root / "dags/daily.py").write_text("# two\n")
    here.agrees = False
    in_use = here.parameters()["PluginsKey"], here.variable()
    with pytest.raises(DeclinedError, match="fs-airflow was not deployed"):
        here.run()
    assert here.body("airflow/dags/daily.py") == b"# one\n"
    assert (here.parameters()["PluginsKey"], here.variable()) == in_use
    assert in_use[0] in here.objects()  # as an object of its own, which nothing lets expire


def test_what_people_have_put_into_the_variable_stays(root) -> None:
    here = Deployment(root)
    here.deploy()
    here.run()
    put = {**here.variable(), "notify": {"mail": ["on-call@example.com"]}, "release": "old"}
    SESSION.client("secretsmanager").put_secret_value(SecretId=STORED_AT, SecretString=json.dumps(put))
    for _ in range(2):
        here.run()
        assert here.variable() == {**put, "release": "0123abcd"}
        assert "  and, as it was: notify" in here.said


def test_a_variable_that_is_none_is_not_overwritten(root) -> None:
    here = Deployment(root)
    here.deploy()
    SESSION.client("secretsmanager").put_secret_value(SecretId=STORED_AT, SecretString="{,")
    with pytest.raises(DeploymentError, match=f"What is in the secret {STORED_AT} is no JSON: mend or empty it"):
        here.run()


def test_who_can_not_ask_for_the_pool_is_told_of_it(root, mwaa) -> None:
    here = Deployment(root, **MANAGED)
    here.deploy()
    pool_there(mwaa, 403)
    here.run()
    (said,) = [line for line in here.said if line.startswith(f"Not known whether there is the pool {dags.POOL}")]
    assert "Without it no run begins" in said
    assert here.variable()["release"] == "0123abcd"


def test_an_upload_before_a_deployment_is_refused(root) -> None:
    with pytest.raises(DeploymentError, match="The stack fs-network is not there: `make deploy` first"):
        Deployment(root).run()


def test_status_says_which_release_is_in_use(root, mwaa) -> None:
    here = Deployment(root, **MANAGED)
    here.deploy()
    for release_in_use in ("none yet: `make upload`", "0123abcd"):
        here.said.clear()
        mwaa.add_response("get_environment", {"Environment": {"Status": "AVAILABLE"}}, {"Name": "fs"})
        here.upload.say_what_is_in_use(status(here.target))
        assert here.said[-2:] == [f"release in use: {release_in_use}", "Amazon MWAA fs: AVAILABLE"]
        pool_there(mwaa)
        here.run()


def test_the_certificate_of_the_clusters_is_what_emr_takes(root) -> None:
    here = Deployment(root)
    here.deploy()
    here.run()
    first = here.body(certificates.KEY)
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert set(files) == {"privateKey.pem", "certificateChain.pem", "trustedCertificates.pem"}
    certificate = x509.load_pem_x509_certificate(files["certificateChain.pem"])
    assert certificate.subject.rfc4514_string() == "CN=*.eu-west-2.compute.internal"
    key = serialization.load_pem_private_key(files["privateKey.pem"], None)
    assert key.public_key() == certificate.public_key()
    certificate.verify_directly_issued_by(certificate)
    here.run()
    assert here.body(certificates.KEY) == first


def test_a_certificate_is_made_anew_in_its_last_year() -> None:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    _, end = certificates.make("us-east-1", now)
    assert not certificates.is_due(end.isoformat(), now)
    assert not certificates.is_due(end.isoformat(), end - dt.timedelta(days=366))
    assert certificates.is_due(end.isoformat(), end - dt.timedelta(days=364))
    assert certificates.is_due(None, now)


def test_the_variable_has_what_the_dags_and_the_clusters_ask_of_it(root) -> None:
    """Each `var.json.feature_store.X` of the code that travels."""
    here = Deployment(root)
    made = variable(here.settings, here.deploy(), "0123abcd")
    texts = "\n".join(
        file.read_text()
        for folder in ("EMR", "plugins", "dags")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", ".json") and "__pycache__" not in file.parts
    )
    asked = set(re.findall(r"var\.json\.feature_store\.([\w.]+)(?=[^\w.(])", texts)) - {"get"}
    asked |= set(re.findall(r'\bsetting\("([\w.]+)"\)', texts))
    assert {"bucket", "keyspaces.host", "poll_seconds"} <= asked
    optional = set(re.findall(r"var\.json\.feature_store\.get\('(\w+)'", texts))
    assert optional - set(made) <= {"backfill"}  # how large its chunks are: whoever wants others puts it in
    render = Environment(undefined=StrictUndefined).from_string
    for path in asked:
        render(f"{{{{ v.{path} }}}}").render(v=made)


def test_a_role_that_signs_in_by_itself_needs_no_secret(root) -> None:
    by_role, by_secret = Deployment(root), Settings(account=ACCOUNT, region=REGION, cost_centre="x")
    outputs = by_role.deploy()
    assert variable(by_role.settings, outputs, "r")["keyspaces"]["credentials"] == ""  # type: ignore[index]
    named = variable(by_secret, {**outputs, "KeyspacesSecretName": "fs/keyspaces"}, "r")
    assert named["keyspaces"]["credentials"] == "fs/keyspaces"  # type: ignore[index]


def test_the_archive_is_what_airflow_finds_one_plugin_in(tmp_path) -> None:
    """By Airflow's own search, of the real plugins, unpacked as MWAA does it."""
    from airflow.utils.file import find_path_from_directory

    packed = airflow.plugins({"a-1-py3-none-any.whl": b"a wheel"}, ROOT)
    assert packed == airflow.plugins({"a-1-py3-none-any.whl": b"a wheel"}, ROOT)
    zipfile.ZipFile(io.BytesIO(packed)).extractall(tmp_path)
    found = [
        str(Path(file).relative_to(tmp_path))
        for file in find_path_from_directory(str(tmp_path), ".airflowignore")
        if file.endswith(".py")
    ]
    assert found == ["feature_store_airflow/airflow_plugin.py"]
    assert (tmp_path / "EMR/cluster.json").read_bytes() == (ROOT / "EMR/cluster.json").read_bytes()
    assert (tmp_path / "wheels/a-1-py3-none-any.whl").read_bytes() == b"a wheel"


def test_the_packages_are_the_locked_ones_from_the_archive_alone() -> None:
    written = airflow.requirements(airflow.REQUIREMENTS.read_text()).splitlines()
    assert written[:2] == ["--no-index", "--find-links /usr/local/airflow/plugins/wheels"]
    wanted = re.findall(r"^[a-z][\w-]*", (airflow.MWAA / "requirements.in").read_text(), re.M)
    names = {line.partition("==")[0] for line in written[2:]}
    assert set(wanted) <= names
    tested = set(re.findall(r"^[a-z][\w.-]*==\S+", (airflow.MWAA / "tests.lock").read_text(), re.M))
    assert set(written[2:]) <= tested  # nothing is delivered in another version than the DAGs are tested with


def test_wheels_are_fetched_by_their_hashes_and_once(tmp_path, monkeypatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    wheel = tmp_path / "index" / "tiny-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        packed.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        packed.writestr("tiny-1.0.dist-info/RECORD", "")
    locked = tmp_path / "requirements.txt"
    locked.write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(StackError, match=r"(?s)HASHES.*The packages for Python 3.12 on x86_64 could not be downloaded"):
        airflow.fetch_wheels(tmp_path / "wheels", locked)
    locked.write_text(f"tiny==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    assert set(airflow.fetch_wheels(tmp_path / "wheels", locked)) == {wheel.name}
    wheel.unlink()
    assert set(airflow.fetch_wheels(tmp_path / "wheels", locked)) == {wheel.name}
