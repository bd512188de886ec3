"""Counters of one controller's loop, as plain numbers: ``actors/telemetry.py`` exports them, ``stats()`` shows them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the reconcile histogram, in seconds; a last bucket takes the rest."""


class Result(StrEnum):
    """How one reconcile ended."""

    WROTE = "wrote"
    UNCHANGED = "unchanged"
    GONE = "gone"
    CONFLICT = "conflict"
    RETRY = "retry"
    PERMANENT = "permanent"
    INVALID = "invalid"
    FENCED = "fenced"
    ERROR = "error"


@dataclass(slots=True)
class LoopStats:
    """Grows only; a reader takes differences."""

    results: Counter[str] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0
    histogram: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    swept: int = 0
    last_error: str = ""

    def took(self, seconds: float, result: Result) -> None:
        self.results[result] += 1
        self.seconds += seconds
        self.histogram[bisect_left(BUCKETS, seconds)] += 1

    @property
    def reconciles(self) -> int:
        return sum(self.results.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "reconciles": self.reconciles,
            "results": dict(self.results),
            "effects": dict(self.effects),
            "transitions": {f"{old or '(new)'} → {new}": n for (old, new), n in self.transitions.items()},
            "seconds": round(self.seconds, 6),
            "histogram": list(self.histogram),
            "swept": self.swept,
            "lastError": self.last_error,
        }
