"""What ``kubectl get`` shows of the built-in kinds: one tuple of columns for each, as the API server renders them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kubernaut_ray.kube.embedded.kinds import Column
from kubernaut_ray.kube.embedded.selectors import from_label_selector
from kubernaut_ray.kube.embedded.status import Obj

NONE = "<none>"
UNKNOWN = "<unknown>"


def human_duration(seconds: float) -> str:
    """Render a duration as ``duration.HumanDuration`` of apimachinery does: ``9s``, ``3m5s``, ``2h``, ``5d3h``, ``2y``."""
    if seconds < -1:
        return "<invalid>"
    total = max(0, int(seconds))
    if total < 120:
        return f"{total}s"
    minutes, secs = divmod(total, 60)
    if minutes < 10:
        return f"{minutes}m{secs}s" if secs else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours, mins = divmod(minutes, 60)
    if hours < 8:
        return f"{hours}h{mins}m" if mins else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days, hrs = divmod(hours, 24)
    if days < 8:
        return f"{days}d{hrs}h" if hrs else f"{days}d"
    if days < 730:
        return f"{days}d"
    years, rest = divmod(days, 365)
    return f"{years}y{rest}d" if years < 8 and rest else f"{years}y"


def since(text: Any) -> str:
    """Render the time since an RFC 3339 instant."""
    if not isinstance(text, str) or not text:
        return UNKNOWN
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return UNKNOWN
    return human_duration((datetime.now(UTC) - instant.astimezone(UTC)).total_seconds())


def age(obj: Obj) -> str:
    return since(obj["metadata"].get("creationTimestamp"))


def at(obj: Any, *path: str, missing: Any = None) -> Any:
    """Return what lies at a path of keys, or ``missing``."""
    for key in path:
        if not isinstance(obj, Mapping):
            return missing
        obj = obj.get(key)
    return missing if obj is None else obj


_NAME = Column("Name", lambda o: o["metadata"]["name"], format="name")
_AGE = Column("Age", age)


def _container_names(obj: Obj) -> str:
    return ",".join(c.get("name", "") for c in at(obj, "spec", "template", "spec", "containers", missing=()))


def _images(obj: Obj) -> str:
    return ",".join(c.get("image", "") for c in at(obj, "spec", "template", "spec", "containers", missing=()))


def _selector(obj: Obj) -> str:
    return from_label_selector(at(obj, "spec", "selector", missing={})) or NONE


_WORKLOAD_WIDE = (
    Column("Containers", _container_names, priority=1),
    Column("Images", _images, priority=1),
    Column("Selector", _selector, priority=1),
)


def pod_status(pod: Obj) -> str:
    """Return the STATUS of ``kubectl get pods``: the most telling reason, not just the phase."""
    reason = at(pod, "status", "reason") or at(pod, "status", "phase", missing="")
    statuses = at(pod, "status", "initContainerStatuses", missing=())
    for i, init in enumerate(statuses):
        terminated, waiting = at(init, "state", "terminated"), at(init, "state", "waiting")
        if terminated is not None and terminated.get("exitCode") == 0:
            continue
        if terminated is not None:
            return "Init:" + (terminated.get("reason") or f"ExitCode:{terminated.get('exitCode', 0)}")
        if waiting is not None and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{i}/{len(at(pod, 'spec', 'initContainers', missing=()))}"
    running = False
    for container in reversed(at(pod, "status", "containerStatuses", missing=())):
        waiting, terminated = at(container, "state", "waiting"), at(container, "state", "terminated")
        if waiting is not None and waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated is not None:
            signal = terminated.get("signal")
            number = f"Signal:{signal}" if signal else f"ExitCode:{terminated.get('exitCode', 0)}"
            reason = terminated.get("reason") or number
        elif container.get("ready") and at(container, "state", "running") is not None:
            running = True
    if reason == "Completed" and running:
        reason = "Running"
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    return str(reason)


def _pod_ready(pod: Obj) -> str:
    ready = sum(bool(c.get("ready")) for c in at(pod, "status", "containerStatuses", missing=()))
    return f"{ready}/{len(at(pod, 'spec', 'containers', missing=()))}"


def _pod_restarts(pod: Obj) -> str:
    statuses = at(pod, "status", "containerStatuses", missing=())
    restarts = sum(c.get("restartCount", 0) for c in statuses)
    finished = [at(c, "lastState", "terminated", "finishedAt") for c in statuses]
    last = max((f for f in finished if f), default=None)
    return f"{restarts} ({since(last)} ago)" if restarts and last else str(restarts)


def _pod_gates(pod: Obj) -> str:
    gates = at(pod, "spec", "readinessGates", missing=())
    if not gates:
        return NONE
    true = {c["type"] for c in at(pod, "status", "conditions", missing=()) if c.get("status") == "True"}
    return f"{sum(g.get('conditionType') in true for g in gates)}/{len(gates)}"


POD = (
    _NAME,
    Column("Ready", _pod_ready),
    Column("Status", pod_status),
    Column("Restarts", _pod_restarts),
    _AGE,
    Column("IP", lambda o: at(o, "status", "podIP", missing=NONE), priority=1),
    Column("Node", lambda o: at(o, "spec", "nodeName", missing=NONE), priority=1),
    Column("Nominated Node", lambda o: at(o, "status", "nominatedNodeName", missing=NONE), priority=1),
    Column("Readiness Gates", _pod_gates, priority=1),
)


def _number(name: str, *path: str) -> Column:
    return Column(name, lambda o: at(o, *path, missing=0), "integer")


def _text(name: str, *path: str, missing: str = NONE, priority: int = 0) -> Column:
    return Column(name, lambda o: at(o, *path, missing="") or missing, priority=priority)


DEPLOYMENT = (
    _NAME,
    Column(
        "Ready",
        lambda o: f"{at(o, 'status', 'readyReplicas', missing=0)}/{at(o, 'spec', 'replicas', missing=0)}",
    ),
    _number("Up-to-date", "status", "updatedReplicas"),
    _number("Available", "status", "availableReplicas"),
    _AGE,
    *_WORKLOAD_WIDE,
)
REPLICA_SET = (
    _NAME,
    _number("Desired", "spec", "replicas"),
    _number("Current", "status", "replicas"),
    _number("Ready", "status", "readyReplicas"),
    _AGE,
    *_WORKLOAD_WIDE,
)
STATEFUL_SET = (_NAME, DEPLOYMENT[1], _AGE, *_WORKLOAD_WIDE[:2])
DAEMON_SET = (
    _NAME,
    _number("Desired", "status", "desiredNumberScheduled"),
    _number("Current", "status", "currentNumberScheduled"),
    _number("Ready", "status", "numberReady"),
    _number("Up-to-date", "status", "updatedNumberScheduled"),
    _number("Available", "status", "numberAvailable"),
    Column(
        "Node Selector",
        lambda o: (
            ",".join(f"{k}={v}" for k, v in at(o, "spec", "template", "spec", "nodeSelector", missing={}).items())
            or NONE
        ),
    ),
    _AGE,
    *_WORKLOAD_WIDE,
)


def _ports(service: Obj) -> str:
    shown = []
    for port in at(service, "spec", "ports", missing=()):
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        shown.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(shown) or NONE


def _external(service: Obj) -> str:
    if at(service, "spec", "type") == "ExternalName":
        return str(at(service, "spec", "externalName", missing=""))
    given = at(service, "spec", "externalIPs", missing=())
    ingress = at(service, "status", "loadBalancer", "ingress", missing=())
    found = [*given, *(i.get("ip") or i.get("hostname", "") for i in ingress)]
    if not found and at(service, "spec", "type") == "LoadBalancer":
        return "<pending>"
    return ",".join(found) or NONE


SERVICE = (
    _NAME,
    _text("Type", "spec", "type"),
    _text("Cluster-IP", "spec", "clusterIP"),
    Column("External-IP", _external),
    Column("Port(s)", _ports),
    _AGE,
    Column(
        "Selector",
        lambda o: ",".join(f"{k}={v}" for k, v in at(o, "spec", "selector", missing={}).items()) or NONE,
        priority=1,
    ),
)


def _node_status(node: Obj) -> str:
    ready = next((c for c in at(node, "status", "conditions", missing=()) if c.get("type") == "Ready"), None)
    text = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    return text + (",SchedulingDisabled" if at(node, "spec", "unschedulable") else "")


def _node_roles(node: Obj) -> str:
    prefix = "node-role.kubernetes.io/"
    return (
        ",".join(sorted(k[len(prefix) :] for k in node["metadata"].get("labels", {}) if k.startswith(prefix))) or NONE
    )


def _node_address(type_: str) -> Column:
    def value(node: Obj) -> str:
        found = [a["address"] for a in at(node, "status", "addresses", missing=()) if a.get("type") == type_]
        return found[0] if found else NONE

    return Column({"InternalIP": "Internal-IP", "ExternalIP": "External-IP"}[type_], value, priority=1)


NODE = (
    _NAME,
    Column("Status", _node_status),
    Column("Roles", _node_roles),
    _AGE,
    _text("Version", "status", "nodeInfo", "kubeletVersion", missing=""),
    _node_address("InternalIP"),
    _node_address("ExternalIP"),
    _text("OS-Image", "status", "nodeInfo", "osImage", missing=UNKNOWN, priority=1),
    _text("Kernel-Version", "status", "nodeInfo", "kernelVersion", missing=UNKNOWN, priority=1),
    _text("Container-Runtime", "status", "nodeInfo", "containerRuntimeVersion", missing=UNKNOWN, priority=1),
)
NAMESPACE = (_NAME, _text("Status", "status", "phase", missing="Active"), _AGE)
CONFIG_MAP = (
    _NAME,
    Column("Data", lambda o: len(o.get("data") or {}) + len(o.get("binaryData") or {}), "integer"),
    _AGE,
)
SECRET = (
    _NAME,
    Column("Type", lambda o: o.get("type", "Opaque")),
    Column("Data", lambda o: len(o.get("data") or {}), "integer"),
    _AGE,
)
SERVICE_ACCOUNT = (_NAME, Column("Secrets", lambda o: len(o.get("secrets") or ()), "integer"), _AGE)


def _last_seen(event: Obj) -> str:
    return since(
        at(event, "series", "lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
        or event.get("firstTimestamp")
    )  # fmt: skip


EVENT = (
    Column("Last Seen", _last_seen),
    Column("Type", lambda o: o.get("type", "")),
    Column("Reason", lambda o: o.get("reason", "")),
    Column(
        "Object",
        lambda o: (
            f"{str(at(o, 'involvedObject', 'kind', missing='')).lower()}/{at(o, 'involvedObject', 'name', missing='')}"
        ),
    ),
    Column("Subobject", lambda o: at(o, "involvedObject", "fieldPath", missing=""), priority=1),
    Column(
        "Source",
        lambda o: ", ".join(
            p for p in (at(o, "source", "component"), at(o, "source", "host"), o.get("reportingComponent")) if p
        ),
        priority=1,
    ),
    Column("Message", lambda o: str(o.get("message") or "").strip()),
    Column("First Seen", lambda o: since(o.get("firstTimestamp") or o.get("eventTime")), priority=1),
    Column("Count", lambda o: o.get("count", 1), "integer", priority=1),
    Column("Name", lambda o: o["metadata"]["name"], priority=1),
)
PVC = (
    _NAME,
    _text("Status", "status", "phase", missing="Pending"),
    _text("Volume", "spec", "volumeName", missing=""),
    _text("Capacity", "status", "capacity", "storage", missing=""),
    Column("Access Modes", lambda o: ",".join(_modes(at(o, "status", "accessModes", missing=())))),
    _text("StorageClass", "spec", "storageClassName", missing=""),
    _AGE,
    Column("VolumeMode", lambda o: at(o, "spec", "volumeMode", missing="Filesystem"), priority=1),
)


def _modes(modes: Any) -> list[str]:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    return [short.get(m, m) for m in modes]


def _job_duration(job: Obj) -> str:
    start, end = at(job, "status", "startTime"), at(job, "status", "completionTime")
    if not start:
        return ""
    if not end:
        return since(start)
    return human_duration((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def _job_status(job: Obj) -> str:
    true = {c.get("type") for c in at(job, "status", "conditions", missing=()) if c.get("status") == "True"}
    named = {"Complete": "Complete", "Failed": "Failed", "Suspended": "Suspended"}
    return next((text for type_, text in named.items() if type_ in true), "Running")


JOB = (
    _NAME,
    Column("Status", _job_status),
    Column(
        "Completions", lambda o: f"{at(o, 'status', 'succeeded', missing=0)}/{at(o, 'spec', 'completions', missing=1)}"
    ),
    Column("Duration", _job_duration),
    _AGE,
    *_WORKLOAD_WIDE,
)


def _hpa_targets(hpa: Obj) -> str:
    shown = []
    current = {at(m, "resource", "name"): m for m in at(hpa, "status", "currentMetrics", missing=())}
    for metric in at(hpa, "spec", "metrics", missing=()):
        name, target = at(metric, "resource", "name"), at(metric, "resource", "target", missing={})
        if name is None:
            shown.append(f"{UNKNOWN}/{metric.get('type', '?')}")
            continue
        now = at(current.get(name), "resource", "current", missing={})
        if "averageUtilization" in target:
            have = f"{now['averageUtilization']}%" if "averageUtilization" in now else UNKNOWN
            shown.append(f"{name}: {have}/{target['averageUtilization']}%")
        else:
            shown.append(f"{name}: {now.get('averageValue', UNKNOWN)}/{target.get('averageValue', UNKNOWN)}")
    return ", ".join(shown) or NONE


HPA = (
    _NAME,
    Column(
        "Reference",
        lambda o: f"{at(o, 'spec', 'scaleTargetRef', 'kind')}/{at(o, 'spec', 'scaleTargetRef', 'name')}",
    ),
    Column("Targets", _hpa_targets),
    Column("MinPods", lambda o: str(at(o, "spec", "minReplicas", missing=1))),
    _number("MaxPods", "spec", "maxReplicas"),
    _number("Replicas", "status", "currentReplicas"),
    _AGE,
)
PDB = (
    _NAME,
    Column("Min Available", lambda o: str(at(o, "spec", "minAvailable", missing="N/A"))),
    Column("Max Unavailable", lambda o: str(at(o, "spec", "maxUnavailable", missing="N/A"))),
    _number("Allowed Disruptions", "status", "disruptionsAllowed"),
    _AGE,
)
NETWORK_POLICY = (
    _NAME,
    Column("Pod-Selector", lambda o: from_label_selector(at(o, "spec", "podSelector", missing={})) or NONE),
    _AGE,
)
LEASE = (_NAME, _text("Holder", "spec", "holderIdentity", missing=""), _AGE)
WEBHOOKS = (_NAME, Column("Webhooks", lambda o: len(o.get("webhooks") or ()), "integer"), _AGE)
CREATED_AT = (_NAME, Column("Created At", lambda o: o["metadata"].get("creationTimestamp")))
BINDING = (
    _NAME,
    Column("Role", lambda o: f"{at(o, 'roleRef', 'kind')}/{at(o, 'roleRef', 'name')}"),
    _AGE,
    Column(
        "Users",
        lambda o: ", ".join(s["name"] for s in o.get("subjects") or () if s.get("kind") == "User"),
        priority=1,
    ),
    Column(
        "Groups",
        lambda o: ", ".join(s["name"] for s in o.get("subjects") or () if s.get("kind") == "Group"),
        priority=1,
    ),
    Column(
        "ServiceAccounts",
        lambda o: ", ".join(
            f"{s.get('namespace', '')}/{s['name']}"
            for s in o.get("subjects") or ()
            if s.get("kind") == "ServiceAccount"
        ),
        priority=1,
    ),
)
PLAIN = (_NAME, _AGE)
