"""Exports one controller loop's counters as Ray metrics. Labels are bounded: kind, result, effect, phases; never a name.

Outside Ray (plain tests of the actor class) nothing is exported.
"""

from __future__ import annotations

import sys
from typing import Any

from kubernaut_ray.control.loop import ControlLoop
from kubernaut_ray.control.stats import BUCKETS

PREFIX = "kubernaut_controller"


class Telemetry:
    """Turns growing counters into increments, one call of ``export`` after another."""

    def __init__(self, plural: str) -> None:
        self._tags = {"kind": plural}
        self._told: dict[tuple[str, ...], float] = {}
        self._metrics = _metrics()

    def export(self, loop: ControlLoop) -> None:
        """Tell Ray what happened since the last call."""
        if not self._metrics:
            return
        stats = loop.stats
        for result, count in stats.results.items():
            self._grow("reconciles", count, result=result)
        for effect, count in stats.effects.items():
            self._grow("effects", count, effect=effect)
        for (old, new), count in stats.transitions.items():
            self._grow("transitions", count, old=old, new=new)
        for index, count in enumerate(stats.histogram):
            self._observe(index, count)
        self._metrics["queued"].set(len(loop.queue), tags=self._tags)
        self._metrics["objects"].set(loop.objects, tags=self._tags)
        self._metrics["leading"].set(1.0 if loop.state == "running" else 0.0, tags=self._tags)

    def _grow(self, metric: str, count: float, **labels: str) -> None:
        key = (metric, *labels.values())
        more = count - self._told.get(key, 0.0)
        if more > 0:
            self._told[key] = count
            self._metrics[metric].inc(more, tags={**self._tags, **labels})

    def _observe(self, index: int, count: int) -> None:
        """Tell a bucket's new members; each counts with the bucket's upper bound."""
        key = ("seconds", str(index))
        value = BUCKETS[index] if index < len(BUCKETS) else BUCKETS[-1] * 2
        for _ in range(int(count - self._told.get(key, 0.0))):
            self._metrics["seconds"].observe(value, tags=self._tags)
        self._told[key] = count


def _metrics() -> dict[str, Any]:
    if "ray" not in sys.modules or not sys.modules["ray"].is_initialized():
        return {}
    from ray.util.metrics import Counter, Gauge, Histogram

    return {
        "reconciles": Counter(f"{PREFIX}_reconciles_total", "Reconciles by how they ended.", ("kind", "result")),
        "effects": Counter(f"{PREFIX}_effects_total", "Effects performed.", ("kind", "effect")),
        "transitions": Counter(f"{PREFIX}_transitions_total", "Phase changes.", ("kind", "old", "new")),
        "seconds": Histogram(
            f"{PREFIX}_reconcile_seconds", "Duration of reconciles.", boundaries=list(BUCKETS), tag_keys=("kind",)
        ),
        "queued": Gauge(f"{PREFIX}_queued", "Keys ready to be worked on.", ("kind",)),
        "objects": Gauge(f"{PREFIX}_objects", "Objects looked after.", ("kind",)),
        "leading": Gauge(f"{PREFIX}_leading", "1 while the shards are owned and synced.", ("kind",)),
    }
