"""Counters of one watcher, as plain numbers: ``actors/telemetry.py`` exports them, ``stats()`` shows them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class WatcherStats:
    """Counts grow only; a reader takes differences. ``trouble`` says what stands in the way now, by part; empty if nothing."""

    read: int = 0
    forwarded: int = 0
    refused: int = 0
    """Events that the gateway will never take."""
    retries: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    """Events that were not forwarded, by verdict."""
    relists: int = 0
    faults: int = 0
    writes: int = 0
    """Of the position."""
    trouble: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "forwarded": self.forwarded,
            "refused": self.refused,
            "retries": self.retries,
            "passedOver": dict(self.passed_over),
            "relists": self.relists,
            "faults": self.faults,
            "writes": self.writes,
            "trouble": dict(self.trouble),
        }
