"""Plants workloads, pods and nodes in an API server, as the controllers, the scheduler and the kubelets would leave them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kubernaut_ray import clock
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import AlreadyExists
from kubernaut_ray.kube.resources import Resource
from tests.build import NOW

CONTAINERS = {"containers": [{"name": "main", "image": "registry.example.org/main:1"}]}
TEMPLATED = {"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"}


class Plant:
    """Objects in one namespace of one API server (a real one, or one in memory)."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self.kube, self.namespace = kube, namespace

    async def workload(
        self, resource: Resource, name: str, owner: Object | None = None, labels: Mapping[str, str] | None = None
    ) -> Object:
        """Create a workload that selects pods labelled ``app=NAME``, or ``app`` as ``labels`` say."""
        app = {"app": name} | dict(labels or {})
        spec: dict[str, Any] = {"selector": {"matchLabels": app}, "template": {"metadata": {"labels": app}}}
        spec["template"]["spec"] = CONTAINERS
        if resource.kind == "StatefulSet":
            spec["serviceName"] = name
        if resource.kind in {"Deployment", "ReplicaSet", "StatefulSet"}:
            spec["replicas"] = 0
        if resource.kind == "Job":
            spec = {"template": {"spec": CONTAINERS | {"restartPolicy": "Never"}}, "suspend": True}
        body = {"metadata": self._meta(name, owner, app), "spec": spec}
        return await self.kube.create(resource, body, self.namespace)

    async def deployment(self, name: str) -> tuple[Object, Object]:
        """Create a Deployment and its ReplicaSet."""
        deployment = await self.workload(resources.DEPLOYMENT, name)
        replica_set = await self.workload(resources.REPLICA_SET, f"{name}-7d4b9c6f5d", deployment, {"app": name})
        return deployment, replica_set

    async def pod(
        self,
        name: str,
        owner: Object | None = None,
        *,
        node: str = "",
        ready: bool = False,
        since: datetime = NOW,
        phase: str = "Running",
        labels: Mapping[str, str] | None = None,
    ) -> Object:
        """Create a pod on a node, labelled as its owner unless ``labels`` say otherwise.

        ``since`` is when it became ready, or stopped being so.
        """
        if labels is None and owner is not None:
            labels = owner["metadata"].get("labels")
        spec = CONTAINERS | ({"nodeName": node} if node else {})
        body = {"metadata": self._meta(name, owner, labels), "spec": spec}
        await self.kube.create(resources.POD, body, self.namespace)
        return await self.pod_status(name, ready=ready, since=since, phase=phase)

    async def pod_status(self, name: str, *, ready: bool, since: datetime = NOW, phase: str = "Running") -> Object:
        status = {"phase": phase, "conditions": [_ready("True" if ready else "False", since)]}
        patch = {"status": status}
        return await self.kube.patch(resources.POD, name, patch, self.namespace, subresource="status")

    async def node(self, name: str, ready: str = "True", since: datetime = NOW) -> None:
        """Create a node, or change the status of the one that is there; ``ready`` is True, False or Unknown."""
        with contextlib.suppress(AlreadyExists):
            await self.kube.create(resources.NODE, {"metadata": {"name": name}})
        status = {"conditions": [_ready(ready, since)]}
        await self.kube.patch(resources.NODE, name, {"status": status}, subresource="status")

    def _meta(self, name: str, owner: Object | None, labels: Mapping[str, str] | None) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": name, "namespace": self.namespace, "labels": dict(labels or {})}
        if owner is not None:
            reference = {k: owner[k] for k in ("apiVersion", "kind")}
            reference |= {k: owner["metadata"][k] for k in ("name", "uid")}
            metadata["ownerReferences"] = [{**reference, "controller": True}]
        return metadata


def _ready(status: str, since: datetime) -> dict[str, str]:
    return {"type": "Ready", "status": status, "lastTransitionTime": clock.rfc3339(since)[:19] + "Z"}
