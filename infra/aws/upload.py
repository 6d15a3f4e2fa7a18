"""Upload: the release for the clusters, and for Airflow its DAGs, plugins, packages and settings. All by content."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from infra import release
from infra.aws import airflow, certificates
from infra.aws.cloudformation import Stacks
from infra.aws.deploy import Maker, deploy
from infra.aws.errors import DeploymentError
from infra.aws.settings import Settings
from infra.aws.templates import Template
from infra.dags import POOL, POOL_DESCRIPTION, POOL_SLOTS, VARIABLE
from infra.local.settings import ROOT

if TYPE_CHECKING:
    import boto3

AIRFLOW = "airflow"  # the stack
# The parameters that are made of what is uploaded, by stack.
MADE = {AIRFLOW: ("PluginsVersion", "RequirementsVersion")}
BUILD = ROOT / "build"
SHA = "sha256"  # metadata of an object: what is in it
POLL_SECONDS = 30  # how often the DAGs ask for the state of a step
CONFLICT = 409
ABSENT = ("404", "NoSuchKey", "ResourceNotFoundException")


class Upload:
    """What is uploaded to one deployment."""

    def __init__(self, settings: Settings, session: boto3.Session, say: Callable[[str], None], root: Path = ROOT) -> None:
        """Take the checked settings, a session of their region, and what tells the person at the terminal something."""
        self._settings = settings
        self._session = session
        self._say = say
        self._root = root
        self._s3 = session.client("s3")

    def makers(self) -> dict[str, Maker]:
        """What makes parameters of stacks while they are deployed."""
        return {AIRFLOW: self._versions}

    def run(self, templates: Sequence[Template], stacks: Stacks, agree: Callable[[str], bool]) -> None:
        """Upload everything, and bring it into use. What is there already is left as it is.

        The environment of Amazon MWAA is changed first, which takes it half an hour; DAGs and settings follow at once.

        Raises:
            DeploymentError: the stacks are not deployed, or something can't be uploaded.
            DeclinedError: the change of the environment was not agreed to; only the release is uploaded.
        """
        outputs = _outputs(self._settings, templates, stacks)
        published = release.publish(
            release.build(sorted((self._root / "EMR" / "certs").glob("*.pem")), BUILD / "release"), outputs["BucketName"]
        )
        self._say(f"release: {published}")
        self._certificate(outputs)
        if _is_managed(outputs):
            of_airflow = [template for template in templates if template.name == AIRFLOW]
            outputs |= deploy(self._settings, of_airflow, stacks, agree, self._say, self.makers(), outputs)
            self._dags(outputs["BucketName"])
        settings = variable(self._settings, outputs, published.rsplit("/", 1)[-1])
        self._store(outputs["AirflowVariableSecretName"], settings)
        if _is_managed(outputs):
            self._pool(outputs["AirflowEnvironmentName"])
            self._say(f"Airflow: https://{outputs['AirflowWebserver']}")
        else:
            self._say(f"Your Airflow needs the pool once: `airflow pools set {POOL} {POOL_SLOTS} \"{POOL_DESCRIPTION}\" --include-deferred`")

    def say_what_is_in_use(self, outputs: Mapping[str, str]) -> None:
        """Say which release the DAGs use, by the outputs of the stacks, and how Amazon MWAA is."""
        if name := outputs.get("AirflowVariableSecretName"):
            stored = self._stored(name)
            found = json.loads(stored).get("release") if stored else None
            self._say(f"release in use: {found or 'none yet: `make upload`'}")
        if name := outputs.get("AirflowEnvironmentName"):
            self._say(f"Amazon MWAA {name}: {self._session.client('mwaa').get_environment(Name=name)['Environment']['Status']}")

    def _versions(self, outputs: Mapping[str, str]) -> dict[str, str]:
        """Put Airflow's archives into the bucket; their versions, as parameters of the stack. None for another Airflow."""
        if not _is_managed(outputs):
            return {}
        bucket = outputs["BucketName"]
        wheels = airflow.fetch_wheels(BUILD / "mwaa-wheels")
        packed = airflow.plugins(wheels, self._root)
        listed = airflow.requirements(airflow.REQUIREMENTS.read_text()).encode()
        if not self._s3.list_objects_v2(Bucket=bucket, Prefix=airflow.DAGS, MaxKeys=1)["KeyCount"]:
            self._dags(bucket)  # an environment that is made wants to find its folder of DAGs
        return {
            "PluginsVersion": self._put(bucket, airflow.PLUGINS, packed),
            "RequirementsVersion": self._put(bucket, airflow.REQUIREMENTS_KEY, listed),
        }

    def _dags(self, bucket: str) -> None:
        """Make the folder of DAGs what it is here; MWAA looks into it every half minute."""
        wanted = airflow.dags(self._root)
        for name, body in wanted.items():
            self._put(bucket, f"{airflow.DAGS}{name}", body)
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=airflow.DAGS)
        for key in [entry["Key"] for page in pages for entry in page.get("Contents", [])]:
            if key.removeprefix(airflow.DAGS) not in wanted:
                self._s3.delete_object(Bucket=bucket, Key=key)
                self._say(f"removed: s3://{bucket}/{key}")

    def _put(self, bucket: str, key: str, body: bytes, **metadata: str) -> str:
        """Put an object, unless it is there with that content; its version."""
        digest = hashlib.sha256(body).hexdigest()
        there = self._head(bucket, key)
        if there.get("Metadata", {}).get(SHA) == digest:
            return str(there["VersionId"])
        extra = {"Metadata": {SHA: digest, **metadata}}
        self._s3.upload_fileobj(io.BytesIO(body), bucket, key, ExtraArgs=extra)
        self._say(f"uploaded: s3://{bucket}/{key} ({len(body) / 2**20:,.1f} MB)")
        return str(self._head(bucket, key)["VersionId"])

    def _head(self, bucket: str, key: str) -> Mapping[str, Any]:
        try:
            return self._s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ABSENT:
                return {}
            raise

    def _certificate(self, outputs: Mapping[str, str]) -> None:
        """See that there is a certificate for the clusters' own traffic, and that it lasts."""
        now = datetime.now(UTC)
        there = self._head(outputs["BucketName"], certificates.KEY)
        if certificates.is_due(there.get("Metadata", {}).get(certificates.ENDS), now):
            body, end = certificates.make(self._settings.region, now)
            self._put(outputs["BucketName"], certificates.KEY, body, **{certificates.ENDS: end.isoformat()})

    def _stored(self, secret: str) -> str | None:
        try:
            return self._session.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
        except ClientError as error:
            if error.response["Error"]["Code"] in ABSENT:
                return None
            raise

    def _store(self, secret: str, settings: Mapping[str, object]) -> None:
        """Put the DAGs' settings where Airflow's secrets backend reads Variables: every task reads them anew."""
        text = json.dumps(settings, indent=1)
        if self._stored(secret) != text:
            self._session.client("secretsmanager").put_secret_value(SecretId=secret, SecretString=text)
        self._say(f"Airflow Variable {VARIABLE}, in the secret {secret}: {json.dumps(settings)}")

    def _pool(self, environment: str) -> None:
        """Make the pool of the DAGs, unless it is there; its slots are held by deferred tasks too."""
        client = self._session.client("mwaa")
        pool = {"name": POOL, "slots": POOL_SLOTS, "description": POOL_DESCRIPTION, "include_deferred": True}
        try:
            client.invoke_rest_api(Name=environment, Method="POST", Path="/pools", Body=pool)
        except client.exceptions.RestApiClientException as error:
            if error.response.get("RestApiStatusCode") == CONFLICT:
                return
            raise
        self._say(f"made the pool {POOL}")


def variable(settings: Settings, outputs: Mapping[str, str], digest: str) -> dict[str, object]:
    """The Airflow Variable that the DAGs read, by the outputs of the stacks; `digest` names the release."""
    return {
        "bucket": outputs["BucketName"],
        "region": settings.region,
        "release": digest,
        "keyspaces": {
            "host": outputs["KeyspacesHost"],
            "port": int(outputs["KeyspacesPort"]),
            # Not called a secret: Airflow would mask the secret's name, in every log. Empty: the role signs in.
            "credentials": outputs.get("KeyspacesSecretName", ""),
            "keyspace": outputs["KeyspaceName"],
        },
        "subnet_id": outputs["SubnetIds"].split(",")[0],
        "job_flow_role": outputs["JobFlowRoleName"],
        "service_role": outputs["ServiceRoleName"],
        "poll_seconds": POLL_SECONDS,
    }


def _outputs(settings: Settings, templates: Sequence[Template], stacks: Stacks) -> dict[str, str]:
    """Merge the outputs of all stacks; DeploymentError if one of them is not there."""
    found: dict[str, str] = {}
    for template in templates:
        name = settings.stack_name(template)
        if stacks.find(name) is None:
            raise DeploymentError(f"The stack {name} is not there: `make deploy` first.")
        found |= stacks.outputs(name)
    return found


def _is_managed(outputs: Mapping[str, str]) -> bool:
    return outputs.get("ManagedAirflow") == "true"
