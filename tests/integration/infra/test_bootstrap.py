"""The real bootstrap script on the local EMR, with a release from S3 and the secret from Secrets Manager."""

import gzip
import json
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from feature_store.endpoint import Endpoint
from infra import release, wheels
from infra.local.aws import node as nodes
from infra.local.aws.node import Node, Settings
from infra.local.settings import BUCKET, JARS, REGION, ROOT, SECRET_NAME
from infra.locks import lock_entries
from tests.unit.infra.aws import cloud as local_cloud
from tests.unit.infra.aws.cloud import LOG_URI, Cloud, wait_until

cloud = local_cloud.cloud  # the fixture
pytestmark = pytest.mark.integration

SCRIPT = ROOT / "EMR" / "emr_bootstrap_script.sh"
# What JSON, HOCON, sed and a shell each would like to read as something else.
PASSWORD = "p\"a\\s$s'${HOME}&/#@USERNAME@ü"  # pragma: allowlist secret
USERNAME = "reader-at-123456789012"
# Prints a driver configuration as the Java driver's own library reads it.
READER = """
import com.typesafe.config.*;
import java.io.File;
public class Read {
    public static void main(String[] args) {
        Config config = ConfigFactory.parseFile(new File(args[0])).resolve().getConfig("datastax-java-driver");
        System.out.println(config.root().render(ConfigRenderOptions.concise()));
    }
}
"""


class Watcher(threading.Thread):
    """Collects the arguments of every process of this machine, as any user of it could."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(0.005):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    self.seen.add((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:  # it has ended
                    continue

    def stop(self) -> str:
        self._stop_asked.set()
        self.join()
        return "\n".join(self.seen)


@pytest.fixture
def publish(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Put a small release into S3, with the project's own EMR files, and say its URI.

    The nodes' packages are one real wheel, which the lock names; `locked` are names for another lock.
    """
    for key, value in cloud.stack.aws_environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(nodes, "NODE_PACKAGES", tmp_path / "node-packages")
    root, jars, packages = tmp_path / "root", tmp_path / "jars", tmp_path / "wheels"
    shutil.copytree(ROOT / "EMR", root / "EMR")
    for name in ("feature_store/__init__.py", "spark_jobs/ingest.py"):
        (root / name).parent.mkdir()
        (root / name).write_text("print('a job')\n")
    jars.mkdir()
    (jars / "connector.jar").write_text("jar")
    packages.mkdir()
    for name in ("six", "uv"):
        [wheel] = wheels.fetch(wheels.HERE).glob(f"{name}-*.whl")
        (packages / wheel.name).symlink_to(wheel)
    wheels.write_sums(packages)
    secret = json.dumps({"username": USERNAME, "password": PASSWORD})
    cloud.client("secretsmanager").put_secret_value(SecretId=SECRET_NAME, SecretString=secret)
    certs = [ROOT / "EMR" / "certs" / f"amazon-root-ca-{n}.pem" for n in (1, 3)]

    def made(architecture: str = wheels.HERE, locked: Sequence[str] = ("six",)) -> str:
        (root / "EMR" / wheels.LOCK.name).write_text("".join(lock_entries(wheels.LOCK.read_text(), locked)))
        built = release.build(certs, tmp_path / "out", root=root, jars=jars, packages={architecture: packages})
        return release.publish(built, BUCKET)

    return made


@pytest.fixture
def released(publish: Callable[..., str]) -> str:
    """The small release in S3; its URI."""
    return publish()


@pytest.fixture
def node(cloud: Cloud) -> Iterator[Node]:
    """A node on which the script can be run by hand."""
    made = Node(cloud.stack, "j-BYHAND", "i-0", Settings())
    made.prepare()
    yield made
    made.close()


def arguments(uri: str, secret: str = SECRET_NAME) -> list[str]:
    where = ["--keyspaces-host", "127.0.0.1", "--keyspaces-port", "9142", "--region", REGION]
    return ["--release", uri, "--secret", secret, *where]


def bootstrap(node: Node, *args: str) -> subprocess.CompletedProcess[str]:
    environment = node.environment()
    return subprocess.run(["bash", SCRIPT, *args], env=environment, capture_output=True, text=True, check=False)


def read_driver_config(file: Path, scratch: Path) -> dict:
    (scratch / "Read.java").write_text(READER)
    jars = f"{JARS / 'connector'}/*"
    said = subprocess.run(
        ["java", "-cp", jars, scratch / "Read.java", file], capture_output=True, text=True, check=True
    )
    return dict(json.loads(said.stdout))


def test_a_cluster_bootstraps_and_no_secret_is_shown(cloud: Cloud, released: str, tmp_path: Path):
    action = {"Path": f"{released}/{SCRIPT.name}", "Args": arguments(released)}
    watcher = Watcher()
    watcher.start()
    cluster = cloud.run(BootstrapActions=[{"Name": "feature-store", "ScriptBootstrapAction": action}])
    status = wait_until(
        lambda: (now := cloud.status(cluster))["State"] not in {"STARTING", "BOOTSTRAPPING"} and now,
        "the end of it",
        60,
    )
    arguments_seen = watcher.stop()
    logs = "\n".join(uploaded_logs(cloud))
    assert status["State"] == "WAITING", logs

    home = cloud.stack.home / "emr" / cluster / "home" / "feature-store"
    config = read_driver_config(home / "app.config", tmp_path)
    assert stat.S_IMODE((home / "app.config").stat().st_mode) == 0o600
    assert config["basic"]["contact-points"] == ["127.0.0.1:9142"]
    assert config["basic"]["load-balancing-policy"]["local-datacenter"] == REGION
    login, tls = config["advanced"]["auth-provider"], config["advanced"]["ssl-engine-factory"]
    assert (login["username"], login["password"]) == (USERNAME, PASSWORD)
    assert tls["truststore-path"] == str(home / "truststore.jks")

    # For the Python driver: where Keyspaces is, and what the secret is called; it asks for it itself.
    node = home / "keyspaces.json"
    assert stat.S_IMODE(node.stat().st_mode) == 0o600
    assert PASSWORD not in node.read_text()
    assert json.loads(node.read_text()) == {
        "host": "127.0.0.1",
        "port": "9142",
        "region": REGION,
        "ca": str(home / "ca.pem"),
        "secret": SECRET_NAME,
    }
    assert (home / "ca.pem").read_text().count("BEGIN CERTIFICATE") == 2

    listed = subprocess.run(
        ["keytool", "-list", "-keystore", home / "truststore.jks", "-storepass:env", "STORE"],
        env={**os.environ, "STORE": tls["truststore-password"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "amazon-root-ca-1, " in listed
    assert "amazon-root-ca-3, " in listed
    assert listed.count("trustedCertEntry") == 2
    assert (home / "spark_jobs" / "ingest.py").read_text() == "print('a job')\n"
    assert (home / "jars" / "connector.jar").exists()

    # Its Python has the release's packages, and no other: not even pip.
    python = home / "python" / "bin" / "python"
    said = subprocess.check_output([python, "-c", "import six, sys; print(six.__version__, sys.prefix)"], text=True)
    assert said.split()[0] == lock_entries(wheels.LOCK.read_text(), ["six"])[0].split()[0].removeprefix("six==")
    assert said.split()[1].startswith(str(home / "python"))
    installed = {path.name for path in python.parent.parent.glob("lib/python3.11/site-packages/*")}
    assert {name.split("-")[0].removesuffix(".py") for name in installed} - {"__pycache__", "_virtualenv"} == {"six"}
    # Spark's executors run it as another user, who gets to it, and to nothing else that is here.
    for folder in (home.parent, home, *(home / "python").resolve().parents[:1]):
        assert folder.stat().st_mode & stat.S_IXOTH, folder
    assert python.resolve().stat().st_mode & stat.S_IXOTH
    assert all(path.stat().st_mode & stat.S_IROTH for path in (home / "python" / "lib").rglob("*.py"))
    assert not home.stat().st_mode & stat.S_IROTH
    others = [path for path in home.iterdir() if path.name != "python" and path.stat().st_mode & stat.S_IRWXO]
    assert others == []

    # The watcher saw the very programs that handle the secrets, and none of them was given one.
    assert "get-secret-value" in arguments_seen
    assert "-storepass:env TRUSTSTORE_PASSWORD" in arguments_seen
    assert "is ready" in logs
    for secret in (
        PASSWORD,
        json.dumps(PASSWORD),
        tls["truststore-password"],
        cloud.stack.secrets.aws_secret_access_key,
    ):
        assert secret not in arguments_seen
        assert secret not in logs


def uploaded_logs(cloud: Cloud) -> list[str]:
    s3 = cloud.client("s3")
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix="elasticmapreduce/").get("Contents", [])
    assert LOG_URI.endswith("elasticmapreduce/")
    return [gzip.decompress(s3.get_object(Bucket=BUCKET, Key=o["Key"])["Body"].read()).decode() for o in found]


def test_it_can_be_run_again(released: str, node: Node):
    first = bootstrap(node, *arguments(released))
    assert first.returncode == 0, first.stderr
    assert "installing the Python packages" in first.stdout
    old = (node.home / "feature-store" / "app.config").read_text()
    (node.home / "feature-store" / "stale").touch()
    second = bootstrap(node, *arguments(released))
    assert second.returncode == 0
    assert "the Python packages are there" in second.stdout
    subprocess.run([node.home / "feature-store" / "python" / "bin" / "python", "-c", "import six"], check=True)
    assert (node.home / "feature-store" / "app.config").read_text() != old  # a new trust store has a new password
    assert not (node.home / "feature-store" / "stale").exists()
    assert [path.name for path in node.home.iterdir() if "part" in path.name] == []


def test_without_a_secret_the_jobs_sign_in_as_the_nodes_role(released: str, node: Node):
    done = bootstrap(node, *arguments(released, "-"))
    assert done.returncode == 0, done.stderr
    home = node.home / "feature-store"
    assert Endpoint.of_node(home / "keyspaces.json").login is None
    assert not (home / "app.config").exists()
    assert not (home / "truststore.jks").exists()


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        ("no arguments", "an argument is missing"),
        ("an unknown argument", "--colour is no argument of this script"),
        ("no release", "has no SHA256SUMS"),
        ("an upload cut short", "has no SHA256SUMS"),
        ("a changed file", "files differ from its SHA256SUMS"),
        ("no secret", "is there a secret nothing in eu-west-2"),
        ("a secret of another kind", "is there a secret feature-store/keyspaces in eu-west-2"),
        ("a wheel that is not there", "files are missing, or differ from its wheels."),
        ("a changed wheel", "files are missing, or differ from its wheels."),
        ("no wheels at all", "files are missing, or differ from its wheels."),
        ("a package without a wheel", "the packages of requirements.lock can't be installed"),
        ("another architecture", f"has no packages for {wheels.HERE}"),
    ],
)
def test_a_failing_piece_ends_it_with_one_clear_sentence(
    cloud: Cloud, publish: Callable[..., str], released: str, node: Node, break_it: str, said: str
):
    s3, prefix = cloud.client("s3"), released.removeprefix(f"s3://{BUCKET}/")
    args = arguments(released)
    if break_it == "no arguments":
        args = []
    elif break_it == "an unknown argument":
        args += ["--colour", "red"]
    elif break_it == "no release":
        args = arguments(f"s3://{BUCKET}/releases/none")
    elif break_it == "an upload cut short":
        s3.delete_object(Bucket=BUCKET, Key=f"{prefix}/SHA256SUMS")
    elif break_it == "a changed file":
        s3.put_object(Bucket=BUCKET, Key=f"{prefix}/jars/connector.jar", Body=b"another jar")
    elif break_it == "no secret":
        args = arguments(released, "nothing")
    elif break_it == "a package without a wheel":
        args = arguments(publish(locked=("six", "jmespath")))
    elif break_it == "another architecture":
        args = arguments(publish("m68k"))
    elif "wheel" in break_it:
        listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="releases/wheels/")["Contents"]
        for key in (entry["Key"] for entry in listed if "six-" in entry["Key"] or "all" in break_it):
            if break_it == "a changed wheel":
                s3.put_object(Bucket=BUCKET, Key=key, Body=b"another wheel")
            else:
                s3.delete_object(Bucket=BUCKET, Key=key)
    else:
        # pragma: allowlist nextline secret
        cloud.client("secretsmanager").put_secret_value(SecretId=SECRET_NAME, SecretString="a bare password")
    done = bootstrap(node, *args)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("bootstrap: ")
    assert said in last
    assert "a bare password" not in done.stderr + done.stdout
    assert not (node.home / "feature-store").exists()
    assert list((node.stack.home.parent / "node-packages").glob("*")) == []
