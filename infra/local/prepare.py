"""What a deployment does once on AWS, done for one machine: bucket, tables, code, node, settings of the DAGs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

from feature_store import online
from infra import release, wheels
from infra.dags import DAGS, POOL, POOL_DESCRIPTION, POOL_SLOTS
from infra.local import airflow, cassandra
from infra.local.airflow_api import AirflowApi
from infra.local.aws.node import link_programs, programs
from infra.local.settings import BUCKET, KEYSPACE, REGION, ROOT, SECRET_NAME, Stack, StackError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DAGS_PARSED_WITHIN = 120.0  # seconds; a cold dag-processor on two busy cores was seen to take 40


def prepare(stack: Stack, progress: Callable[[str], None]) -> None:
    """Make everything that the DAGs find ready-made on AWS. Safe to repeat: what is there stays as it is.

    Needs the stack to be up and the AWS variables of Stack.aws_environment in os.environ.
    """
    s3: S3Client = boto3.client("s3")
    _make_bucket(s3)
    cassandra.prepare_roles(stack)
    packages = {wheels.HERE: wheels.fetch(wheels.HERE)}
    published = release.publish(release.build([stack.ca], stack.home / "release", packages=packages), BUCKET)
    progress(f"code is published: {published}")
    install_node(stack, published)
    airflow.write_variables(stack, _dag_settings(stack, published))
    _make_dags_ready(stack)
    progress("the DAGs are parsed")


def node_home(stack: Stack) -> Path:
    """Name the home folder of this machine as a node: jobs started by hand find the driver's configuration there."""
    return stack.home / "node"


def driver_config(stack: Stack) -> Path:
    """Name the Java driver's configuration file for jobs that are started by hand."""
    return node_home(stack) / "feature-store" / "app.config"


def install_node(stack: Stack, release_uri: str) -> None:
    """Run the EMR bootstrap script on this machine, so that jobs started by hand are set up as steps are."""
    log = stack.logs / "node-bootstrap.log"
    links = node_home(stack) / "bin"
    link_programs(links)
    with log.open("w") as out:
        done = subprocess.run(
            ["bash", str(ROOT / "EMR" / "emr_bootstrap_script.sh"), *bootstrap_arguments(stack, release_uri)],
            env={**stack.process_environment(), **programs(links), "HOME": str(node_home(stack))},
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        last = log.read_text().strip().splitlines()[-1:]
        raise StackError(f"The EMR bootstrap script failed on this machine: {' '.join(last)} (all of it: {log}).")


def bootstrap_arguments(stack: Stack, release_uri: str) -> list[str]:
    """List the bootstrap script's arguments, as EMR/cluster.json gives them."""
    port = str(stack.ports.keyspaces_port)
    where = ["--keyspaces-host", stack.hosts.keyspaces_host, "--keyspaces-port", port, "--region", REGION]
    return ["--release", release_uri, "--secret", SECRET_NAME, *where]


def connect_online(stack: Stack) -> online.Connection:
    """Connect to the stack's online store as its ordinary role; OnlineError where it can't be had."""
    return online.connect(
        host=stack.hosts.keyspaces_host,
        port=stack.ports.keyspaces_port,
        username=stack.secrets.keyspaces_username,
        password=stack.secrets.keyspaces_password,
        ca=stack.ca,
        region=REGION,
    )


def _make_bucket(s3: S3Client) -> None:
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})


def _dag_settings(stack: Stack, release_uri: str) -> dict[str, object]:
    ec2 = boto3.client("ec2")
    subnets = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"]
    return {
        "bucket": BUCKET,
        "region": REGION,
        "release": release_uri.rsplit("/", 1)[-1],
        "keyspaces": {
            "host": stack.hosts.keyspaces_host,
            "port": stack.ports.keyspaces_port,
            # Not called a secret: Airflow would mask the secret's name, in every log.
            "credentials": SECRET_NAME,
            "keyspace": KEYSPACE,
        },
        "subnet_id": subnets[0]["SubnetId"],
        "job_flow_role": "feature-store-emr-node",
        "service_role": "feature-store-emr",
        # As the local AWS has them of the template of the stack simulation.
        "simulation": {
            "cluster": "feature-store-simulation",
            "task_definition": "feature-store-simulation",
            "log_group": "/feature-store/simulation",
            "subnet_ids": [subnet["SubnetId"] for subnet in subnets[:2]],
            "security_group": groups[0]["GroupId"],
        },
        # EMR on AWS is polled every half minute; a local answer costs nothing.
        "poll_seconds": 1,
    }


def _make_dags_ready(stack: Stack) -> None:
    api = AirflowApi(stack.airflow_url)
    api.ensure_pool(POOL, POOL_SLOTS, POOL_DESCRIPTION)
    deadline = time.monotonic() + DAGS_PARSED_WITHIN
    while missing := set(DAGS) - api.dags():
        if errors := api.import_errors():
            raise StackError("Airflow can't load the DAGs: " + "; ".join(errors))
        if time.monotonic() > deadline:
            names = " and ".join(sorted(missing))
            log = stack.logs / "airflow-dag-processor.log"
            raise StackError(f"Airflow has not parsed {names} within {DAGS_PARSED_WITHIN:.0f} s: see {log}.")
        time.sleep(0.5)
