"""Carries events to the gateway: those about one object one after another, several objects at a time.

An event is given up only when the gateway says that it will never take it. Everything else is tried again, for ever, with
growing pauses that honour ``Retry-After``; what waits holds its place in the window and so stops the reading in the end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import orjson
import structlog

from actors.event_watcher import occurrence
from actors.event_watcher.stats import WatcherStats
from kubernaut_ray import backoff
from kubernaut_ray.errors import Permanent, Retryable
from kubernaut_ray.kube.client import Object
from kubernaut_ray.settings import EventWatcherSettings

GATEWAY = "gateway"
"""Its name in ``WatcherStats.trouble``."""

log = structlog.get_logger(__name__)

Settled = Callable[[], None]


class Door(Protocol):
    """Where events go. Raises ``Permanent`` for one that will never be taken, ``Retryable`` for anything else."""

    async def send_event(self, event: bytes) -> None: ...


class Forwarder:
    """``put`` returns at once; the caller bounds how many are under way. Its tasks live in ``group``."""

    def __init__(
        self, door: Door, group: asyncio.TaskGroup, settings: EventWatcherSettings, stats: WatcherStats
    ) -> None:
        self._door, self._group, self._settings, self._stats = door, group, settings, stats
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._lanes: dict[str, deque[tuple[Object, Settled]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, event: Object, settled: Settled) -> None:
        """Forward an event; ``settled`` is called once the gateway has acknowledged it, or refused it for good."""
        key = occurrence.about(event)
        lane = self._lanes.get(key)
        if lane is not None:
            lane.append((event, settled))
            return
        self._lanes[key] = deque([(event, settled)])
        task = self._group.create_task(self._drive(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self, seconds: float) -> None:
        """Wait until nothing is under way, for so long at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def cancel(self) -> None:
        """Drop what is under way: it is not acknowledged, and so will be read again."""
        for task in self._tasks:
            task.cancel()

    async def _drive(self, key: str) -> None:
        lane = self._lanes[key]
        while lane:
            event, settled = lane[0]
            await self._deliver(event)
            settled()
            lane.popleft()
        del self._lanes[key]

    async def _deliver(self, event: Object) -> None:
        metadata = {k: v for k, v in event["metadata"].items() if k != "managedFields"}
        body = orjson.dumps({**event, "metadata": metadata})
        failures = 0
        while True:
            try:
                async with self._slots:
                    await self._door.send_event(body)
            except Retryable as error:
                failures += 1
                self._stats.retries += 1
                if GATEWAY not in self._stats.trouble:
                    log.warning("event_watcher.gateway_unavailable", error=str(error))
                self._stats.trouble[GATEWAY] = str(error)
                await asyncio.sleep(self._delay(failures, error.after))
            except Permanent as error:
                self._stats.refused += 1
                log.warning("event_watcher.refused", key=_name(event), reason=event.get("reason"), error=str(error))
                return
            else:
                self._stats.forwarded += 1
                if self._stats.trouble.pop(GATEWAY, None) is not None:
                    log.info("event_watcher.gateway_available")
                return

    def _delay(self, failures: int, told: float | None) -> float:
        return backoff.delay(failures - 1, base=self._settings.retry_base, longest=self._settings.retry_max, told=told)


def _name(event: Object) -> str:
    metadata = event["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
