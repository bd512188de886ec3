"""What verifying any history has in common: records against their hashes, their chains, their checkpoints; signatures.

``catalog.ledger.verify`` has the kinds of history there are, and says how one is fed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from catalog.ledger.chains import Chains
from catalog.ledger.finding import Account, Finding, Kind, Seen, look
from catalog.ledger.ranges import Ranges
from catalog.ledger.record import Entry, Item
from catalog.ledger.seals import Memory
from catalog.ledger.signing import check
from kubernaut_ray.contracts.ledger import Checkpoint, Retired, Statement

NEVER = 2**63
"""Beyond every sequence and position."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A retirement whose gap is still to come."""

    last_sequence: int
    trusted: bool
    retired: Retired


class History(ABC):
    """``keys`` are raw public keys by id, ``account`` is kept while it goes on; ``gapless``: every record of a chain must be there."""

    scope: str

    def __init__(self, keys: Mapping[str, bytes], account: Account, *, gapless: bool) -> None:
        self._keys = keys
        self.account = account
        self._missing = Ranges()
        """Sequences that are not there and that no finding has told of yet."""
        self._chains = Chains(gapless=gapless, missing=self._missing)
        self._cuts: list[Cut] = []
        self._statement: Statement | None = None

    def take(self, item: Item) -> Iterator[Finding]:
        """Take the next item of the history."""
        match item:
            case Entry():
                yield from self._entry(item)
            case Checkpoint():
                yield from self._checkpoint(item)
            case Retired():
                yield from self._retirement(item)
            case Statement():
                self._statement = item

    def finish(self) -> Iterator[Finding]:
        """Say what only the end shows. Where the end is, the statement says; without one, nothing at the end is missed."""
        stated = self._statement
        if stated is not None:
            problem = self._doubts(stated)
            if problem is not None:
                yield problem
                stated = None
        self.account.stated = stated is not None
        yield from self._end(stated)
        yield from self._chains.finish()
        for first, last in self._missing:
            which = f"record {first} is" if first == last else f"the records {first} to {last} are"
            yield Finding(Kind.REMOVED, f"{which} missing", first)
        self.account.chains = len(self._chains)

    def length(self, correlation_id: str) -> int:
        """Return how long a correlation's chain is, as far as it came."""
        return self._chains.link(correlation_id).position

    @abstractmethod
    def _place(self, seen: Seen) -> Iterator[Finding]:
        """Settle a record when it is its turn."""

    @abstractmethod
    def _checkpoint(self, checkpoint: Checkpoint) -> Iterator[Finding]: ...

    @abstractmethod
    def _remembered(self, seen: Seen) -> Memory: ...

    @abstractmethod
    def _forgotten(self, seen: Seen, memory: Memory) -> Finding:
        """Tell of a record that is not the one that was sealed."""

    @abstractmethod
    def _end(self, stated: Statement | None) -> Iterator[Finding]: ...

    def _entry(self, entry: Entry) -> Iterator[Finding]:
        self.account.records += 1
        seen = look(entry)
        if not seen.intact:
            yield seen.finding(Kind.EDITED, "was edited: its hash is that of something else")
            self._chains.explain(seen)
        elif not seen.literal:
            yield seen.finding(
                Kind.NOT_CANONICAL, "is written in another form than it was hashed in: its text was edited"
            )
        yield from self._place(seen)

    def _settle(self, seen: Seen) -> Iterator[Finding]:
        """Check a record in its turn against checkpoints and its chain."""
        memory, flagged = self._remembered(seen), not seen.intact
        if memory.known is False:
            # Only what is known to be another record makes those that hang on it its followers.
            if seen.intact and (not memory.checkpoint or self._chains.rewritten(seen)):
                yield self._forgotten(seen, memory)
            flagged = True
            self._chains.explain(seen, remembered=memory.leaf)
        elif memory.checkpoint == 0:
            self.account.unsealed += 1
        yield from self._chains.take(seen, sealed=memory.known is True, flagged=flagged)
        self.account.last_sequence = max(self.account.last_sequence, seen.record.sequence)

    def _retirement(self, retired: Retired) -> Iterator[Finding]:
        problem = check(retired, self._keys)
        if problem:
            yield retirement_finding(Kind.RETIREMENT_FORGED, retired, f"cannot be trusted: {problem}")
        else:
            self.account.signed(retired.key_id)
        insort(self._cuts, Cut(retired.last_sequence, not problem, retired), key=lambda cut: cut.last_sequence)

    def _cross(self, sequence: int) -> Iterator[Finding]:
        """Cut the chains that were cut before a sequence."""
        while self._cuts and self._cuts[0].last_sequence < sequence:
            cut = self._cuts.pop(0)
            if not cut.trusted:
                self._chains.let_go()
            elif cut.last_sequence > self.account.last_sequence:
                yield from self._cut(cut.retired)

    def _cut(self, retired: Retired) -> Iterator[Finding]:
        for head in retired.chains:
            if head.length < self._chains.link(head.correlation_id).position:
                yield retirement_finding(
                    Kind.RETIREMENT_MISFIT,
                    retired,
                    f"cuts the chain of {head.correlation_id!r} at {head.length}, where it was longer already",
                )
            else:
                self._chains.cut(head, retired.last_sequence)

    def _doubts(self, statement: Statement) -> Finding | None:
        """Return why a statement is not to be believed, or is not about this history."""
        problem = check(statement, self._keys)
        if problem:
            return Finding(Kind.STATEMENT_FORGED, f"the statement at the end cannot be trusted: {problem}")
        self.account.signed(statement.key_id)
        if statement.scope != self.scope:
            return Finding(
                Kind.STATEMENT_MISFIT, f"the statement is about a {statement.scope}, not about a {self.scope}"
            )
        return None


def retirement_finding(kind: Kind, retired: Retired, message: str) -> Finding:
    which = f"the retirement of {retired.archive} (the records {retired.first_sequence} to {retired.last_sequence})"
    return Finding(kind, f"{which} {message}", sequence=retired.first_sequence)
