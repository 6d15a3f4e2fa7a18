"""A node's Python, made of wheels by the bootstrap script, runs the jobs: the project's environment is no help."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from feature_store_airflow.settings import load_cluster_spec
from moto.core.base_backend import BackendDict

from infra import release, wheels
from infra.local.aws.node import SPARK_HOME, Node
from infra.local.aws.requests import read_configurations
from infra.local.aws.server import LocalAws
from infra.local.settings import BUCKET, REGION, ROOT, SECRET_NAME, VENV, Ports, Stack
from tests.unit.infra.aws.cloud import Clock, Cloud, free_port

pytestmark = pytest.mark.integration

# Imports every module of the code, and every module that one of them imports, inside a function too. Prints as JSON
# which can't be, and from where the others came.
LOOK = """
import ast, importlib, json, sys, zipfile

code, *spark = sys.argv[1:]
sys.path[:0] = [code, *spark]
wanted = set()
with zipfile.ZipFile(code) as archive:
    for name in archive.namelist():
        if not name.endswith(".py") or name == "feature_store/online/prometheus.py":  # that is for services alone
            continue
        wanted.add(name.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
        tree = ast.parse(archive.read(name))
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                node.body = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                wanted.add(node.module)
failed = {}
for name in sorted(wanted):
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
print(json.dumps({"failed": failed, "files": sorted(filter(None, files)), "wanted": len(wanted)}))
"""
# A job of Spark's whose workers run Python: features of a whole history are computed so.
JOB = """
import sys
import pandas, pyarrow
from pyspark.sql import SparkSession

def where(batches):
    for batch in batches:
        yield pyarrow.RecordBatch.from_pydict({"python": [sys.executable]})

spark = SparkSession.builder.getOrCreate()
found = spark.range(2, numPartitions=2).mapInArrow(where, "python string").collect()
print("RAN", sys.executable, *sorted({row.python for row in found}))
"""


@dataclass(frozen=True)
class Made:
    """A node on which the bootstrap script has run, as EMR/cluster.json configures it."""

    node: Node

    @property
    def home(self) -> Path:
        return self.node.home / "feature-store"

    @property
    def python(self) -> Path:
        return self.home / "python"

    def look(self, python: Path) -> dict:
        libraries = sorted(str(path) for path in (SPARK_HOME / "python" / "lib").glob("*.zip"))
        command = [python / "bin" / "python", "-I", "-c", LOOK, self.home / "code.zip", *libraries]
        done = subprocess.run(command, env=self.node.environment(), capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """The project's own release, with all of its packages."""
    port = free_port()
    folder = tmp_path_factory.mktemp("node")
    stack = Stack(folder / "stack", Ports(aws_port=port, s3_port=port))
    aws = LocalAws(stack, Clock())
    aws.start()
    Cloud(stack, Clock(), aws).client("s3").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    node = Node(stack, "j-REAL", "i-0", read_configurations(load_cluster_spec()["Configurations"]))
    node.prepare()
    certs = sorted((ROOT / "EMR" / "certs").glob("*.pem"))
    built = release.build(certs, folder / "out", packages={wheels.HERE: wheels.fetch(wheels.HERE)})
    with pytest.MonkeyPatch.context() as environment:
        for key, value in stack.aws_environment().items():
            environment.setenv(key, value)
        uri = release.publish(built, BUCKET)
    where = ["--keyspaces-host", "127.0.0.1", "--keyspaces-port", "9142", "--region", REGION]
    subprocess.run(
        ["bash", ROOT / "EMR" / "emr_bootstrap_script.sh", "--release", uri, "--secret", SECRET_NAME, *where],
        env=node.environment(),
        check=True,
    )
    yield Made(node)
    node.close()
    aws.stop()
    BackendDict.reset()


@pytest.mark.parametrize("architecture", wheels.ARCHITECTURES)
def test_every_package_has_a_wheel_for_each_architecture(architecture: str):
    """Downloaded once for each lock, by its hashes; those of another machine can't be run here."""
    names = [wheel.name for wheel in wheels.fetch(architecture).glob("*.whl")]
    found = sorted(re.sub(r"[-_.]+", "-", name.split("-")[0]).lower() for name in names)
    locked = re.findall(r"^([a-z0-9-]+)==", wheels.LOCK.read_text(), re.MULTILINE)
    assert found == sorted([*locked, wheels.INSTALLER])
    assert all(name.endswith(("-any.whl", f"_{architecture}.whl")) for name in names)
    assert any(name.endswith(f"_{architecture}.whl") for name in names)


def test_every_module_that_a_step_runs_can_be_imported(made: Made):
    seen = made.look(made.python)
    assert seen["failed"] == {}
    assert seen["wanted"] > 80
    strangers = [file for file in seen["files"] if file.startswith(str(VENV)) and not file.startswith(str(SPARK_HOME))]
    assert strangers == []


def test_a_package_that_is_missing_is_seen(made: Made, tmp_path: Path):
    python = tmp_path / "python"
    shutil.copytree(made.python, python, symlinks=True, copy_function=os.link)
    packages = python / "lib" / "python3.11" / "site-packages"
    for path in [*packages.glob("*duckdb*"), *packages.glob("markupsafe*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    failed = made.look(python)["failed"]
    assert failed["duckdb"] == "No module named 'duckdb'"
    assert failed["jinja2"] == "No module named 'markupsafe'"
    assert "feature_store.validation.look" in failed
    assert "feature_store.calendar" not in failed


def test_spark_runs_it_in_the_driver_and_in_the_workers(made: Made, tmp_path: Path):
    job = tmp_path / "job.py"
    job.write_text(JOB)
    environment = made.node.environment()
    submit = shutil.which("spark-submit", path=environment["PATH"])
    command = [submit, "--deploy-mode", "client", "--py-files", made.home / "code.zip", job]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ran = next(line for line in done.stdout.splitlines() if line.startswith("RAN ")).split()[1:]
    assert ran == [str(made.python / "bin" / "python")] * 2


@pytest.mark.parametrize(
    "job", sorted(path.stem for path in (ROOT / "spark_jobs").glob("*.py") if "def main(" in path.read_text())
)
def test_a_job_starts_as_a_step_does(made: Made, job: str, tmp_path: Path):
    """Up to its arguments: by its script, with the code as an archive, and without pyspark where it needs none."""
    libraries = sorted(str(path) for path in (SPARK_HOME / "python" / "lib").glob("*.zip"))
    environment = {**made.node.environment(), "PYTHONPATH": os.pathsep.join([str(made.home / "code.zip"), *libraries])}
    command = [made.python / "bin" / "python", made.home / "spark_jobs" / f"{job}.py", "--help"]
    said = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("usage:")
