"""Ed25519 signatures over canonical JSON, and the key file of whoever signs.

The admission webhook signs who decided what, the approval controller what may run, the catalog owner the audit trail
(``catalog.ledger.signing``). A key is known by its ``key_id``, the first 16 hex digits of the SHA-256 of the raw public key.
The private key is written once, readable by its owner only, and leaves this module as signatures alone.
"""

from __future__ import annotations

import base64
import os
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from kubernaut_ray.errors import Permanent

PEM_LIMIT = 4096


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value in its canonical form (RFC 8785), in hex."""
    return sha256(rfc8785.dumps(value)).hexdigest()


class SigningKey:
    """A private key, and the check of what it signed. Thread-safe; equal inputs give equal signatures."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public = key.public_key()
        self.public_key = self._public.public_bytes_raw()
        """The raw 32 bytes."""
        self.key_id = key_id(self.public_key)

    @classmethod
    def generate(cls) -> Self:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, file: Path) -> Self:
        """Load the key of a PEM file. Raises ``Permanent`` when there is none or it is another kind of key."""
        try:
            key = load_pem_private_key(file.read_bytes()[:PEM_LIMIT], password=None)
        except OSError as error:
            raise Permanent(f"signing key {file}: {error.strerror}", reason="NoSigningKey") from None
        except (ValueError, TypeError):
            raise _no_key(file) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise _no_key(file)
        return cls(key)

    @classmethod
    def load_or_create(cls, file: Path) -> Self:
        """Load the key of a file that is made first, readable by its owner only, when there is none."""
        if not file.exists():
            _create(file)
        return cls.load(file)

    def over(self, data: bytes) -> str:
        """Return the signature, in base64, over these bytes."""
        return base64.b64encode(self._key.sign(data)).decode()

    def signature(self, purpose: str, value: Any) -> str:
        """Return the signature, in base64, of a JSON value; one made for another purpose does not fit."""
        return self.over(_bytes(purpose, value))

    def verifies(self, purpose: str, value: Any, signature: str) -> bool:
        """Whether this key signed the value for this purpose."""
        try:
            self._public.verify(base64.b64decode(signature, validate=True), _bytes(purpose, value))
        except (InvalidSignature, ValueError):
            return False
        return True


def key_id(public_key: bytes) -> str:
    """Return the name of a raw public key."""
    return sha256(public_key).hexdigest()[:16]


def _bytes(purpose: str, value: Any) -> bytes:
    return purpose.encode() + b"\0" + rfc8785.dumps(value)


def _create(file: Path) -> None:
    """Make a key file that is whole or not there; one that exists is never replaced."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(pem)
        opened.flush()
        os.fsync(opened.fileno())
    try:
        os.link(draft, file)  # Unlike a rename it never replaces: a key that has signed must not be lost.
    except FileExistsError:
        return
    finally:
        draft.unlink()
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _no_key(file: Path) -> Permanent:
    return Permanent(
        f"{file} holds no Ed25519 private key in PEM form. Restore it from a backup, or move it away to sign with a new key "
        "(what the old one signed can then be checked with its public key only)",
        reason="SigningKeyUnreadable",
    )
