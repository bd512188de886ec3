"""Reads the Events of one namespace, or of all, from a point on: by watch, and by list where a watch cannot go on.

After 410 it lists, and forwards what was changed after the point where it stood; versions are compared for that, so that
neither clocks nor a memory of everything seen are needed. Only where versions say nothing (the very first start, an API
server restored from a backup) does it go by the Events' own times, from ``lookback`` before the point on.

It survives what ``kube/cache.py`` survives, and reads no faster than the window gives room.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from actors.event_watcher import occurrence
from actors.event_watcher.forward import Forwarder
from actors.event_watcher.occurrence import Recent, Verdict
from actors.event_watcher.position import ALL, Point, later
from actors.event_watcher.stats import WatcherStats
from actors.event_watcher.window import Window
from kubernaut_ray import backoff, clock
from kubernaut_ray.errors import KubernautError, Retryable
from kubernaut_ray.kube.client import KubeClient, Object, WatchEvent
from kubernaut_ray.kube.errors import Gone
from kubernaut_ray.kube.resources import EVENT

FIELDS = "type!=Normal"
PAGE = 500
SORTED = 2000
"""So many listed events are held at most, to be forwarded in the order in which they happened."""
RECENT = 4096
WATCH_SECONDS = 290
BACKOFF_BASE, BACKOFF_MAX = 0.5, 30.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a stream reads. ``lookback`` as in the settings."""

    ignored_namespaces: frozenset[str]
    lookback: timedelta
    now: clock.Clock = clock.utcnow


class Stream:
    """``name`` is the namespace, or ``ALL``. ``run`` goes on from where the window stands until it is cancelled."""

    def __init__(
        self,
        client: KubeClient,
        name: str,
        window: Window,
        forwarder: Forwarder,
        reading: Reading,
        stats: WatcherStats,
    ) -> None:
        self._client, self._name = client, name
        self._part = "events" if name == ALL else f"events in {name}"
        self._namespace = None if name == ALL else name
        self._window, self._forwarder = window, forwarder
        self._reading, self._stats = reading, stats
        self._point = window.reached
        self._list_first = not self._point.version
        self._recent = Recent(RECENT)

    async def run(self) -> None:
        faults = 0
        bound = log.bind(stream=self._name)
        loop = asyncio.get_running_loop()
        while True:
            before, began = (self._stats.read, self._stats.relists), loop.time()
            fault: KubernautError | None = None
            try:
                await self._catch_up()
                await self._follow()
            except Gone as error:
                bound.info("event_watcher.relist", reason=str(error))
                self._list_first, fault = True, error
            except KubernautError as error:
                self._stats.faults += 1
                self._stats.trouble[self._part] = str(error)
                bound.warning("event_watcher.fault", error=str(error), again=faults)
                fault = error
            progress = (self._stats.read, self._stats.relists) != before
            short = loop.time() - began < 1.0
            faults = 0 if progress or (fault is None and not short) else faults + 1
            if fault is not None or short:
                await asyncio.sleep(_delay(faults, fault))

    async def _catch_up(self) -> None:
        """List where a watch from our point would be refused, or worse, would wait in silence for versions to come."""
        if not self._list_first:
            head = (await self._client.list(EVENT, self._namespace, fields=FIELDS, limit=1)).resource_version
            if later(self._point.version, head):
                log.warning("event_watcher.rewound", stream=self._name, ours=self._point.version, server=head)
                self._list_first = True
        if self._list_first:
            await self._relist()
            self._list_first = False

    async def _relist(self) -> None:
        began = self._reading.now()
        found: list[Object] = []
        token = head = ""
        while True:
            page = await self._client.list(EVENT, self._namespace, fields=FIELDS, limit=PAGE, continue_token=token)
            head, token = page.resource_version, page.continue_token
            found += (event for event in page.items if self._missed(event, head))
            if len(found) >= SORTED or not token:
                await self._take_listed(found)
                found = []
            if not token:
                break
        self._stats.relists += 1
        self._advance(head, began)

    def _missed(self, event: Object, head: str) -> bool:
        """Whether a listed event was changed after our point; what cannot be judged is forwarded."""
        if self._point.version and later(self._point.version, head) is False:
            return later(occurrence.version(event), self._point.version) is not False
        last = occurrence.mark(event).last_seen
        return last is None or last >= self._point.at - self._reading.lookback

    async def _take_listed(self, events: Iterable[Object]) -> None:
        """Forward in order, without moving the point: other pages may hold older events."""
        for event in sorted(events, key=_order):
            if self._judged(event) is Verdict.FORWARD:
                await self._forward(event, None)

    async def _follow(self) -> None:
        watch = self._client.watch(
            EVENT,
            self._namespace,
            resource_version=self._point.version,
            fields=FIELDS,
            timeout_seconds=int(WATCH_SECONDS * random.uniform(0.8, 1.0)),  # noqa: S311 - spreading load
        )
        self._stats.trouble.pop(self._part, None)
        async with aclosing(watch) as events:
            async for event in events:
                await self._on(event)

    async def _on(self, event: WatchEvent) -> None:
        now, obj = self._reading.now(), event.object
        version = occurrence.version(obj)
        if event.type in ("ADDED", "MODIFIED"):
            self._stats.read += 1
            if self._judged(obj) is Verdict.FORWARD:
                self._point = Point(version, now)
                await self._forward(obj, self._point)
                return
        elif event.type == "DELETED":
            self._recent.forget(obj)
        self._advance(version, now)

    def _judged(self, event: Object) -> Verdict:
        verdict = occurrence.judge(event, self._reading.ignored_namespaces, self._recent)
        if verdict is not Verdict.FORWARD:
            self._stats.passed_over[verdict] += 1
        return verdict

    async def _forward(self, event: Object, point: Point | None) -> None:
        ticket = await self._window.take(point)
        self._recent.note(event)
        self._forwarder.put(event, partial(self._window.close, ticket))

    def _advance(self, version: str, at: datetime) -> None:
        self._point = Point(version, at)
        self._window.skip(self._point)


def _order(event: Object) -> tuple[int, str]:
    version = occurrence.version(event)
    return (int(version) if version.isascii() and version.isdigit() else 0, version)


def _delay(faults: int, fault: KubernautError | None) -> float:
    told = fault.after if isinstance(fault, Retryable) else None
    return backoff.delay(faults, base=BACKOFF_BASE, longest=BACKOFF_MAX, told=told)
