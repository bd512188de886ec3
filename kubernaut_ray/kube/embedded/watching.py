"""A watch, from request to stream: where it starts, what it shows, bookmarks, and how it ends.

Ends at ``timeoutSeconds``, when the client goes, when the server stops, or when the client is too slow to keep up.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable

import orjson

from kubernaut_ray.kube.embedded import status, tables
from kubernaut_ray.kube.embedded.handlers import raw, resource_version
from kubernaut_ray.kube.embedded.hub import Entry, Event, EventType, Filter, Subscription
from kubernaut_ray.kube.embedded.kinds import Kind
from kubernaut_ray.kube.embedded.objects import in_version
from kubernaut_ray.kube.embedded.requests import Request
from kubernaut_ray.kube.embedded.selectors import Predicate, selector
from kubernaut_ray.kube.embedded.status import ApiStatus, Obj
from kubernaut_ray.kube.embedded.store import Store

BOOKMARK_SECONDS = 30.0
_DEFAULT_SECONDS = (1800.0, 3600.0)

Render = Callable[[EventType, Entry], bytes]


def _filter(namespace: str, keep: Predicate | None) -> Filter:
    """Say what an event means to a watcher of part of the objects: entering and leaving the selection count too."""

    def seen(event: Event) -> EventType | None:
        if namespace and event.namespace != namespace:
            return None
        if keep is None:
            return event.type
        before = event.previous is not None and keep(event.previous.obj)
        now = event.type != "DELETED" and keep(event.entry.obj)
        if now:
            return "MODIFIED" if before else "ADDED"
        return "DELETED" if before else None

    return seen


def _line(type_: str, body: bytes) -> bytes:
    return b'{"type":"' + type_.encode() + b'","object":' + body + b"}\n"


def error_line(error: ApiStatus) -> bytes:
    """Return an ERROR event."""
    return _line("ERROR", orjson.dumps(error.body()))


def _renderer(kind: Kind, request: Request) -> Render:
    accepted = request.accepts()
    if accepted.view == "Table":
        include = request.parameter("includeObject", "Metadata")
        first = True

        def table(type_: EventType, entry: Entry) -> bytes:
            nonlocal first
            metadata = {"resourceVersion": entry.obj["metadata"]["resourceVersion"]}
            body = tables.table(kind, [in_version(entry.obj, kind)], metadata, include=include, headers=first)
            first = False
            return _line(type_, orjson.dumps(body))

        return table
    if accepted.view.startswith("PartialObjectMetadata"):
        return lambda type_, entry: _line(type_, entry.partial())
    return lambda type_, entry: _line(type_, raw(kind, entry))


def _shown(type_: EventType, event: Event) -> Entry:
    """Return what to show: an object that left the selection is shown as it was, at the version that took it out."""
    if type_ != "DELETED" or event.type == "DELETED" or event.previous is None:
        return event.entry
    last = event.previous.obj
    obj = {**last, "metadata": {**last["metadata"], "resourceVersion": str(event.version)}}
    return Entry(obj, orjson.dumps(obj), event.version)


class Watch:
    """One watch. ``open`` raises what must be an HTTP error; ``lines`` is the stream."""

    def __init__(self, store: Store, kind: Kind, request: Request) -> None:
        target = request.target
        self._store, self._kind = store, kind
        self._namespace = target.namespace if target else ""
        fields = request.parameter("fieldSelector")
        if target and target.name:
            fields = f"metadata.name={target.name}" + (f",{fields}" if fields else "")
        self._keep = selector(request.parameter("labelSelector"), fields, kind.selectable)
        self._render = _renderer(kind, request)
        self._plain = not request.accepts().view
        self._bookmarks = request.flag("allowWatchBookmarks")
        self._initial = request.flag("sendInitialEvents")
        self._since = resource_version(request.parameter("resourceVersion"))
        seconds = request.number("timeoutSeconds")
        self._deadline = time.monotonic() + (seconds or random.uniform(*_DEFAULT_SECONDS))  # noqa: S311 (spreads reconnects)
        self._subscription: Subscription | None = None
        self._first: list[Entry] = []
        self._version = 0
        self._rung = False
        """Whether the time has come for a bookmark or the end."""
        if self._initial and not self._bookmarks:
            raise status.invalid(
                "ListOptions", "meta.k8s.io", "",
                [status.field_forbidden("allowWatchBookmarks", "sendInitialEvents requires setting the allowWatchBookmarks to true")],
            )  # fmt: skip

    async def open(self) -> None:
        """Subscribe. Raises 410 for a version that is too old and 504 for one not reached yet."""
        if self._since > self._store.head:
            raise status.future_version(self._since, self._store.head)
        seen = _filter(self._namespace, self._keep)
        if self._since == 0 or self._initial:
            self._version = self._store.head
            entries = self._store.scan(self._kind.table, self._namespace or None)
            self._first = entries if self._keep is None else [e for e in entries if self._keep(e.obj)]
            # Everything up to the head is in the snapshot, so the ring need not reach back: only what is not yet
            # published counts, and the subscription skips what the snapshot holds.
            self._subscription = self._store.hub.subscribe(self._kind.table, self._version, seen, replay=False)
        else:
            self._version = self._since
            self._subscription = self._store.hub.subscribe(self._kind.table, self._since, seen)
        try:
            await self._store.settled(self._version)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._subscription is not None:
            self._store.hub.unsubscribe(self._kind.table, self._subscription)
            self._subscription.end()

    def end(self) -> None:
        """Make ``lines`` finish soon (the client is gone)."""
        if self._subscription is not None:
            self._subscription.end()

    def _bookmark(self, *, initial_end: bool = False) -> bytes:
        metadata: Obj = {"resourceVersion": str(self._version), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        body: Obj = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": metadata}
        if not self._plain:
            body = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
        return _line("BOOKMARK", orjson.dumps(body))

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield chunks of the stream until the watch ends."""
        subscription = self._subscription
        if subscription is None:
            return
        if self._first:
            yield b"".join(self._render("ADDED", entry) for entry in self._first)
            self._first = []
        if self._initial:
            yield self._bookmark(initial_end=True)
        next_bookmark = time.monotonic() + BOOKMARK_SECONDS
        alarm = self._alarm(subscription, next_bookmark)
        try:
            while True:
                await subscription.wait()
                batch = subscription.drain()
                if batch:
                    self._version = batch[-1][1].version
                    yield b"".join(self._lines(batch))
                elif subscription.closed:
                    break
                if not self._rung:
                    continue
                if (now := time.monotonic()) >= self._deadline:
                    break
                if now >= next_bookmark:
                    if self._bookmarks:
                        # Nothing is queued at this instant, so everything published so far has been sent.
                        self._version = max(self._version, self._store.committed)
                        yield self._bookmark()
                    next_bookmark = now + BOOKMARK_SECONDS
                alarm = self._alarm(subscription, next_bookmark)
        finally:
            alarm.cancel()
        if subscription.overrun:
            yield error_line(status.expired("the watch fell too far behind; list again"))
        elif self._bookmarks and not subscription.closed:
            self._version = max(self._version, self._store.committed)
            yield self._bookmark()

    def _alarm(self, subscription: Subscription, next_bookmark: float) -> asyncio.TimerHandle:
        """Have ``lines`` look up when a bookmark is due, or the end is; a timer may be early."""

        def ring() -> None:
            self._rung = True
            subscription.nudge()

        self._rung = False
        seconds = max(0.001, min(self._deadline, next_bookmark) - time.monotonic())
        return asyncio.get_running_loop().call_later(seconds, ring)

    def _lines(self, batch: list[tuple[EventType, Event]]) -> list[bytes]:
        plain = self._plain
        version = self._kind.api_version
        return [
            event.line() if plain and type_ == event.type and event.entry.obj["apiVersion"] == version
            else self._render(type_, _shown(type_, event))
            for type_, event in batch
        ]  # fmt: skip
