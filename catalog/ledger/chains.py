"""Follows every correlation's chain: that each record hangs on the one before it, and who is to blame where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from catalog.ledger import ranges
from catalog.ledger.finding import Finding, Kind, Seen
from catalog.ledger.ranges import Ranges
from kubernaut_ray.contracts.ledger import NO_HASH, ChainHead


class Link(NamedTuple):
    """The end of a chain so far."""

    position: int
    hash: str
    sequence: int = 0
    sealed: bool = False
    """A checkpoint remembers it, so a record that does not fit on it is the one that is wrong."""
    flagged: bool = False
    """It was found out, so a record that does not fit on it is no news."""
    cut: bool = False
    """It is not a record that says so, but a retirement that took this one and those before it."""
    event_id: str = ""
    event_type: str = ""

    def name(self, correlation_id: str) -> str:
        if not self.event_id:
            return f"the record before it, at position {self.position} of {correlation_id!r}"
        event = f"event {self.event_type} {self.event_id}, position {self.position} of {correlation_id!r}"
        return f"record {self.sequence} ({event})"

    def finding(self, kind: Kind, correlation_id: str, message: str) -> Finding:
        """Return a finding about the record at the end of a chain."""
        told = f"{self.name(correlation_id)} {message}"
        return Finding(kind, told, self.sequence, self.position, correlation_id, self.event_id, self.event_type)


_START = Link(0, NO_HASH)


class Chains:
    """``gapless``: records that are not there are findings. In a selection they are what it left out."""

    def __init__(self, *, gapless: bool, missing: Ranges) -> None:
        self._gapless, self._missing = gapless, missing
        self._links: dict[str, Link] = {}
        self._explained: set[str] = set()
        self._rewritten: set[str] = set()
        self._followers: dict[str, tuple[Seen, int]] = {}
        self._unanchored = False

    @property
    def anchored(self) -> bool:
        """Whether it is known where each chain stands."""
        return not self._unanchored

    def __len__(self) -> int:
        return len(self._links)

    def link(self, correlation_id: str) -> Link:
        return self._links.get(correlation_id, _START)

    def explain(self, seen: Seen, *, remembered: str = "") -> None:
        """Take note that a record was found out, so that what hangs on it is no finding of its own."""
        self._explained.update((*seen.hashes, remembered))

    def explains(self, record_hash: str) -> bool:
        return record_hash in self._explained

    def rewritten(self, seen: Seen) -> bool:
        """Take note that a record is not the one that was sealed; say whether that is news.

        It is not when it hangs on another such: then it had to be hashed anew, whatever else was done to it.
        """
        news = seen.record.previous not in self._rewritten
        self._rewritten.add(seen.record.hash)
        if not news:
            first, number = self._followers.get(seen.correlation_id, (seen, 0))
            self._followers[seen.correlation_id] = (first, number + 1)
        return news

    def cut(self, head: ChainHead, sequence: int) -> None:
        """Move a chain to where it was cut."""
        self._links[head.correlation_id] = Link(head.length, head.head, sequence, sealed=True, cut=True)

    def let_go(self) -> None:
        """Forget all ends: something that cannot be trusted says where the chains go on."""
        self._links.clear()
        self._unanchored = True

    def take(self, seen: Seen, *, sealed: bool, flagged: bool) -> Iterator[Finding]:
        """Check a record against the end of its chain, and make it the end."""
        record, link = seen.record, self._links.get(seen.correlation_id)
        if link is None:
            link = Link(record.position - 1, record.previous) if self._unanchored else _START
        follows = record.position == link.position + 1
        excused = flagged or record.previous in self._explained or (follows and link.flagged)
        if not excused and not (follows and record.previous == link.hash):
            yield from self._misfit(seen, link)
        if follows or (not flagged and record.position > link.position):
            self._links[seen.correlation_id] = Link(
                record.position,
                record.hash,
                record.sequence,
                sealed,
                flagged,
                event_id=seen.event_id,
                event_type=seen.event_type,
            )

    def finish(self) -> Iterator[Finding]:
        """Yield what could only be counted."""
        for first, number in self._followers.values():
            more = f" and {number - 1} more after it" if number > 1 else ""
            yield first.finding(Kind.RECHAINED, f"hangs on a rewritten record and was hashed anew{more}")

    def _misfit(self, seen: Seen, link: Link) -> Iterator[Finding]:
        position, expected, before = seen.record.position, link.position + 1, link.name(seen.correlation_id)
        if position < expected:
            yield seen.finding(
                Kind.DUPLICATED, f"takes a position that was taken: its chain is at {link.position} already"
            )
        elif position > expected:
            if self._gapless:
                yield self._gap(seen, link)
        elif not link.position:
            yield seen.finding(
                Kind.REWRITTEN, "is the first of its chain and hangs on something: it was changed and hashed anew"
            )
        elif link.sealed:
            yield seen.finding(
                Kind.REWRITTEN, f"does not hang on {before}, which is sealed: it was changed and hashed anew"
            )
        else:
            told = f"is not the one that {seen} hangs on: one of them was changed and hashed anew"
            yield link.finding(Kind.REWRITTEN, seen.correlation_id, told)

    def _gap(self, seen: Seen, link: Link) -> Finding:
        """Say which positions are missing before a record and, where it is certain, which sequences they were."""
        first, last = link.position + 1, seen.record.position - 1
        which = f"position {first} is" if first == last else f"the positions {first} to {last} are"
        where = f"between {link.name(seen.correlation_id)} and {seen}" if link.position else f"before {seen}"
        told, sequence = f"{which} missing in the chain of {seen.correlation_id!r}, {where}", None
        between = self._missing.within(link.sequence + 1, seen.record.sequence - 1)
        if between and ranges.count(between) == last - first + 1:
            for a, b in between:
                self._missing.discard(a, b)
            told, sequence = f"{told}: {ranges.text(between)} removed", between[0][0]
        elif between:
            told = f"{told}, among the missing records {ranges.text(between)}"
        return Finding(Kind.REMOVED, told, sequence, first, seen.correlation_id)
