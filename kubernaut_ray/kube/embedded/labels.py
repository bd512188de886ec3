"""The label index: which objects carry a label, by its value. Kept by ``Store`` on every write, in step with its tables.

A selector that names values is then answered by what it picks, and not by a walk over everything there is: the platform
looks its objects up by label thousands of times a minute, among tens of thousands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

Place = tuple[str, str]
"""Namespace and name."""


class LabelIndex:
    """The labels of one resource's objects."""

    def __init__(self) -> None:
        self._places: defaultdict[str, dict[str, set[Place]]] = defaultdict(dict)
        self._counts: defaultdict[str, int] = defaultdict(int)
        """How many objects have each label."""

    def change(self, place: Place, old: Mapping[str, str], new: Mapping[str, str]) -> None:
        """Go from an object's old labels to its new ones; none before its creation, and after its end."""
        for key, value in old.items():
            if new.get(key) != value:
                self._drop(place, key, value)
        for key, value in new.items():
            if old.get(key) != value:
                self._places[key].setdefault(value, set()).add(place)
                self._counts[key] += 1

    def having(self, key: str, values: Iterable[str]) -> set[Place]:
        """Return the objects whose label has one of these values."""
        by_value = self._places.get(key)
        if not by_value:
            return set()
        return set().union(*(by_value.get(value, ()) for value in values))

    def count(self, key: str) -> int:
        """Return how many objects have the label."""
        return self._counts.get(key, 0)

    def _drop(self, place: Place, key: str, value: str) -> None:
        by_value = self._places[key]
        by_value[value].discard(place)
        self._counts[key] -= 1
        if not by_value[value]:
            del by_value[value]
        if not by_value:
            del self._places[key], self._counts[key]
