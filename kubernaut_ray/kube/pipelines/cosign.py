"""cosign signatures of bundles, checked against public keys (sigstore/cosign ``specs/SIGNATURE_SPEC.md``, tag-based discovery).

The signatures of an image lie beside it under the tag ``sha256-<digest>.sig``: a manifest whose layers are payloads in the
simple-signing format, each with its signature in an annotation. A payload counts if it names this very digest and its
signature is one of ours: ECDSA on P-256 over SHA-256, or Ed25519. What certificates, transparency logs or the newer bundle
format say is not looked at. Calls block: asyncio callers use a thread.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube.pipelines.oci import Store
from kubernaut_ray.kube.pipelines.reference import Reference

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
KIND = "cosign container image signature"
MAX_SIGNATURES = 64
MAX_PAYLOAD = 65_536
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Verified:
    """``key_id`` is the SHA-256 of the public key's DER form, in hex."""

    key_id: str


@dataclass(frozen=True, slots=True)
class Unverified:
    why: str


class PublicKeys:
    """The keys of those whose signature is taken, by their id."""

    def __init__(self, keys: dict[str, ec.EllipticCurvePublicKey | Ed25519PublicKey]) -> None:
        self._keys = keys

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sorted(self._keys))

    @classmethod
    def read(cls, pem: bytes, where: str) -> Self:
        """Read one or several keys, as ``cosign generate-key-pair`` writes them. Raises ``InvalidInput``."""
        keys: dict[str, ec.EllipticCurvePublicKey | Ed25519PublicKey] = {}
        for block in _PEM.findall(pem):
            try:
                key = load_pem_public_key(block)
            except ValueError as error:
                raise InvalidInput(f"{where}: a public key in it cannot be read") from error
            if not isinstance(key, Ed25519PublicKey) and not (
                isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
            ):
                raise InvalidInput(f"{where}: only ECDSA P-256 and Ed25519 keys are taken; make one with cosign")
            keys[hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()] = key
        if not keys:
            raise InvalidInput(f"{where}: no public key in PEM form (-----BEGIN PUBLIC KEY-----) is there")
        return cls(keys)

    def signer(self, payload: bytes, signature: bytes) -> str:
        """Return the id of the key that made a signature; empty when none of ours did."""
        for key_id, key in self._keys.items():
            try:
                if isinstance(key, Ed25519PublicKey):
                    key.verify(signature, payload)
                else:
                    key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
            except InvalidSignature:
                continue
            return key_id
        return ""


def signature_tag(digest: str) -> str:
    return f"{digest.replace(':', '-')}.sig"


def check(reference: Reference, store: Store, keys: PublicKeys) -> Verified | Unverified:
    """Check that one of the keys signed the digest of a pinned image. Raises ``Retryable`` when the registry is away."""
    if not reference.digest:
        return Unverified(f"{reference} is pinned to no digest, and a signature is one of a digest")
    beside = Reference(reference.registry, reference.repository, signature_tag(reference.digest))
    try:
        raw = store.manifest(beside)
    except InvalidInput as error:
        if error.reason != "NotFound":
            raise
        return Unverified(f"{reference} is not signed: there is no tag {beside.tag}")
    seen, problems = 0, dict[str, None]()
    for layer, signature in _signatures(raw):
        seen += 1
        try:
            payload = store.blob(beside, str(layer["digest"]))
        except InvalidInput as error:
            problems[str(error)] = None
            continue
        if wrong := _problem(payload, reference.digest):
            problems[wrong] = None
        elif key_id := keys.signer(payload, signature):
            return Verified(key_id)
        else:
            problems["none of the known keys made its signature"] = None
    told = "; ".join(problems) or "its signatures cannot be read"
    return Unverified(f"{reference} has {seen} signature(s), and none holds: {told}")


def _signatures(raw: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the payload's descriptor and the signature of each layer that has both."""
    try:
        layers = orjson.loads(raw)["layers"]
        found = [(layer, layer["annotations"][SIGNATURE]) for layer in layers if layer["mediaType"] == PAYLOAD_TYPE]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return
    for layer, text in found[:MAX_SIGNATURES]:
        try:
            yield layer, base64.b64decode(str(text), validate=True)
        except binascii.Error:
            yield layer, b""


def _problem(payload: bytes, digest: str) -> str:
    """Say why a payload is no statement about this digest; empty when it is one."""
    if len(payload) > MAX_PAYLOAD:
        return f"its payload is larger than {MAX_PAYLOAD} bytes"
    try:
        critical = orjson.loads(payload)["critical"]
        kind, image = critical["type"], {str(k).lower(): v for k, v in critical["image"].items()}
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return "its payload is not in the simple-signing format"
    if kind != KIND:
        return f"its payload is no {KIND}"
    if image.get("docker-manifest-digest") != digest:
        return "its payload is about another digest"
    return ""
