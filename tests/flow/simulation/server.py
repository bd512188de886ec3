"""The embedded API server's store, objects, schemas, selectors, watches and garbage collector, called in process.

What is left out is HTTP, authentication and RBAC. Its file is SQLite in memory, and UIDs and times come from the simulation.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cache
from importlib import resources as files
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import yaml

from kubernaut_ray import names, shipped
from kubernaut_ray.kube.embedded import meta, patches
from kubernaut_ray.kube.embedded.builtins import builtin_kinds
from kubernaut_ray.kube.embedded.gc import Collector
from kubernaut_ray.kube.embedded.handlers import Handlers
from kubernaut_ray.kube.embedded.hub import Entry
from kubernaut_ray.kube.embedded.kinds import Kind, Registry
from kubernaut_ray.kube.embedded.log import CommitLog, Write
from kubernaut_ray.kube.embedded.objects import DeleteOptions, Draft, Objects, Options
from kubernaut_ray.kube.embedded.server import _serve_definitions
from kubernaut_ray.kube.embedded.status import Obj
from kubernaut_ray.kube.embedded.store import Store
from kubernaut_ray.kube.resources import Resource

LEASES = "leases.coordination.k8s.io"
NAMESPACES = {
    "kubernaut-system": {},
    "kubernaut-workflows": {},
    "shop": {"kubernaut.ai/environment": "production"},
    "lab": {"kubernaut.ai/environment": "staging"},
}


class MemoryLog(CommitLog):
    """Commits in groups, as the real one does, without its thread; nobody will read it again, and so nothing is kept."""

    def __init__(self) -> None:
        super().__init__(Path(":memory:"))
        self._pending: list[Write] = []

    def start(
        self, loop: asyncio.AbstractEventLoop, committed: Callable[[int], None], failed: Callable[[BaseException], None]
    ) -> None:
        self._loop, self._committed = loop, committed

    def append(self, write: Write) -> None:
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(write)

    def _flush(self) -> None:
        last, self._pending = self._pending[-1], []
        self._committed(last.version)


class InOrder(dict[Any, None]):
    """A set that is walked in the order in which it was filled, and not by addresses and hashes."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


class Ordered(dict[str, Any]):
    """Sets by name, all of them in order."""

    def setdefault(self, key: str, default: Any = None) -> Any:
        return super().setdefault(key, InOrder())


class Query:
    """The parameters of a request, for the parts of the server that ask it."""

    def __init__(self, **parameters: str) -> None:
        self._parameters = parameters

    def parameter(self, name: str) -> str:
        return self._parameters.get(name, "")


@cache
def _definitions() -> tuple[Mapping[str, Any], ...]:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    texts = [path.read_text() for path in sorted((shipped.directory() / "crds").glob("*.yaml"))]
    texts.append(files.files("kubernaut_ray.kube.embedded").joinpath("data", "tekton.yaml").read_text())
    return tuple(d for text in texts for d in yaml.load_all(text, Loader=loader) if d)


@contextlib.contextmanager
def deterministic(now: Callable[[], datetime], rng: random.Random) -> Iterator[None]:
    """Give new objects UIDs and times that the seed decides."""

    def text() -> str:
        return now().strftime("%Y-%m-%dT%H:%M:%SZ")

    with (
        mock.patch.object(meta, "chance", rng),
        mock.patch.object(meta, "now_text", text),
    ):
        yield


class Server:
    """Everything below the HTTP layer. ``run`` is the garbage collector."""

    def __init__(self) -> None:
        self.store = Store(MemoryLog())
        self.writer = ""
        """The process whose write is being made."""
        self.late = False
        """Whether that process slept while the write was on its way."""
        self.registry = Registry()
        self.registry.add(builtin_kinds())
        self.objects = Objects(self.store)
        _serve_definitions(self.store, self.registry, self.objects)
        self._handlers = Handlers(self.objects, None)  # type: ignore[arg-type]
        self._collector = Collector(self.objects, self.registry, "")
        self.store.hub._subscriptions, self._collector._dependents = Ordered(), Ordered()
        self.store.start()
        for document in _definitions():
            self._make(orjson.loads(orjson.dumps(document, default=str)))
        for name, labels in NAMESPACES.items():
            self._make({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    async def run(self) -> None:
        await self._collector.run()

    def close(self) -> None:
        self.store.close()

    def kind(self, resource: Resource) -> Kind:
        found = self.registry.find(resource.group, resource.version, resource.plural)
        assert found is not None, resource
        return found

    def get(self, kind: Kind, namespace: str, name: str) -> Entry:
        return self.objects.get(kind, namespace, name)

    def select(self, kind: Kind, namespace: str, labels: str, fields: str) -> list[Entry]:
        query: Any = Query(labelSelector=labels, fieldSelector=fields)
        return self._handlers._select(kind, namespace, query)

    def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Entry:
        given = {**orjson.loads(orjson.dumps(body)), "apiVersion": kind.api_version, "kind": kind.kind}
        return self.objects.create(kind, namespace, given, Options(manager="simulation"))

    def draft(self, kind: Kind, namespace: str, name: str, patch: Any, subresource: str) -> Draft:
        """Understand a merge patch; ``objects.commit`` stores it."""
        copied = orjson.loads(orjson.dumps(patch))
        return self.objects.draft_change(
            kind,
            namespace,
            name,
            lambda old: patches.merge_patch(old, copied),
            Options(manager="simulation"),
            subresource=subresource,
        )

    def replace(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any]) -> Entry:
        given = {**orjson.loads(orjson.dumps(body)), "apiVersion": kind.api_version, "kind": kind.kind}
        return self.objects.change(kind, namespace, name, lambda _: given, Options(manager="simulation"))[0]

    async def lease(self, name: str) -> Obj | None:
        """What the webhook reads."""
        found = self.store.get(LEASES, names.SYSTEM_NAMESPACE, name)
        return None if found is None else found.obj

    def delete(self, kind: Kind, namespace: str, name: str, uid: str | None, resource_version: str | None) -> None:
        options = DeleteOptions(uid=uid, resource_version=resource_version, propagation="Background")
        self.objects.delete(kind, namespace, name, options)

    def _make(self, document: dict[str, Any]) -> None:
        kind = self.registry.of(document["apiVersion"], document["kind"])
        assert kind is not None, document["kind"]
        self.objects.create(kind, "", document, Options())
