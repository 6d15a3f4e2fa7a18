"""The node: which paths it maps, what its processes are given, and that none of them outlives it."""

import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from infra.local.aws import node, sessions
from infra.local.settings import MARK, VENV, Ports, Stack
from tests.unit.infra.aws.cloud import Cloud, alive, shell, wait_until

pytestmark = pytest.mark.unit


@pytest.fixture
def stack(tmp_path) -> Stack:
    return Stack(tmp_path / "stack", Ports())


def make(stack: Stack, **settings) -> node.Node:
    made = node.Node(stack, "j-TEST", "i-0", node.Settings(**settings))
    made.prepare()
    return made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/hadoop", "HOME"),
        ("/home/hadoop/a.jar,/home/hadoop/b/*.jar", "HOME/a.jar,HOME/b/*.jar"),
        ("file:///home/hadoop/app.config", "file://HOME/app.config"),
        ("--conf=x=/home/hadoop/y", "--conf=x=HOME/y"),
        ("s3://bucket/home/hadoop/x", "s3://bucket/home/hadoop/x"),
        ("/home/hadoop2/x", "/home/hadoop2/x"),
    ],
)
def test_paths_of_an_emr_node_are_mapped(stack, text, expected):
    made = node.Node(stack, "j-TEST", "i-0", node.Settings())
    assert made.localize(text) == expected.replace("HOME", str(made.home))


def test_delta_is_where_the_release_has_it(stack):
    made = make(stack)
    for name in ("delta-spark.jar", "delta-storage.jar"):
        link = made.localize(f"/usr/share/aws/delta/lib/{name}")
        assert Path(link).stat().st_size > 10_000


def test_the_clusters_spark_defaults_lie_over_this_machines(stack):
    made = make(stack, spark_defaults={"spark.sql.shuffle.partitions": "7", "spark.files": "/home/hadoop/app.config"})
    conf = (made.folder / "spark-conf" / "spark-defaults.conf").read_text()
    lines = dict(line.split(" ", 1) for line in conf.splitlines())
    assert lines["spark.sql.shuffle.partitions"] == "7"
    assert lines["spark.files"] == f"{made.home}/app.config"
    assert lines["spark.master"].startswith("local[")
    assert "connector" not in lines["spark.driver.extraClassPath"]


def test_the_environment_is_the_nodes_own(stack, monkeypatch):
    monkeypatch.setenv("ANYTHING", "of the caller's")
    exports = {"PYSPARK_PYTHON": "/home/hadoop/feature-store/python/bin/python"}
    environment = make(stack, exports=exports).environment("s-1")
    assert "ANYTHING" not in environment
    assert environment["HOME"] == str(stack.home / "emr" / "j-TEST" / "home")
    assert environment["PYSPARK_PYTHON"] == f"{environment['HOME']}/feature-store/python/bin/python"
    assert environment[MARK] == str(stack.home)
    assert environment["EMR_STEP_ID"] == "s-1"
    assert environment["AWS_ENDPOINT_URL_S3"] == stack.s3_url
    # As on EMR: a step has it of the cluster's request, or not at all.
    assert not [name for name in environment if name.endswith("_REGION")]


def test_it_has_what_a_release_has_and_nothing_of_the_projects_environment(stack):
    environment = make(stack).environment()
    for program in ("aws", "keytool", "java", "python3.11", "sha256sum", "spark-submit"):
        assert shutil.which(program, path=environment["PATH"]), program
    assert str(VENV / "bin") not in environment["PATH"].split(os.pathsep)
    # Its Python has none of the project's packages: what a step imports has to come by the bootstrap script.
    python = shutil.which("python3.11", path=environment["PATH"])
    told = subprocess.check_output(
        [python, "-c", "import sys; print(sys.prefix, sys.base_prefix)"], env=environment, text=True
    )
    prefix, base = told.split()
    assert prefix == base != str(VENV)


def test_what_a_killed_local_aws_left_is_ended_at_the_next_start(stack):
    left = make(stack)
    # The leader ends at once; its child lives on in its session, as a step's JVM would.
    process, session = left.start(["bash", "-c", "sleep 60 & disown; sleep 60 & disown"], left.logs / "steps" / "s-1")
    process.wait()
    children = wait_until(session.members, "the children")
    assert len(children) == 2
    assert node.remove_leftovers(stack) == ["j-TEST"]
    assert not any(alive(child.pid) for child in children)
    assert not left.folder.exists()
    assert node.remove_leftovers(stack) == []


def test_a_process_that_has_only_got_a_recorded_number_is_left_alone(stack):
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        started = psutil.Process(other.pid).create_time()
        assert sessions.Session(other.pid, started, str(stack.home)).members() != []
        stale = sessions.Session(other.pid, started - 3600, str(stack.home))
        assert stale.members() == []
        stale.end()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_record_that_was_cut_short_is_reported_and_left_out(stack, caplog):
    records = stack.home / "processes"
    records.mkdir(parents=True)
    (records / "1.json").write_text('{"pid": 1')
    assert sessions.recorded(records) == []
    assert "1.json is not a whole record" in caplog.text


def test_stopping_the_aws_ends_every_step(cloud: Cloud, tmp_path):
    pid = tmp_path / "pid"
    cluster = cloud.run(shell("long", f"echo $$ > {pid}.part; mv {pid}.part {pid}; sleep 60"))
    wait_until(pid.exists, "the step runs")
    cloud.aws._emr.close(grace=1.0, timeout=7.0)  # what `stop` does first; the fixture does the rest
    assert not alive(int(pid.read_text()))
    assert not (cloud.stack.home / "emr" / cluster).exists()
