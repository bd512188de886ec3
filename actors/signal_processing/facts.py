"""From a cluster object to the few facts an investigator needs, as text. Pure; one small reader a kind.

Keys are a contract with the investigation: ``phase ready restarts lastTermination lastExitCode waitingReason memoryLimit
memoryRequest cpuLimit image container replicas availableReplicas revision previousImage node unschedulable conditions
minAvailable maxUnavailable disruptionsAllowed minReplicas maxReplicas desiredReplicas capacity storageClass type``.
A fact that the object does not state is left out. Labels and annotations are cut to bounds, and texts that a workload may
have written itself pass the redaction of secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kubernaut_ray.crds.shared import RelatedObject
from kubernaut_ray.kube.client import Object
from kubernaut_ray.redact import redact

MAX_LABELS = 100
MAX_LABEL_VALUE = 63
MAX_ANNOTATIONS = 50
MAX_ANNOTATION_VALUE = 512
MAX_FACT = 512
REVISION = "deployment.kubernetes.io/revision"
_NOISE = ("kubectl.kubernetes.io/last-applied-configuration",)


def related(kind: str, obj: Object, **more: str) -> RelatedObject:
    """Describe an object; ``more`` adds facts that only its surroundings tell, such as ``previousImage``."""
    metadata = obj.get("metadata") or {}
    facts = {**_READERS.get(kind, _generic)(obj), **more}
    return RelatedObject(
        kind=kind,
        name=metadata.get("name", ""),
        namespace=metadata.get("namespace", ""),
        labels=_bounded(metadata.get("labels") or {}, MAX_LABELS, MAX_LABEL_VALUE),
        annotations=_annotations(metadata.get("annotations") or {}),
        facts={key: text for key, value in facts.items() if (text := _text(value))},
    )


def containers(obj: Object) -> Sequence[Mapping[str, Any]]:
    """Return the containers of a pod, or of a workload's pod template."""
    spec = obj.get("spec") or {}
    pod = (spec.get("template") or {}).get("spec") or spec
    return pod.get("containers") or ()


def pod_labels(obj: Object) -> Mapping[str, str]:
    """Return the labels that this object's pods carry: its own for a pod, its template's for a workload."""
    template = (obj.get("spec") or {}).get("template")
    metadata = (template or obj).get("metadata") or {}
    return metadata.get("labels") or {}


def pod_annotations(obj: Object) -> Mapping[str, str]:
    """Return the annotations that this object's pods carry."""
    template = (obj.get("spec") or {}).get("template")
    metadata = (template or obj).get("metadata") or {}
    return metadata.get("annotations") or {}


def worst_container(pod: Object) -> str:
    """Return the name of the container that fares worst: waiting with an error, then most restarts, then the first."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    if not statuses:
        declared = containers(pod)
        return str(declared[0].get("name", "")) if declared else ""
    return str(max(enumerate(statuses), key=lambda pair: (*_badness(pair[1]), -pair[0]))[1].get("name", ""))


def worst_pod(pods: Iterable[Object]) -> Object | None:
    """Return the pod that tells most about what is wrong; ``None`` when there is none. Ties go by name."""

    def rank(pod: Object) -> tuple[Any, ...]:
        status = pod.get("status") or {}
        worst = max((_badness(c) for c in status.get("containerStatuses") or ()), default=(0, 0, 0))
        unhappy = status.get("phase") in {"Failed", "Pending", "Unknown"}
        return (*worst, unhappy)

    ordered = sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
    return max(ordered, key=rank) if ordered else None


def previous_image(deployment: Object, replica_sets: Iterable[Object], container: str) -> str:
    """Return the image that ``container`` had in the newest older revision with another image; empty if there is none."""
    current = _image(deployment, container)
    owner = (deployment.get("metadata") or {}).get("uid")
    revision = _number((deployment["metadata"].get("annotations") or {}).get(REVISION))
    older: list[tuple[int, str]] = []
    for replica_set in replica_sets:
        metadata = replica_set.get("metadata") or {}
        if not any(o.get("uid") == owner and o.get("controller") for o in metadata.get("ownerReferences") or ()):
            continue
        number = _number((metadata.get("annotations") or {}).get(REVISION))
        image = _image(replica_set, container)
        if image and image != current and (not revision or number < revision):
            older.append((number, image))
    return max(older)[1] if older else ""


def _badness(status: Mapping[str, Any]) -> tuple[int, int, int]:
    waiting = ((status.get("state") or {}).get("waiting") or {}).get("reason", "")
    ended = _last_termination(status)
    bad_end = bool(ended) and (ended.get("exitCode") not in (0, None) or ended.get("reason") == "OOMKilled")
    return (
        int(waiting not in ("", "ContainerCreating", "PodInitializing")),
        int(bad_end),
        int(status.get("restartCount") or 0),
    )


def _last_termination(status: Mapping[str, Any]) -> Mapping[str, Any]:
    now = (status.get("state") or {}).get("terminated")
    return now or (status.get("lastState") or {}).get("terminated") or {}


def _pod(pod: Object) -> dict[str, Any]:
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    statuses = status.get("containerStatuses") or ()
    name = worst_container(pod)
    worst: Mapping[str, Any] = next((s for s in statuses if s.get("name") == name), {})
    ended = _last_termination(worst)
    waiting = (worst.get("state") or {}).get("waiting") or {}
    unscheduled = next(
        (
            c
            for c in status.get("conditions") or ()
            if c.get("type") == "PodScheduled" and c.get("status") == "False" and c.get("reason") == "Unschedulable"
        ),
        None,
    )
    total = len(statuses) or len(containers(pod))
    return {
        "phase": status.get("phase"),
        "ready": f"{sum(1 for s in statuses if s.get('ready'))}/{total}",
        "restarts": worst.get("restartCount"),
        "lastTermination": ended.get("reason"),
        "lastExitCode": ended.get("exitCode"),
        "waitingReason": waiting.get("reason"),
        "node": spec.get("nodeName"),
        "unschedulable": unscheduled and (unscheduled.get("message") or "true"),
        "conditions": _conditions(status, healthy="True"),
        **_container(pod, name),
    }


def _workload(obj: Object) -> dict[str, Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    wanted = spec.get("replicas", status.get("desiredNumberScheduled"))
    ready = status.get("readyReplicas", status.get("numberReady"))
    return {
        "replicas": wanted,
        "availableReplicas": status.get("availableReplicas", status.get("numberAvailable", 0)),
        "ready": f"{ready or 0}/{wanted}" if wanted is not None else None,
        "revision": ((obj.get("metadata") or {}).get("annotations") or {}).get(REVISION),
        "conditions": _conditions(status),
        **_container(obj, ""),
    }


def _node(node: Object) -> dict[str, Any]:
    status, spec = node.get("status") or {}, node.get("spec") or {}
    ready = next((c.get("status") for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    return {
        "ready": ready,
        "unschedulable": "true" if spec.get("unschedulable") else None,
        "conditions": _conditions(status),
        "capacity": _pairs((status.get("allocatable") or {}), ("cpu", "memory", "pods")),
    }


def _pdb(pdb: Object) -> dict[str, Any]:
    spec, status = pdb.get("spec") or {}, pdb.get("status") or {}
    return {
        "minAvailable": spec.get("minAvailable"),
        "maxUnavailable": spec.get("maxUnavailable"),
        "disruptionsAllowed": status.get("disruptionsAllowed"),
        "ready": f"{status.get('currentHealthy', 0)}/{status.get('desiredHealthy', 0)}" if status else None,
    }


def _hpa(hpa: Object) -> dict[str, Any]:
    spec, status = hpa.get("spec") or {}, hpa.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    return {
        "minReplicas": spec.get("minReplicas"),
        "maxReplicas": spec.get("maxReplicas"),
        "replicas": status.get("currentReplicas"),
        "desiredReplicas": status.get("desiredReplicas"),
        "scales": f"{target.get('kind')}/{target.get('name')}" if target else None,
        "conditions": _conditions(status),
    }


def _pvc(pvc: Object) -> dict[str, Any]:
    spec, status = pvc.get("spec") or {}, pvc.get("status") or {}
    return {
        "phase": status.get("phase"),
        "capacity": (status.get("capacity") or {}).get("storage"),
        "requested": ((spec.get("resources") or {}).get("requests") or {}).get("storage"),
        "storageClass": spec.get("storageClassName"),
        "conditions": _conditions(status),
    }


def _job(job: Object) -> dict[str, Any]:
    spec, status = job.get("spec") or {}, job.get("status") or {}
    return {
        "active": status.get("active"),
        "succeeded": status.get("succeeded"),
        "failed": status.get("failed"),
        "backoffLimit": spec.get("backoffLimit"),
        "conditions": _conditions(status),
        **_container(job, ""),
    }


def _service(service: Object) -> dict[str, Any]:
    spec = service.get("spec") or {}
    return {
        "type": spec.get("type"),
        "selector": ",".join(f"{k}={v}" for k, v in sorted((spec.get("selector") or {}).items())),
        "ports": ",".join(str(p.get("port")) for p in spec.get("ports") or ()),
    }


def _generic(obj: Object) -> dict[str, Any]:
    status = obj.get("status") or {}
    phase = status.get("phase")
    return {"phase": phase if isinstance(phase, str) else None, "conditions": _conditions(status)}


_READERS: Mapping[str, Callable[[Object], dict[str, Any]]] = {
    "Pod": _pod,
    "Deployment": _workload,
    "StatefulSet": _workload,
    "DaemonSet": _workload,
    "ReplicaSet": _workload,
    "Node": _node,
    "PodDisruptionBudget": _pdb,
    "HorizontalPodAutoscaler": _hpa,
    "PersistentVolumeClaim": _pvc,
    "Job": _job,
    "Service": _service,
}


def container_facts(obj: Object, container: str) -> dict[str, str]:
    """Return the facts about one container of a pod or of a workload's template, the first one when it has none of that name."""
    return {key: text for key, value in _container(obj, container).items() if (text := _text(value))}


def _container(obj: Object, name: str) -> dict[str, Any]:
    declared = containers(obj)
    chosen = next((c for c in declared if c.get("name") == name), declared[0] if declared else {})
    resources = chosen.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return {
        "container": chosen.get("name"),
        "image": chosen.get("image"),
        "memoryLimit": limits.get("memory"),
        "memoryRequest": requests.get("memory"),
        "cpuLimit": limits.get("cpu"),
    }


def _image(obj: Object, container: str) -> str:
    return str(_container(obj, container)["image"] or "")


def _conditions(status: Mapping[str, Any], healthy: str = "") -> str:
    """Render ``Type=Status (Reason)``; with ``healthy``, only the conditions that have another status."""
    return ", ".join(
        f"{c.get('type')}={c.get('status')}" + (f" ({c['reason']})" if c.get("reason") else "")
        for c in status.get("conditions") or ()
        if isinstance(c, Mapping) and c.get("status") != (healthy or None)
    )


def _pairs(values: Mapping[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(f"{key}={values[key]}" for key in keys if key in values)


def _number(text: Any) -> int:
    return int(text) if str(text or "").isdecimal() else 0


def _text(value: Any) -> str:
    return "" if value is None else redact(str(value))[:MAX_FACT]


def _bounded(values: Mapping[str, Any], count: int, length: int) -> dict[str, str]:
    return {str(key): str(value)[:length] for key, value in sorted(values.items())[:count]}


def _annotations(values: Mapping[str, Any]) -> dict[str, str]:
    kept = {k: redact(str(v)) for k, v in values.items() if k not in _NOISE and len(str(v)) <= MAX_ANNOTATION_VALUE}
    return _bounded(kept, MAX_ANNOTATIONS, MAX_ANNOTATION_VALUE)
