"""Gathers what the cluster shows about an incident, with the same tools, limits and audit as a language model has.

The result is one frozen value that the rules judge. Where the cluster could not be read, what signal processing found
earlier (the enrichment) stands in, and the value says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubernaut_ray.contracts.investigation import IncidentRequest
from kubernaut_ray.crds.shared import RelatedObject
from serve_apps.holmesgpt.models.model import Case
from serve_apps.holmesgpt.toolbox import Toolbox

Fact = Mapping[str, Any]
_HAS_PODS = {"deployment", "statefulset", "daemonset", "replicaset", "job", "pod", "node"}


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything the rules may look at. ``readable``: the cluster answered for the target (even if it is gone)."""

    request: IncidentRequest
    now: datetime
    readable: bool
    target: Fact | None = None
    pods: tuple[Fact, ...] = ()
    events: tuple[Fact, ...] = ()
    rollouts: tuple[Fact, ...] = ()
    """Newest first."""
    nodes: tuple[Fact, ...] = ()
    budgets: tuple[Fact, ...] = ()
    scalers: tuple[Fact, ...] = ()
    logs: Mapping[str, str] = field(default_factory=dict)
    """``pod/container`` → the end of the log before its last crash."""
    live_pods: bool = True
    """False when the pods are told by the enrichment, not read now."""

    @property
    def where(self) -> str:
        target = self.request.target
        return f"{target.kind} {target.namespace}/{target.name}" if target.namespace else f"{target.kind} {target.name}"

    @property
    def containers(self) -> tuple[tuple[Fact, Fact], ...]:
        """Every (pod, container) pair."""
        return tuple((p, c) for p in self.pods for c in p["containers"])

    @property
    def desired(self) -> int | None:
        """How many replicas the target wants; ``None`` where it has no such notion."""
        spec = (self.target or {}).get("spec") or {}
        kind = self.request.target.kind.lower()
        return (
            int(spec.get("replicas", 1))
            if kind in {"deployment", "statefulset", "replicaset"} and self.target
            else None
        )

    @property
    def available(self) -> int | None:
        if self.desired is None:
            return None
        status = (self.target or {}).get("status") or {}
        return int(status.get("availableReplicas", status.get("readyReplicas", 0)) or 0)


async def gather(case: Case, now: datetime) -> Findings:
    """Look at the target, its pods, events, history, nodes and guards."""
    request, tools = case.request, case.toolbox
    target, kind = request.target, request.target.kind.lower()
    read = await tools.call("kubernetes_get", {"kind": target.kind, "name": target.name, "namespace": target.namespace})
    pods: tuple[Fact, ...] = ()
    if kind in _HAS_PODS:
        pods = await _many(
            tools, "workload_pods", {"kind": target.kind, "name": target.name, "namespace": target.namespace}
        )
    named = request.signal_resource
    if named is not None and named.kind.lower() == "pod" and not any(p["name"] == named.name for p in pods):
        pods += await _many(tools, "workload_pods", {"kind": "Pod", "name": named.name, "namespace": named.namespace})
    live = bool(pods) or read.ok
    if not pods:
        pods = _told(request)
    rollouts: tuple[Fact, ...] = ()
    if kind == "deployment":
        rollouts = await _many(tools, "rollout_history", {"namespace": target.namespace, "deployment": target.name})
    names = [target.name, *(p["name"] for p in pods), *(r["replicaSet"] for r in rollouts)]
    space = target.namespace or "default"
    events = await _many(tools, "recent_events", {"namespace": space, "names": names[:60]})
    guards: Mapping[str, Any] = {}
    if target.namespace:
        guards = (await tools.call("disruption_and_scaling", {"namespace": target.namespace})).value or {}
    return Findings(
        request=request,
        now=now,
        readable=read.ok,
        target=read.value if read.ok else None,
        pods=pods,
        events=events,
        rollouts=rollouts,
        nodes=await _nodes(tools, request, pods),
        budgets=tuple(guards.get("podDisruptionBudgets") or ()),
        scalers=tuple(guards.get("horizontalPodAutoscalers") or ()),
        logs=await _logs(tools, pods) if live else {},
        live_pods=live,
    )


async def _many(tools: Toolbox, name: str, arguments: dict[str, Any]) -> tuple[Fact, ...]:
    return tuple((await tools.call(name, arguments)).value or ())


async def _nodes(tools: Toolbox, request: IncidentRequest, pods: tuple[Fact, ...]) -> tuple[Fact, ...]:
    """The target node, or the nodes of pods that are not well (at most three)."""
    if request.target.kind.lower() == "node":
        wanted = [request.target.name]
    else:
        wanted = sorted({p["node"] for p in pods if p["node"] and not ready(p)})[:3]
        if any(p["phase"] == "Pending" and not p["node"] for p in pods):
            listed = (await tools.call("kubernetes_list", {"kind": "Node"})).value or ()
            wanted += [n["metadata"]["name"] for n in listed if (n.get("spec") or {}).get("unschedulable")][:3]
    found = [(await tools.call("node_status", {"name": name})).value for name in wanted]
    return tuple(n for n in found if n)


async def _logs(tools: Toolbox, pods: tuple[Fact, ...]) -> dict[str, str]:
    """The log of the first container that crashed by itself."""
    for pod in pods:
        for container in pod["containers"]:
            ended = container["lastTermination"]
            if ended and ended.get("reason") != "OOMKilled" and ended.get("exitCode"):
                arguments = {
                    "namespace": pod["namespace"],
                    "pod": pod["name"],
                    "container": container["name"],
                    "previous": True,
                    "lines": 50,
                }
                result = await tools.call("pod_logs", arguments)
                return {f"{pod['name']}/{container['name']}": result.text} if result.ok and result.value else {}
    return {}


def ready(pod: Fact) -> bool:
    """Whether a pod does its work (or has done it)."""
    if pod["phase"] == "Succeeded":
        return True
    return pod["phase"] == "Running" and not pod["deleting"] and all(c["ready"] for c in pod["containers"])


def _told(request: IncidentRequest) -> tuple[Fact, ...]:
    """The pod as signal processing saw it, in the shape of a live one."""
    seen: RelatedObject | None = request.enrichment.pod
    if seen is None or not seen.facts:
        return ()
    facts = seen.facts
    ended = {}
    if facts.get("lastTermination"):
        code = facts.get("lastExitCode", "")
        ended = {"reason": facts["lastTermination"], **({"exitCode": int(code)} if code.isdigit() else {})}
    restarts = facts.get("restarts", "0")
    container = {
        "name": facts.get("container", ""),
        "image": facts.get("image", ""),
        "ready": facts.get("ready", "").lower() == "true",
        "restarts": int(restarts) if restarts.isdigit() else 0,
        "state": "waiting" if facts.get("waitingReason") else "unknown",
        "waitingReason": facts.get("waitingReason", ""),
        "waitingMessage": "",
        "lastTermination": ended,
        "memoryLimit": facts.get("memoryLimit", ""),
        "memoryRequest": facts.get("memoryRequest", ""),
        "cpuLimit": facts.get("cpuLimit", ""),
        "cpuRequest": "",
    }
    return (
        {
            "name": seen.name,
            "namespace": seen.namespace,
            "labels": seen.labels,
            "owner": "",
            "created": "",
            "deleting": "",
            "gracePeriodSeconds": None,
            "finalizers": [],
            "phase": facts.get("phase", "Unknown"),
            "reason": "",
            "message": "",
            "node": facts.get("node", ""),
            "problems": [],
            "claims": [],
            "containers": [container],
        },
    )
