"""Signs images as ``cosign sign --key`` does: the payload, the signature beside it, and the tag under which both lie."""

from __future__ import annotations

import base64
from typing import Any

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kubernaut_ray.kube.pipelines.oci import MANIFEST_TYPE, Store
from kubernaut_ray.kube.pipelines.reference import Reference, digest_of

PrivateKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey


def pem(*keys: PrivateKey) -> bytes:
    """``cosign.pub``."""
    return b"".join(k.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for k in keys)


def payload(digest: str, **critical: Any) -> bytes:
    told = {
        "identity": {"docker-reference": "registry.example.com/workflows/fix"},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    return orjson.dumps({"critical": {**told, **critical}, "optional": None})


def signed(key: PrivateKey, content: bytes) -> bytes:
    return key.sign(content) if isinstance(key, Ed25519PrivateKey) else key.sign(content, ec.ECDSA(hashes.SHA256()))


def put(store: Store, image: Reference, *signatures: tuple[bytes, bytes]) -> None:
    """Store (payload, signature) pairs beside a pinned image."""
    layers = [
        {
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "size": len(content),
            "digest": digest_of(content),
            "annotations": {"dev.cosignproject.cosign/signature": base64.b64encode(signature).decode()},
        }
        for content, signature in signatures
    ]
    config = b"{}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": digest_of(config)},
        "layers": layers,
    }
    tag = f"{image.digest.replace(':', '-')}.sig"
    beside = Reference(image.registry, image.repository, tag)
    store.put(beside, (*(content for content, _ in signatures), config), orjson.dumps(manifest), MANIFEST_TYPE)


def sign(key: PrivateKey, store: Store, image: Reference) -> None:
    """``cosign sign --key cosign.key --tlog-upload=false IMAGE@DIGEST``."""
    content = payload(image.digest)
    put(store, image, (content, signed(key, content)))
