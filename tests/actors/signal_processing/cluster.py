"""A small cluster for the tests of signal processing: a Deployment with two ReplicaSets, two Pods, a Node, and more on demand."""

from __future__ import annotations

from typing import Any

from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object, ObjectList
from kubernaut_ray.kube.errors import Forbidden, Unavailable
from kubernaut_ray.kube.resources import Resource
from tests.memory_kube import MemoryKube

HOME = "shop"
APP = {"app": "web"}
STAGING = {"kubernaut.ai/environment": "staging"}
DEPLOYMENT = TargetResource(api_version="apps/v1", kind="Deployment", name="web", namespace=HOME)
POD = TargetResource(api_version="v1", kind="Pod", name="web-2-a", namespace=HOME)


def obj(name: str, *, namespace: str = HOME, owner: Object | None = None, **body: Any) -> Object:
    """An object; ``labels`` and ``annotations`` go into the metadata, ``owner`` controls it."""
    metadata: dict[str, Any] = {"name": name, **({"namespace": namespace} if namespace else {})}
    metadata |= {key: body.pop(key) for key in ("labels", "annotations") if key in body}
    if owner is not None:
        of = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"]}
        metadata["ownerReferences"] = [{**of, "uid": owner["metadata"]["uid"], "controller": True}]
    return {"metadata": metadata, **body}


def template(image: str = "web:2", memory: str = "128Mi") -> dict[str, Any]:
    sidecar = {"name": "proxy", "image": "proxy:1"}
    main = {"name": "web", "image": image, "resources": {"limits": {"memory": memory}, "requests": {"memory": "64Mi"}}}
    return {"metadata": {"labels": APP}, "spec": {"containers": [sidecar, main]}}


def pod_status(*, restarts: int = 0, reason: str = "", waiting: str = "") -> dict[str, Any]:
    state: dict[str, Any] = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    ended = {"terminated": {"reason": reason, "exitCode": 137}} if reason else {}
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False" if waiting else "True", "reason": "ContainersNotReady"}],
        "containerStatuses": [
            {"name": "proxy", "restartCount": 0, "ready": True, "state": {"running": {}}},
            {"name": "web", "restartCount": restarts, "ready": not waiting, "state": state, "lastState": ended},
        ],
    }


async def put(kube: KubeClient, resource: Resource, body: Object) -> Object:
    """Create, and write the status as its own controller would: a create drops it."""
    made = await kube.create(resource, body)
    if "status" in body:
        name, namespace = body["metadata"]["name"], body["metadata"].get("namespace")
        await kube.patch(resource, name, {"status": body["status"]}, namespace, subresource="status")
    return made


async def populate(kube: KubeClient, home: str = HOME, node: str = "node-1") -> None:
    """Namespace, Node, Deployment at revision 2 (image changed), its ReplicaSets, one OOMKilled and one healthy Pod."""
    if home == HOME:
        await kube.create(resources.NAMESPACE, obj(home, namespace="", labels=STAGING))
    else:
        await kube.patch(resources.NAMESPACE, home, {"metadata": {"labels": STAGING}})
    node_status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "4", "memory": "8Gi"}}
    await put(kube, resources.NODE, obj(node, namespace="", status=node_status))
    deployment = await put(
        kube,
        resources.DEPLOYMENT,
        obj(
            "web",
            namespace=home,
            labels={"app.kubernetes.io/managed-by": "Helm"},
            annotations={"deployment.kubernetes.io/revision": "2", "note": "password: hunter2"},
            spec={"replicas": 2, "selector": {"matchLabels": APP}, "template": template()},
            status={
                "replicas": 2,
                "readyReplicas": 1,
                "availableReplicas": 1,
                "conditions": [{"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable"}],
            },
        ),
    )
    sets = {}
    for revision, image in (("1", "web:1"), ("2", "web:2")):
        sets[revision] = await put(
            kube,
            resources.REPLICA_SET,
            obj(
                f"web-{revision}",
                namespace=home,
                owner=deployment,
                labels=APP,
                annotations={"deployment.kubernetes.io/revision": revision},
                spec={"replicas": 2, "selector": {"matchLabels": APP}, "template": template(image)},
            ),
        )
    for letter, status in (
        ("a", pod_status(restarts=7, reason="OOMKilled", waiting="CrashLoopBackOff")),
        ("b", pod_status()),
    ):
        await put(
            kube,
            resources.POD,
            obj(
                f"web-2-{letter}",
                namespace=home,
                owner=sets["2"],
                labels=APP,
                annotations={"sidecar.istio.io/status": "{}"},
                spec={**template()["spec"], "nodeName": node},
                status=status,
            ),
        )


async def event(
    kube: KubeClient, name: str, kind: str, about: str, *, minute: int, message: str, count: int = 1, home: str = HOME
) -> None:
    await kube.create(
        resources.EVENT,
        obj(
            name,
            namespace=home,
            involvedObject={"kind": kind, "name": about, "namespace": home},
            type="Warning",
            reason="BackOff",
            message=message,
            count=count,
            firstTimestamp="2026-03-01T12:00:00Z",
            lastTimestamp=f"2026-03-01T12:{minute:02}:00Z",
        ),
    )


class RefusingKube(MemoryKube):
    """Another's world, in which reading some resources is forbidden or fails."""

    def __init__(
        self, inner: MemoryKube, *, forbidden: tuple[str, ...] = (), unavailable: tuple[str, ...] = ()
    ) -> None:
        self._inner, self._forbidden, self._unavailable = inner, forbidden, unavailable
        self.read: list[str] = []

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        self._refuse(resource)
        self.read.append(f"{resource.kind}/{name}")
        return await self._inner.get(resource, name, namespace)

    async def list(self, resource: Resource, namespace: str | None = None, **kw: Any) -> ObjectList:
        self._refuse(resource)
        return await self._inner.list(resource, namespace, **kw)

    async def discover(self) -> tuple[Resource, ...]:
        return (Resource("example.org", "v1", "widgets", "Widget"),)

    def _refuse(self, resource: Resource) -> None:
        if resource.plural in self._forbidden:
            raise Forbidden(f"{resource.plural} is forbidden", status=403, reason="Forbidden")
        if resource.plural in self._unavailable:
            raise Unavailable(f"{resource.plural}: connection refused")
