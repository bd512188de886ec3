"""The verifier: takes a history record by record and says what was tampered with, and with which event.

Pure, and streaming: its memory grows with the chains there are and with one checkpoint's records, not with the records. A
history is a whole store, the chain of one correlation, or a selection. Records come in the order of their sequence,
retirements before the records behind the gap that they explain, checkpoints before the first record that they seal, the
statement last. ``catalog.ledger.export`` and the readers of bundles keep to that.

What it can tell: a record that was edited, rewritten with its hash, removed, doubled or moved, and the same for
checkpoints. What it cannot: that records behind the last checkpoint were replaced by others whose chains were computed anew up
to their ends; that who holds the signing key lies; and in the bundle of one correlation, that records are missing next to
those that were retired (the whole store shows it). Sound histories give no finding, whatever was retired or written meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import msgspec

from catalog.ledger import ranges
from catalog.ledger.finding import Account, Finding, Kind, Seen, look
from catalog.ledger.history import NEVER, History, retirement_finding
from catalog.ledger.order import WINDOW, Order
from catalog.ledger.ranges import Ranges
from catalog.ledger.record import Entry, Item
from catalog.ledger.seals import Memory, Proofs, Seals, removed
from kubernaut_ray.contracts.ledger import Checkpoint, Retired, Statement


def verifier(
    scope: str, keys: Mapping[str, bytes], *, correlation_id: str = "", account: Account | None = None
) -> History:
    """Return the verifier of a history. ``keys`` are raw public keys by id. Raises ``ValueError`` for another scope.

    An ``account`` that is given is kept up to date, so that somebody can watch.
    """
    account = account or Account()
    match scope:
        case "store":
            return WholeStore(keys, account)
        case "correlation":
            return WholeChain(keys, account, correlation_id)
        case "selection":
            return Selection(keys, account)
        case _:
            raise ValueError(f"there is no scope {scope!r}")


def verify(items: Iterable[Item], history: History) -> Iterator[Finding]:
    """Feed a history to its verifier, to the end."""
    for item in items:
        yield from history.take(item)
    yield from history.finish()


class WholeStore(History):
    """Every record from the first: sequences without gaps, chains from their beginnings, all checkpoints with their leaves."""

    scope = "store"

    def __init__(self, keys: Mapping[str, bytes], account: Account) -> None:
        super().__init__(keys, account, gapless=True)
        self._order = Order(lambda seen: seen.record.sequence, self._retired_between)
        self._seals = Seals(keys, self.account)
        self._lawful, self._absent = Ranges(), Ranges()
        self._next = 1

    def _place(self, seen: Seen) -> Iterator[Finding]:
        yield from self._in_order(self._order.push(at) if (at := _placed(seen, self._order, "sequence")) else ())

    def _retirement(self, retired: Retired) -> Iterator[Finding]:
        yield from super()._retirement(retired)
        self._lawful.add(retired.first_sequence, retired.last_sequence)
        yield from self._in_order(self._order.again())

    def _checkpoint(self, checkpoint: Checkpoint) -> Iterator[Finding]:
        yield from self._seals.take(checkpoint, self._next)

    def _remembered(self, seen: Seen) -> Memory:
        return self._seals.remembers(seen)

    def _forgotten(self, seen: Seen, memory: Memory) -> Finding:
        told = f"is not the one that checkpoint {memory.checkpoint} sealed: it was changed or replaced, and hashed anew"
        return seen.finding(Kind.REWRITTEN, told, checkpoint=memory.checkpoint)

    def _in_order(self, came: Iterable[Seen | Finding]) -> Iterator[Finding]:
        for one in came:
            if isinstance(one, Finding):
                if one.sequence is not None:
                    self._missing.discard(one.sequence, one.sequence)
                yield one
                continue
            yield from self._advance(one.record.sequence)
            yield from self._settle(one)
            self._next = one.record.sequence + 1
            yield from self._seals.passed(self._next, self._absent)

    def _advance(self, sequence: int) -> Iterator[Finding]:
        """Go on to a sequence. What lies between is retired, or missing."""
        if sequence > self._next:
            for first, last in self._lawful.gaps(self._next, sequence - 1):
                self._absent.add(first, last)
                self._missing.add(first, last)
            self.account.retired += ranges.count(self._lawful.within(self._next, sequence - 1))
            yield from self._cross(sequence)
            self._next = sequence
            yield from self._seals.passed(sequence, self._absent)

    def _cut(self, retired: Retired) -> Iterator[Finding]:
        """Hold what a retirement says of the chains against how many records it took."""
        gone = retired.last_sequence - max(retired.first_sequence, self._next) + 1
        taken = sum(head.length - self._chains.link(head.correlation_id).position for head in retired.chains)
        self._next = retired.last_sequence + 1
        yield from super()._cut(retired)
        if gone != taken and not self._absent and self._chains.anchored:
            told = f"took {gone} records, but its chains were cut by {taken}"
            yield retirement_finding(Kind.RETIREMENT_MISFIT, retired, told)

    def _retired_between(self, first: int, last: int, _: Seen) -> bool:
        return not self._lawful.gaps(first, last)

    def _end(self, stated: Statement | None) -> Iterator[Finding]:
        end = NEVER if stated is None else stated.last_sequence
        yield from self._in_order(self._order.flush(end))
        if self._next - 1 > end:
            which = f"the records {end + 1} to {self._next - 1} are" if self._next - 2 > end else f"record {end + 1} is"
            yield Finding(
                Kind.ADDED, f"{which} beyond {end}, where the trail ended when the statement was signed", end + 1
            )
        known = max((last for _, last in self._lawful), default=0)
        if stated is not None:
            known = stated.last_sequence
            if stated.last_checkpoint > self._seals.number:
                yield removed(self._seals.number + 1, stated.last_checkpoint)
        yield from self._advance(max(known, self.account.sealed_to) + 1)


class _Part(History):
    """Records that leave others out between them, each with a proof that leads to a checkpoint."""

    def __init__(self, keys: Mapping[str, bytes], account: Account, *, gapless: bool) -> None:
        super().__init__(keys, account, gapless=gapless)
        self._proofs = Proofs(keys, self.account)
        self._lost: set[int] = set()

    def _checkpoint(self, checkpoint: Checkpoint) -> Iterator[Finding]:
        yield from self._proofs.take(checkpoint)

    def _remembered(self, seen: Seen) -> Memory:
        return self._proofs.remembers(seen)

    def _forgotten(self, seen: Seen, memory: Memory) -> Finding:
        if not memory.checkpoint:
            told = f"has no proof, though everything up to {self.account.sealed_to} is sealed"
        else:
            told = (
                f"is not under checkpoint {memory.checkpoint} as its proof says: it was changed and hashed anew, "
                "or its proof was changed"
            )
        return seen.finding(Kind.UNPROVEN, told, checkpoint=memory.checkpoint or None)

    def _in_turn(self, seen: Seen) -> Iterator[Finding]:
        yield from self._cross(seen.record.sequence)
        number = seen.proof.checkpoint if seen.proof else 0
        if number and number not in self._proofs and number not in self._lost:
            self._lost.add(number)
            yield removed(number, number)
        yield from self._settle(seen)

    def _end(self, stated: Statement | None) -> Iterator[Finding]:
        yield from self._cross(NEVER)
        newest = 0 if stated is None else stated.last_checkpoint
        if newest and newest not in self._proofs and newest not in self._lost:
            yield removed(newest, newest)


class WholeChain(_Part):
    """Every record of one correlation, from the first to the one that the statement names."""

    scope = "correlation"

    def __init__(self, keys: Mapping[str, bytes], account: Account, correlation_id: str) -> None:
        super().__init__(keys, account, gapless=True)
        self._correlation_id = correlation_id
        self._order = Order(lambda seen: seen.record.position, self._cut_between)
        self._heads: dict[tuple[int, str], int] = {}
        self._ids: set[str] = set()

    def _place(self, seen: Seen) -> Iterator[Finding]:
        if seen.intact and seen.correlation_id != self._correlation_id:
            yield seen.finding(Kind.ADDED, f"does not belong to {self._correlation_id!r}")
            return
        at = _placed(seen, self._order, "position")
        yield from self._in_order(self._order.push(at) if at else ())

    def _retirement(self, retired: Retired) -> Iterator[Finding]:
        yield from super()._retirement(retired)
        for head in retired.chains:
            if head.correlation_id == self._correlation_id:
                self._heads[head.length, head.head] = retired.last_sequence
        yield from self._in_order(self._order.again())

    def _in_order(self, came: Iterable[Seen | Finding]) -> Iterator[Finding]:
        for one in came:
            if isinstance(one, Finding):
                yield one
                continue
            if one.intact and one.event_id in self._ids:
                yield one.finding(Kind.DUPLICATED, "tells of an event that another record tells of")
            elif one.record.sequence <= self.account.last_sequence and one.intact:
                yield one.finding(Kind.REORDERED, f"has a sequence that is not after {self.account.last_sequence}")
            self._ids.add(one.event_id)
            yield from self._in_turn(one)

    def _cut(self, retired: Retired) -> Iterator[Finding]:
        mine = tuple(head for head in retired.chains if head.correlation_id == self._correlation_id)
        yield from super()._cut(retired.model_copy(update={"chains": mine}))

    def _cut_between(self, _: int, last: int, seen: Seen) -> bool:
        return self._heads.get((last, seen.record.previous), NEVER) < seen.record.sequence

    def _doubts(self, statement: Statement) -> Finding | None:
        problem = super()._doubts(statement)
        if problem is None and statement.correlation_id != self._correlation_id:
            told = f"the statement is about {statement.correlation_id!r}, not about {self._correlation_id!r}"
            return Finding(Kind.STATEMENT_MISFIT, told, correlation_id=self._correlation_id)
        return problem

    def _end(self, stated: Statement | None) -> Iterator[Finding]:
        chain = None if stated is None else stated.chain
        yield from self._in_order(self._order.flush(NEVER if chain is None else chain.length))
        yield from super()._end(stated)
        if stated is None or chain is None:
            return
        name, link = self._correlation_id, self._chains.link(self._correlation_id)
        if link.position < chain.length and not self._chains.explains(chain.head):
            first = link.position + 1
            which = f"position {first} is" if first == chain.length else f"the positions {first} to {chain.length} are"
            yield Finding(Kind.REMOVED, f"{which} missing at the end of the chain of {name!r}", None, first, name)
        elif link.position > chain.length and not (link.cut and link.sequence > stated.last_sequence):
            told = f"is beyond position {chain.length}, where its chain ended when the statement was signed"
            yield link.finding(Kind.ADDED, name, told)
        elif link.position == chain.length and link.hash != chain.head and not link.flagged:
            told = (
                "is not the one at which its chain ended when the statement was signed: it was changed and hashed anew"
            )
            yield link.finding(Kind.REWRITTEN, name, told)


class Selection(_Part):
    """Records by time or type. That none was left out nobody claims."""

    scope = "selection"

    def __init__(self, keys: Mapping[str, bytes], account: Account) -> None:
        super().__init__(keys, account, gapless=False)

    def _place(self, seen: Seen) -> Iterator[Finding]:
        if seen.record.sequence > self.account.last_sequence:
            yield from self._in_turn(seen)
        elif seen.intact:
            yield seen.finding(Kind.REORDERED, f"comes after record {self.account.last_sequence}, or again")

    def _cut(self, _: Retired) -> Iterator[Finding]:
        return iter(())  # What is missing is left out, for whatever reason.


def _placed(seen: Seen, order: Order, number: str) -> Seen | None:
    """Return a record with the number it has, or had before that was edited; ``None`` when nothing tells where it was."""
    record = seen.record
    at = getattr(record, number)
    if seen.intact or at == order.next:
        return seen
    restored = look(Entry(msgspec.structs.replace(record, **{number: order.next}), seen.proof))
    if restored.intact:
        return replace(restored, computed=seen.computed)
    return seen if order.next < at <= order.next + WINDOW else None
