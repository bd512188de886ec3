"""Small certificate authorities of our own, the TLS certificates that they sign, and the kubeconfig that trusts one.

The API server has one; the admission webhooks that ``kubernaut-ray up`` serves have another.

Keys are made on first start, written with mode 600 and kept; the server certificate is renewed when it runs out or when
the listening host changes.
"""

from __future__ import annotations

import base64
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
_CA_YEARS = 10


@dataclass(frozen=True, slots=True)
class Identity:
    """The files that TLS needs."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs and what for: common names of the authority and of its certificates, DNS names besides the hosts, days."""

    authority: str = "kubernaut-embedded-ca"
    subject: str = "kube-apiserver"
    names: tuple[str, ...] = _NAMES
    days: int = 365
    renew_days: int = 30


API_SERVER = Issuer()


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, never visible half-written or with a wider mode."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def signing_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Load the P-256 key at ``path``, making it first when there is none."""
    if path.exists():
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{path} holds no elliptic curve key; remove it to have a new one made")
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(path, pem)
    return key


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + lifetime)
    )


def _authority(folder: Path, issuer: Issuer) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    path, key = folder / "ca.crt", signing_key(folder / "ca.key")
    if path.exists():
        return x509.load_pem_x509_certificate(path.read_bytes()), key
    name = issuer.authority
    certificate = (
        _builder(name, name, key, timedelta(days=365 * _CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _alternatives(hosts: Sequence[str], known: Sequence[str]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.DNSName(n) for n in known]
    for host in dict.fromkeys(("127.0.0.1", "::1", *hosts)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if host not in known:
                names.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(names)


def _usable(path: Path, wanted: x509.SubjectAlternativeName, ca: x509.Certificate, renew: timedelta) -> bool:
    if not path.exists():
        return False
    found = x509.load_pem_x509_certificate(path.read_bytes())
    if found.not_valid_after_utc - datetime.now(UTC) < renew or found.issuer != ca.subject:
        return False
    return found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == wanted


def identity(folder: Path, hosts: Sequence[str], issuer: Issuer = API_SERVER) -> Identity:
    """Return a server's TLS files for these hosts, making what is missing or worn out."""
    ca, ca_key = _authority(folder, issuer)
    certificate_path, key_path = folder / "server.crt", folder / "server.key"
    key, wanted = signing_key(key_path), _alternatives(hosts, issuer.names)
    if not _usable(certificate_path, wanted, ca, timedelta(days=issuer.renew_days)):
        certificate = (
            _builder(issuer.subject, issuer.authority, key, timedelta(days=issuer.days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(wanted, critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Identity(folder / "ca.crt", certificate_path, key_path)


def kubeconfig(*, url: str, ca: bytes, token: str, user: str = "kubernaut-admin", namespace: str = "default") -> bytes:
    """Render a kubeconfig with one context, ``kubernaut``."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "kubernaut",
                "cluster": {"server": url, "certificate-authority-data": base64.b64encode(ca).decode()},
            }
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "kubernaut", "context": {"cluster": "kubernaut", "user": user, "namespace": namespace}}],
        "current-context": "kubernaut",
    }
    return yaml.safe_dump(document, sort_keys=False).encode()
