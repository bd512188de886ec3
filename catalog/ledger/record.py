"""Records on their way: what a page of the store, a line of a bundle or a row of Parquet is decoded to.

The same fields as ``AuditRecord`` and ``Proof`` of the contract, which are for people who call the API. Here an event stays the
text it is stored as: whether that is what was hashed is the question, so nothing may be read and written again in between.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kubernaut_ray.contracts.ledger import Checkpoint, Retired, Statement
from kubernaut_ray.errors import Permanent


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stored event with its place in the store and in its chain; ``event`` is JSON text."""

    sequence: int
    position: int
    previous: str
    hash: str
    stored_us: int
    event: msgspec.Raw


class Path(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ``Proof`` of the contract: the checkpoint, the leaf's index, and the siblings in hex from the leaf up."""

    checkpoint: int
    index: int
    path: tuple[str, ...]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A record in a bundle. In a bundle of the whole store the checkpoints' leaves stand for the proofs."""

    record: Record
    proof: Path | None = None


class Page(msgspec.Struct, frozen=True):
    """Records as the owner gives them: those that fit, the last sequence that was looked at, whether there are more."""

    records: tuple[Record, ...]
    last: int
    more: bool


_PAGES = msgspec.json.Decoder(Page)


def read_page(text: bytes) -> Page:
    """Read a page. Raises ``Permanent`` when a record in it is damaged beyond being read."""
    try:
        return _PAGES.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Permanent(f"a record of the audit trail cannot be read: {error}", reason="RecordUnreadable") from error


Item = Entry | Checkpoint | Retired | Statement
"""What a history consists of."""


def event_text(text: bytes) -> Any:
    """Return JSON text as an event of a ``Record``."""
    return msgspec.Raw(text)
