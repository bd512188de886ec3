"""Reads the trail of a running owner, or of a database at rest, as a history that can be verified.

What is written meanwhile is not in it: the statement that ends it is asked for first, and nothing beyond it is taken. What is
retired meanwhile is explained: at each gap the retirements are asked for anew. Nothing is held but a page of records, and
where proofs are made one checkpoint's tree.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from catalog.ledger.bundle import Header
from catalog.ledger.merkle import Tree
from catalog.ledger.ranges import Ranges
from catalog.ledger.record import Entry, Item, Page, Path, Record
from catalog.ledger.seals import HASH_BYTES
from kubernaut_ray.contracts.ledger import Checkpoint, LedgerState, Retired, Statement

Scope = Literal["store", "correlation", "selection"]

PAGE = 2000
LEAVES_AT_ONCE = 50_000
"""About how many leaves are asked for together."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read: everything, one correlation, or what the filters leave of either. ``until`` is exclusive."""

    correlation_id: str = ""
    event_type: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def scope(self) -> Scope:
        if self.event_type or self.since or self.until:
            return "selection"
        return "correlation" if self.correlation_id else "store"


class Source(Protocol):
    """Where the trail is read. ``catalog.client.Catalog`` is one."""

    async def audit_records(
        self,
        *,
        after: int,
        limit: int,
        correlation_id: str,
        event_type: str,
        since: datetime | None,
        until: datetime | None,
    ) -> Page: ...

    async def audit_checkpoints(self, *, after: int, limit: int, leaves: bool) -> tuple[Checkpoint, ...]: ...

    async def audit_state(self) -> LedgerState: ...

    async def audit_statement(self, scope: Scope, correlation_id: str) -> Statement | None:
        """``None`` where nobody is there to sign: a database at rest."""


async def export(source: Source, wanted: Wanted) -> tuple[Header, AsyncIterator[Item]]:
    """Begin an export. The items are read as they are taken; the statement is the last of them."""
    scope = wanted.scope
    statement = await source.audit_statement(scope, wanted.correlation_id if scope == "correlation" else "")
    state = await source.audit_state()
    header = Header(
        scope=scope,
        correlation_id=wanted.correlation_id,
        event_type=wanted.event_type,
        since=wanted.since,
        until=wanted.until,
        public_keys=state.public_keys,
    )
    retirements = _Retirements(source, state)
    if statement is None:
        end = _End(state.last_sequence, state.last_checkpoint, None)
    else:
        end = _End(statement.last_sequence, statement.last_checkpoint, statement)
    retirements = _Retirements(source, state)
    if scope == "store":
        return header, _store(source, wanted, end, retirements)
    return header, _part(source, wanted, end, retirements)


@dataclass(frozen=True, slots=True)
class _End:
    """Where an export ends, however much is written meanwhile."""

    last_sequence: int
    last_checkpoint: int
    statement: Statement | None


async def _store(source: Source, wanted: Wanted, end: _End, retirements: _Retirements) -> AsyncIterator[Item]:
    for retired in retirements.known:
        yield retired
    checkpoints = _checkpoints(source, end.last_checkpoint)
    waiting = await anext(checkpoints, None)
    expected = 1
    async for record in _records(source, wanted, end.last_sequence):
        for retired in await retirements.between(expected, record.sequence - 1):
            yield retired
        while waiting is not None and waiting.first_sequence <= record.sequence:
            yield waiting
            waiting = await anext(checkpoints, None)
        yield Entry(record)
        expected = record.sequence + 1
    for retired in await retirements.between(expected, end.last_sequence):
        yield retired
    while waiting is not None:
        yield waiting
        waiting = await anext(checkpoints, None)
    if end.statement is not None:
        yield end.statement


async def _part(source: Source, wanted: Wanted, end: _End, retirements: _Retirements) -> AsyncIterator[Item]:
    gapless = wanted.scope == "correlation"
    if gapless:
        for retired in retirements.known:
            yield retired
    prover = _Prover(source)
    newest = await prover.checkpoint(end.last_checkpoint)
    if newest is not None:
        yield newest
    told, position = {end.last_checkpoint}, 0
    async for record in _records(source, wanted, end.last_sequence):
        if gapless and record.position != position + 1:
            for retired in await retirements.news():
                yield retired
        position = record.position
        proof = None
        if newest is not None and record.sequence <= newest.last_sequence:
            checkpoint, proof = await prover.prove(record.sequence, newest)
            if checkpoint is not None and checkpoint.number not in told:
                told.add(checkpoint.number)
                yield checkpoint
        yield Entry(record, proof)
    if gapless and (end.statement is None or end.statement.chain is None or position != end.statement.chain.length):
        for retired in await retirements.news():
            yield retired
    if end.statement is not None:
        yield end.statement


async def _records(source: Source, wanted: Wanted, last: int) -> AsyncIterator[Record]:
    after, more = 0, True
    while more and after < last:
        page = await source.audit_records(
            after=after,
            limit=PAGE,
            correlation_id=wanted.correlation_id,
            event_type=wanted.event_type,
            since=wanted.since,
            until=wanted.until,
        )
        for record in page.records:
            if record.sequence <= last:
                yield record
        after, more = page.last, page.more


async def _checkpoints(source: Source, last: int) -> AsyncIterator[Checkpoint]:
    """All checkpoints up to a number, with their leaves, as many at a time as is reasonable for their size."""
    after, limit = 0, 1
    while after < last:
        page = await source.audit_checkpoints(after=after, limit=limit, leaves=True)
        if not page:
            return
        for checkpoint in page:
            if checkpoint.number <= last:
                yield checkpoint
        after = page[-1].number
        sealed = sum(one.last_sequence - one.first_sequence + 1 for one in page)
        limit = max(1, min(1000, LEAVES_AT_ONCE * len(page) // max(1, sealed)))


class _Retirements:
    """The retirements that were told of, asked for anew where something is missing that they do not explain."""

    def __init__(self, source: Source, state: LedgerState) -> None:
        self._source = source
        self.known = sorted(state.retired, key=lambda retired: retired.first_sequence)
        self._ranges = Ranges()
        for retired in self.known:
            self._ranges.add(retired.first_sequence, retired.last_sequence)

    async def between(self, first: int, last: int) -> list[Retired]:
        """Return those that are news, if anything between two sequences is unexplained."""
        return await self.news() if self._ranges.gaps(first, last) else []

    async def news(self) -> list[Retired]:
        told = {(retired.first_sequence, retired.archive) for retired in self.known}
        fresh = [
            one for one in (await self._source.audit_state()).retired if (one.first_sequence, one.archive) not in told
        ]
        for retired in fresh:
            self._ranges.add(retired.first_sequence, retired.last_sequence)
        self.known += fresh
        return fresh


class _Prover:
    """Finds the checkpoint of a sequence and makes its proof. Sequences come in order."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._current: Checkpoint | None = None
        self._tree: Tree | None = None

    async def checkpoint(self, number: int, *, leaves: bool = False) -> Checkpoint | None:
        """Return a checkpoint, ``None`` when it is not there."""
        found = await self._source.audit_checkpoints(after=number - 1, limit=1, leaves=leaves) if number else ()
        return found[0] if found and found[0].number == number else None

    async def prove(self, sequence: int, newest: Checkpoint) -> tuple[Checkpoint | None, Path | None]:
        """Return the checkpoint that seals a sequence, and the proof; neither where the trail does not have them."""
        current = self._current
        if current is None or sequence > current.last_sequence:
            current = await self._find(sequence, newest)
            if current is None:
                return None, None
            self._current, self._tree = current.model_copy(update={"leaves": ""}), _tree(current)
            current = self._current
        index = sequence - current.first_sequence
        if self._tree is None or index < 0:
            return current, None
        return current, Path(current.number, index, tuple(node.hex() for node in self._tree.path(index)))

    async def _find(self, sequence: int, newest: Checkpoint) -> Checkpoint | None:
        """Look for a sequence's checkpoint, first near the last one found: a chain's records lie close together."""
        low, high, step = (self._current.number if self._current else 0) + 1, newest.number, 1
        while low < high:
            at = min(low + step - 1, (low + high) // 2)
            one = await self.checkpoint(at)
            if one is None:
                return None
            if one.last_sequence < sequence:
                low, step = at + 1, step * 2
            else:
                high = at
        return await self.checkpoint(low, leaves=True)


def _tree(checkpoint: Checkpoint) -> Tree | None:
    data = base64.b64decode(checkpoint.leaves)
    size = checkpoint.last_sequence - checkpoint.first_sequence + 1
    if len(data) != size * HASH_BYTES:
        return None
    return Tree([data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)])
