"""What a cluster's controllers do about deletion: dependents, namespaces, CustomResourceDefinitions, and default accounts.

One background task works through a queue of things to look at again. It holds no state that matters: at start everything is
looked at once, so a crash in the middle of a cascade is finished by the next process.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Literal

import structlog

from kubernaut_ray.kube.embedded.hub import Event
from kubernaut_ray.kube.embedded.kinds import Kind, Registry
from kubernaut_ray.kube.embedded.objects import FOREGROUND, NAMESPACES, ORPHAN, DeleteOptions, Objects, Options
from kubernaut_ray.kube.embedded.status import ApiStatus, Obj

CRDS = "customresourcedefinitions.apiextensions.k8s.io"
CRD_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
ACCOUNTS, CONFIG_MAPS = "serviceaccounts.", "configmaps."
ROOT_CA = "kube-root-ca.crt"

Address = tuple[str, str, str]
"""Table, namespace, name."""
Task = tuple[Literal["object", "namespace"], str, str, str]

_log = structlog.get_logger(__name__)


class Collector:
    """Indexes objects by UID and by owner, and acts on what the index says."""

    def __init__(self, objects: Objects, registry: Registry, ca: str) -> None:
        self._objects, self._registry, self._ca = objects, registry, ca
        self._store = objects.store
        self._by_uid: dict[str, Address] = {}
        self._dependents: dict[str, set[Address]] = {}
        self._queue: OrderedDict[Task, None] = OrderedDict()
        self._wake = asyncio.Event()
        for table, namespace, entry in self._store.everything():
            self._index(table, namespace, entry.obj)
        self._store.listeners.append(self._on_event)

    def account_uid(self, namespace: str, name: str) -> str | None:
        """Return the UID of a ServiceAccount, or ``None`` when there is none."""
        entry = self._store.get(ACCOUNTS, namespace, name)
        return entry.obj["metadata"]["uid"] if entry else None

    async def run(self) -> None:
        """Work until cancelled."""
        for table, namespace, entry in list(self._store.everything()):
            self._consider(table, namespace, entry.obj)
        while True:
            await self._wake.wait()
            self._wake.clear()
            done = 0
            while self._queue:
                task, _ = self._queue.popitem(last=False)
                try:
                    self._perform(task)
                except ApiStatus as error:
                    _log.warning("collector_refused", task=task, error=error.message)
                done += 1
                if done % 50 == 0:
                    await asyncio.sleep(0)

    # indexes

    def _index(self, table: str, namespace: str, obj: Obj) -> None:
        metadata = obj["metadata"]
        address = (table, namespace, metadata["name"])
        self._by_uid[metadata["uid"]] = address
        for owner in metadata.get("ownerReferences") or ():
            self._dependents.setdefault(owner["uid"], set()).add(address)

    def _unindex(self, table: str, namespace: str, obj: Obj, *, gone: bool) -> None:
        metadata = obj["metadata"]
        address = (table, namespace, metadata["name"])
        if gone:
            self._by_uid.pop(metadata["uid"], None)
        for owner in metadata.get("ownerReferences") or ():
            known = self._dependents.get(owner["uid"])
            if known is not None:
                known.discard(address)
                if not known:
                    del self._dependents[owner["uid"]]

    def _on_event(self, event: Event) -> None:
        if event.previous is not None:
            self._unindex(event.resource, event.namespace, event.previous.obj, gone=event.type == "DELETED")
        obj = event.entry.obj
        if event.type != "DELETED":
            self._index(event.resource, event.namespace, obj)
            self._consider(event.resource, event.namespace, obj)
            return
        uid = obj["metadata"]["uid"]
        for address in self._dependents.get(uid, ()):
            self._enqueue(("object", *address))
        # A foreground owner waits for its dependents, a namespace and a definition for their content.
        for owner in obj["metadata"].get("ownerReferences") or ():
            if owner["uid"] in self._by_uid:
                self._enqueue(("object", *self._by_uid[owner["uid"]]))
        if event.namespace:
            namespace = self._store.get(NAMESPACES, "", event.namespace)
            if namespace is not None and "deletionTimestamp" in namespace.obj["metadata"]:
                self._enqueue(("namespace", NAMESPACES, "", event.namespace))
        definition = self._store.get(CRDS, "", event.resource)
        if definition is not None and "deletionTimestamp" in definition.obj["metadata"]:
            self._enqueue(("object", CRDS, "", event.resource))
        if event.resource in (ACCOUNTS, CONFIG_MAPS) and obj["metadata"]["name"] in ("default", ROOT_CA):
            self._enqueue(("namespace", NAMESPACES, "", event.namespace))

    def _consider(self, table: str, namespace: str, obj: Obj) -> None:
        metadata = obj["metadata"]
        if table == NAMESPACES:
            self._enqueue(("namespace", table, "", metadata["name"]))
        elif "deletionTimestamp" in metadata or metadata.get("ownerReferences"):
            self._enqueue(("object", table, namespace, metadata["name"]))

    def _enqueue(self, task: Task) -> None:
        self._queue[task] = None
        self._wake.set()

    # actions

    def _perform(self, task: Task) -> None:
        what, table, namespace, name = task
        kind = self._registry.tables().get(table)
        entry = self._store.get(table, namespace, name)
        if kind is None or entry is None:
            return
        if what == "namespace":
            self._namespace(kind, entry.obj)
            return
        metadata = entry.obj["metadata"]
        if "deletionTimestamp" in metadata:
            finalizers = metadata.get("finalizers") or ()
            if ORPHAN in finalizers:
                self._orphan(kind, entry.obj)
            elif FOREGROUND in finalizers:
                self._foreground(kind, entry.obj)
            elif table == CRDS and CRD_FINALIZER in finalizers:
                self._definition(kind, entry.obj)
            return
        owners = metadata.get("ownerReferences") or ()
        if owners and not any(self._alive(o, namespace) for o in owners):
            waiting = any(self._is_waiting(o["uid"]) for o in owners)
            options = DeleteOptions(uid=metadata["uid"], propagation="Foreground" if waiting else "Background")
            self._objects.delete(kind, namespace, name, options)

    def _alive(self, owner: Obj, namespace: str) -> bool:
        """Whether an owner keeps its dependents: it exists where it may be, and is not waiting for them to go."""
        address = self._by_uid.get(owner["uid"])
        if address is None or address[1] not in ("", namespace):
            return False
        return not self._is_waiting(owner["uid"])

    def _is_waiting(self, uid: str) -> bool:
        address = self._by_uid.get(uid)
        entry = self._store.get(*address) if address else None
        return entry is not None and FOREGROUND in (entry.obj["metadata"].get("finalizers") or ()) and (
            "deletionTimestamp" in entry.obj["metadata"]
        )  # fmt: skip

    def _without_finalizer(self, kind: Kind, obj: Obj, finalizer: str) -> None:
        def change(old: Obj) -> Obj:
            kept = [f for f in old["metadata"].get("finalizers") or () if f != finalizer]
            return {**old, "metadata": {**old["metadata"], "finalizers": kept}}

        metadata = obj["metadata"]
        self._objects.change(
            kind, metadata.get("namespace", ""), metadata["name"], change, Options(manager="garbage-collector")
        )

    def _orphan(self, kind: Kind, obj: Obj) -> None:
        uid = obj["metadata"]["uid"]
        tables = self._registry.tables()
        for table, namespace, name in tuple(self._dependents.get(uid, ())):

            def change(old: Obj) -> Obj:
                kept = [o for o in old["metadata"].get("ownerReferences") or () if o["uid"] != uid]
                return {**old, "metadata": {**old["metadata"], "ownerReferences": kept}}

            if table in tables:
                self._objects.change(tables[table], namespace, name, change, Options(manager="garbage-collector"))
        self._without_finalizer(kind, obj, ORPHAN)

    def _foreground(self, kind: Kind, obj: Obj) -> None:
        uid = obj["metadata"]["uid"]
        blocking = False
        for address in tuple(self._dependents.get(uid, ())):
            entry = self._store.get(*address)
            if entry is None:
                continue
            owners = entry.obj["metadata"].get("ownerReferences") or ()
            blocking = blocking or any(o["uid"] == uid and o.get("blockOwnerDeletion") for o in owners)
            if "deletionTimestamp" not in entry.obj["metadata"]:
                self._enqueue(("object", *address))
        if not blocking:
            self._without_finalizer(kind, obj, FOREGROUND)

    def _definition(self, kind: Kind, crd: Obj) -> None:
        """Delete a definition's objects, and then let it go."""
        table = crd["metadata"]["name"]
        entries = self._store.scan(table)
        if not entries:
            self._without_finalizer(kind, crd, CRD_FINALIZER)
            return
        custom = self._registry.tables().get(table)
        if custom is not None:
            self._delete_all(custom, (e.obj for e in entries))

    def _delete_all(self, kind: Kind, objects: Iterable[Obj]) -> None:
        for obj in objects:
            metadata = obj["metadata"]
            if "deletionTimestamp" not in metadata:
                self._objects.delete(
                    kind, metadata.get("namespace", ""), metadata["name"], DeleteOptions(propagation="Background")
                )

    def _namespace(self, kind: Kind, namespace: Obj) -> None:
        name = namespace["metadata"]["name"]
        if "deletionTimestamp" not in namespace["metadata"]:
            self._furnish(name)
            return
        left = False
        for content in self._registry.tables().values():
            if content.namespaced and (entries := self._store.scan(content.table, name)):
                self._delete_all(content, (e.obj for e in entries))
                left = left or bool(self._store.scan(content.table, name))
        if left:
            return
        if not namespace["metadata"].get("finalizers"):
            self._store.remove(kind.table, "", name)

    def _furnish(self, namespace: str) -> None:
        """Give a namespace what the controller manager of a cluster gives it."""
        for table, name, body in (
            (ACCOUNTS, "default", {}),
            (CONFIG_MAPS, ROOT_CA, {"data": {"ca.crt": self._ca}}),
        ):
            kind = self._registry.tables().get(table)
            if kind is not None and self._store.get(table, namespace, name) is None:
                obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, **body}
                self._objects.create(kind, namespace, obj, Options(manager="kube-controller-manager"))
