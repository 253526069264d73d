"""A self-signed certificate for one run, and the TLS contexts of both sides."""

from __future__ import annotations

import datetime
import ssl
import tempfile
from functools import cache
from pathlib import Path

from load.bench.model import Unavailable

HOST = "localhost"


@cache
def self_signed() -> tuple[bytes, bytes]:
    """A self-signed certificate for this run, and its key. Raises: Unavailable."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as cause:
        raise Unavailable("the cryptography package is not installed") from cause
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(pem), private


def server_context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """TLS 1.3 only; asks for no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nothing is resumed, so none are made
    with tempfile.TemporaryDirectory(prefix="dp2p-bench-") as folder:  # mode 0700
        chain = Path(folder) / "pem"
        chain.write_bytes(key + certificate)
        context.load_cert_chain(chain)
    return context


def client_context(certificate: bytes) -> ssl.SSLContext:
    """TLS 1.3 only; trusts this certificate and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=certificate.decode())
    return context
