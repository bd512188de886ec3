"""A Kubernetes API in memory, only for crashing: hundreds of fresh worlds in a second, each with its own clock and uids.

It keeps to what a kube-apiserver documents (names are unique, resourceVersions guard writes, status is its own
subresource, owners take their children with them) and refuses whatever our own models would refuse. Everything that is
about the API server itself is tested against the embedded one instead (``kube`` fixture).
"""

from __future__ import annotations

import asyncio
import copy
import re
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from kubernaut_ray import clock, crds
from kubernaut_ray.kube import patch as merge
from kubernaut_ray.kube.client import KubeClient, Object, ObjectList, PatchKind, Version, WatchEvent
from kubernaut_ray.kube.errors import AlreadyExists, Conflict, Invalid, NotFound
from kubernaut_ray.kube.resources import Resource

Address = tuple[str, str, str]
_MODELS = {model.kind(): model for model in crds.SERVED}
_TERM = re.compile(r"\s*(!?)([\w./-]+)\s*(?:(==|=|!=)\s*([\w./-]*)|\s(in|notin)\s*\(([^)]*)\))?\s*(?:,|$)")


class MemoryKube(KubeClient):
    """One world. ``writes`` counts what really changed."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.objects: dict[Address, Object] = {}
        self.writes = 0
        self._history: list[tuple[Literal["ADDED", "MODIFIED", "DELETED"], Object, Object | None]] = []
        self._changed = asyncio.Event()
        self._born: dict[Address, int] = {}

    async def close(self) -> None:
        """Nothing is open."""

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        return copy.deepcopy(self._find(resource, name, namespace))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        limit: int | None = None,
        continue_token: str = "",
    ) -> ObjectList:
        items = tuple(
            copy.deepcopy(obj)
            for (kind, home, _), obj in sorted(self.objects.items())
            if kind == resource.kind
            and namespace in (None, home)
            and matches_labels(labels, obj["metadata"].get("labels") or {})
            and matches_fields(fields, obj)
        )
        return ObjectList(items, str(self.writes))

    async def versions(self, resource: Resource, namespace: str | None = None, *, labels: str) -> tuple[Version, ...]:
        found = await MemoryKube.list(self, resource, namespace, labels=labels)
        return tuple(
            Version(m["name"], m["uid"], m["resourceVersion"], m.get("labels") or {})
            for m in (obj["metadata"] for obj in found.items)
        )

    async def create(
        self, resource: Resource, obj: Mapping[str, Any], namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        body = copy.deepcopy(dict(obj)) | {"apiVersion": resource.api_version, "kind": resource.kind}
        metadata = body["metadata"] = dict(body["metadata"])
        home = (namespace or metadata.get("namespace") or "default") if resource.namespaced else ""
        address = (resource.kind, home, metadata["name"])
        if address in self.objects:
            raise AlreadyExists(
                f"{resource.plural} {metadata['name']} already exists", status=409, reason="AlreadyExists"
            )
        if resource.kind in _MODELS:
            body.pop("status", None)
        turn = self._born[address] = self._born.get(address, 0) + 1
        metadata |= {
            "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{address}{turn}")),
            "generation": 1,
            "creationTimestamp": clock.rfc3339(self._now())[:19] + "Z",
        } | ({"namespace": home} if home else {})
        return self._store(address, body)

    async def replace(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
    ) -> Object:
        name = obj["metadata"]["name"]
        old = self._find(resource, name, namespace or obj["metadata"].get("namespace"))
        return self._update(resource, old, copy.deepcopy(dict(obj)), subresource)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        namespace: str | None = None,
        *,
        kind: PatchKind = "merge",
        subresource: str | None = None,
        field_manager: str = "kubernaut-ray",
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        assert kind == "merge", "this world knows merge patches only"
        assert isinstance(patch, Mapping)
        old = self._find(resource, name, namespace)
        return self._update(resource, old, merge.apply(copy.deepcopy(dict(patch)), copy.deepcopy(old)), subresource)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
        grace_period_seconds: int | None = None,
    ) -> None:
        obj = self._find(resource, name, namespace)
        if uid not in (None, obj["metadata"]["uid"]):
            raise Conflict(f"{resource.plural} {name} has another uid")
        if resource_version not in (None, obj["metadata"]["resourceVersion"]):
            raise Conflict(f"{resource.plural} {name} has moved on")
        self._remove(_address(resource, obj))

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        labels: str = "",
        fields: str = "",
        timeout_seconds: int = 300,
        idle_timeout: float = 90.0,
    ) -> AsyncGenerator[WatchEvent]:
        """What happened since, and then what happens; an object that leaves the selection is a deletion."""
        position = int(resource_version or 0)
        while True:
            for kind, obj, old in self._history[position:]:
                position += 1
                if obj["kind"] != resource.kind or namespace not in (None, obj["metadata"].get("namespace", "")):
                    continue
                fits = matches_labels(labels, obj["metadata"].get("labels") or {})
                fitted = old is not None and matches_labels(labels, old["metadata"].get("labels") or {})
                if fits or fitted:
                    seen = kind if fits and fitted else "ADDED" if fits else "DELETED"
                    yield WatchEvent("DELETED" if kind == "DELETED" else seen, copy.deepcopy(obj))
            changed = self._changed
            await changed.wait()

    def _happened(self, kind: Literal["ADDED", "MODIFIED", "DELETED"], obj: Object, old: Object | None) -> None:
        self.writes += 1
        obj["metadata"]["resourceVersion"] = str(self.writes)
        self._history.append((kind, copy.deepcopy(obj), old))
        self._changed.set()
        self._changed = asyncio.Event()

    def _remove(self, address: Address) -> None:
        obj = self.objects[address]
        if obj["metadata"].get("finalizers"):
            if not obj["metadata"].get("deletionTimestamp"):
                marked = copy.deepcopy(obj)
                marked["metadata"]["deletionTimestamp"] = clock.rfc3339(self._now())[:19] + "Z"
                self._store(address, marked)
            return
        del self.objects[address]
        self._happened("DELETED", copy.deepcopy(obj), obj)
        uid = obj["metadata"]["uid"]
        for child, body in list(self.objects.items()):
            if child in self.objects and any(o["uid"] == uid for o in body["metadata"].get("ownerReferences") or ()):
                self._remove(child)

    def _update(self, resource: Resource, old: Object, new: Object, subresource: str | None) -> Object:
        told = new["metadata"].get("resourceVersion")
        if told not in (None, "", old["metadata"]["resourceVersion"]):
            raise Conflict(f"{resource.plural} {old['metadata']['name']} has been modified")
        body = copy.deepcopy(old)
        if subresource == "status":
            body["status"] = new.get("status", {})
        else:
            body = new if resource.kind not in _MODELS else new | ({"status": old["status"]} if "status" in old else {})
            for name in ("uid", "creationTimestamp", "generation"):
                body["metadata"][name] = old["metadata"][name]
            if body.get("spec") != old.get("spec"):
                body["metadata"]["generation"] += 1
        body["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if merge.diff(old, body) == {}:
            return copy.deepcopy(old)
        address = _address(resource, old)
        stored = self._store(address, body)
        if stored["metadata"].get("deletionTimestamp") and not stored["metadata"].get("finalizers"):
            self._remove(address)
        return stored

    def _store(self, address: Address, body: Object) -> Object:
        if model := _MODELS.get(address[0]):
            try:
                model.from_object(body)
            except ValidationError as error:
                raise Invalid(str(error), status=422, reason="Invalid") from error
        old = self.objects.get(address)
        self._happened("MODIFIED" if old else "ADDED", body, old)
        self.objects[address] = copy.deepcopy(body)
        return body

    def _find(self, resource: Resource, name: str, namespace: str | None) -> Object:
        home = (namespace or "default") if resource.namespaced else ""
        try:
            return self.objects[resource.kind, home, name]
        except KeyError:
            raise NotFound(f"{resource.plural} {home}/{name} not found", status=404, reason="NotFound") from None


def _address(resource: Resource, obj: Object) -> Address:
    return resource.kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def matches_labels(selector: str, labels: Mapping[str, str]) -> bool:
    """Equality and set-based label selectors, as the API documents them."""
    position = 0
    while position < len(selector):
        found = _TERM.match(selector, position)
        assert found, f"selector {selector!r}"
        negated, key, operator, value, member, values = found.groups()
        have = labels.get(key)
        if member:
            among = have in [v.strip() for v in values.split(",")]
            fits = among if member == "in" else not among
        elif operator:
            fits = (have != value) if operator == "!=" else (have == value)
        else:
            fits = (have is None) if negated else (have is not None)
        if not fits:
            return False
        position = found.end()
    return True


def matches_fields(selector: str, obj: Mapping[str, Any]) -> bool:
    """Field selectors over any path of the object."""
    for term in filter(None, selector.split(",")):
        path, _, value = term.partition("!=" if "!=" in term else "=")
        have: Any = obj
        for part in path.strip().split("."):
            have = have.get(part, "") if isinstance(have, Mapping) else ""
        if (str(have) == value.lstrip("=").strip()) == ("!=" in term):
            return False
    return True
