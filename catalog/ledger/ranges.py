"""Sets of whole numbers kept as ranges, because what is missing or retired may be millions in a row."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """Disjoint ranges, both ends included, in order; adjacent ones are joined."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._firsts, self._lasts, strict=True)))

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def add(self, first: int, last: int) -> None:
        """Add a range. An empty one (``last < first``) adds nothing."""
        if last < first:
            return
        start, end = bisect_left(self._lasts, first - 1), bisect_right(self._firsts, last + 1)
        if start < end:
            first, last = min(first, self._firsts[start]), max(last, self._lasts[end - 1])
        self._firsts[start:end], self._lasts[start:end] = [first], [last]

    def discard(self, first: int, last: int) -> None:
        """Take a range out, whether it is there or not."""
        start, end = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        if last < first or start >= end:
            return
        kept = [(self._firsts[start], first - 1), (last + 1, self._lasts[end - 1])]
        self._firsts[start:end] = [a for a, b in kept if a <= b]
        self._lasts[start:end] = [b for a, b in kept if a <= b]

    def within(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the parts that lie between two numbers, both included."""
        start, end = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        return [(max(first, self._firsts[i]), min(last, self._lasts[i])) for i in range(start, end)]

    def gaps(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the parts between two numbers, both included, that are not in here."""
        found = []
        for a, b in self.within(first, last):
            if first < a:
                found.append((first, a - 1))
            first = b + 1
        if first <= last:
            found.append((first, last))
        return found


def count(ranges: list[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in ranges)


def text(ranges: list[tuple[int, int]], *, at_most: int = 8) -> str:
    """Return ranges as people write them: ``3, 5–7 and 4 more ranges``."""
    shown = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in ranges[:at_most])
    return shown if len(ranges) <= at_most else f"{shown} and {len(ranges) - at_most} more ranges"
