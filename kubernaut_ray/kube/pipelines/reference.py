"""Image references, ``REGISTRY/REPOSITORY[:TAG][@sha256:…]``, and the digests that pin them.

A registry is always written out: a reference that means one thing here and another on a node is no pin.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Self

from kubernaut_ray.errors import InvalidInput

LAYOUT_REGISTRY = "bundles.kubernaut.local"
"""The registry host that means the OCI image layout directory of this machine."""

_REGISTRY = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9-]+)*(?::\d{1,5})?|\[[0-9a-fA-F:]+\](?::\d{1,5})?"
)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed image reference; ``tag`` and ``digest`` are empty when not given."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a reference. Raises ``InvalidInput`` that says which part is wrong."""
        rest, at, digest = text.partition("@")
        registry, slash, path = rest.partition("/")
        name, colon, tag = path.partition(":")
        hostlike = "." in registry or ":" in registry or registry == "localhost"
        wrong = ""
        if not slash or not hostlike or not _REGISTRY.fullmatch(registry):
            wrong = "it does not start with a registry host"
        elif not _REPOSITORY.fullmatch(name) or len(name) > 255:
            wrong = f"{name!r} is not a repository name (lower case, separated by / . _ -)"
        elif colon and not _TAG.fullmatch(tag):
            wrong = f"{tag!r} is not a tag"
        elif at and not _DIGEST.fullmatch(digest):
            wrong = f"{digest!r} is not a digest (sha256: and 64 hexadecimal digits)"
        if wrong:
            raise InvalidInput(
                f"image reference {text!r}: {wrong}; write REGISTRY/REPOSITORY:TAG[@sha256:…], "
                f"for example registry.example.com/workflows/restart:1.0.0"
            )
        return cls(registry, name, tag, digest)

    def pinned(self, digest: str) -> Reference:
        return replace(self, digest=digest)

    @property
    def image(self) -> str:
        """The reference without its digest."""
        return f"{self.registry}/{self.repository}" + (f":{self.tag}" if self.tag else "")

    def __str__(self) -> str:
        return self.image + (f"@{self.digest}" if self.digest else "")


def digest_of(content: bytes) -> str:
    """Return ``sha256:…`` of these bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def verify(content: bytes, digest: str, what: str) -> bytes:
    """Return the bytes when they are what the digest says. Raises ``InvalidInput`` (reason ``DigestMismatch``) otherwise."""
    if (actual := digest_of(content)) != digest:
        raise InvalidInput(
            f"{what}: the content is {actual}, not {digest}; it was changed or damaged on the way",
            reason="DigestMismatch",
        )
    return content
