"""The tamper-evident form of the audit trail (contract of Data Storage): records in chains, signed checkpoints, bundles.

Every stored event is a record. Records are numbered without gaps over the whole store (``sequence``) and within the chain of
their correlation id (``position``), and each holds the hash of the record before it in that chain. Checkpoints sign the
Merkle root of a run of sequences, so that a rewritten chain does not fit any more. ``catalog.ledger`` computes and verifies.

Hashes are SHA-256 in lower-case hex, signatures Ed25519 in base64, instants microseconds since the epoch. What is hashed and
signed is canonical JSON (RFC 8785), so that anybody can check it without this code.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from kubernaut_ray.contracts.base import Contract, StrictContract
from kubernaut_ray.crds.base import Timestamp

NO_HASH = "0" * 64
"""Stands where there is no record or checkpoint before."""

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Number = Annotated[int, Field(ge=1)]


class AuditRecord(Contract):
    """A stored event. ``hash`` is over the canonical JSON of the other fields: event, position, previous, sequence, stored_us."""

    sequence: Number
    position: Number
    previous: Hash = NO_HASH
    hash: Hash
    stored_us: int
    """When it was stored, by the owner's clock. Orders nothing: ``sequence`` does."""
    event: dict[str, Any]
    """The ``AuditEvent`` as it was accepted."""


class Proof(Contract):
    """That a record is under a checkpoint: its place among the leaves, and the RFC 6962 audit path to the root."""

    checkpoint: Number
    index: Annotated[int, Field(ge=0)]
    path: tuple[Hash, ...]


class Signed(Contract):
    """``signature`` is over the canonical JSON of all other fields (less ``leaves``). ``key_id`` names the public key."""

    key_id: str = ""
    signature: str = ""


class Checkpoint(Signed):
    """Seals the records ``first_sequence`` to ``last_sequence``. Numbered without gaps; each holds the hash of the one before."""

    number: Number
    first_sequence: Number
    last_sequence: Number
    root: Hash
    """RFC 6962 Merkle tree hash; leaf data are the records' 32-byte hashes in the order of their sequence."""
    previous: Hash = NO_HASH
    """SHA-256 of the canonical JSON of the checkpoint before it, with its signature and without its leaves."""
    created_us: int
    leaves: str = ""
    """base64 of the leaf data one after another; left out unless asked for, because the root says the same."""


class ChainHead(Contract):
    correlation_id: str
    length: Annotated[int, Field(ge=0)]
    head: Hash = NO_HASH
    """The hash of the chain's last record."""


class Retired(Signed):
    """Says that an archive was deleted lawfully when its retention ended: those sequences are missing, and may be."""

    archive: str
    first_sequence: Number
    last_sequence: Number
    sha256: Hash
    """Of the file that was deleted."""
    chains: tuple[ChainHead, ...]
    """Where each chain was cut: the position and hash of its last deleted record."""
    retired_us: int


class Statement(Signed):
    """What the store held when a bundle was made, so that a bundle whose end was cut off is noticed."""

    scope: Literal["store", "correlation", "selection"]
    """A selection (by time or type) claims nothing about completeness."""
    correlation_id: str = ""
    last_sequence: Annotated[int, Field(ge=0)]
    last_checkpoint: Annotated[int, Field(ge=0)]
    chain: ChainHead | None = None
    """Of the correlation."""
    created_us: int


class LegalHold(Contract):
    """Keeps an incident's events beyond their retention: archives that hold any of them are not deleted."""

    correlation_id: Annotated[str, Field(min_length=1, max_length=255)]
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    placed_by: str = ""
    placed_at: Timestamp | None = None


class Archive(Contract):
    """One month of the trail, rolled off into a Parquet file beside the database."""

    name: str
    """``audit-2026-10``."""
    first_sequence: Number
    last_sequence: Number
    events: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: Hash
    created_us: int


class LedgerState(Contract):
    """Where the trail stands."""

    last_sequence: Annotated[int, Field(ge=0)]
    last_checkpoint: Annotated[int, Field(ge=0)]
    unsealed: Annotated[int, Field(ge=0)]
    """Records after the last checkpoint."""
    chains: Annotated[int, Field(ge=0)]
    archives: tuple[Archive, ...] = ()
    holds: tuple[LegalHold, ...] = ()
    retired: tuple[Retired, ...] = ()
    public_keys: dict[str, str] = {}
    """By ``key_id``: the raw 32-byte Ed25519 public keys in base64, retired ones too."""


class CheckpointPage(Contract):
    checkpoints: tuple[Checkpoint, ...] = ()


class SealResult(Contract):
    checkpoint: Checkpoint | None = None
    """``None`` when there was nothing left to seal."""


class ArchiveResult(Contract):
    """What a roll-off did: months that went into archives, and archives that were deleted as their retention ended."""

    archived: tuple[Archive, ...] = ()
    retired: tuple[Retired, ...] = ()


class HoldRequest(StrictContract):
    """Who places the hold is who the token says."""

    reason: Annotated[str, Field(min_length=1, max_length=1024)]


class Holds(Contract):
    holds: tuple[LegalHold, ...] = ()


class Released(Contract):
    released: bool
