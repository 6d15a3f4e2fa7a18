"""Run the Keyspaces stand-in: render its configuration, and become its JVM."""

from __future__ import annotations

import ctypes
import json
import os
import resource
from pathlib import Path
from string import Template
from typing import NoReturn

from infra.local.cassandra.tls import ensure_certificate, key_store
from infra.local.files import write_private
from infra.local.java import HANDLER_CLASSES, class_path, java
from infra.local.settings import JARS, REGION, Stack

CONF = Path(__file__).with_name("conf")
JAR_SET = JARS / "cassandra"
HEAP = "512M"
PR_CAPBSET_DROP, CAP_IPC_LOCK = 24, 14  # linux/prctl.h, linux/capability.h


def serve(stack: Stack) -> NoReturn:
    """Replace this process by the server, so that its pid is the JVM's; StackError if there is no JDK 17."""
    command = prepare(stack)
    _deny_memory_locks()
    os.chdir(_folder(stack))
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted: the supervisor's signals must reach the JVM


def prepare(stack: Stack) -> list[str]:
    """Make the certificate and the configuration of a stack's server; the command line that starts it."""
    tool = java()
    ensure_certificate(stack)
    folder = _folder(stack)
    conf = folder / "conf"
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    write_private(conf / "cassandra.yaml", _yaml(stack))
    write_private(conf / "cassandra-rackdc.properties", f"dc={REGION}\nrack=rack1\n")
    agent = next(JAR_SET.glob("jamm-*.jar"))
    return [
        str(tool),
        f"@{CONF / 'jvm17.options'}",
        f"-Xms{HEAP}",
        f"-Xmx{HEAP}",
        f"-javaagent:{agent}",
        f"-Dcassandra.config={(conf / 'cassandra.yaml').as_uri()}",
        f"-Dcassandra-rackdc.properties={(conf / 'cassandra-rackdc.properties').as_uri()}",
        f"-Dcassandra.storagedir={folder}",
        f"-Dlogback.configurationFile={CONF / 'logback.xml'}",
        f"-Djava.io.tmpdir={temporary}",
        "-Dcassandra.custom_query_handler_class=featurestore.local.KeyspacesQueryHandler",
        f"-Dkeyspaces.datacenter={REGION}",
        f"-Dkeyspaces.wcu={os.environ.get('KEYSPACES_WCU', '0')}",
        f"-Dkeyspaces.rcu={os.environ.get('KEYSPACES_RCU', '0')}",
        f"-Dkeyspaces.capacity.file={folder / 'capacity.properties'}",
        "-cp",
        class_path(JAR_SET, HANDLER_CLASSES),
        "org.apache.cassandra.service.CassandraDaemon",
    ]


def _folder(stack: Stack) -> Path:
    return stack.home / "cassandra"


def _yaml(stack: Stack) -> str:
    folder = _folder(stack)
    values = {
        "host": stack.hosts.keyspaces_host,
        "port": stack.ports.keyspaces_port,
        "storage_port": stack.ports.cassandra_storage_port,
        "keystore": str(key_store(stack)),
        "keystore_password": stack.secrets.keystore_password,
        **{name: str(folder / name) for name in ("data", "commitlog", "saved_caches", "hints", "cdc_raw")},
    }
    # A JSON string is a YAML string, whatever a path holds; host and ports stand within other words.
    plain = {"host", "port", "storage_port"}
    quoted = {name: str(value) if name in plain else json.dumps(value) for name, value in values.items()}
    return Template((CONF / "cassandra.yaml").read_text()).substitute(quoted)


def _deny_memory_locks() -> None:
    """Keep Cassandra from pinning its heap (650 MB more memory, 3 s more to start), which it does wherever it may."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    # Root may whatever the limit says. It is refused to others, who lack the capability anyway: no result is looked at.
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0)
