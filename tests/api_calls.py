"""What a stack has asked of AWS, by its records: which role has called which action on what.

A stack records with FEATURE_STORE_RECORD_CALLS set (infra/local/aws/calls.py). Ids and file names are left out of the
resources, so that two runs give the same list: `cluster/*`, `BUCKET/delta/*`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from infra.local.settings import BUCKET, Stack

# The roles of AWS that processes of the stack stand for; whoever does not tell is a person, with a role of their own.
ROLES = ("airflow", "node", "simulation")
FILE = Path(__file__).parent / "unit" / "infra" / "aws" / "api_calls.json"
SEVERAL = "BUCKET/(several)"  # a request to delete several objects names them in its body
REQUEST = re.compile(r"^(?P<thread>\S+) request: .*?\{(?P<method>[A-Z]+)@\w+ (?P<url>\S+) HTTP/[\d.]+")
HEADER = re.compile(r"^(?P<thread>\S+) header: (?P<name>[\w-]+): (?P<value>.*)$")
APP = re.compile(r"\bapp/([\w.-]+)")
SPARK = "Hadoop"  # S3A's user agent, whose SDK knows of no app
# By method, whether there is a key, and the part of the query that decides.
S3_ACTIONS = {
    ("GET", False, "location"): "GetBucketLocation",
    ("GET", False, "versioning"): "GetBucketVersioning",
    ("GET", False, "uploads"): "ListBucketMultipartUploads",
    ("GET", False, ""): "ListBucket",
    ("HEAD", False, ""): "ListBucket",
    ("PUT", False, ""): "CreateBucket",
    ("POST", False, "delete"): "DeleteObject",
    ("GET", True, "uploadId"): "ListMultipartUploadParts",
    ("GET", True, ""): "GetObject",
    ("HEAD", True, ""): "GetObject",
    ("PUT", True, "uploadId"): "PutObject",
    ("PUT", True, ""): "PutObject",
    ("POST", True, "uploads"): "PutObject",
    ("POST", True, "uploadId"): "PutObject",
    ("DELETE", True, "uploadId"): "AbortMultipartUpload",
    ("DELETE", True, ""): "DeleteObject",
}


@dataclass(frozen=True, order=True)
class Call:
    """One role's use of one action on one kind of resource, as IAM names them."""

    role: str
    action: str
    resource: str


def read(file: Path = FILE) -> set[Call]:
    """The list that was reviewed."""
    return {Call(*each) for each in json.loads(file.read_text())}


def write(calls: Iterable[Call], file: Path = FILE) -> None:
    lines = [json.dumps([each.role, each.action, each.resource]) for each in sorted(calls)]
    file.write_text("[\n " + ",\n ".join(lines) + "\n]\n")


def length(stack: Stack) -> tuple[int, int]:
    """How long a stack's records are by now, in bytes: that of AWS, and S3Proxy's."""
    return stack.calls.stat().st_size, stack.s3_requests.stat().st_size


def recorded(stack: Stack, since: tuple[int, int] = (0, 0)) -> set[Call]:
    """What the roles have asked of a stack that records, since its records had a `length`."""
    with stack.calls.open() as aws, stack.s3_requests.open(errors="replace") as s3:
        aws.seek(since[0])
        s3.seek(since[1])
        return {call for call in (*of_aws(aws), *of_s3(s3)) if call.role in ROLES}


def of_aws(lines: Iterable[str]) -> Iterator[Call]:
    """Read the record of all services but S3."""
    for line in lines:
        said = json.loads(line)
        service, action, names = said["service"], said["action"], said["names"]
        if service == "elasticmapreduce" and action not in ("RunJobFlow", "ListClusters"):
            resource = "cluster/*"
        elif service == "secretsmanager":
            resource = f"secret:{names['SecretId']}"
        else:
            resource = "*"
        yield Call(said["app"], f"{service}:{action}", resource)


def of_s3(lines: Iterable[str]) -> Iterator[Call]:
    """Read S3Proxy's record: a line for a request, and after it, of the same thread, a line for each of its headers."""
    under_way: dict[str, tuple[str, str, dict[str, str]]] = {}
    for line in lines:
        if found := REQUEST.match(line):
            if before := under_way.pop(found["thread"], None):
                yield from _s3_calls(*before)
            under_way[found["thread"]] = (found["method"], found["url"], {})
        elif (found := HEADER.match(line)) and found["thread"] in under_way:
            under_way[found["thread"]][2][found["name"].lower()] = found["value"]
    for before in under_way.values():
        yield from _s3_calls(*before)


def _s3_calls(method: str, url: str, headers: dict[str, str]) -> Iterator[Call]:
    role = _role(headers.get("user-agent", ""))
    parts = urlsplit(url)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    query = parse_qs(parts.query, keep_blank_values=True)
    decides = next((name for name in ("uploadId", "uploads", "location", "versioning", "delete") if name in query), "")
    if not bucket:
        return  # a list of buckets, or a look whether S3 answers
    if (action := S3_ACTIONS.get((method, bool(key), decides))) is None:
        raise ValueError(f"no action of S3 is known for {method} {url}")
    yield Call(role, f"s3:{action}", SEVERAL if decides == "delete" else _object(bucket, key))
    if source := headers.get("x-amz-copy-source"):
        bucket, _, key = unquote(source).lstrip("/").partition("/")
        yield Call(role, "s3:GetObject", _object(bucket, key))


def _role(user_agent: str) -> str:
    if found := APP.search(user_agent):
        return found[1]
    return "node" if user_agent.startswith(SPARK) else ""


def _object(bucket: str, key: str) -> str:
    """Name a bucket or an object without what is another one in each run."""
    bucket = "BUCKET" if bucket == BUCKET else bucket
    folder, slash, rest = key.partition("/")
    if not key:
        return bucket
    if folder == "releases" and rest.split("/")[1:2] == ["certs"]:
        return f"{bucket}/releases/DIGEST/certs/*"
    return f"{bucket}/{folder}{'/*' if slash else ''}"
