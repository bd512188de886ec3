"""Which silences are in force, and which of them match a signal: in memory, without a clock of its own.

``match`` is asked for every alert that is not a known duplicate, so that the common cases are a look at a tuple (nothing is
in force) and one look-up a label (silences are filed under one label value that they ask for).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from kubernaut_ray.crds.enums import SilenceState
from kubernaut_ray.crds.silence import Silence
from kubernaut_ray.matchers import Matcher
from serve_apps.gateway.silences.windows import Window, next_minute, window


@dataclass(frozen=True, slots=True)
class Entry:
    """A silence, compiled. ``matchers`` begin with the cheap ones, ``summary`` has them as they were written."""

    name: str
    uid: str
    summary: str
    matchers: tuple[Matcher, ...]
    starts_at: datetime
    ends_at: datetime
    windows: tuple[Window, ...] = ()

    @classmethod
    def of(cls, silence: Silence) -> Entry:
        """Raises ``InvalidInput`` on an expression or a window that makes no sense: it is never in force then."""
        spec = silence.spec
        matchers = [matcher.compiled() for matcher in spec.matchers]
        return cls(
            silence.name,
            silence.uid,
            ", ".join(map(str, matchers)),
            tuple(sorted(matchers, key=lambda matcher: matcher.expression is not None)),
            spec.starts_at,
            spec.ends_at,
            tuple(window(interval, f"timeIntervals[{i}]") for i, interval in enumerate(spec.time_intervals)),
        )

    def state(self, now: datetime) -> SilenceState:
        if now >= self.ends_at:
            return SilenceState.EXPIRED
        if now < self.starts_at or (self.windows and not any(one.contains(now) for one in self.windows)):
            return SilenceState.PENDING
        return SilenceState.ACTIVE

    def next_look(self, now: datetime) -> datetime | None:
        """Return the earliest instant at which its state may be another; ``None`` when it stays as it is."""
        if now >= self.ends_at:
            return None
        if now < self.starts_at:
            return self.starts_at
        return min(self.ends_at, next_minute(now)) if self.windows else self.ends_at

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(matcher.matches(labels) for matcher in self.matchers)


class Table:
    """``generation`` increases whenever another set of silences is in force; ``next_change`` is when it may by itself."""

    def __init__(self) -> None:
        self.generation = 0
        self.next_change: datetime | None = None
        self._entries: dict[str, Entry] = {}
        self._stale = False
        self._active: tuple[Entry, ...] = ()
        self._filed: dict[str, dict[str, list[Entry]]] = {}
        """Label name → value → silences that ask for it."""
        self._unfiled: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    def get(self, name: str) -> Entry | None:
        return self._entries.get(name)

    def put(self, entry: Entry) -> None:
        if self._entries.get(entry.name) != entry:
            self._entries[entry.name] = entry
            self._stale = True

    def drop(self, name: str) -> None:
        if self._entries.pop(name, None) is not None:
            self._stale = True

    def tick(self, now: datetime) -> int:
        """Take note of the time; returns the generation. Costs nothing until a silence may start or end."""
        if self._stale or (self.next_change is not None and now >= self.next_change):
            self._stale = False
            looks = [look for entry in self._entries.values() if (look := entry.next_look(now)) is not None]
            self.next_change = min(looks, default=None)
            active = tuple(e for e in self._entries.values() if e.state(now) is SilenceState.ACTIVE)
            if active != self._active:
                self._file(active)
                self.generation += 1
        return self.generation

    def match(self, labels: Mapping[str, str], now: datetime) -> tuple[str, ...]:
        """Return the names of the silences in force that match, in order."""
        self.tick(now)
        if not self._active:
            return ()
        found = [entry.name for entry in self._unfiled if entry.matches(labels)]
        for label, by_value in self._filed.items():
            found += (entry.name for entry in by_value.get(labels.get(label, ""), ()) if entry.matches(labels))
        return tuple(sorted(found))

    def _file(self, active: tuple[Entry, ...]) -> None:
        self._active, self._filed, self._unfiled = active, {}, []
        for entry in active:
            asked = next((m for m in entry.matchers if m.operator == "=" and m.value), None)
            if asked is None:
                self._unfiled.append(entry)
            else:
                self._filed.setdefault(asked.name, {}).setdefault(asked.value, []).append(entry)
