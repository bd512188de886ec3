"""Broken clusters with boring defaults: Deployments with revisions and pods in any state, nodes, budgets, events, logs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from kubernaut_ray.clock import rfc3339
from kubernaut_ray.contracts.catalog import Workflow
from kubernaut_ray.contracts.investigation import (
    FailedExecution,
    IncidentRequest,
    PreviousAttempt,
    RootCause,
    SelectedWorkflowAnswer,
)
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.errors import NotFound
from tests.build import NOW
from tests.memory_kube import MemoryKube

NAMESPACE = "shop"
HEALTHY: dict[str, Any] = {"ready": True, "restartCount": 0, "state": {"running": {}}}


def ago(**delta: float) -> str:
    return rfc3339(NOW - timedelta(**delta))


def oom_killed(restarts: int = 7, **when: float) -> dict[str, Any]:
    ended = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": ago(**(when or {"minutes": 1}))}
    return {
        "ready": False,
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }


def crashed(restarts: int = 5) -> dict[str, Any]:
    ended = {"reason": "Error", "exitCode": 1, "finishedAt": ago(minutes=1)}
    return {
        "ready": False,
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"ready": False, "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}}


class LoggedKube(MemoryKube):
    """The cluster in memory, with container logs."""

    def __init__(self, now: Any) -> None:
        super().__init__(now)
        self.log_texts: dict[str, str] = {}

    async def logs(self, namespace: str, name: str, **_: Any) -> str:
        try:
            return self.log_texts[name]
        except KeyError:
            raise NotFound(f"no log of {name}", status=404, reason="NotFound") from None

    async def discover(self) -> tuple[resources.Resource, ...]:
        return ()


class World:
    """One cluster at one instant. Methods put objects there."""

    def __init__(self) -> None:
        self.kube = LoggedKube(self.now)

    def now(self) -> datetime:
        return NOW

    def add(self, resource: resources.Resource, name: str, body: dict[str, Any], namespace: str = NAMESPACE) -> None:
        metadata = {
            "name": name,
            **({"namespace": namespace} if resource.namespaced else {}),
            **body.pop("metadata", {}),
        }
        self._put(resource, {"metadata": metadata, **body})

    def _put(self, resource: resources.Resource, obj: dict[str, Any]) -> None:
        metadata = obj["metadata"]
        metadata.setdefault("uid", f"uid-{resource.kind}-{metadata['name']}")
        metadata.setdefault("creationTimestamp", ago(hours=3))
        address = (resource.kind, metadata.get("namespace", ""), metadata["name"])
        self.kube.objects[address] = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}

    def deployment(
        self,
        *statuses: dict[str, Any],
        name: str = "web",
        replicas: int | None = None,
        available: int | None = None,
        memory: str = "128Mi",
        revisions: tuple[dict[str, Any], ...] = ({},),
        pod: dict[str, Any] | None = None,
        conditions: tuple[dict[str, Any], ...] = (),
    ) -> TargetResource:
        """A Deployment with one pod a status; ``revisions`` (oldest first) are changes of the container."""
        labels = {"app": name}
        containers = [_container(memory, r) for r in revisions]
        count = len(statuses) if replicas is None else replicas
        ready = sum(bool(s.get("ready")) for s in statuses) if available is None else available
        self.add(
            resources.DEPLOYMENT,
            name,
            {
                "spec": {
                    "replicas": count,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": [containers[-1]]}},
                },
                "status": {"replicas": count, "availableReplicas": ready, "conditions": list(conditions)},
            },
        )
        for number, container in enumerate(containers, 1):
            newest = number == len(containers)
            self.add(
                resources.REPLICA_SET,
                f"{name}-{number}",
                {
                    "metadata": {
                        "labels": labels,
                        "annotations": {"deployment.kubernetes.io/revision": str(number)},
                        "ownerReferences": [_owner("Deployment", name)],
                        "creationTimestamp": ago(minutes=20) if newest else ago(days=3),
                    },
                    "spec": {"replicas": count if newest else 0, "template": {"spec": {"containers": [container]}}},
                    "status": {"replicas": count if newest else 0},
                },
            )
        for number, status in enumerate(statuses):
            self.pod(
                f"{name}-{len(containers)}-{number}", status, container=containers[-1], labels=labels,
                owner=_owner("ReplicaSet", f"{name}-{len(containers)}"), **(pod or {}),
            )  # fmt: skip
        return TargetResource(api_version="apps/v1", kind="Deployment", name=name, namespace=NAMESPACE)

    def pod(
        self,
        name: str,
        status: dict[str, Any],
        *,
        container: dict[str, Any] | None = None,
        labels: dict[str, str] | None = None,
        owner: dict[str, Any] | None = None,
        phase: str = "Running",
        node: str = "node-1",
        metadata: dict[str, Any] | None = None,
        conditions: tuple[dict[str, Any], ...] = (),
        volumes: tuple[dict[str, Any], ...] = (),
        **more: Any,
    ) -> None:
        container = container or _container("128Mi", {})
        self.add(
            resources.POD,
            name,
            {
                "metadata": {
                    "labels": labels or {},
                    "ownerReferences": [owner] if owner else [],
                    **(metadata or {}),
                },
                "spec": {"containers": [container], "nodeName": node, "volumes": list(volumes)},
                "status": {
                    "phase": phase,
                    "conditions": list(conditions),
                    "containerStatuses": [{"name": container["name"], "image": container["image"], **status}],
                    **more,
                },
            },
        )

    def node(
        self, name: str = "node-1", *, ready: bool = True, unschedulable: bool = False, pressure: str = ""
    ) -> None:
        conditions = [{"type": "Ready", "status": "True" if ready else "Unknown", "reason": "NodeStatusUnknown"}]
        conditions += [
            {"type": p, "status": str(p == pressure)} for p in ("DiskPressure", "MemoryPressure", "PIDPressure")
        ]
        spec = {"unschedulable": True} if unschedulable else {}
        self.add(resources.NODE, name, {"spec": spec, "status": {"conditions": conditions}})

    def event(self, reason: str, message: str, *, about: str = "web-1-0", kind: str = "Pod", count: int = 5) -> None:
        self.add(
            resources.EVENT,
            f"event-{len(self.kube.objects)}",
            {
                "involvedObject": {"kind": kind, "name": about},
                "type": "Warning", "reason": reason, "message": message, "count": count, "lastTimestamp": ago(minutes=2),
            },
        )  # fmt: skip

    def budget(self, *, allowed: int = 0, healthy: int = 2, expected: int = 2, name: str = "web-pdb") -> None:
        self.add(
            resources.PDB,
            name,
            {
                "spec": {"minAvailable": expected, "selector": {"matchLabels": {"app": "web"}}},
                "status": {"disruptionsAllowed": allowed, "currentHealthy": healthy, "expectedPods": expected},
            },
        )

    def scaler(self, *, current: int = 5, maximum: int = 5) -> None:
        self.add(
            resources.HPA,
            "web-hpa",
            {
                "spec": {"maxReplicas": maximum, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
                "status": {
                    "currentReplicas": current,
                    "desiredReplicas": current,
                    "conditions": [{"type": "ScalingLimited", "status": str(current >= maximum)}],
                },
            },
        )


def incident(target: TargetResource | None = None, **fields: Any) -> IncidentRequest:
    """A request with boring defaults."""
    return IncidentRequest(
        **{
            "incident_id": "ai-rr-1",
            "remediation_id": "rr-1-secret-correlation",
            "signal_name": "KubePodCrashLooping",
            "signal_type": "prometheus-alert",
            "severity": "critical",
            "signal_source": "alertmanager",
            "target": target
            or TargetResource(api_version="apps/v1", kind="Deployment", name="web", namespace=NAMESPACE),
            "environment": "staging",
            "priority": "P1",
            **fields,
        }
    )


def failed_before(workflow: Workflow, parameters: dict[str, str], reason: str = "TaskFailed") -> PreviousAttempt:
    return PreviousAttempt(
        workflow_execution_ref="we-1",
        original_rca=RootCause(summary="out of memory", signal_type="OOMKilled"),
        selected_workflow=SelectedWorkflowAnswer(
            workflow_id=workflow.workflow_id,
            workflow_name=workflow.workflow_name,
            confidence=0.9,
            parameters=parameters,
        ),
        failure=FailedExecution(reason=reason, failed_at=NOW, exit_code=1),
    )


def _container(memory: str, change: dict[str, Any]) -> dict[str, Any]:
    limits = {"memory": memory, "cpu": "500m"} if memory else {"cpu": "500m"}
    base = {
        "name": "app",
        "image": "registry.local/web:1.0",
        "resources": {"limits": limits, "requests": {"memory": "64Mi"}},
    }
    return {**base, **change}


def _owner(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": f"uid-{kind}-{name}", "controller": True}
