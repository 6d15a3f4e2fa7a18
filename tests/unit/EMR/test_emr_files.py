"""The roots that nodes trust are those that they say they are; the script is clean; the template holds no secret."""

import hashlib
import re
import subprocess
import warnings
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning

from infra.local.settings import ROOT, VENV

pytestmark = pytest.mark.unit

CERTS = ROOT / "EMR" / "certs"
ROW = re.compile(r"\| `(?P<file>[\w-]+\.pem)` \| (?P<name>[^|]+) \| `(?P<certificate>\w{64})` \| `(?P<key>\w{64})` \|")
STATED = {row["file"]: row.groupdict() for row in ROW.finditer((CERTS / "README.md").read_text())}


def load(data: bytes) -> list[x509.Certificate]:
    with warnings.catch_warnings():
        # Starfield Class 2 (and others in certifi) have the serial number 0, as some roots of 2004 do.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_pem_x509_certificates(data)


def test_every_certificate_is_stated():
    assert sorted(STATED) == sorted(file.name for file in CERTS.glob("*.pem"))
    assert len(STATED) == 6


@pytest.mark.parametrize("file", sorted(STATED))
def test_a_certificate_is_what_the_readme_states(file):
    (certificate,) = load((CERTS / file).read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert certificate.fingerprint(SHA256()).hex() == STATED[file]["certificate"]
    assert hashlib.sha256(key).hexdigest() == STATED[file]["key"]
    assert certificate.issuer == certificate.subject
    assert STATED[file]["name"] in certificate.subject.rfc4514_string().replace("\\", "")


def test_the_five_roots_of_amazon_are_mozillas():
    trusted = set(load(Path(certifi.where()).read_bytes()))
    ours = {file: load((CERTS / file).read_bytes())[0] for file in STATED}
    assert {file for file in ours if ours[file] not in trusted} == {"starfield-class-2.pem"}


def test_the_bootstrap_script_is_clean():
    script = ROOT / "EMR" / "emr_bootstrap_script.sh"
    subprocess.run([VENV / "bin" / "shellcheck", script], check=True)
    assert script.stat().st_mode & 0o111


def test_the_driver_template_has_placeholders_where_secrets_go():
    template = (ROOT / "EMR" / "app.config").read_text()
    values = dict(re.findall(r"^\s*([\w.-]+) = (.+)$", template, re.MULTILINE))
    for key in ("username", "password", "truststore-password"):
        assert re.fullmatch(r'"@[A-Z_]+@"', values[key])
    assert values["hostname-validation"] == "true"
    assert values["token-map.enabled"] == "true"
    assert values["consistency"] == "LOCAL_QUORUM"
    assert values["protocol.version"] == "V4"
