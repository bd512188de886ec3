"""The watch hub: committed events fan out to subscriptions from memory, and a ring of recent ones bridges reconnects.

A subscription starts at a version. Events after it are replayed from the ring when the ring still reaches back that
far; otherwise the client is told 410 and lists again, as with a real server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import orjson

from kubernaut_ray.kube.embedded.status import Obj, expired

EventType = Literal["ADDED", "MODIFIED", "DELETED"]

RING = 4096
"""Recent events kept per resource."""
BACKLOG = 20_000
"""Events that may wait for a slow watcher before it is cut off and must list again."""
_PARTIAL_HEAD = b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":'


@dataclass(slots=True)
class Entry:
    """One version of one object. ``obj`` is never changed in place; ``raw`` is its JSON."""

    obj: Obj
    raw: bytes
    version: int
    _partial: bytes = b""

    def partial(self) -> bytes:
        """Return the JSON of its ``PartialObjectMetadata``; kept, because the same version is asked for many times."""
        if not self._partial:
            self._partial = _PARTIAL_HEAD + orjson.dumps(self.obj["metadata"]) + b"}"
        return self._partial


@dataclass(slots=True)
class Event:
    """One committed change. ``entry`` is the object after it (its last state, for DELETED)."""

    resource: str
    namespace: str
    type: EventType
    entry: Entry
    previous: Entry | None
    _lines: dict[str, bytes] = field(default_factory=dict)

    @property
    def version(self) -> int:
        return self.entry.version

    def line(self) -> bytes:
        """Return the watch line of the unfiltered event, made once for all watchers."""
        made = self._lines.get("")
        if made is None:
            made = self._lines[""] = b'{"type":"%s","object":%s}\n' % (self.type.encode(), self.entry.raw)
        return made


Filter = Callable[[Event], EventType | None]
"""What an event means to one watcher: the type it sees, or ``None`` when the event is not for it."""


class Subscription:
    """One watcher's queue. ``take`` waits for events; an empty batch means that the hub ended the watch."""

    def __init__(self, keep: Filter, since: int) -> None:
        self._keep = keep
        self._queue: deque[tuple[EventType, Event]] = deque()
        self._ready = asyncio.Event()
        self.since = since
        self.closed = False
        self.overrun = False

    def offer(self, event: Event) -> None:
        if self.closed or event.version <= self.since:
            return
        seen = self._keep(event)
        if seen is None:
            return
        if len(self._queue) >= BACKLOG:
            self.overrun = True
            self.end()
            return
        self._queue.append((seen, event))
        self._ready.set()

    def end(self) -> None:
        self.closed = True
        self._ready.set()

    def drain(self) -> list[tuple[EventType, Event]]:
        """Return what waits, without waiting."""
        taken = list(self._queue)
        self._queue.clear()
        if not self.closed:
            self._ready.clear()
        return taken

    def nudge(self) -> None:
        """Make ``wait`` return, whatever there is."""
        self._ready.set()

    async def wait(self) -> None:
        """Wait until there is something to take, or the end, or a nudge."""
        await self._ready.wait()


class Hub:
    """Subscriptions and rings by resource."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._rings: dict[str, deque[Event]] = {}
        self._floor: dict[str, int] = {}
        self._subscriptions: dict[str, set[Subscription]] = {}

    def publish(self, event: Event) -> None:
        ring = self._rings.get(event.resource)
        if ring is None:
            ring = self._rings[event.resource] = deque()
        ring.append(event)
        if len(ring) > RING:
            self._floor[event.resource] = ring.popleft().version
        for subscription in tuple(self._subscriptions.get(event.resource, ())):
            subscription.offer(event)

    def subscribe(self, resource: str, since: int, keep: Filter, *, replay: bool = True) -> Subscription:
        """Start a subscription for everything after ``since``. Raises 410 when the ring does not reach back that far.

        Without ``replay`` the caller already holds everything up to ``since``, which is not older than the ring's end.
        """
        floor = self._floor.get(resource, self._start)
        if replay and since < floor:
            raise expired(f"too old resource version: {since} ({floor})")
        subscription = Subscription(keep, since)
        for event in self._after(resource, since) if replay else ():
            subscription.offer(event)
        self._subscriptions.setdefault(resource, set()).add(subscription)
        return subscription

    def _after(self, resource: str, since: int) -> list[Event]:
        """Return the ring's events after a version: mostly none or few, and so from the end."""
        later: list[Event] = []
        for event in reversed(self._rings.get(resource, ())):
            if event.version <= since:
                break
            later.append(event)
        later.reverse()
        return later

    def unsubscribe(self, resource: str, subscription: Subscription) -> None:
        self._subscriptions.get(resource, set()).discard(subscription)

    def drop(self, resource: str) -> None:
        """End every watch of a resource that is no longer served."""
        for subscription in tuple(self._subscriptions.get(resource, ())):
            subscription.end()

    def close(self) -> None:
        """End every watch."""
        for resource in tuple(self._subscriptions):
            self.drop(resource)
