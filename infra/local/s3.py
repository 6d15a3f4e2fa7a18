"""Run the local S3: S3Proxy, whose objects are files in the stack's folder, so that the lake outlives a restart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from infra.local.files import write_private
from infra.local.java import class_path, java
from infra.local.settings import JARS, RECORD, Stack

LOGBACK = Path(__file__).with_name("s3proxy-logback.xml")
LOGBACK_OF_CALLS = Path(__file__).with_name("s3proxy-logback-calls.xml")


def serve(stack: Stack) -> NoReturn:
    """Replace this process by the server, so that its pid is the JVM's; StackError if there is no JDK 17."""
    command = prepare(stack)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted: the supervisor's signals must reach the JVM


def prepare(stack: Stack) -> list[str]:
    """Write the configuration of a stack's S3; the command line that starts it."""
    tool = java()
    properties = stack.home / "s3proxy.properties"
    temporary = stack.home / "s3-tmp"
    for folder in (_objects(stack), temporary):
        folder.mkdir(parents=True, exist_ok=True)
    write_private(properties, _properties(stack))
    return [
        str(tool),
        "-Xmx512M",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        f"-Dlogback.configurationFile={LOGBACK_OF_CALLS if RECORD in os.environ else LOGBACK}",
        f"-Dcalls={stack.s3_requests}",
        f"-Djava.io.tmpdir={temporary}",
        "-cp",
        class_path(JARS / "s3"),
        "org.gaul.s3proxy.Main",
        "--properties",
        str(properties),
    ]


def _objects(stack: Stack) -> Path:
    return stack.home / "s3"


def _properties(stack: Stack) -> str:
    properties = {
        "s3proxy.endpoint": stack.s3_url,
        "s3proxy.authorization": "aws-v2-or-v4",
        "s3proxy.identity": stack.secrets.aws_access_key_id,
        "s3proxy.credential": stack.secrets.aws_secret_access_key,
        "jclouds.provider": "filesystem-nio2",
        "jclouds.filesystem.basedir": str(_objects(stack)),
    }
    return "".join(f"{key}={_escaped(value)}\n" for key, value in properties.items())


def _escaped(value: str) -> str:
    """A value as java.util.Properties reads it back."""
    return value.replace("\\", "\\\\")
