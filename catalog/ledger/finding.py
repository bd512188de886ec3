"""What the verifier says: findings, each of a kind and naming the event, and the account of what was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from catalog.ledger.canonical import canonical, parse
from catalog.ledger.chain import record_hash
from catalog.ledger.record import Entry, Path, Record
from kubernaut_ray.errors import InvalidInput


class Kind(StrEnum):
    EDITED = "edited"
    """The record's hash does not fit what it says."""
    REWRITTEN = "rewritten"
    """The record fits its own hash, but the chain or a checkpoint remembers another."""
    RECHAINED = "rechained"
    """Records that were hashed anew because one before them in their chain was rewritten."""
    NOT_CANONICAL = "not_canonical"
    """The text of the event is another than was hashed, though it says the same."""
    REMOVED = "removed"
    ADDED = "added"
    """A record that is beyond what was there when the statement was signed."""
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    UNPROVEN = "unproven"
    """No proof that the record is under a checkpoint, though it must be, or one that does not lead there."""
    CHECKPOINT_REMOVED = "checkpoint_removed"
    CHECKPOINT_REORDERED = "checkpoint_reordered"
    CHECKPOINT_FORGED = "checkpoint_forged"
    """The signature does not fit, its key is not known, or the checkpoint before it is another than it was."""
    CHECKPOINT_GAP = "checkpoint_gap"
    """It does not begin where the one before it ended."""
    CHECKPOINT_MISFIT = "checkpoint_misfit"
    """The records it seals are not those it sealed, or what is left of them cannot be held against it."""
    RETIREMENT_FORGED = "retirement_forged"
    RETIREMENT_MISFIT = "retirement_misfit"
    STATEMENT_FORGED = "statement_forged"
    STATEMENT_MISFIT = "statement_misfit"
    """It is about something else, or it was taken away."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``sequence`` to ``event_type`` name the event as far as it is known."""

    kind: Kind
    message: str
    sequence: int | None = None
    position: int | None = None
    correlation_id: str = ""
    event_id: str = ""
    event_type: str = ""
    checkpoint: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON, without what is not known."""
        fields = ("sequence", "position", "correlation_id", "event_id", "event_type", "checkpoint")
        known = {name: value for name in fields if (value := getattr(self, name)) not in {None, ""}}
        return {"kind": self.kind.value, "message": self.message, **known}


@dataclass(slots=True)
class Account:
    """What was checked."""

    records: int = 0
    chains: int = 0
    checkpoints: int = 0
    last_sequence: int = 0
    sealed_to: int = 0
    """The last sequence under a checkpoint; records after it are protected by their chains only."""
    unsealed: int = 0
    retired: int = 0
    """Sequences that are missing lawfully."""
    signatures: dict[str, int] = field(default_factory=dict)
    """By key id, how many good ones."""
    stated: bool = False
    """There was a signed statement of where the end is."""

    def signed(self, key_id: str) -> None:
        """Count a good signature."""
        self.signatures[key_id] = self.signatures.get(key_id, 0) + 1

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Seen:
    """A record with what its event says of itself, and with the hash that its content gives."""

    record: Record
    proof: Path | None
    computed: str
    correlation_id: str
    event_id: str
    event_type: str
    literal: bool
    """The event's text is in canonical form."""

    @property
    def intact(self) -> bool:
        return self.record.hash == self.computed

    @property
    def hashes(self) -> tuple[str, str]:
        """The hash it carries and the one it should: others may remember either."""
        return self.record.hash, self.computed

    def __str__(self) -> str:
        event = " ".join(part for part in (self.event_type, self.event_id) if part) or "unreadable"
        return (
            f"record {self.record.sequence} (event {event}, position {self.record.position} of {self.correlation_id!r})"
        )

    def finding(self, kind: Kind, message: str, *, checkpoint: int | None = None) -> Finding:
        """Return a finding about this record; the message begins with its name."""
        return Finding(
            kind,
            f"{self} {message}",
            self.record.sequence,
            self.record.position,
            self.correlation_id,
            self.event_id,
            self.event_type,
            checkpoint,
        )


def look(entry: Entry) -> Seen:
    """Compute what a record's hash should be, and read what its event says of itself."""
    record = entry.record
    text = bytes(record.event)
    try:
        event = parse(text)
        form = canonical(event)
    except InvalidInput:
        event, form = None, text
    said: Mapping[str, Any] = event if isinstance(event, dict) else {}
    correlation_id, event_id, event_type = (
        value if isinstance(value := said.get(name), str) else ""
        for name in ("correlation_id", "event_id", "event_type")
    )
    computed = record_hash(record.sequence, record.position, record.previous, record.stored_us, form)
    return Seen(record, entry.proof, computed, correlation_id, event_id, event_type, event is not None and form == text)
