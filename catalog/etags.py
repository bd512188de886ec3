"""Strong ETags (RFC 9110): the digest of the JSON that is answered, so that whatever changes in it changes the tag.

Statistics are part of a record as it is answered, so an execution that ends gives its workflow another tag. The owner checks
``If-Match`` inside the write, where nothing can come between; ``If-None-Match`` is answered by Data Storage.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

from catalog.errors import PreconditionFailed

ANY = "*"
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


def etag(body: bytes) -> str:
    """Return the entity tag of an answer, in quotes."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def tags(header: str, *, weak: bool) -> tuple[str, ...]:
    """Read ``If-Match`` or ``If-None-Match``; ``weak`` takes weak tags too, for the comparison of If-None-Match."""
    if header.strip() == ANY:
        return (ANY,)
    return tuple(f'"{tag}"' for prefix, tag in _TAG.findall(header) if weak or not prefix)


def matches(expected: Collection[str], body: bytes) -> bool:
    return ANY in expected or etag(body) in expected


def require(expected: Collection[str], body: bytes) -> None:
    """Raise ``PreconditionFailed`` when the answer is none of those that the caller knows."""
    if not matches(expected, body):
        raise PreconditionFailed(
            f"the workflow changed since it was read (it is at {etag(body)} now); read it again and decide anew"
        )
