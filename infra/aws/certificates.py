"""The certificate by which the nodes of a cluster talk to each other by TLS, as EMR takes it: a zip of PEM files.

EMR Management Guide, "Providing certificates for encrypting data in transit": one self-signed certificate of all private
host names of the region serves, as nodes of this deployment are the only ones to trust it.
"""

from __future__ import annotations

import datetime as dt
import io
import zipfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

KEY = "emr/certificates.zip"  # in the bucket
ENDS = "not-after"  # metadata of the object: its last day, so that nobody has to fetch the private key to know
VALID = dt.timedelta(days=730)
RENEWED = dt.timedelta(days=365)  # before its end: whoever uploads once a year never sees it end


def make(region: str, now: dt.datetime) -> tuple[bytes, dt.datetime]:
    """Make a private key and its certificate; the zip, and the certificate's end."""
    hosts = "*.ec2.internal" if region == "us-east-1" else f"*.{region}.compute.internal"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts)])
    end = now + VALID
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))  # a node's clock may be behind
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hosts)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        for file, text in (("privateKey", private), ("certificateChain", certificate), ("trustedCertificates", certificate)):
            files.writestr(f"{file}.pem", text)
    return archive.getvalue(), end


def is_due(not_after: str | None, now: dt.datetime) -> bool:
    """Whether a new one has to be made, by the metadata of the one that is there."""
    return not_after is None or dt.datetime.fromisoformat(not_after) - now < RENEWED
