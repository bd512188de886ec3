"""The class behind the event watcher's actor: it connects and runs the watcher. ``fleet.py`` makes the actor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.event_watcher.watcher import EventWatcher
from actors.resident import Resident, place
from kubernaut_ray import names
from kubernaut_ray.clients.gateway import Gateway
from kubernaut_ray.control.lease import Lease
from kubernaut_ray.kube.client import KubeClient


class EventWatcherActor(Resident):
    """The one watcher of a system; of several systems on one cluster the Lease lets one watch."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        from actors.telemetry import WatcherTelemetry

        self._watcher: EventWatcher | None = None
        super().__init__(spec)
        self._telemetry = WatcherTelemetry()

    async def stats(self) -> dict[str, Any]:
        """The watcher's counters, and where it stands."""
        watcher = self._watcher
        if watcher is None:
            return await super().stats()
        position = {stream: point.version for stream, point in watcher.position.items()}
        return {
            "state": watcher.state,
            "underWay": watcher.under_way,
            "position": position,
            **watcher.stats.to_json(),
        }

    def _work(self) -> EventWatcher | None:
        return self._watcher

    def _beating(self) -> None:
        if self._watcher is not None:
            self._telemetry.export(self._watcher)

    def _trouble(self) -> str:
        told = self._watcher.stats.trouble if self._watcher is not None else {}
        return self._error or "; ".join(f"{part}: {what}" for part, what in tuple(told.items()))

    async def _session(self) -> None:
        settings = self._settings
        async with (
            await KubeClient.connect(self._kubeconfig) as client,
            Gateway(self._endpoints.gateway, self._token) as gateway,
        ):
            lease = Lease(client, settings.namespace, names.EVENT_WATCHER, place(self._spec))
            self._watcher = EventWatcher(client, gateway, settings, lease=lease)
            self._error = ""
            if self._draining.is_set():
                self._watcher.drain()
            await self._watcher.run()
