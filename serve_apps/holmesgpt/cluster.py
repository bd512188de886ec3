"""Reads the cluster for an investigation and brings it into short, plain values. Called by the tools; it never writes.

Everything returned is JSON-able. Secrets are never read: of a Secret only its existence and keys are told. Absence is an
answer (``None`` or an empty list); a missing right is said in words by the error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from kubernaut_ray import clock
from kubernaut_ray.errors import InvalidInput
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object, ObjectList
from kubernaut_ray.kube.errors import ApiError, NotFound
from kubernaut_ray.kube.resources import Resource

REVISION = "deployment.kubernetes.io/revision"
MAX_LISTED = 50
MAX_EVENTS = 30
_NOISE = ("managedFields", "uid", "resourceVersion", "generation", "selfLink", "creationTimestamp")
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"}


class Reader(Protocol):
    """What of ``KubeClient`` an investigation uses: reads only."""

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object: ...

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        limit: int | None = None,
        continue_token: str = "",
    ) -> ObjectList: ...

    async def logs(
        self, namespace: str, name: str, *, container: str = "", previous: bool = False, tail_lines: int = 100
    ) -> str: ...

    async def discover(self) -> tuple[Resource, ...]: ...


class Cluster:
    """The cluster as investigations see it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._discovered: dict[str, Resource] = {}

    async def resource(self, kind: str) -> Resource:
        """Find a kind by its name, any case. Raises ``InvalidInput`` when the cluster has none."""
        known = {k.lower(): r for k, r in resources.BY_KIND.items()}
        if kind.lower() in known:
            return known[kind.lower()]
        if not self._discovered:
            self._discovered = {r.kind.lower(): r for r in await self._reader.discover()}
        try:
            return self._discovered[kind.lower()]
        except KeyError:
            raise InvalidInput(
                f"the cluster has no kind {kind!r}; write it in the singular, as in Deployment"
            ) from None

    async def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Return one object without noise; ``None`` when there is none."""
        resource = await self.resource(kind)
        try:
            found = await self._reader.get(resource, name, namespace or None if resource.namespaced else None)
        except NotFound:
            return None
        return trim(found)

    async def find(self, kind: str, namespace: str = "", labels: str = "") -> list[Object]:
        """Return at most 50 objects without noise."""
        resource = await self.resource(kind)
        listed = await self._reader.list(
            resource, namespace or None if resource.namespaced else None, labels=labels, limit=MAX_LISTED
        )
        return [trim(item) for item in listed.items[:MAX_LISTED]]

    async def pods(self, kind: str, name: str, namespace: str = "") -> list[dict[str, Any]]:
        """Return the pods of a workload, of a node, or the pod itself, in brief."""
        if kind.lower() == "pod":
            pod = await self.get("Pod", name, namespace)
            return [pod_brief(pod)] if pod else []
        if kind.lower() == "node":
            listed = await self._reader.list(resources.POD, fields=f"spec.nodeName={name}", limit=MAX_LISTED)
            return [pod_brief(p) for p in listed.items if (p.get("spec") or {}).get("nodeName") == name]
        owner = await self.get(kind, name, namespace)
        selector = label_selector(((owner or {}).get("spec") or {}).get("selector"))
        if not selector:
            return []
        listed = await self._reader.list(resources.POD, namespace, labels=selector, limit=MAX_LISTED)
        return [pod_brief(p) for p in listed.items]

    async def events(self, namespace: str, names: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Return events of these objects (all of the namespace without names), newest first, at most 30."""
        listed = await self._reader.list(resources.EVENT, namespace or "default", limit=500)
        wanted = set(names)
        briefs = [event_brief(e) for e in listed.items]
        chosen = [e for e in briefs if not wanted or e["object"].partition("/")[2] in wanted]
        return sorted(chosen, key=lambda e: e["lastSeen"], reverse=True)[:MAX_EVENTS]

    async def logs(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int) -> str | None:
        """Return the last lines of a log; ``None`` where there is none (no such pod or run, or no log service)."""
        try:
            return await self._reader.logs(namespace, pod, container=container, previous=previous, tail_lines=lines)
        except ApiError as error:
            if error.status in {400, 404, 405, 501}:
                return None
            raise

    async def rollouts(self, namespace: str, deployment: str) -> list[dict[str, Any]]:
        """Return a Deployment's revisions, newest first, each with what it changed against the one before."""
        owner = await self.get("Deployment", deployment, namespace)
        if owner is None:
            return []
        selector = label_selector((owner.get("spec") or {}).get("selector"))
        listed = await self._reader.list(resources.REPLICA_SET, namespace, labels=selector)
        mine = sorted((r for r in listed.items if _controlled_by(r, deployment)), key=_revision)
        history: list[dict[str, Any]] = []
        before: Mapping[str, Any] | None = None
        for replica_set in mine:
            template = ((replica_set.get("spec") or {}).get("template") or {}).get("spec") or {}
            status = replica_set.get("status") or {}
            history.append(
                {
                    "revision": _revision(replica_set),
                    "replicaSet": replica_set["metadata"]["name"],
                    "created": replica_set["metadata"].get("creationTimestamp", ""),
                    "replicas": status.get("replicas", 0),
                    "readyReplicas": status.get("readyReplicas", 0),
                    "images": [c.get("image", "") for c in template.get("containers") or ()],
                    "changes": differences(before, template) if before is not None else [],
                }
            )
            before = template
        return history[::-1]

    async def node(self, name: str) -> dict[str, Any] | None:
        """Return a node's conditions, taints, capacity and whether it takes pods; ``None`` when there is none."""
        node = await self.get("Node", name)
        if node is None:
            return None
        spec, status = node.get("spec") or {}, node.get("status") or {}
        return {
            "name": name,
            "unschedulable": bool(spec.get("unschedulable")),
            "taints": [f"{t.get('key')}={t.get('value', '')}:{t.get('effect')}" for t in spec.get("taints") or ()],
            "conditions": [_pick(c, "type", "status", "reason", "message") for c in status.get("conditions") or ()],
            "allocatable": status.get("allocatable") or {},
        }

    async def guards(self, namespace: str) -> dict[str, list[Object]]:
        """Return the namespace's PodDisruptionBudgets and HorizontalPodAutoscalers."""
        budgets, scalers = await asyncio.gather(
            self.find("PodDisruptionBudget", namespace), self.find("HorizontalPodAutoscaler", namespace)
        )
        return {"podDisruptionBudgets": budgets, "horizontalPodAutoscalers": scalers}


def trim(obj: Object) -> Object:
    """Return the object without what tells an investigation nothing; of a Secret, keys only."""
    metadata = {k: v for k, v in (obj.get("metadata") or {}).items() if k not in _NOISE}
    notes = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != _APPLIED}
    if notes:
        metadata["annotations"] = notes
    else:
        metadata.pop("annotations", None)
    if obj.get("metadata", {}).get("creationTimestamp"):
        metadata["creationTimestamp"] = obj["metadata"]["creationTimestamp"]
    trimmed = {**obj, "metadata": metadata}
    if obj.get("kind") == "Secret":
        keys = sorted({*(obj.get("data") or {}), *(obj.get("stringData") or {})})
        trimmed = {"kind": "Secret", "metadata": {"name": metadata.get("name")}, "keys": keys, "type": obj.get("type")}
    return trimmed


def pod_brief(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a pod says about itself: phase, node, conditions that are not true, and each container's state."""
    metadata, spec, status = pod.get("metadata") or {}, pod.get("spec") or {}, pod.get("status") or {}
    by_name = {
        c.get("name"): c
        for c in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    }
    return {
        "name": metadata.get("name", ""),
        "namespace": metadata.get("namespace", ""),
        "labels": metadata.get("labels") or {},
        "owner": next((f"{o.get('kind')}/{o.get('name')}" for o in metadata.get("ownerReferences") or ()), ""),
        "created": metadata.get("creationTimestamp", ""),
        "deleting": metadata.get("deletionTimestamp", ""),
        "gracePeriodSeconds": metadata.get("deletionGracePeriodSeconds"),
        "finalizers": metadata.get("finalizers") or [],
        "phase": status.get("phase", "Unknown"),
        "reason": status.get("reason", ""),
        "message": status.get("message", ""),
        "node": spec.get("nodeName", ""),
        "problems": [
            _pick(c, "type", "reason", "message") for c in status.get("conditions") or () if c.get("status") != "True"
        ],
        "claims": [
            v["persistentVolumeClaim"].get("claimName", "")
            for v in spec.get("volumes") or ()
            if v.get("persistentVolumeClaim")
        ],
        "containers": [
            _container(c, by_name.get(c.get("name")) or {})
            for c in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        ],
    }


def _container(spec: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or last.get("terminated") or {}
    limits, requests = ((spec.get("resources") or {}).get(k) or {} for k in ("limits", "requests"))
    return {
        "name": spec.get("name", ""),
        "image": spec.get("image", ""),
        "ready": bool(status.get("ready")),
        "restarts": int(status.get("restartCount") or 0),
        "state": next(iter(state), "unknown"),
        "waitingReason": waiting.get("reason", ""),
        "waitingMessage": waiting.get("message", ""),
        "lastTermination": _pick(ended, "reason", "exitCode", "message", "finishedAt") if ended else {},
        "memoryLimit": str(limits.get("memory", "")),
        "memoryRequest": str(requests.get("memory", "")),
        "cpuLimit": str(limits.get("cpu", "")),
        "cpuRequest": str(requests.get("cpu", "")),
    }


def event_brief(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return one event of ``core/v1`` or ``events.k8s.io/v1`` in brief."""
    about = event.get("involvedObject") or event.get("regarding") or {}
    seen = (
        event.get("lastTimestamp") or event.get("eventTime") or (event.get("metadata") or {}).get("creationTimestamp")
    )
    return {
        "type": event.get("type", ""),
        "reason": event.get("reason", ""),
        "object": f"{about.get('kind', '')}/{about.get('name', '')}",
        "count": int(event.get("count") or (event.get("series") or {}).get("count") or 1),
        "lastSeen": str(seen or ""),
        "message": str(event.get("message") or event.get("note") or "")[:1000],
    }


def label_selector(selector: Mapping[str, Any] | None) -> str:
    """Render a ``metav1.LabelSelector`` as query text; empty when it selects nothing."""
    if not selector:
        return ""
    parts = [f"{k}={v}" for k, v in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression.get("key"), ",".join(expression.get("values") or ())
        match expression.get("operator"):
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(str(key))
            case "DoesNotExist":
                parts.append(f"!{key}")
            case other:
                raise InvalidInput(f"label selector: {other!r} is no operator")
    return ",".join(parts)


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """List what changed between two pod templates, one line a leaf; environment values are not shown."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            line
            for key in sorted({*old, *new})
            for line in differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        ]
    if isinstance(old, list | tuple) and isinstance(new, list | tuple) and _named(old) and _named(new):
        left, right = ({i["name"]: i for i in side} for side in (old, new))
        return differences(left, right, path)
    if old == new:
        return []
    if ".env." in path and path.endswith(".value"):
        return [f"{path}: changed"]
    return [f"{path}: {_short(old)} -> {_short(new)}"]


def age(since: str, now: datetime) -> float:
    """Seconds since an RFC 3339 instant; infinite for an empty or unreadable one."""
    try:
        return (now - clock.parse_rfc3339(since)).total_seconds()
    except ValueError:
        return float("inf")


def _named(items: Iterable[Any]) -> bool:
    return all(isinstance(i, Mapping) and "name" in i for i in items)


def _short(value: Any) -> str:
    if value is None:
        return "(none)"
    text = str(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def _pick(source: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {k: source[k] for k in keys if source.get(k) not in (None, "")}


def _revision(replica_set: Mapping[str, Any]) -> int:
    text = ((replica_set.get("metadata") or {}).get("annotations") or {}).get(REVISION, "0")
    return int(text) if str(text).isdigit() else 0


def _controlled_by(obj: Mapping[str, Any], name: str) -> bool:
    owners = (obj.get("metadata") or {}).get("ownerReferences") or ()
    return any(o.get("kind") == "Deployment" and o.get("name") == name for o in owners)
