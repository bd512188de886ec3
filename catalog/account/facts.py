"""Audit events as facts to reason about: each once, in one order whatever order they came in, read without ever failing.

A trail outlives the code that wrote it. What an event does not hold, or holds in another form, reads as nothing; that it is
not there is for ``gaps.py`` to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubernaut_ray import clock
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.vocabulary import rank


@dataclass(frozen=True, slots=True)
class Data:
    """A JSON object that anybody may have written."""

    values: Mapping[str, Any]

    def text(self, key: str) -> str:
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> float | None:
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if abs(value) < 1e18 and math.isfinite(value) else None

    def count(self, key: str) -> int:
        """A number of things, 0 where there is none."""
        value = self.number(key)
        return max(0, int(value)) if value is not None else 0

    def flag(self, key: str) -> bool | None:
        value = self.values.get(key)
        return value if isinstance(value, bool) else None

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key)
        return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list | tuple) else ()

    def pairs(self, key: str) -> dict[str, str]:
        """A flat object, its values as text."""
        value = self.values.get(key)
        if not isinstance(value, Mapping):
            return {}
        return {str(name): one if isinstance(one, str) else str(one) for name, one in value.items()}

    def part(self, key: str) -> Data | None:
        value = self.values.get(key)
        return Data(value) if isinstance(value, Mapping) else None

    def parts(self, key: str) -> tuple[Data, ...]:
        value = self.values.get(key)
        return tuple(Data(one) for one in value if isinstance(one, Mapping)) if isinstance(value, list | tuple) else ()

    def instant(self, key: str) -> datetime | None:
        try:
            return clock.parse_rfc3339(self.text(key))
        except (ValueError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class Fact:
    event: AuditEvent
    data: Data

    @property
    def type(self) -> str:
        return self.event.event_type

    @property
    def at(self) -> datetime:
        return self.event.event_timestamp

    @property
    def seconds(self) -> float | None:
        return None if self.event.duration_ms is None else self.event.duration_ms / 1000


def ordered(events: Iterable[AuditEvent]) -> tuple[tuple[Fact, ...], tuple[AuditEvent, ...]]:
    """Return the facts, each once, in the order of instants, causes and ids; and events that repeat an id with other words."""
    once: dict[str, AuditEvent] = {}
    odd: dict[str, AuditEvent] = {}
    for event in sorted(events, key=lambda e: (e.event_timestamp, rank(e), e.event_id, e.model_dump_json())):
        known = once.setdefault(event.event_id, event)
        if known != event:
            odd.setdefault(event.event_id, event)
    return tuple(Fact(event, Data(event.event_data)) for event in once.values()), tuple(odd.values())


def of(facts: Sequence[Fact], *types: str) -> tuple[Fact, ...]:
    return tuple(fact for fact in facts if fact.type in types)


def last(facts: Sequence[Fact], *types: str) -> Fact | None:
    return next((fact for fact in reversed(facts) if fact.type in types), None)


def first(facts: Sequence[Fact], *types: str) -> Fact | None:
    return next((fact for fact in facts if fact.type in types), None)


def between(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds from one instant to another; 0 where clocks disagree about their order."""
    return max(0.0, (end - start).total_seconds()) if start is not None and end is not None else None
