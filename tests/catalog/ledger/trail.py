"""A trail in memory that is written, sealed and retired as the store does it, and read as histories."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from catalog.ledger.canonical import canonical
from catalog.ledger.chain import record_hash
from catalog.ledger.merkle import Tree, root
from catalog.ledger.record import Entry, Item, Path, Record, event_text
from catalog.ledger.signing import SigningKey, checkpoint_hash
from kubernaut_ray.contracts.ledger import NO_HASH, ChainHead, Checkpoint, Retired, Statement
from tests import build

KEY = SigningKey.generate()
ANOTHER_KEY = SigningKey.generate()
KEYS = {key.key_id: key.public_key for key in (KEY, ANOTHER_KEY)}


def record(sequence: int, position: int, previous: str, event: dict[str, Any], stored_us: int = 1_000_000) -> Record:
    text = canonical(event)
    found = record_hash(sequence, position, previous, stored_us, text)
    return Record(sequence, position, previous, found, stored_us, event_text(text))


def rehashed(one: Record) -> Record:
    """The record with a hash that fits what it says now."""
    found = record_hash(one.sequence, one.position, one.previous, one.stored_us, bytes(one.event))
    return Record(one.sequence, one.position, one.previous, found, one.stored_us, one.event)


@dataclass
class Trail:
    """``records`` in the order of their sequence; what was retired is gone from them."""

    key: SigningKey = KEY
    records: list[Record] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    retired: list[Retired] = field(default_factory=list)
    heads: dict[str, Record] = field(default_factory=dict)
    last: int = 0
    _hashes: list[bytes] = field(default_factory=list)

    def write(self, correlation_id: str, **event: Any) -> Record:
        self.last += 1
        body = build.audit_event(self.last, correlation_id=correlation_id, **event).to_json()
        head = self.heads.get(correlation_id)
        position, previous = (head.position + 1, head.hash) if head else (1, NO_HASH)
        one = record(self.last, position, previous, body, 1_000_000 + self.last)
        self.records.append(one)
        self.heads[correlation_id] = one
        self._hashes.append(bytes.fromhex(one.hash))
        return one

    @property
    def sealed(self) -> int:
        return self.checkpoints[-1].last_sequence if self.checkpoints else 0

    def seal(self) -> None:
        if self.sealed == self.last:
            return
        before = self.checkpoints[-1] if self.checkpoints else None
        leaves = self._hashes[self.sealed :]
        made = Checkpoint(
            number=len(self.checkpoints) + 1,
            first_sequence=self.sealed + 1,
            last_sequence=self.last,
            root=root(leaves).hex(),
            previous=NO_HASH if before is None else checkpoint_hash(before),
            created_us=2_000_000,
            leaves=base64.b64encode(b"".join(leaves)).decode(),
        )
        self.checkpoints.append(self.key.sign(made))

    def retire(self, first: int, last: int) -> Retired:
        gone = [one for one in self.records if first <= one.sequence <= last]
        cuts = {correlation_of(one): one for one in gone}
        made = Retired(
            archive=f"audit-{first}",
            first_sequence=first,
            last_sequence=last,
            sha256="ab" * 32,
            chains=tuple(
                ChainHead(correlation_id=name, length=one.position, head=one.hash) for name, one in cuts.items()
            ),
            retired_us=3_000_000,
        )
        self.records = [one for one in self.records if not first <= one.sequence <= last]
        self.retired.append(self.key.sign(made))
        return self.retired[-1]

    def statement(self, scope: Any = "store", correlation_id: str = "") -> Statement:
        head = self.heads.get(correlation_id)
        chain = None
        if scope == "correlation":
            chain = ChainHead(
                correlation_id=correlation_id,
                length=head.position if head else 0,
                head=head.hash if head else NO_HASH,
            )
        made = Statement(
            scope=scope, correlation_id=correlation_id, last_sequence=self.last,
            last_checkpoint=len(self.checkpoints), chain=chain, created_us=4_000_000,
        )  # fmt: skip
        return self.key.sign(made)

    def proof(self, sequence: int) -> Path | None:
        for one in self.checkpoints:
            if one.first_sequence <= sequence <= one.last_sequence:
                leaves = self._hashes[one.first_sequence - 1 : one.last_sequence]
                index = sequence - one.first_sequence
                return Path(one.number, index, tuple(node.hex() for node in Tree(leaves).path(index)))
        return None

    def store(self, *, leaves: bool = True) -> list[Item]:
        """The whole store as a history."""
        checkpoints = list(self.checkpoints)
        found: list[Item] = list(self.retired)
        for one in self.records:
            while checkpoints and checkpoints[0].first_sequence <= one.sequence:
                found.append(_with(checkpoints.pop(0), leaves=leaves))
            found.append(Entry(one))
        return [*found, *(_with(one, leaves=leaves) for one in checkpoints), self.statement()]

    def correlation(self, name: str) -> list[Item]:
        return self._part(
            [one for one in self.records if correlation_of(one) == name], self.statement("correlation", name)
        )

    def selection(self, sequences: Sequence[int]) -> list[Item]:
        return self._part([one for one in self.records if one.sequence in sequences], self.statement("selection"))

    def _part(self, records: Sequence[Record], statement: Statement) -> list[Item]:
        found: list[Item] = [*self.retired, *(_with(one, leaves=False) for one in self.checkpoints[-1:])]
        told = {len(self.checkpoints)}
        for one in records:
            proof = self.proof(one.sequence)
            if proof is not None and proof.checkpoint not in told:
                told.add(proof.checkpoint)
                found.append(_with(self.checkpoints[proof.checkpoint - 1], leaves=False))
            found.append(Entry(one, proof))
        return [*found, statement]


def correlation_of(one: Record) -> str:
    import orjson

    return str(orjson.loads(bytes(one.event))["correlation_id"])


def entries(items: Sequence[Item]) -> Iterator[tuple[int, Entry]]:
    """The records of a history and where they stand in it."""
    return ((index, item) for index, item in enumerate(items) if isinstance(item, Entry))


def _with(checkpoint: Checkpoint, *, leaves: bool) -> Checkpoint:
    return checkpoint if leaves else checkpoint.model_copy(update={"leaves": ""})
