"""The watcher as a whole: under its Lease it reads the cluster's Warning events, forwards them, and keeps the position.

A tenure lasts while the Lease is ours. The position moves only over what the gateway has acknowledged, and is written once a
second at most: a crash forwards again what came after it, which the gateway knows for what it is, and loses nothing.
``actor.py`` runs it. It owns retry, and so is the one place here that catches everything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import timedelta

import structlog

from actors.event_watcher import position as positions
from actors.event_watcher.forward import Door, Forwarder
from actors.event_watcher.position import ALL, Moved, Point, PositionStore
from actors.event_watcher.stats import WatcherStats
from actors.event_watcher.stream import Reading, Stream
from actors.event_watcher.window import Window
from kubernaut_ray import clock
from kubernaut_ray.control.lease import Lease
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube.client import KubeClient
from kubernaut_ray.settings import Settings

WRITE_INTERVAL = 1.0
DRAIN_TIMEOUT = 10.0
POSITION = "position"
"""Its name in ``WatcherStats.trouble``."""

log = structlog.get_logger(__name__)


class EventWatcher:
    """``run`` works until ``drain``; everything it knows is in the API server."""

    def __init__(
        self,
        client: KubeClient,
        door: Door,
        settings: Settings,
        *,
        lease: Lease,
        now: clock.Clock = clock.utcnow,
        write_interval: float = WRITE_INTERVAL,
        drain_timeout: float = DRAIN_TIMEOUT,
    ) -> None:
        self.stats = WatcherStats()
        self._state = "starting"
        self._client, self._door, self._settings = client, door, settings
        self._lease, self._now, self._born = lease, now, now()
        self._write_interval, self._drain_timeout = write_interval, drain_timeout
        watched = settings.event_watcher.namespaces
        self._streams = tuple(dict.fromkeys(watched)) or (ALL,)
        self._windows: Mapping[str, Window] = {}
        self._draining = asyncio.Event()
        self._moved = asyncio.Event()

    @property
    def state(self) -> str:
        """``starting``, ``acquiring``, ``standby`` (another process holds the Lease), ``running``, ``draining``, ``stopped``."""
        if self._state == "acquiring" and self._lease.contended:
            return "standby"
        return self._state

    @property
    def under_way(self) -> int:
        """How many events were read and are not acknowledged."""
        return sum(len(window) for window in self._windows.values())

    @property
    def position(self) -> Mapping[str, Point]:
        return {stream: window.reached for stream, window in self._windows.items()}

    def drain(self) -> None:
        """Read no more; ``run`` returns when what is under way is acknowledged, or has been waited for long enough."""
        self._draining.set()

    async def run(self) -> None:
        pause = 0.5
        while not self._draining.is_set():
            began = asyncio.get_running_loop().time()
            try:
                await self._tenure()
            except Exception as error:
                cause = _first(error)
                self.stats.trouble["watcher"] = f"{type(cause).__name__}: {cause}"
                if asyncio.get_running_loop().time() - began > 60.0:
                    pause = 0.5
                if isinstance(cause, KubernautError):
                    log.warning("event_watcher.interrupted", error=str(cause), again_in=pause)
                else:
                    log.exception("event_watcher.broke", again_in=pause)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._draining.wait(), pause)
                pause = min(pause * 2, 30.0)
        self._state = "stopped"

    async def _tenure(self) -> None:
        self._state = "acquiring"
        try:
            if await self._acquired():
                await self._serve()
        finally:
            self._windows = {}
            await self._lease.release()

    async def _acquired(self) -> bool:
        """Wait for the Lease; ``False`` when told to drain first."""
        acquiring = asyncio.create_task(self._lease.acquire())
        told = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({acquiring, told}, return_when=asyncio.FIRST_COMPLETED)
            if acquiring.done():
                acquiring.result()
            return acquiring.done() and not told.done()
        finally:
            await _cancelled(acquiring, told)

    async def _serve(self) -> None:
        store = PositionStore(self._client, self._settings.namespace, check=self._lease.check)
        start = positions.begin(await store.read(), self._streams, self._born)
        # A first start must be remembered as such: by the time of a second one, its events would be history.
        await store.write(start)
        settings = self._settings.event_watcher
        capacity = max(1, settings.in_flight // len(self._streams))
        self._windows = {name: Window(capacity, point, self._moved.set) for name, point in start.items()}
        reading = Reading(self._ignored(), timedelta(seconds=settings.lookback), self._now)
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(self._lease.keep())
            recorder = group.create_task(self._record(store))
            forwarder = Forwarder(self._door, group, settings, self.stats)
            readers = [
                group.create_task(Stream(self._client, name, window, forwarder, reading, self.stats).run())
                for name, window in self._windows.items()
            ]
            self._state = "running"
            self.stats.trouble.pop("watcher", None)
            log.info("event_watcher.running", streams=self._streams)
            await self._told_to_end()
            self._state = "draining"
            await _cancelled(*readers)
            if not self._lease.lost.is_set():
                await forwarder.settle(self._drain_timeout)
            forwarder.cancel()
            await _cancelled(recorder, keeper)
        if not self._lease.lost.is_set():
            await self._write(store)

    async def _told_to_end(self) -> None:
        """Wait for a drain, or for the loss of the Lease."""
        tasks = [asyncio.create_task(event.wait()) for event in (self._draining, self._lease.lost)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(*tasks)

    async def _record(self, store: PositionStore) -> None:
        """Write the position when it has moved, as often as is allowed."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            await self._write(store)
            await asyncio.sleep(self._write_interval)

    async def _write(self, store: PositionStore) -> None:
        try:
            await store.write(self.position)
        except Moved:
            raise
        except KubernautError as error:
            self._moved.set()
            if POSITION not in self.stats.trouble:
                log.warning("event_watcher.position_not_written", error=str(error))
            self.stats.trouble[POSITION] = str(error)
        else:
            self.stats.writes += 1
            self.stats.trouble.pop(POSITION, None)

    def _ignored(self) -> frozenset[str]:
        given = self._settings.event_watcher.ignored_namespaces
        own = (self._settings.namespace, self._settings.execution.namespace)
        return frozenset(own if given is None else given)


async def _cancelled(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
