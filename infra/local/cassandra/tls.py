"""The certificate of the Keyspaces stand-in, and the authority that signed it, made for one stack."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.local.files import write_private
from infra.local.settings import HOST, Stack

VALID = dt.timedelta(days=397)
RENEW_BEFORE = dt.timedelta(days=30)
DAY = dt.timedelta(days=1)
NO_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


def key_store(stack: Stack) -> Path:
    """The PKCS12 file with the server's key and certificate, under the stack's key store password."""
    return stack.ca.with_name("server.p12")


def ensure_certificate(stack: Stack) -> None:
    """Make the authority's PEM and the server's key store.

    What is there stays if both match, name the host, and hold for a month yet.
    """
    if _is_usable(stack):
        return
    # The authority's key is not kept: it signs this one certificate; the next one gets an authority of its own.
    ca_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    ca = new_authority(ca_key)
    certificate = server_certificate(stack, key.public_key(), ca, ca_key)
    password = BestAvailableEncryption(stack.secrets.keystore_password.encode())
    write_private(key_store(stack), pkcs12.serialize_key_and_certificates(b"server", key, certificate, [ca], password))
    write_private(stack.ca, ca.public_bytes(Encoding.PEM))


def _is_usable(stack: Stack) -> bool:
    if not (stack.ca.exists() and key_store(stack).exists()):
        return False
    try:
        stored = pkcs12.load_pkcs12(key_store(stack).read_bytes(), stack.secrets.keystore_password.encode())
        ca = x509.load_pem_x509_certificate(stack.ca.read_bytes())
    except ValueError:  # torn, or under another password: made by another set of secrets
        return False
    # A start that was killed between the two files leaves a key store of one authority beside the PEM of another.
    signed_by_it = [extra.certificate for extra in stored.additional_certs] == [ca]
    if not signed_by_it or stored.cert is None:
        return False
    certificate = stored.cert.certificate
    named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    lasts = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC) > RENEW_BEFORE
    return lasts and set(named) == set(_names(stack))


def _names(stack: Stack) -> list[x509.GeneralName]:
    """List what clients may call the server: where it is, and this machine, as which a container is reached too."""
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    for host in dict.fromkeys([HOST, stack.hosts.keyspaces_host]):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def new_authority(ca_key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Make the certificate of an authority, which it signs itself."""
    name = _name("Keyspaces stand-in of one machine")
    return (
        _builder(ca_key.public_key(), subject=name, issuer=name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**NO_USAGE | {"key_cert_sign": True, "crl_sign": True}), critical=True)
        .sign(ca_key, hashes.SHA256())
    )


def server_certificate(
    stack: Stack,
    key: ec.EllipticCurvePublicKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    until: dt.datetime | None = None,
) -> x509.Certificate:
    """Make a stack's server a certificate, signed by an authority; `until` when, if not as long as it holds here."""
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _builder(key, subject=_name("localhost"), issuer=ca.subject, until=until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**NO_USAGE | {"digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(stack)), critical=False)
        .add_extension(authority_key, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    key: ec.EllipticCurvePublicKey, *, subject: x509.Name, issuer: x509.Name, until: dt.datetime | None = None
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    until = until or now + VALID
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, until) - DAY)  # clocks of containers and virtual machines differ
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
