"""Exports the counters of controller loops and of the event watcher as Ray metrics. Labels are bounded; never a name.

Outside Ray (plain tests of the actor class) nothing is exported.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from kubernaut_ray.control.stats import BUCKETS

if TYPE_CHECKING:
    from actors.event_watcher.watcher import EventWatcher
    from kubernaut_ray.control.loop import ControlLoop

PREFIX = "kubernaut_controller"
WATCHER_PREFIX = "kubernaut_event_watcher"


class _Growing:
    """Turns growing counters into increments."""

    _tags: dict[str, str]
    _metrics: dict[str, Any]

    def __init__(self) -> None:
        self._told: dict[tuple[str, ...], float] = {}

    def _grow(self, metric: str, count: float, **labels: str) -> None:
        key = (metric, *labels.values())
        more = count - self._told.get(key, 0.0)
        if more > 0:
            self._told[key] = count
            self._metrics[metric].inc(more, tags={**self._tags, **labels})


class Telemetry(_Growing):
    """Exports one controller's loop, one call of ``export`` after another."""

    def __init__(self, plural: str) -> None:
        super().__init__()
        self._tags = {"kind": plural}
        self._metrics = _controller_metrics()

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

    def _observe(self, index: int, count: int) -> None:
        """Tell a bucket's new members; each counts with the bucket's upper bound."""
        key = ("seconds", str(index))
        value = BUCKETS[index] if index < len(BUCKETS) else BUCKETS[-1] * 2
        for _ in range(int(count - self._told.get(key, 0.0))):
            self._metrics["seconds"].observe(value, tags=self._tags)
        self._told[key] = count


class WatcherTelemetry(_Growing):
    """Exports the event watcher."""

    def __init__(self) -> None:
        super().__init__()
        self._tags = {}
        self._metrics = _watcher_metrics()

    def export(self, watcher: EventWatcher) -> None:
        """Tell Ray what happened since the last call."""
        if not self._metrics:
            return
        stats = watcher.stats
        self._grow("events", stats.forwarded, outcome="forwarded")
        self._grow("events", stats.refused, outcome="refused")
        for verdict, count in tuple(stats.passed_over.items()):
            self._grow("events", count, outcome=str(verdict))
        self._grow("retries", stats.retries)
        self._grow("relists", stats.relists)
        self._metrics["under_way"].set(watcher.under_way)
        self._metrics["leading"].set(1.0 if watcher.state == "running" else 0.0)


def _in_ray() -> bool:
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def _controller_metrics() -> dict[str, Any]:
    return _registered() if _in_ray() else {}


@cache
def _registered() -> dict[str, Any]:
    """Once a process: several controllers may share it."""
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


def _watcher_metrics() -> dict[str, Any]:
    if not _in_ray():
        return {}
    from ray.util.metrics import Counter, Gauge

    return {
        "events": Counter(f"{WATCHER_PREFIX}_events_total", "Events by what became of them.", ("outcome",)),
        "retries": Counter(f"{WATCHER_PREFIX}_retries_total", "Attempts that the gateway did not take."),
        "relists": Counter(f"{WATCHER_PREFIX}_relists_total", "Lists because a watch could not go on."),
        "under_way": Gauge(f"{WATCHER_PREFIX}_under_way", "Events read and not acknowledged."),
        "leading": Gauge(f"{WATCHER_PREFIX}_leading", "1 while the Lease is held."),
    }
