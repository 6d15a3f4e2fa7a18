"""The jars of jars.lock: fetched by the Ivy that pyspark brings, checked by SHA-256. Standard library only."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import quoteattr

from infra.local.settings import StackError

PROCESSES = 3
BATCH = 40  # jars that one Ivy fetches, one after the other; more batches than processes keep all of them busy
MIRROR = "FEATURE_STORE_MAVEN_URL"


@dataclass(frozen=True)
class Jar:
    """One line of jars.lock."""

    set: str
    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str

    @property
    def file(self) -> str:
        """Name the file, as Maven does."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{classifier}.jar"

    @property
    def module(self) -> tuple[str, str, str]:
        """Group, artifact and version: one dependency, whose classifiers are several artifacts of it."""
        return self.group, self.artifact, self.version


def parse_lock(text: str) -> list[Jar]:
    """Read lines of `set group:artifact:version[:classifier] sha256`; StackError names a line that is not one."""
    jars = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split()
        coordinates = words[1].split(":") if len(words) == 3 else []
        if len(coordinates) not in {3, 4} or len(words[2]) != 64:
            raise StackError(
                f"jars.lock, line {number} is not 'set group:artifact:version[:classifier] sha256': {line}"
            )
        group, artifact, version, classifier = (*coordinates, "")[:4]
        jars.append(Jar(words[0], group, artifact, version, classifier, words[2]))
    return jars


def fetch(jars: Sequence[Jar], folder: Path, java: Path, ivy: Path) -> None:
    """Make folder/SET/ for every set, each whole or not at all. What is there already and right is not fetched again.

    Args:
        jars: the whole lock.
        folder: where the sets are.
        java: the `java` that runs Ivy.
        ivy: Ivy's jar.

    Raises:
        StackError: a jar can't be had, or is not the one of the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".fetching-*"):  # by a set-up that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as name:
        fetched = Path(name)
        missing = [jar for jar in jars if not _is_right(folder / jar.set / jar.file, jar)]
        with ThreadPoolExecutor(PROCESSES) as pool:
            batches = enumerate(_batches(missing))
            list(pool.map(lambda batch: _run_ivy(batch[1], fetched, fetched / f"ivy-{batch[0]}", java, ivy), batches))
        for jar in missing:
            if not _is_right(fetched / jar.set / jar.file, jar):
                raise StackError(
                    f"{jar.file} is not the file that jars.lock expects (SHA-256 {jar.sha256[:12]}...): "
                    f"try again, and if it stays so, look at what the Maven repository or {MIRROR} serves."
                )
        for jar_set, members in _by_set(jars):
            _assemble(folder / jar_set, fetched / jar_set, [jar.file for jar in members])


def _by_set(jars: Iterable[Jar]) -> list[tuple[str, list[Jar]]]:
    ordered = sorted(jars, key=lambda jar: (jar.set, jar.module, jar.classifier))
    return [(name, list(members)) for name, members in groupby(ordered, key=lambda jar: jar.set)]


def _batches(jars: Iterable[Jar]) -> list[list[Jar]]:
    """Split the jars into batches of one set each, never within a module (it would be fetched by two at once)."""
    batches: list[list[Jar]] = []
    for _, members in _by_set(jars):
        batch: list[Jar] = []
        for _, artifacts in groupby(members, key=lambda jar: jar.module):
            batch.extend(artifacts)
            if len(batch) >= BATCH:
                batches.append(batch)
                batch = []
        if batch:
            batches.append(batch)
    return batches


def _run_ivy(jars: Sequence[Jar], folder: Path, work: Path, java: Path, ivy: Path) -> None:
    work.mkdir()
    settings, module = work / "settings.xml", work / "ivy.xml"
    settings.write_text(settings_xml(work / "cache", os.environ.get(MIRROR)))
    module.write_text(module_xml(jars))
    target = folder / jars[0].set / "[artifact]-[revision](-[classifier]).[ext]"
    command: list[str | Path] = [
        java,
        *_proxy_options(),
        "-jar",
        ivy,
        "-settings",
        settings,
        "-ivy",
        module,
        "-retrieve",
        target,
    ]
    done = subprocess.run([*command, "-warn"], capture_output=True, text=True, check=False)
    if done.returncode:
        said = [
            line.strip() for line in (done.stdout + done.stderr).splitlines() if "not found" in line or "rror" in line
        ]
        raise StackError(
            f"The jars of set {jars[0].set} could not be fetched ({said[0] if said else 'Ivy gave no reason'}): "
            f"is the Maven repository reachable? {MIRROR} can name a mirror."
        )
    shutil.rmtree(work)


def settings_xml(cache: Path, mirror: str | None) -> str:
    """Ivy's settings: Maven Central, whose address Ivy knows, or a mirror of it."""
    root = f" root={quoteattr(mirror)}" if mirror else ""
    return (
        '<ivysettings><settings defaultResolver="central"/>'
        f"<caches defaultCacheDir={quoteattr(str(cache))}/>"
        f'<resolvers><ibiblio name="central" m2compatible="true" usepoms="false"{root}/></resolvers></ivysettings>'
    )


def module_xml(jars: Iterable[Jar]) -> str:
    """Ivy's module: exactly these jars and nothing that they depend on."""
    dependencies = []
    for (group, artifact, version), members in groupby(jars, key=lambda jar: jar.module):
        artifacts = "".join(
            f'<artifact name={quoteattr(artifact)} type="jar" ext="jar"'
            + (f" m:classifier={quoteattr(jar.classifier)}" if jar.classifier else "")
            + "/>"
            for jar in members
        )
        dependencies.append(
            f"<dependency org={quoteattr(group)} name={quoteattr(artifact)} rev={quoteattr(version)} "
            f'transitive="false" conf="default">{artifacts}</dependency>'
        )
    return (
        '<ivy-module version="2.0" xmlns:m="http://ant.apache.org/ivy/maven">'
        '<info organisation="feature-store" module="jars"/><configurations><conf name="default"/></configurations>'
        f"<dependencies>{''.join(dependencies)}</dependencies></ivy-module>"
    )


def _proxy_options() -> list[str]:
    """The proxy of the environment, which pip and uv obey and a JVM does not look at."""
    options = []
    for scheme, url in urllib.request.getproxies().items():
        proxy = urllib.parse.urlsplit(url)
        if scheme in {"http", "https"} and proxy.hostname:
            options += [f"-D{scheme}.proxyHost={proxy.hostname}", f"-D{scheme}.proxyPort={proxy.port or 80}"]
    return options


def _is_right(file: Path, jar: Jar) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest() == jar.sha256


def _assemble(target: Path, fetched: Path, files: Sequence[str]) -> None:
    """Put a set together from what was there and what was fetched, beside it, and then in its place."""
    if target.is_dir() and sorted(path.name for path in target.iterdir()) == sorted(files) and not fetched.exists():
        return
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for file in files:
        source = fetched / file if (fetched / file).exists() else target / file
        os.link(source, part / file)
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
