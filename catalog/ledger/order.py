"""Puts records that come out of order into it, within a window, and says which ones were out of place.

What is behind a gap is held back until the gap closes or the window is full. Then those are in place that came where they
belong, or those of the longest increasing run, whichever are more: so two exchanged lines are two findings, one that was moved
is one. A missing one is none here: it is noticed as missing by who takes the records in order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from catalog.ledger.finding import Finding, Kind, Seen
from catalog.ledger.ranges import Ranges

WINDOW = 1024
"""How many records are held at most."""

Excused = Callable[[int, int, Seen], bool]
"""Whether the places from, to (inclusive) before a record may lawfully be empty."""


class Order:
    """``place`` gives a record's place; places are counted without gaps, from 1."""

    def __init__(self, place: Callable[[Seen], int], excused: Excused) -> None:
        self._place, self._excused = place, excused
        self._held: list[Seen] = []
        self._places: set[int] = set()
        self._skipped = Ranges()
        self.next = 1
        """The place that comes next."""

    def push(self, seen: Seen) -> Iterator[Seen | Finding]:
        """Take a record as it comes; yield those whose turn it is, in order, and findings."""
        place = self._place(seen)
        if not self._held and self._follows(seen):
            self._skipped.add(self.next, place - 1)
            self.next = place + 1
            yield seen
        elif place < self.next:
            yield self._late(seen)
        else:
            self._held.append(seen)
            self._places.add(place)
            yield from self.again()

    def again(self) -> Iterator[Seen | Finding]:
        """Yield what need not wait any more, for example because a gap is excused by now."""
        while self._held:
            if self._whole():
                yield from self._release(len(self._held))
            elif len(self._held) > WINDOW:
                yield from self._release(len(self._held) // 2)
            else:
                return

    def flush(self, last: int) -> Iterator[Seen | Finding]:
        """Yield what is held up to a place, ``ADDED`` for what is beyond it."""
        beyond = [seen for seen in self._held if self._place(seen) > last]
        self._held = [seen for seen in self._held if self._place(seen) <= last]
        yield from self._release(len(self._held))
        for seen in beyond:
            yield seen.finding(Kind.ADDED, f"is beyond {last}, where the trail ended when the statement was signed")

    def _follows(self, seen: Seen) -> bool:
        place = self._place(seen)
        return place == self.next or (place > self.next and self._excused(self.next, place - 1, seen))

    def _whole(self) -> bool:
        """Whether those held, put in order, are what comes next and leave nothing out."""
        first, last = min(self._places), max(self._places)
        if len(self._places) < last - first + 1:
            return False
        return self._follows(min(self._held, key=self._place))

    def _release(self, count: int) -> Iterator[Seen | Finding]:
        """Yield the ``count`` lowest of those held, and findings for those of them that came out of place."""
        places = [self._place(seen) for seen in self._held]
        order = sorted(range(len(places)), key=places.__getitem__)
        in_place = max({i for i, at in enumerate(order) if i == at}, set(_longest_run(places)), key=len)
        held, self._held = self._held, [self._held[index] for index in sorted(order[count:])]
        self._places = {places[index] for index in order[count:]}
        for index in order[:count]:
            seen, place = held[index], places[index]
            if place < self.next:
                yield self._late(seen)
                continue
            self._skipped.add(self.next, place - 1)
            if index not in in_place:
                yield seen.finding(Kind.REORDERED, "is not where its number belongs")
            self.next = place + 1
            yield seen

    def _late(self, seen: Seen) -> Finding:
        place = self._place(seen)
        if place in self._skipped:
            self._skipped.discard(place, place)
            return seen.finding(Kind.REORDERED, f"comes after records that are later than {place}")
        return seen.finding(Kind.DUPLICATED, f"takes number {place}, which another record has")


def _longest_run(places: Sequence[int]) -> list[int]:
    """Return the indices of a longest strictly increasing subsequence."""
    ends: list[int] = []
    tails: list[int] = []
    before: list[int] = []
    for index, place in enumerate(places):
        at = bisect_left(tails, place)
        before.append(ends[at - 1] if at else -1)
        if at == len(tails):
            tails.append(place)
            ends.append(index)
        else:
            tails[at], ends[at] = place, index
    run: list[int] = []
    index = ends[-1] if ends else -1
    while index >= 0:
        run.append(index)
        index = before[index]
    return run[::-1]
