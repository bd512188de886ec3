"""A local copy of one kind, kept current by list and watch; it says what changed and answers reads from memory.

It triggers work; it is never the source of truth for a decision (read through ``KubeClient`` for that; what an event that has
just come may stand for, ``control/recall.py`` says). It survives 410
(lists again, and reports what vanished meanwhile), dropped and silently dead connections (goes on from the last
resourceVersion, bookmarks keep that fresh), refusals and outages (backs off with jitter, for as long as it takes).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from kubernaut_ray import backoff
from kubernaut_ray.errors import KubernautError, Retryable
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import Gone
from kubernaut_ray.kube.resources import Resource

Address = tuple[str, str]
"""Namespace (empty for cluster-scoped) and name."""
OnChange = Callable[[Object | None, Object | None], None]
"""``(old, new)``: no old, it appeared; no new, it is gone. ``new`` comes as the server sent it, ``old`` as it was kept."""
Index = Callable[[Object], Iterable[str]]

SETTLED_SECONDS = 10.0
"""A watch that was open for so long has been accepted, also when nothing has come through it yet."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class CacheStats:
    lists: int = 0
    watches: int = 0
    events: int = 0
    faults: int = 0


def metadata_only(obj: Object) -> Object:
    """Keep what identifies an object and its relations: the smallest useful projection."""
    metadata = obj.get("metadata") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences", "deletionTimestamp")
    return {
        "apiVersion": obj.get("apiVersion", ""),
        "kind": obj.get("kind", ""),
        "metadata": {name: metadata[name] for name in kept if name in metadata},
    }


class Cache:
    """``run`` keeps it current until cancelled; ``synced`` is set once the first list is complete."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        on_change: OnChange | None = None,
        project: Callable[[Object], Object] | None = None,
        indexes: Mapping[str, Index] | None = None,
        page_size: int = 500,
        watch_seconds: int = 290,
        idle_timeout: float = 90.0,
        backoff_base: float = 0.5,
        backoff_max: float = 30.0,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self.stats = CacheStats()
        self._client = client
        self._namespace = namespace
        self._labels, self._fields = labels, fields
        self._on_change = on_change
        self._project = project or (lambda obj: obj)
        self._index_of = dict(indexes or {})
        self._indexes: dict[str, dict[str, set[Address]]] = {name: {} for name in self._index_of}
        self._objects: dict[Address, Object] = {}
        self._page_size = page_size
        self._watch_seconds, self._idle_timeout = watch_seconds, idle_timeout
        self._backoff_base, self._backoff_max = backoff_base, backoff_max
        self._version = ""
        self._watching_since: float | None = None
        self._failing_since: float | None = None

    @property
    def failing_for(self) -> float:
        """Seconds since the server could last be followed; 0 while it can, or before anything went wrong."""
        if self._failing_since is None or self._settled():
            return 0.0
        return time.monotonic() - self._failing_since

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        return iter(tuple(self._objects.values()))

    def get(self, name: str, namespace: str = "") -> Object | None:
        """Return the object as kept (projected), or ``None``. Callers must not change it."""
        return self._objects.get((namespace, name))

    def list(self, namespace: str | None = None) -> tuple[Object, ...]:
        return tuple(obj for (home, _), obj in self._objects.items() if namespace in (None, home))

    def by(self, index: str, value: str) -> tuple[Object, ...]:
        """Return the objects for which the index function gave this value."""
        return tuple(self._objects[address] for address in sorted(self._indexes[index].get(value, ())))

    async def run(self) -> None:
        """List, then watch, for ever. Ends only by cancellation (or an ``on_change`` that raises)."""
        faults = 0
        bound = log.bind(resource=self.resource.plural, namespace=self._namespace or "")
        while True:
            before = self.stats.events + self.stats.lists
            began = asyncio.get_running_loop().time()
            try:
                if not self._version:
                    await self._relist()
                await self._follow()
            except Gone as error:
                bound.info("cache.relist", reason=str(error))
                self._version = ""
                fault: KubernautError | None = error
            except KubernautError as error:
                self.stats.faults += 1
                bound.warning("cache.fault", error=str(error), again=faults)
                fault = error
            else:
                fault = None
            progress = self.stats.events + self.stats.lists > before
            if self._settled() or fault is None:
                self._failing_since = None
            if fault is not None and self._failing_since is None:
                self._failing_since = time.monotonic()
            self._watching_since = None
            short = asyncio.get_running_loop().time() - began < 1.0
            faults = 0 if progress or (fault is None and not short) else faults + 1
            if fault is not None or short:
                await asyncio.sleep(self._delay(faults, fault))

    def _settled(self) -> bool:
        return self._watching_since is not None and time.monotonic() - self._watching_since >= SETTLED_SECONDS

    def _delay(self, faults: int, fault: KubernautError | None) -> float:
        told = fault.after if isinstance(fault, Retryable) else None
        return backoff.delay(faults, base=self._backoff_base, longest=self._backoff_max, told=told)

    async def _relist(self) -> None:
        seen: set[Address] = set()
        token = ""
        while True:
            page = await self._client.list(
                self.resource,
                self._namespace,
                labels=self._labels,
                fields=self._fields,
                limit=self._page_size,
                continue_token=token,
            )
            for obj in page.items:
                seen.add(_address(obj))
                self._put(obj)
            token = page.continue_token
            if not token:
                break
        for address in [a for a in self._objects if a not in seen]:
            self._drop(address, None)
        self._version = page.resource_version
        self.stats.lists += 1
        self._failing_since = None
        self.synced.set()

    async def _follow(self) -> None:
        self.stats.watches += 1
        self._watching_since = time.monotonic()
        events = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=self._version,
            labels=self._labels,
            fields=self._fields,
            timeout_seconds=int(self._watch_seconds * random.uniform(0.8, 1.0)),  # noqa: S311 - spreading load
            idle_timeout=self._idle_timeout,
        )
        async with aclosing(events):
            async for event in events:
                self.stats.events += 1
                self._failing_since = None
                if event.type in ("ADDED", "MODIFIED"):
                    self._put(event.object)
                elif event.type == "DELETED":
                    self._drop(_address(event.object), event.object)
                version = (event.object.get("metadata") or {}).get("resourceVersion")
                self._version = version or self._version

    def _put(self, obj: Object) -> None:
        address = _address(obj)
        old = self._objects.get(address)
        if old is not None and _version(old) == _version(obj):
            return
        kept = self._project(obj)
        if old is not None:
            self._unindex(address, old)
        self._objects[address] = kept
        for name, function in self._index_of.items():
            for value in function(kept):
                self._indexes[name].setdefault(value, set()).add(address)
        if self._on_change is not None:
            self._on_change(old, obj)

    def _drop(self, address: Address, last: Object | None) -> None:
        old = self._objects.pop(address, None)
        if old is not None:
            self._unindex(address, old)
        gone = last or old
        if gone is not None and self._on_change is not None:
            self._on_change(gone, None)

    def _unindex(self, address: Address, obj: Object) -> None:
        for name, function in self._index_of.items():
            for value in function(obj):
                members = self._indexes[name].get(value)
                if members is not None:
                    members.discard(address)
                    if not members:
                        del self._indexes[name][value]


def _address(obj: Object) -> Address:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version(obj: Object) -> str:
    return str(obj["metadata"].get("resourceVersion", ""))
