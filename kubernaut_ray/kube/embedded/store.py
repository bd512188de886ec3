"""Every object, in memory, behind the commit log: what handlers read and write.

All calls happen on one event loop and none awaits between reading and writing, so an update is atomic by construction.
A write takes effect in memory at once (the next writer must see it), while watchers and the writer's answer wait for the
commit. Readers wait for the version they are about to show (``settled``): nobody is ever shown what a crash could take
back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import orjson

from kubernaut_ray.kube.embedded.hub import Entry, Event, Hub
from kubernaut_ray.kube.embedded.labels import LabelIndex
from kubernaut_ray.kube.embedded.log import CommitLog, Write
from kubernaut_ray.kube.embedded.selectors import field_text
from kubernaut_ray.kube.embedded.status import Obj, internal

Listener = Callable[[Event], None]
"""Called at once on every write, in order: indexes and caches that must never lag behind memory."""


class Store:
    """The tables: resource → namespace → name → entry. Cluster-scoped objects live under namespace ``""``."""

    def __init__(self, log: CommitLog) -> None:
        self._log = log
        self._tables: dict[str, dict[str, dict[str, Entry]]] = {}
        self._labels: dict[str, LabelIndex] = {}
        self._fields: dict[str, dict[str, LabelIndex]] = {}
        """By resource and path of a field; an index is made when it is first asked for."""
        self.head = self.committed = log.open()
        self.hub = Hub(self.head)
        self.listeners: list[Listener] = []
        self.fault: BaseException | None = None
        self.on_fault: Callable[[BaseException], None] | None = None
        self._unpublished: deque[Event] = deque()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        for resource, namespace, name, body in log.rows():
            obj = orjson.loads(body)
            entry = Entry(obj, body, int(obj["metadata"]["resourceVersion"]))
            self._tables.setdefault(resource, {}).setdefault(namespace, {})[name] = entry
            self._index(resource, namespace, name, None, entry)

    def start(self) -> None:
        """Start committing. Needs a running event loop."""
        self._log.start(asyncio.get_running_loop(), self._on_commit, self._on_failure)

    def close(self) -> None:
        self.hub.close()
        self._log.close()

    def get(self, resource: str, namespace: str, name: str) -> Entry | None:
        table = self._tables.get(resource)
        if table is None:
            return None
        return table.get(namespace, {}).get(name)

    def scan(self, resource: str, namespace: str | None = None) -> list[Entry]:
        """Return the entries of a resource, in all namespaces when ``namespace`` is ``None``, by namespace and name."""
        table = self._tables.get(resource, {})
        if namespace is not None:
            rows = table.get(namespace, {})
            return [rows[name] for name in sorted(rows)]
        return [rows[name] for rows in (table[ns] for ns in sorted(table)) for name in sorted(rows)]

    def labelled(self, resource: str, namespace: str | None, key: str, values: Iterable[str]) -> list[Entry]:
        """Return the entries whose label has one of these values, by namespace and name."""
        table = self._tables.get(resource, {})
        places = self._labels[resource].having(key, values) if resource in self._labels else ()
        return [table[ns][name] for ns, name in sorted(places) if namespace in (None, ns)]

    def with_field(self, resource: str, namespace: str | None, path: str, value: str) -> list[Entry]:
        """Return the entries whose field has this value as text, by namespace and name."""
        indexes = self._fields.setdefault(resource, {})
        index = indexes.get(path)
        table = self._tables.get(resource, {})
        if index is None:
            index = indexes[path] = LabelIndex()
            for ns, rows in table.items():
                for name, entry in rows.items():
                    index.change((ns, name), {}, _field(path, entry))
        return [table[ns][name] for ns, name in sorted(index.having(path, (value,))) if namespace in (None, ns)]

    def all_have(self, resource: str, key: str) -> bool:
        """Tell whether every object of a resource has this label."""
        total = sum(map(len, self._tables.get(resource, {}).values()))
        return total == (self._labels[resource].count(key) if resource in self._labels else 0)

    def everything(self) -> Iterator[tuple[str, str, Entry]]:
        """Yield ``(resource, namespace, entry)`` of every object; for building indexes at start."""
        for resource, table in self._tables.items():
            for namespace, rows in table.items():
                for entry in rows.values():
                    yield resource, namespace, entry

    def put(self, resource: str, namespace: str, name: str, obj: Obj) -> Entry:
        """Store ``obj`` (which the store now owns) under a new resourceVersion."""
        self._refuse_if_failed()
        self.head += 1
        obj["metadata"]["resourceVersion"] = str(self.head)
        entry = Entry(obj, orjson.dumps(obj), self.head)
        rows = self._tables.setdefault(resource, {}).setdefault(namespace, {})
        previous = rows.get(name)
        rows[name] = entry
        self._index(resource, namespace, name, previous, entry)
        self._log.append(Write(resource, namespace, name, self.head, entry.raw))
        self._tell(Event(resource, namespace, "ADDED" if previous is None else "MODIFIED", entry, previous))
        return entry

    def remove(self, resource: str, namespace: str, name: str) -> Entry:
        """Delete; returns the last state under the version of the deletion. The object must be there."""
        self._refuse_if_failed()
        rows = self._tables[resource][namespace]
        previous = rows.pop(name)
        self._index(resource, namespace, name, previous, None)
        if not rows:
            del self._tables[resource][namespace]
        self.head += 1
        obj = {**previous.obj, "metadata": {**previous.obj["metadata"], "resourceVersion": str(self.head)}}
        entry = Entry(obj, orjson.dumps(obj), self.head)
        self._log.append(Write(resource, namespace, name, self.head, None))
        self._tell(Event(resource, namespace, "DELETED", entry, previous))
        return entry

    async def settled(self, version: int | None = None) -> None:
        """Wait until ``version`` (default: everything so far) is committed."""
        wanted = self.head if version is None else version
        if wanted <= self.committed:
            return
        self._refuse_if_failed()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, future))
        await future

    def _index(self, resource: str, namespace: str, name: str, old: Entry | None, new: Entry | None) -> None:
        index = self._labels.get(resource)
        if index is None:
            index = self._labels[resource] = LabelIndex()
        index.change((namespace, name), _labels(old), _labels(new))
        for path, fields in self._fields.get(resource, {}).items():
            fields.change((namespace, name), _field(path, old), _field(path, new))

    def _refuse_if_failed(self) -> None:
        if self.fault is not None:
            raise internal(f"the store cannot commit ({self.fault}); restart the server on its data directory")

    def _tell(self, event: Event) -> None:
        self._unpublished.append(event)
        for listener in self.listeners:
            listener(event)

    def _on_commit(self, version: int) -> None:
        self.committed = version
        while self._unpublished and self._unpublished[0].version <= version:
            self.hub.publish(self._unpublished.popleft())
        while self._waiting and self._waiting[0][0] <= version:
            future = self._waiting.popleft()[1]
            if not future.done():
                future.set_result(None)

    def _on_failure(self, error: BaseException) -> None:
        self.fault = error
        refusal = internal(f"the store cannot commit ({error}); restart the server on its data directory")
        while self._waiting:
            future = self._waiting.popleft()[1]
            if not future.done():
                future.set_exception(refusal)
        self.hub.close()
        if self.on_fault is not None:
            self.on_fault(error)


def _labels(entry: Entry | None) -> dict[str, str]:
    return (entry.obj["metadata"].get("labels") or {}) if entry is not None else {}


def _field(path: str, entry: Entry | None) -> dict[str, str]:
    """A field as an index of labels takes it; one that is not set counts as empty, as selectors have it."""
    return {} if entry is None else {path: field_text(entry.obj, path)}
