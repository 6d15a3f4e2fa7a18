"""One machine in the part of an EMR node: a home folder, a Spark configuration, an environment, and processes in it."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.local.aws import sessions
from infra.local.java import java
from infra.local.settings import HOST, JARS, MARK, NODE_PACKAGES, VENV, Stack
from infra.local.spark_defaults import properties_text, spark_defaults

# The EMR release's own jars: the same sets as on AWS. What a job brings itself (the connector) comes with its --jars.
RELEASE_JARS = ("delta", "s3a")
DELTA_JARS = {"delta-spark.jar": "delta-spark_*.jar", "delta-storage.jar": "delta-storage-*.jar"}
# What else a release has: the AWS CLI, Spark, and Python 3.11 without any package. Here all three come by way of the
# project's environment; of that environment itself a node's processes see nothing.
AWS_CLI = VENV / "bin" / "aws"
SPARK_HOME = VENV / "lib" / "python3.11" / "site-packages" / "pyspark"
PYTHON = (VENV / "bin" / "python3.11").resolve()
FOLDER = "emr"  # of all nodes, in the stack's
# Asking a JDK for its version takes a tenth of a second.
_java = functools.cache(java)


@dataclass(frozen=True)
class Settings:
    """What a cluster's Configurations set: spark-defaults, and variables that spark-env exports."""

    spark_defaults: Mapping[str, str] = field(default_factory=dict)
    exports: Mapping[str, str] = field(default_factory=dict)


class Node:
    """The folder `stack.home/emr/<cluster id>` as the file system and the machine of a one-node cluster.

    Arguments and configurations name paths of an EMR node (/home/hadoop, the release's Delta jars);
    `localize` maps them to this machine.
    """

    def __init__(self, stack: Stack, cluster_id: str, instance_id: str, settings: Settings) -> None:
        """Name the node; nothing is made before `prepare`."""
        self.settings = settings
        self.stack = stack
        self.cluster_id = cluster_id
        self.instance_id = instance_id
        self.folder = folder_of(stack, cluster_id)
        self.home = self.folder / "home"
        self.logs = self.folder / "logs"
        self._temporary = self.folder / "tmp"
        self._spark_conf = self.folder / "spark-conf"
        self._delta = self.folder / "delta"
        self._bin = self.folder / "bin"
        self._prefixes = {
            "/home/hadoop": str(self.home),
            "/usr/share/aws/delta/lib": str(self._delta),
        }

    def prepare(self) -> None:
        """Make the folders, the links, and spark-defaults.conf: this machine's, then the cluster's."""
        for folder in (self.home, self.logs, self._temporary, self._spark_conf, self._delta):
            folder.mkdir(parents=True, exist_ok=True)
        link_programs(self._bin)
        for link, pattern in DELTA_JARS.items():
            for jar in (JARS / "delta").glob(pattern):
                (self._delta / link).symlink_to(jar)
        merged = {**spark_defaults(RELEASE_JARS), **self._localized(self.settings.spark_defaults)}
        (self._spark_conf / "spark-defaults.conf").write_text(properties_text(merged))

    def _localized(self, values: Mapping[str, str]) -> dict[str, str]:
        return {key: self.localize(value) for key, value in values.items()}

    def localize(self, text: str) -> str:
        """Map every path of an EMR node in an argument or a configuration value to its place on this machine."""
        for prefix, here in self._prefixes.items():
            # A whole path only: not s3://bucket/home/hadoop, not /home/hadoop2.
            text = re.sub(rf"(?<![\w.\-]){re.escape(prefix)}(?![\w.\-])", lambda _, to=here: to, text)  # type: ignore[misc]
        return text

    def environment(self, step_id: str = "") -> dict[str, str]:
        """Build the whole environment of a process: nothing of the server's own, the stack's AWS as the node's role."""
        environment = {
            **programs(self._bin),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self._temporary),
            "SPARK_CONF_DIR": str(self._spark_conf),
            "SPARK_LOCAL_DIRS": str(self._temporary),
            # A JVM heeds no TMPDIR, and one that is killed leaves its files behind: all of it goes with the node.
            "SPARK_SUBMIT_OPTS": f'-Djava.io.tmpdir="{self._temporary}" -XX:-UsePerfData',
            # Or Spark asks for the host's name, and listens where other machines can reach it.
            "SPARK_LOCAL_IP": HOST,
            "PYTHONUNBUFFERED": "1",
            "EMR_CLUSTER_ID": self.cluster_id,
            MARK: str(self.stack.home),
            # Not its region: a node knows that from the metadata service alone, which delta-rs does not ask for it.
            **self.stack.aws_access(),
            **self.stack.asked_by("node"),
            **self._localized(self.settings.exports),
        }
        return {**environment, "EMR_STEP_ID": step_id} if step_id else environment

    def start(
        self, argv: Sequence[str], logs: Path, step_id: str = ""
    ) -> tuple[subprocess.Popen[bytes], sessions.Session]:
        """Start a program on the node, with `logs` for its output and as its working folder; OSError if it can't be."""
        logs.mkdir(parents=True, exist_ok=True)
        environment = self.environment(step_id)
        program = shutil.which(argv[0], path=environment["PATH"])
        if program is None:
            raise FileNotFoundError(f"{argv[0]}: no such program on the node")
        work = self.folder / "work" / logs.name
        work.mkdir(parents=True, exist_ok=True)
        return sessions.start([program, *argv[1:]], environment, work, logs, sessions.records_of(self.folder))

    def close(self, grace: float = sessions.GRACE_SECONDS) -> None:
        """End every process that was ever started here, children left behind included, and remove the folder."""
        sessions.remove(self.folder, grace)


def link_programs(links: Path) -> None:
    """Make a folder with those of a node's programs that are in a folder with others, which are none of its."""
    links.mkdir(parents=True, exist_ok=True)
    (links / AWS_CLI.name).unlink(missing_ok=True)
    (links / AWS_CLI.name).symlink_to(AWS_CLI)


def programs(links: Path) -> dict[str, str]:
    """Return the part of a node's environment by which its programs are found; `links` are those of `link_programs`."""
    jdk = _java()
    found = [links, SPARK_HOME / "bin", jdk.parent, PYTHON.parent, "/usr/local/bin", "/usr/bin", "/bin"]
    return {
        "PATH": os.pathsep.join(str(folder) for folder in found),
        "JAVA_HOME": str(jdk.parent.parent),
        "SPARK_HOME": str(SPARK_HOME),
        "FEATURE_STORE_PACKAGES": str(NODE_PACKAGES),
    }


def folder_of(stack: Stack, cluster_id: str) -> Path:
    """Name the folder of a cluster's node."""
    return stack.home / FOLDER / cluster_id


def remove_leftovers(stack: Stack) -> list[str]:
    """End and remove the nodes that a local AWS left behind when it was killed; the ids of their clusters."""
    return sessions.remove_leftovers(stack.home / FOLDER, "j-*")
