"""Plays the Deployment controller and the kubelet on an API server that has neither: no container runs.

For demos, tests and benchmarks on the embedded API server (``up --simulate-workloads``). It reads Deployments, keeps one
ReplicaSet a pod template and the wanted Pods, and gives each Pod the status that its template asks for:

- annotation ``simulate.kubernaut.ai/memory`` (a quantity): OOMKilled and restarting when it exceeds the memory limit;
- annotation ``simulate.kubernaut.ai/failure`` (a waiting reason such as CrashLoopBackOff or ImagePullBackOff);
- otherwise Running and Ready.

It never touches a Deployment's spec, and it refuses nothing: what it cannot read it leaves alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
import structlog

from kubernaut_ray import clock
from kubernaut_ray.errors import KubernautError
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import KubeClient, Object
from kubernaut_ray.kube.errors import AlreadyExists, NotFound
from kubernaut_ray.kube.resources import Resource

MEMORY = "simulate.kubernaut.ai/memory"
FAILURE = "simulate.kubernaut.ai/failure"
REVISION = "deployment.kubernetes.io/revision"
TEMPLATE_HASH = "pod-template-hash"
NODE_NAME = "simulated-node"

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_log = structlog.get_logger()


def quantity(text: str) -> float:
    """Parse a Kubernetes memory quantity into bytes; ``inf`` for an empty text. Raises ``ValueError``."""
    if not text:
        return float("inf")
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)


def pod_status(template: Mapping[str, Any], restarts: int) -> dict[str, Any]:
    """Return the Pod status that a template leads to; ``restarts`` is what the Pod has counted so far."""
    spec = template["spec"]
    notes = template.get("metadata", {}).get("annotations", {})
    now = clock.rfc3339(clock.utcnow())[:19] + "Z"
    try:
        wanted = quantity(notes.get(MEMORY, "0"))
        limits = [quantity(c.get("resources", {}).get("limits", {}).get("memory", "")) for c in spec["containers"]]
    except ValueError:
        wanted, limits = 0.0, [float("inf")]
    failure = notes.get(FAILURE, "")
    oom = wanted > min(limits)
    states = []
    for container in spec["containers"]:
        state: dict[str, Any] = {"running": {"startedAt": now}}
        status: dict[str, Any] = {
            "name": container["name"],
            "image": container.get("image", ""),
            "imageID": "",
            "ready": not (failure or oom),
            "restartCount": restarts,
            "started": not (failure or oom),
        }
        if oom:
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
            status["lastState"] = {
                "terminated": {"reason": "OOMKilled", "exitCode": 137, "startedAt": now, "finishedAt": now}
            }
        elif failure:
            state = {"waiting": {"reason": failure, "message": f"simulated {failure}"}}
            if failure == "CrashLoopBackOff":
                status["lastState"] = {
                    "terminated": {"reason": "Error", "exitCode": 1, "startedAt": now, "finishedAt": now}
                }
        states.append({**status, "state": state})
    healthy = not (failure or oom)
    flag = "True" if healthy else "False"
    return {
        "phase": "Pending" if failure == "ImagePullBackOff" else "Running",
        "startTime": now,
        "podIP": "10.0.0.1",
        "hostIP": "10.0.0.1",
        "conditions": [
            {"type": kind, "status": status, "lastTransitionTime": now}
            for kind, status in (
                ("PodScheduled", "True"),
                ("Initialized", "True"),
                ("ContainersReady", flag),
                ("Ready", flag),
            )
        ],
        "containerStatuses": states,
    }


def template_hash(template: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(template, option=orjson.OPT_SORT_KEYS)).hexdigest()[:10]


class Simulator:
    """Keeps ReplicaSets, Pods and statuses in step with the Deployments of one API server."""

    def __init__(self, client: KubeClient, *, interval: float = 0.5) -> None:
        self._client = client
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="workload simulator")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._join()
                listed = await self._client.list(resources.DEPLOYMENT)
                for deployment in listed.items:
                    await self.settle(deployment)
                await self._follow(listed.resource_version)
            except KubernautError as error:
                _log.warning("simulator.retrying", error=str(error))
                await asyncio.sleep(self._interval)

    async def _join(self) -> None:
        """Register the node that the pods are said to run on, as its kubelet would: pods of a missing node count as lost."""
        with contextlib.suppress(AlreadyExists):
            await self._client.create(resources.NODE, {"metadata": {"name": NODE_NAME}})
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastTransitionTime": clock.rfc3339(clock.utcnow())[:19] + "Z",
        }
        await self._client.patch(
            resources.NODE, NODE_NAME, {"status": {"conditions": [ready]}}, subresource="status", kind="strategic"
        )

    async def _follow(self, resource_version: str) -> None:
        async for event in self._client.watch(
            resources.DEPLOYMENT, resource_version=resource_version, timeout_seconds=300
        ):
            if event.type in ("ADDED", "MODIFIED"):
                await self.settle(event.object)

    async def settle(self, deployment: Object) -> None:
        """Bring one Deployment's ReplicaSet, Pods and status to where its spec says, once."""
        meta, spec = deployment["metadata"], deployment["spec"]
        if "deletionTimestamp" in meta:
            return
        namespace, template = meta["namespace"], spec["template"]
        digest = template_hash(template)
        sets = await self._owned(resources.REPLICA_SET, namespace, meta["uid"])
        current = next((s for s in sets if s["metadata"]["labels"].get(TEMPLATE_HASH) == digest), None)
        if current is None:
            current = await self._new_replica_set(deployment, digest, 1 + max((_revision(s) for s in sets), default=0))
        revision, latest = _revision(current), max((_revision(s) for s in sets), default=0)
        if revision < latest:  # rolled back to an old template: it becomes the newest revision, as Kubernetes does
            revision = latest + 1
            await self._annotate(resources.REPLICA_SET, current, {REVISION: str(revision)})
        replicas = int(spec.get("replicas", 1))
        for other in sets:
            if other["metadata"]["uid"] != current["metadata"]["uid"]:
                await self._scale(other, 0, ready=0)
        healthy = await self._pods(current, template, replicas)
        await self._scale(current, replicas, ready=healthy)
        if meta.get("annotations", {}).get(REVISION) != str(revision):
            await self._annotate(resources.DEPLOYMENT, deployment, {REVISION: str(revision)})
        await self._report(deployment, replicas, healthy)

    async def _owned(self, resource: Resource, namespace: str, uid: str) -> list[Object]:
        listed = await self._client.list(resource, namespace)
        return [o for o in listed.items if any(r["uid"] == uid for r in o["metadata"].get("ownerReferences", []))]

    async def _new_replica_set(self, deployment: Object, digest: str, revision: int) -> Object:
        meta, spec = deployment["metadata"], deployment["spec"]
        template = {**spec["template"], "metadata": _labelled(spec["template"].get("metadata", {}), digest)}
        body = {
            "metadata": {
                "name": f"{meta['name']}-{digest}",
                "namespace": meta["namespace"],
                "labels": template["metadata"]["labels"],
                "annotations": {REVISION: str(revision)},
                "ownerReferences": [_owner(deployment, "apps/v1", "Deployment")],
            },
            "spec": {
                "replicas": spec.get("replicas", 1),
                "selector": {"matchLabels": {**spec["selector"].get("matchLabels", {}), TEMPLATE_HASH: digest}},
                "template": template,
            },
        }
        try:
            return await self._client.create(resources.REPLICA_SET, body)
        except AlreadyExists:
            return await self._client.get(resources.REPLICA_SET, body["metadata"]["name"], meta["namespace"])

    async def _pods(self, replica_set: Object, template: Mapping[str, Any], replicas: int) -> int:
        meta = replica_set["metadata"]
        pods = {p["metadata"]["name"]: p for p in await self._owned(resources.POD, meta["namespace"], meta["uid"])}
        wanted = [f"{meta['name']}-{_suffix(meta['uid'], n)}" for n in range(replicas)]
        healthy = 0
        for name in wanted:
            pod = pods.pop(name, None)
            if pod is None:
                body = {
                    "metadata": {
                        "name": name,
                        "namespace": meta["namespace"],
                        **_labelled(template.get("metadata", {}), meta["labels"][TEMPLATE_HASH]),
                        "ownerReferences": [_owner(replica_set, "apps/v1", "ReplicaSet")],
                    },
                    "spec": {**template["spec"], "nodeName": NODE_NAME},
                }
                with contextlib.suppress(AlreadyExists):
                    await self._client.create(resources.POD, body)
                status = pod_status(template, 0)
                broken = not status["containerStatuses"][0]["ready"]
                status = pod_status(template, 7 if broken else 0)
                with contextlib.suppress(NotFound):
                    await self._client.patch(
                        resources.POD, name, {"status": status}, meta["namespace"], subresource="status"
                    )
                healthy += not broken
            else:
                healthy += all(c.get("ready", False) for c in pod.get("status", {}).get("containerStatuses", [{}]))
        for pod in pods.values():
            with contextlib.suppress(NotFound):
                await self._client.delete(
                    resources.POD, pod["metadata"]["name"], meta["namespace"], grace_period_seconds=0
                )
        return healthy

    async def _scale(self, replica_set: Object, replicas: int, *, ready: int) -> None:
        meta = replica_set["metadata"]
        if replica_set["spec"].get("replicas") != replicas:
            with contextlib.suppress(NotFound):
                await self._client.patch(
                    resources.REPLICA_SET, meta["name"], {"spec": {"replicas": replicas}}, meta["namespace"]
                )
        if replicas == 0:
            for pod in await self._owned(resources.POD, meta["namespace"], meta["uid"]):
                with contextlib.suppress(NotFound):
                    await self._client.delete(
                        resources.POD, pod["metadata"]["name"], meta["namespace"], grace_period_seconds=0
                    )
        status = {"replicas": replicas, "readyReplicas": ready, "availableReplicas": ready}
        await self._status(resources.REPLICA_SET, replica_set, status)

    async def _report(self, deployment: Object, replicas: int, ready: int) -> None:
        now = clock.rfc3339(clock.utcnow())[:19] + "Z"
        available = "True" if ready >= replicas else "False"
        status: dict[str, Any] = {
            "observedGeneration": deployment["metadata"].get("generation", 1),
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": replicas - ready,
        }
        old = {c["type"]: c for c in deployment.get("status", {}).get("conditions", [])}
        moved = old.get("Available", {}).get("status") != available
        status["conditions"] = [
            {
                "type": "Available",
                "status": available,
                "reason": "MinimumReplicasAvailable" if available == "True" else "MinimumReplicasUnavailable",
                "message": f"{ready} of {replicas} replicas are available",
                "lastTransitionTime": now if moved else old["Available"]["lastTransitionTime"],
            }
        ]
        await self._status(resources.DEPLOYMENT, deployment, status)

    async def _status(self, resource: Resource, obj: Object, status: Mapping[str, Any]) -> None:
        have = obj.get("status", {})
        if any(have.get(k) != v for k, v in status.items()):
            meta = obj["metadata"]
            with contextlib.suppress(NotFound):
                await self._client.patch(
                    resource, meta["name"], {"status": dict(status)}, meta["namespace"], subresource="status"
                )

    async def _annotate(self, resource: Resource, obj: Object, notes: Mapping[str, str]) -> None:
        meta = obj["metadata"]
        with contextlib.suppress(NotFound):
            await self._client.patch(
                resource, meta["name"], {"metadata": {"annotations": dict(notes)}}, meta["namespace"]
            )


def _owner(obj: Object, api_version: str, kind: str) -> dict[str, Any]:
    meta = obj["metadata"]
    return {
        "apiVersion": api_version, "kind": kind, "name": meta["name"], "uid": meta["uid"],
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


def _labelled(meta: Mapping[str, Any], digest: str) -> dict[str, Any]:
    labels = {**meta.get("labels", {}), TEMPLATE_HASH: digest}
    return {"labels": labels, "annotations": dict(meta.get("annotations", {}))}


def _revision(replica_set: Object) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get(REVISION, "0"))


def _suffix(uid: str, index: int) -> str:
    return hashlib.sha256(f"{uid}/{index}".encode()).hexdigest()[:5]
