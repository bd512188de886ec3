"""From signals to what they are about, many at a time; what was found is remembered for some seconds.

A storm repeats the same few hundred label sets, and finding out what each is about costs more than all the rest of taking
a duplicate. A finding is used again for as long as nothing that it rests on has changed: the lost nodes, or the silences.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from kubernaut_ray.clock import Clock
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import Settings
from serve_apps.gateway import target
from serve_apps.gateway.cluster import Cluster
from serve_apps.gateway.kinds import Kinds
from serve_apps.gateway.located import Located
from serve_apps.gateway.metrics import Metrics
from serve_apps.gateway.owners import Owners
from serve_apps.gateway.signal import Signal
from serve_apps.gateway.silences.labels import labels_of
from serve_apps.gateway.silences.store import Silences
from serve_apps.gateway.topology import Topology

LOOKUPS = 32
"""Owner look-ups at a time, over all requests."""
FRESH_SECONDS = 10.0
CAPACITY = 10_000
SILENCES_SECONDS = 5.0
"""For so long after its start a replica waits for the silences before it opens incidents without them."""


@dataclass(frozen=True, slots=True)
class _Finding:
    located: Located
    until: float
    generation: int


class Locator:
    """``start`` before the first signal, ``stop`` after the last."""

    def __init__(self, client: KubeClient, cluster: Cluster, settings: Settings, metrics: Metrics, now: Clock) -> None:
        gateway = settings.gateway
        self._cluster, self._metrics, self._now = cluster, metrics, now
        self.topology = Topology(
            client, fold_node_loss=gateway.fold_node_loss, fold_window=gateway.fold_window, now=now
        )
        self._owners = Owners(cluster, timeout=gateway.owner_lookup_timeout, topology=self.topology)
        self.silences = Silences(
            client, settings.namespace, now=now, retention=timedelta(seconds=gateway.silence_retention)
        )
        self._lookups = asyncio.Semaphore(LOOKUPS)
        self._findings: dict[Hashable, _Finding] = {}

    async def start(self) -> None:
        await self.topology.start()
        await self.silences.start()

    async def stop(self) -> None:
        await self.silences.stop()
        await self.topology.stop()

    @property
    def generation(self) -> int:
        """Increases whenever what was found before may be found differently now."""
        return self.topology.generation + self.silences.tick(self._now())

    @property
    def healthy(self) -> bool:
        return self.topology.healthy and self.silences.healthy

    async def silenced(self, located: Located) -> tuple[str, ...]:
        """Return the silences that keep a firing signal quiet, and count it for each."""
        await self.silences.synced(SILENCES_SECONDS)
        signal = located.signal
        names = self.silences.match(labels_of(signal, located.resolution), self._now())
        for name in names:
            self.silences.count(name, 1, signal.received_time)
        return names

    async def locate_all(self, signals: Sequence[tuple[int, Signal]]) -> list[tuple[int, Located | KubernautError]]:
        """Return what each signal is about, or why that cannot be said now, with its place."""
        if not signals:
            return []
        try:
            kinds = await self._cluster.kinds()
        except KubernautError as error:
            return [(place, error) for place, _ in signals]
        found: list[tuple[int, Located | KubernautError]] = []
        unknown: list[tuple[int, Signal]] = []
        for place, signal in signals:
            known = self._recall(signal)
            if known is None:
                unknown.append((place, signal))
            else:
                found.append((place, known.at(place, signal)))
        found += await asyncio.gather(*(self._locate(place, signal, kinds) for place, signal in unknown))
        return found

    def _recall(self, signal: Signal) -> Located | None:
        finding = self._findings.get(_key(signal))
        if finding is None or finding.generation != self.generation or finding.until < time.monotonic():
            return None
        return finding.located

    async def _locate(self, place: int, signal: Signal, kinds: Kinds) -> tuple[int, Located | KubernautError]:
        generation = self.generation
        try:
            async with self._lookups:
                candidates = target.candidates(signal, kinds)
                where = target.namespace(signal.labels)
                resolution = await self._owners.resolve(candidates, where, kinds, signal.firing_time)
        except KubernautError as error:
            return place, error
        if resolution.note and resolution.workload is None:
            self._metrics.assumed()
        located = Located.of(signal, resolution).at(place, signal)
        if len(self._findings) >= CAPACITY:
            self._findings.clear()
        self._findings[_key(signal)] = _Finding(located.bare(), time.monotonic() + FRESH_SECONDS, generation)
        return place, located


def _key(signal: Signal) -> Hashable:
    # When it began decides whether a node that was lost is behind it.
    return signal.type, signal.name, signal.involved, signal.firing_time, frozenset(signal.labels.items())
