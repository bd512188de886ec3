"""Holds records against signed checkpoints: all of them and their leaves (a whole store), or one proof at a time (a part).

Both answer of a record whether a checkpoint remembers it, and both check what checkpoints themselves claim: their
signatures, and that each goes on where the one before it ended.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from catalog.ledger.finding import Account, Finding, Kind, Seen
from catalog.ledger.merkle import root, root_of
from catalog.ledger.ranges import Ranges
from catalog.ledger.signing import check, checkpoint_hash
from kubernaut_ray.contracts.ledger import NO_HASH, Checkpoint

HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class Memory:
    """What checkpoints remember of a record: ``known`` says whether it is that, ``None`` that no checkpoint says anything."""

    known: bool | None
    checkpoint: int = 0
    leaf: str = ""


def _finding(kind: Kind, checkpoint: Checkpoint, message: str) -> Finding:
    of = f"checkpoint {checkpoint.number} (of the records {checkpoint.first_sequence} to {checkpoint.last_sequence})"
    return Finding(kind, f"{of} {message}", checkpoint=checkpoint.number)


def _signature(checkpoint: Checkpoint, keys: Mapping[str, bytes], account: Account) -> Finding | None:
    problem = check(checkpoint, keys)
    if problem:
        return _finding(Kind.CHECKPOINT_FORGED, checkpoint, f"cannot be trusted: {problem}")
    account.signed(checkpoint.key_id)
    return None


@dataclass(slots=True)
class _Open:
    """A checkpoint whose records are coming in. ``leaves`` are those it carries, if they give its root."""

    checkpoint: Checkpoint
    leaves: bytes
    spoilt: bool
    """It carried leaves that do not give its root."""
    late: bool
    """It came after some of its records."""
    flagged: bool = False
    """One of its records was found out by its own hash."""
    arrived: list[bytes] = field(default_factory=list)


class Seals:
    """The checkpoints of a whole store, each taken before the first record that it seals."""

    def __init__(self, keys: Mapping[str, bytes], account: Account) -> None:
        self._keys, self._account = keys, account
        self._open: deque[_Open] = deque()
        self._last: Checkpoint | None = None
        self._trusted = True
        self.number = 0
        """The last one's."""

    def take(self, checkpoint: Checkpoint, next_sequence: int) -> Iterator[Finding]:
        """Check what a checkpoint says of itself, and hold the records from now on against it."""
        if checkpoint.number <= self.number:
            yield _finding(Kind.CHECKPOINT_REORDERED, checkpoint, f"comes again, or after checkpoint {self.number}")
            return
        forged = _signature(checkpoint, self._keys, self._account)
        if checkpoint.number > self.number + 1:
            yield removed(self.number + 1, checkpoint.number - 1)
        elif forged is None and self._trusted:
            yield from self._joint(checkpoint)
        if forged is not None:
            yield forged
        late = checkpoint.first_sequence < next_sequence
        if late and forged is None:
            yield _finding(Kind.CHECKPOINT_REORDERED, checkpoint, "comes after records that it seals")
        self._last, self._trusted, self.number = checkpoint, forged is None, checkpoint.number
        self._account.checkpoints += 1
        self._account.sealed_to = max(self._account.sealed_to, checkpoint.last_sequence)
        leaves = _leaves(checkpoint)
        if forged is None or leaves:
            self._open.append(_Open(checkpoint, leaves, spoilt=bool(checkpoint.leaves) and not leaves, late=late))

    def remembers(self, seen: Seen) -> Memory:
        """Records come in order, each once."""
        sequence = seen.record.sequence
        opened = next((one for one in self._open if one.checkpoint.last_sequence >= sequence), None)
        if opened is None or opened.checkpoint.first_sequence > sequence:
            return Memory(None)
        opened.flagged = opened.flagged or not seen.intact
        if not opened.leaves:
            opened.arrived.append(bytes.fromhex(seen.computed))
            return Memory(None, opened.checkpoint.number)
        at = (sequence - opened.checkpoint.first_sequence) * HASH_BYTES
        leaf = opened.leaves[at : at + HASH_BYTES].hex()
        return Memory(leaf in seen.hashes, opened.checkpoint.number, leaf)

    def passed(self, next_sequence: int, absent: Ranges) -> Iterator[Finding]:
        """Close the checkpoints whose records have all come before ``next_sequence``, or are absent unlawfully."""
        while self._open and self._open[0].checkpoint.last_sequence < next_sequence:
            opened = self._open.popleft()
            first, last = opened.checkpoint.first_sequence, opened.checkpoint.last_sequence
            if opened.leaves or opened.late or opened.flagged or absent.within(first, last):
                continue  # Compared leaf by leaf, or found out already.
            if not opened.arrived:
                continue  # Retired as a whole.
            if len(opened.arrived) < last - first + 1:
                told = "lacks its leaves, so that what is left of its records cannot be held against it"
            elif root(opened.arrived).hex() != opened.checkpoint.root:
                told = "does not fit its records: at least one of them was changed and hashed anew"
            elif opened.spoilt:
                told = "fits its records, but its leaves were changed"
            else:
                continue
            yield _finding(Kind.CHECKPOINT_MISFIT, opened.checkpoint, told)

    def _joint(self, checkpoint: Checkpoint) -> Iterator[Finding]:
        """Check that a checkpoint goes on from the one before it."""
        before = NO_HASH if self._last is None else checkpoint_hash(self._last)
        if checkpoint.previous != before:
            number = checkpoint.number - 1
            told = (
                f"remembers another checkpoint {number} than there is" if number else "claims that one came before it"
            )
            yield _finding(Kind.CHECKPOINT_FORGED, checkpoint, told)
        end = 0 if self._last is None else self._last.last_sequence
        if checkpoint.first_sequence != end + 1 or checkpoint.last_sequence < checkpoint.first_sequence:
            yield _finding(
                Kind.CHECKPOINT_GAP, checkpoint, f"does not begin after {end}, where the one before it ended"
            )


class Proofs:
    """The checkpoints of a part of a store: the newest one, and those that the records' proofs lead to."""

    def __init__(self, keys: Mapping[str, bytes], account: Account) -> None:
        self._keys, self._account = keys, account
        self._known: dict[int, Checkpoint] = {}

    def take(self, checkpoint: Checkpoint) -> Iterator[Finding]:
        if checkpoint.number in self._known:
            yield _finding(Kind.CHECKPOINT_REORDERED, checkpoint, "comes again")
            return
        forged = _signature(checkpoint, self._keys, self._account)
        if forged is not None:
            yield forged
        for one, other in (
            (self._known.get(checkpoint.number - 1), checkpoint),
            (checkpoint, self._known.get(checkpoint.number + 1)),
        ):
            if one is not None and other is not None and forged is None and other.previous != checkpoint_hash(one):
                yield _finding(
                    Kind.CHECKPOINT_FORGED, other, f"remembers another checkpoint {one.number} than there is"
                )
        self._known[checkpoint.number] = checkpoint
        self._account.checkpoints += 1
        self._account.sealed_to = max(self._account.sealed_to, checkpoint.last_sequence)

    def remembers(self, seen: Seen) -> Memory:
        """Say whether a record's proof leads to its checkpoint, or whether it lacks one that it must have."""
        proof, sequence = seen.proof, seen.record.sequence
        if proof is None:
            return Memory(False if sequence <= self._account.sealed_to else None)
        forgotten = Memory(known=False, checkpoint=proof.checkpoint)
        checkpoint = self._known.get(proof.checkpoint)
        if checkpoint is None:
            return Memory(None, proof.checkpoint)
        if sequence - checkpoint.first_sequence != proof.index:
            return forgotten
        size = checkpoint.last_sequence - checkpoint.first_sequence + 1
        try:
            siblings = [bytes.fromhex(node) for node in proof.path]
            roots = {root_of(bytes.fromhex(leaf), proof.index, size, siblings).hex() for leaf in seen.hashes}
        except ValueError:
            return forgotten
        return Memory(checkpoint.root in roots, proof.checkpoint)

    def __contains__(self, number: int) -> bool:
        return number in self._known


def removed(first: int, last: int) -> Finding:
    """Return the finding that checkpoints are not there."""
    which = f"checkpoint {first} is" if first == last else f"the checkpoints {first} to {last} are"
    return Finding(Kind.CHECKPOINT_REMOVED, f"{which} missing", checkpoint=first)


def _leaves(checkpoint: Checkpoint) -> bytes:
    """Return the leaf data that a checkpoint carries, if it is what its root says."""
    try:
        data = base64.b64decode(checkpoint.leaves, validate=True)
    except ValueError:
        return b""
    size = checkpoint.last_sequence - checkpoint.first_sequence + 1
    if not data or len(data) != size * HASH_BYTES:
        return b""
    split = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
    return data if root(split).hex() == checkpoint.root else b""
