"""Upload: the release for the clusters, and for Airflow its DAGs, plugins, packages and settings. All by content."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from infra import release
from infra.aws import airflow, certificates
from infra.aws.deploy import Maker, deploy
from infra.aws.errors import DeploymentError
from infra.aws.settings import Cluster, Settings
from infra.aws.target import Target
from infra.dags import POOL, POOL_DESCRIPTION, POOL_SLOTS, VARIABLE
from infra.local.settings import ROOT

AIRFLOW = "airflow"  # the stack
# The parameters that are made of what is uploaded, by stack.
MADE = {AIRFLOW: ("PluginsKey", "PluginsVersion", "RequirementsKey", "RequirementsVersion")}
BUILD = ROOT / "build"
SHA = "sha256"  # metadata of an object: what is in it
POLL_SECONDS = 30  # how often the DAGs ask for the state of a step
CONFLICT = 409
ABSENT = ("404", "NoSuchKey", "ResourceNotFoundException")


class Upload:
    """What is uploaded to one deployment."""

    def __init__(self, target: Target, root: Path = ROOT) -> None:
        """Take the deployment, and the checkout that is uploaded."""
        self._target = target
        self._settings = target.settings
        self._session = target.session
        self._say = target.person.say
        self._root = root
        self._s3 = target.session.client("s3")

    def makers(self) -> dict[str, Maker]:
        """What makes parameters of stacks while they are deployed."""
        return {AIRFLOW: self._versions}

    def run(self) -> None:
        """Upload everything, and bring it into use. What is there already is left as it is.

        The environment of Amazon MWAA is changed first, which takes it half an hour; DAGs and settings follow at once.

        Raises:
            DeploymentError: the stacks are not deployed, or something can't be uploaded.
            DeclinedError: the change of the environment was not agreed to; nothing that is uploaded comes into use.
        """
        outputs = _outputs(self._target)
        published = release.publish(
            release.build(sorted((self._root / "EMR" / "certs").glob("*.pem")), BUILD / "release"),
            outputs["BucketName"],
        )
        self._say(f"release: {published}")
        self._certificate(outputs)
        if _is_managed(outputs):
            used = self._versions(outputs)
            outputs |= deploy(self._target.only(AIRFLOW), {AIRFLOW: lambda _: used}, outputs)
            self._dags(outputs["BucketName"])
            for folder in (airflow.PLUGINS, airflow.LISTS):
                self._keep(outputs["BucketName"], folder, used.values())
        settings = variable(self._settings, outputs, published.rsplit("/", 1)[-1])
        self._store(outputs["AirflowVariableSecretName"], settings)
        if _is_managed(outputs):
            self._pool(outputs["AirflowEnvironmentName"])
            self._say(f"Airflow: https://{outputs['AirflowWebserver']}")
        else:
            self._say(
                f"Your Airflow needs the pool once: `airflow pools set {POOL} {POOL_SLOTS} "
                f'"{POOL_DESCRIPTION}" --include-deferred`'
            )

    def say_what_is_in_use(self, outputs: Mapping[str, str]) -> None:
        """Say which release the DAGs use, by the outputs of the stacks, and how Amazon MWAA is."""
        if name := outputs.get("AirflowVariableSecretName"):
            stored = self._stored(name)
            found = json.loads(stored).get("release") if stored else None
            self._say(f"release in use: {found or 'none yet: `make upload`'}")
        if name := outputs.get("AirflowEnvironmentName"):
            environment = self._session.client("mwaa").get_environment(Name=name)["Environment"]
            self._say(f"Amazon MWAA {name}: {environment['Status']}")

    def _versions(self, outputs: Mapping[str, str]) -> dict[str, str]:
        """Put MWAA's archives into the bucket; their versions, as parameters of the stack. None for another Airflow."""
        if not _is_managed(outputs):
            return {}
        bucket = outputs["BucketName"]
        wheels = airflow.fetch_wheels(BUILD / "mwaa-wheels")
        packed = airflow.plugins(wheels, self._root)
        listed = airflow.requirements(airflow.REQUIREMENTS.read_text()).encode()
        if not self._s3.list_objects_v2(Bucket=bucket, Prefix=airflow.DAGS, MaxKeys=1)["KeyCount"]:
            self._dags(bucket)  # an environment that is made wants to find its folder of DAGs
        plugins, list_ = f"{airflow.PLUGINS}{_name(packed)}.zip", f"{airflow.LISTS}{_name(listed)}.txt"
        return {
            "PluginsKey": plugins,
            "PluginsVersion": self._put(bucket, plugins, packed),
            "RequirementsKey": list_,
            "RequirementsVersion": self._put(bucket, list_, listed),
        }

    def _dags(self, bucket: str) -> None:
        """Make the folder of DAGs what it is here; MWAA looks into it every half minute."""
        wanted = airflow.dags(self._root)
        for name, body in wanted.items():
            self._put(bucket, f"{airflow.DAGS}{name}", body)
        self._keep(bucket, airflow.DAGS, {f"{airflow.DAGS}{name}" for name in wanted})

    def _keep(self, bucket: str, folder: str, keys: Collection[str]) -> None:
        """Remove all of a folder but these objects; what is removed can be had for as long as the bucket keeps it."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder)
        for key in [entry["Key"] for page in pages for entry in page.get("Contents", [])]:
            if key not in keys:
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
        """Put the DAGs' settings where Airflow's secrets backend reads Variables: every task reads them anew.

        What people have put in beside them, such as whom to notify, stays.
        """
        stored = self._stored(secret)
        try:
            kept = json.loads(stored) if stored else {}
        except ValueError as error:
            raise DeploymentError(f"What is in the secret {secret} is no JSON: mend or empty it. ({error})") from error
        text = json.dumps({**kept, **settings}, indent=1)
        if stored != text:
            self._session.client("secretsmanager").put_secret_value(SecretId=secret, SecretString=text)
        self._say(f"Airflow Variable {VARIABLE}, in the secret {secret}: {json.dumps(settings)}")
        if others := sorted(kept.keys() - settings.keys()):
            self._say(f"  and, as it was: {', '.join(others)}")

    def _pool(self, environment: str) -> None:
        """Make the pool of the DAGs, unless it is there; its slots are held by deferred tasks too."""
        client = self._session.client("mwaa")
        pool = {"name": POOL, "slots": POOL_SLOTS, "description": POOL_DESCRIPTION, "include_deferred": True}
        try:
            client.invoke_rest_api(Name=environment, Method="POST", Path="/pools", Body=pool)
        except ClientError as error:
            if error.response.get("RestApiStatusCode") == CONFLICT:
                return
            # From outside its VPC the API of a private environment may not be had; the pool may be there all the same.
            self._say(
                f"Not known whether there is the pool {POOL} ({error}). Without it no run begins: look in Airflow, "
                f"Admin > Pools, and make it there, with {POOL_SLOTS} slot(s) and *include deferred*."
            )
            return
        self._say(f"made the pool {POOL}")


def variable(settings: Settings, outputs: Mapping[str, str], digest: str) -> dict[str, object]:
    """The Airflow Variable that the DAGs read, by the outputs of the stacks; `digest` names the release."""
    subnets, machines = outputs["SubnetIds"].split(","), settings.cluster or Cluster()
    simulation = {
        "cluster": outputs["SimulationClusterName"],
        "task_definition": outputs["SimulationTaskFamily"],
        "log_group": outputs["SimulationLogGroupName"],
        "subnet_ids": subnets,
        "security_group": outputs["ReaderSecurityGroupId"],
    }
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
        # By these the roles know what is theirs: names and tags of clusters, and the alarms' metrics.
        "prefix": settings.prefix,
        "metrics_namespace": settings.prefix,
        "subnet_id": subnets[0],
        "cluster": {**machines.model_dump(exclude_none=True), "subnet_ids": subnets},
        "security_groups": {
            "master": outputs["NodeSecurityGroupId"],
            "core": outputs["NodeSecurityGroupId"],
            "service": outputs["ServiceSecurityGroupId"],
        },
        "security_configuration": outputs["SecurityConfigurationName"],
        "job_flow_role": outputs["JobFlowRoleName"],
        "service_role": outputs["ServiceRoleName"],
        "simulation": simulation,
        "poll_seconds": POLL_SECONDS,
    }


def _outputs(target: Target) -> dict[str, str]:
    """Merge the outputs of all stacks; DeploymentError if one of them is not there."""
    found: dict[str, str] = {}
    for template in target.templates:
        name = target.settings.stack_name(template)
        if target.stacks.find(name) is None:
            raise DeploymentError(f"The stack {name} is not there: `make deploy` first.")
        found |= target.stacks.outputs(name)
    return found


def _name(body: bytes) -> str:
    """Name an object by what is in it."""
    return hashlib.sha256(body).hexdigest()[:20]


def _is_managed(outputs: Mapping[str, str]) -> bool:
    return outputs.get("ManagedAirflow") == "true"
