"""A gateway over a Kubernetes API in memory, for what is about the gateway and not about the API server."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object, ObjectList
from kubernaut_ray.kube.resources import Resource
from kubernaut_ray.settings import GatewaySettings, Settings
from tests.build import NOW
from tests.memory_kube import MemoryKube
from tests.trail import fits


class World(MemoryKube):
    """``fault`` is raised by every call while it is set; ``reads`` counts gets and lists by kind."""

    def __init__(self) -> None:
        self.time = NOW
        super().__init__(self.now)
        self.fault: KubernautError | None = None
        self.reads: dict[str, int] = {}

    def now(self) -> datetime:
        return self.time

    def _called(self, what: str) -> None:
        self.reads[what] = self.reads.get(what, 0) + 1
        if self.fault is not None:
            raise self.fault

    async def discover(self) -> tuple[Resource, ...]:
        self._called("discovery")
        return ()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        self._called(f"get {resource.kind}")
        return await super().get(resource, name, namespace)

    async def list(self, resource: Resource, namespace: str | None = None, **selectors: Any) -> ObjectList:
        self._called(f"list {resource.kind}")
        return await super().list(resource, namespace, **selectors)

    async def create(
        self, resource: Resource, obj: Mapping[str, Any], namespace: str | None = None, **_: Any
    ) -> Object:
        self._called(f"create {resource.kind}")
        return await super().create(resource, obj, namespace)

    async def remediations(self) -> list[Object]:
        return list((await MemoryKube.list(self, resources.REMEDIATION_REQUEST)).items)

    async def own(
        self, resource: Resource, name: str, owner: Object | None = None, labels: Mapping[str, str] | None = None
    ) -> Object:
        """Create an object in the namespace shop, controlled by ``owner``."""
        metadata: dict[str, Any] = {"name": name, "labels": dict(labels or {})}
        if owner is not None:
            reference = {k: owner[k] for k in ("apiVersion", "kind")} | {
                k: owner["metadata"][k] for k in ("name", "uid")
            }
            metadata["ownerReferences"] = [{**reference, "controller": True}]
        return await MemoryKube.create(self, resource, {"metadata": metadata}, "shop" if resource.namespaced else None)

    async def deployment(self, name: str = "web", pods: int = 1) -> list[str]:
        """Create a Deployment with its ReplicaSet and pods; returns the pods' names."""
        deployment = await self.own(resources.DEPLOYMENT, name)
        replica_set = await self.own(resources.REPLICA_SET, f"{name}-7d4b9c6f5d", deployment)
        labels = {"pod-template-hash": "7d4b9c6f5d"}
        names = [f"{name}-7d4b9c6f5d-x2x4{c}" for c in "bcdfghjklm"[:pods]]
        for pod in names:
            await self.own(resources.POD, pod, replica_set, labels)
        return names


class Facts:
    """An audit sink that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def record(self, event: AuditEvent) -> None:
        self.events.append(fits(event))

    def types(self) -> list[str]:
        return [event.event_type for event in self.events]


def settings(**gateway: Any) -> Settings:
    return Settings(gateway=GatewaySettings(**({"occurrence_flush_interval": 0.01} | gateway)))
