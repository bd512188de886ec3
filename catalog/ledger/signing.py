"""Ed25519 signatures under checkpoints, retirements and statements, and the public keys that check them.

What is signed is the canonical JSON of the thing as it is sent, without ``signature`` and ``leaves``. Key files are
``kubernaut_ray.signing``'s.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from catalog.ledger.canonical import canonical
from kubernaut_ray import signing
from kubernaut_ray.contracts.ledger import Checkpoint, Signed
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.signing import key_id

S = TypeVar("S", bound=Signed)

_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----[^-]*-----END PUBLIC KEY-----")
_UNSIGNED = {"signature", "leaves"}
RAW_BYTES = 32


class SigningKey(signing.SigningKey):
    """The private key of a trail. Thread-safe."""

    def sign(self, thing: S) -> S:
        """Return the thing with this key's id and signature, whatever it carried before."""
        named = thing.model_copy(update={"key_id": self.key_id})
        return named.model_copy(update={"signature": self.over(_signed(named))})


def read_public_key(text: str) -> bytes:
    """Read a raw public key in base64. Raises ``InvalidInput``."""
    raw = _unbase64(text)
    if len(raw) != RAW_BYTES:
        raise InvalidInput(f"{text[:64]!r} is no Ed25519 public key; it is 32 bytes in base64")
    return raw


def read_public_keys(text: str) -> dict[str, bytes]:
    """Read a file of public keys into raw keys by their ids: PEM blocks, or lines that end in a raw key in base64.

    The lines are what ``kubernaut-ray audit keys`` prints; ``#`` begins a comment. Raises ``InvalidInput``.
    """
    keys = []
    for block in _PEM.findall(text):
        try:
            key = load_pem_public_key(block.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidInput(f"a PEM block holds no public key: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidInput("a PEM block holds a public key that is not Ed25519")
        keys.append(key.public_bytes_raw())
    for line in _PEM.sub("", text).splitlines():
        words = line.partition("#")[0].split()
        if words:
            keys.append(read_public_key(words[-1]))
    if not keys:
        raise InvalidInput("there is no public key in it")
    return {key_id(raw): raw for raw in keys}


def keyring(public_keys: Mapping[str, str]) -> dict[str, bytes]:
    """Read the ``public_keys`` of a contract into raw keys by their ids. Raises ``InvalidInput``."""
    keys = {name: read_public_key(text) for name, text in public_keys.items()}
    problems = tuple(
        (name, f"is the id of another key than {key_id(raw)}") for name, raw in keys.items() if name != key_id(raw)
    )
    if problems:
        raise InvalidInput("public keys under wrong ids", problems=problems)
    return keys


def check(thing: Signed, public_keys: Mapping[str, bytes]) -> str:
    """Return what is wrong with a signature, empty when nothing is. ``public_keys`` are raw, by ``key_id``."""
    raw = public_keys.get(thing.key_id)
    if raw is None:
        known = ", ".join(sorted(public_keys)) or "none"
        return f"it is signed with key {thing.key_id or '(none)'}, which is not among the known keys ({known})"
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(_unbase64(thing.signature), _signed(thing))
    except (InvalidSignature, ValueError):
        return f"its signature by key {thing.key_id} does not fit"
    return ""


def checkpoint_hash(checkpoint: Checkpoint) -> str:
    """Return what the next checkpoint holds as ``previous``: over everything but the leaves, the signature too."""
    return sha256(canonical(checkpoint.model_dump(mode="json", exclude_none=True, exclude={"leaves"}))).hexdigest()


def _unbase64(text: str) -> bytes:
    """Read base64 in its one form (the last character may have spare bits); empty when it is not that."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return b""
    return raw if base64.b64encode(raw).decode() == text else b""


def _signed(thing: Signed) -> bytes:
    return canonical(thing.model_dump(mode="json", exclude_none=True, exclude=_UNSIGNED))
