"""The class behind every actor of the fleet: a process, and the residents that share it, each working by itself.

In a cluster each controller has a process of its own; on one machine those that have little to do share one, for a process costs
seconds of CPU to start and a hundred megabytes to keep. ``fleet.py`` decides who lives where.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from actors.controller_actor import ControllerActor
from actors.event_watcher.actor import EventWatcherActor
from actors.resident import EVENT_WATCHER, Resident


class ControllerHost:
    """Residents by name. ``health`` and ``stats`` answer by name too, and are safe to call on another thread's loop."""

    def __init__(self, specs: Sequence[Mapping[str, Any]]) -> None:
        made = [EventWatcherActor(spec) if spec["role"] == EVENT_WATCHER else ControllerActor(spec) for spec in specs]
        self._residents: dict[str, Resident] = {resident.name: resident for resident in made}

    async def health(self) -> dict[str, dict[str, Any]]:
        return {name: await resident.health() for name, resident in self._residents.items()}

    async def stats(self) -> dict[str, dict[str, Any]]:
        return {name: await resident.stats() for name, resident in self._residents.items()}

    async def drain(self) -> dict[str, dict[str, Any]]:
        """Drain all of them side by side; returns their last counters."""
        ended = await asyncio.gather(*(resident.drain() for resident in self._residents.values()))
        return dict(zip(self._residents, ended, strict=True))

    async def wake(self, resident: str, namespace: str, name: str) -> None:
        """Have a resident look at this object soon."""
        found = self._residents.get(resident)
        if isinstance(found, ControllerActor):
            await found.wake(namespace, name)
