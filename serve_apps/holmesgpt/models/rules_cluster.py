"""Rules about what surrounds the pods: nodes, disruption budgets, autoscalers, replicas, jobs, load; and the alert itself."""

from __future__ import annotations

from kubernaut_ray.contracts.signal_words import canonical, is_canonical
from kubernaut_ray.crds.enums import RcaSeverity
from kubernaut_ray.crds.shared import TargetResource
from serve_apps.holmesgpt.cluster import age
from serve_apps.holmesgpt.models import hypotheses as h
from serve_apps.holmesgpt.models.findings import Fact, Findings, ready
from serve_apps.holmesgpt.models.hypotheses import Hints, Hypothesis, Remedy
from serve_apps.holmesgpt.target import selects

_PRESSURES = ("DiskPressure", "MemoryPressure", "PIDPressure")
_BY_SIGNAL: dict[str, tuple[Remedy, ...]] = {
    "OOMKilled": (h.RAISE_MEMORY,),
    "CrashLoopBackOff": (h.ROLL_BACK, h.RESTART),
    "ImagePullBackOff": (h.ROLL_BACK, h.FIX_IMAGE),
    "NodeNotReady": (h.DRAIN_NODE,),
    "NodeUnschedulable": (h.UNCORDON,),
    "FailedScheduling": (h.ADD_NODE,),
    "PodPending": (h.ADD_NODE,),
    "PodDisruptionBudgetAtLimit": (h.RELAX_BUDGET,),
    "PodStuckTerminating": (h.DELETE_POD,),
    "KubeDeploymentReplicasMismatch": (h.SCALE, h.RESTART),
    "KubeHpaMaxedOut": (h.RAISE_SCALER, h.SCALE),
    "CPUThrottling": (h.RAISE_CPU, h.SCALE),
    "DiskPressure": (h.FREE_DISK, h.DRAIN_NODE),
    "BackoffLimitExceeded": (h.RERUN_JOB,),
    "ProgressDeadlineExceeded": (h.ROLL_BACK,),
    "Unhealthy": (h.RESTART, h.ROLL_BACK),
    "HighErrorRate": (h.ROLL_BACK, h.RESTART),
    "HighLatency": (h.SCALE, h.ROLL_BACK, h.RESTART),
}


def node_not_ready(f: Findings) -> Hypothesis | None:
    for node in f.nodes:
        ready_condition = _condition(node, "Ready")
        if ready_condition is None or ready_condition.get("status") == "True":
            continue
        return Hypothesis(
            "NodeNotReady",
            0.9,
            f"Node {node['name']} is not ready: {ready_condition.get('message') or ready_condition.get('reason') or 'no reason given'}.",
            evidence=(
                f"Node {node['name']}: Ready={ready_condition.get('status')} {ready_condition.get('reason', '')}".strip(),
                *(f"Node {node['name']}: taint {t}" for t in node["taints"][:3]),
            ),
            remedies=(h.DRAIN_NODE,),
            severity=RcaSeverity.CRITICAL,
            hints=Hints(node=node["name"]),
            about=_node(node),
        )
    return None


def node_pressure(f: Findings) -> Hypothesis | None:
    for node in f.nodes:
        for pressure in _PRESSURES:
            found = _condition(node, pressure)
            if found is not None and found.get("status") == "True":
                return Hypothesis(
                    pressure,
                    0.85,
                    f"Node {node['name']} reports {pressure}: {found.get('message') or found.get('reason') or 'no details'}.",
                    evidence=(f"Node {node['name']}: {pressure}=True {found.get('reason', '')}".strip(),),
                    remedies=(h.FREE_DISK, h.DRAIN_NODE.but(0.85))
                    if pressure == "DiskPressure"
                    else (h.DRAIN_NODE.but(0.9),),
                    hints=Hints(node=node["name"]),
                    about=_node(node),
                )
    return None


def cordoned(f: Findings) -> Hypothesis | None:
    """Pods find no node, or the node itself is the target, and a healthy node refuses pods because somebody cordoned it."""
    waiting = [p for p in f.pods if p["phase"] == "Pending" and not p["node"]]
    if not waiting and f.request.target.kind.lower() != "node":
        return None
    for node in f.nodes:
        state = _condition(node, "Ready")
        if not node["unschedulable"] or state is None or state.get("status") != "True" or _pressed(node):
            continue
        return Hypothesis(
            "NodeUnschedulable",
            0.9 if waiting else 0.8,
            f"Node {node['name']} is healthy but cordoned"
            + (f", and {len(waiting)} pod(s) of {f.where} find no node." if waiting else "."),
            evidence=(
                f"Node {node['name']}: Ready, unschedulable",
                *(f"Pod {p['name']}: Pending without a node" for p in waiting[:3]),
            ),
            remedies=(h.UNCORDON,),
            severity=RcaSeverity.MEDIUM,
            factors=("somebody cordoned the node and did not uncordon it",),
            hints=Hints(node=node["name"]),
            about=_node(node),
        )
    return None


def blocked_by_budget(f: Findings) -> Hypothesis | None:
    asked = "PodDisruptionBudgetAtLimit" in {canonical(f.request.signal_type), canonical(f.request.signal_name)}
    told = [e for e in f.events if "disruption budget" in e["message"].lower()]
    for budget in f.budgets:
        status, spec = budget.get("status") or {}, budget.get("spec") or {}
        mine = (
            f.request.target.kind.lower() == "poddisruptionbudget"
            and budget["metadata"]["name"] == f.request.target.name
        )
        if (
            not (mine or any(selects(budget, p["labels"]) for p in f.pods))
            or int(status.get("disruptionsAllowed", 0) or 0) > 0
        ):
            continue
        if not (asked or told or mine):
            continue
        name, healthy = budget["metadata"]["name"], int(status.get("currentHealthy", len(f.pods)) or 0)
        expected = int(status.get("expectedPods", f.desired or len(f.pods)) or 0)
        strict = (
            f"minAvailable {spec['minAvailable']}"
            if "minAvailable" in spec
            else f"maxUnavailable {spec.get('maxUnavailable')}"
        )
        unwell = healthy < expected
        return Hypothesis(
            "PodDisruptionBudgetAtLimit",
            0.7 if unwell else 0.92,
            f"PodDisruptionBudget {name} ({strict}) allows no disruption of {expected} pods, so evictions are refused.",
            evidence=(
                f"PodDisruptionBudget {name}: {strict}, disruptionsAllowed 0, healthy {healthy} of {expected}",
                *(f"Event {e['reason']} on {e['object']}: {e['message']}" for e in told[:3]),
            ),
            remedies=(h.RELAX_BUDGET,),
            severity=RcaSeverity.MEDIUM,
            factors=("some of the pods are unhealthy",)
            if unwell
            else (f"{strict} leaves no room for one pod to move",),
            hints=Hints(budget=name, min_available=max(expected - 1, 0)),
        )
    return None


def scaler_at_maximum(f: Findings) -> Hypothesis | None:
    for scaler in f.scalers:
        spec, status = scaler.get("spec") or {}, scaler.get("status") or {}
        ref = spec.get("scaleTargetRef") or {}
        target = f.request.target
        if (ref.get("kind"), ref.get("name")) != (target.kind, target.name) and scaler["metadata"][
            "name"
        ] != target.name:
            continue
        maximum, current = int(spec.get("maxReplicas", 0)), int(status.get("currentReplicas", 0) or 0)
        limited = any(
            c.get("type") == "ScalingLimited" and c.get("status") == "True" for c in status.get("conditions") or ()
        )
        if not maximum or current < maximum or not (limited or int(status.get("desiredReplicas", 0) or 0) >= maximum):
            continue
        name = scaler["metadata"]["name"]
        return Hypothesis(
            "KubeHpaMaxedOut",
            0.88,
            f"HorizontalPodAutoscaler {name} is at its maximum of {maximum} replicas and wants more.",
            evidence=(
                f"HorizontalPodAutoscaler {name}: current {current}, maximum {maximum}, ScalingLimited {limited}",
            ),
            remedies=(h.RAISE_SCALER, h.SCALE.but(0.75)),
            severity=RcaSeverity.MEDIUM,
            hints=Hints(scaler=name, max_replicas=max(maximum + 1, round(maximum * 1.5)), replicas=maximum + 1),
        )
    return None


def replicas(f: Findings) -> Hypothesis | None:
    desired, available = f.desired, f.available
    if desired is None or available is None:
        return None
    if desired == 0:
        before = next((int(r["replicas"]) for r in f.rollouts if int(r["replicas"] or 0) > 0), 1)
        return Hypothesis(
            "KubeDeploymentReplicasMismatch",
            0.82,
            f"{f.where} is scaled to zero replicas.",
            evidence=(f"{f.where}: spec.replicas 0",),
            remedies=(h.SCALE,),
            hints=Hints(replicas=max(before, 1)),
        )
    stuck = next(
        (
            c
            for c in ((f.target or {}).get("status") or {}).get("conditions") or ()
            if c.get("reason") == "ProgressDeadlineExceeded"
        ),
        None,
    )
    if stuck is not None and len(f.rollouts) > 1:
        return Hypothesis(
            "ProgressDeadlineExceeded",
            0.84,
            f"The rollout of {f.where} does not progress: {stuck.get('message') or 'ProgressDeadlineExceeded'}.",
            evidence=(
                f"{f.where}: Progressing=False ProgressDeadlineExceeded",
                f"{available} of {desired} replicas available",
            ),
            remedies=(h.ROLL_BACK,),
            factors=tuple(f"the latest rollout changed {line}" for line in f.rollouts[0]["changes"][:4]),
            hints=Hints(revisions=tuple(r["revision"] for r in f.rollouts[1:])),
        )
    silent = not any(c["waitingReason"] or c["lastTermination"] for _, c in f.containers if not c["ready"])
    if available < desired and silent:
        return Hypothesis(
            "KubeDeploymentReplicasMismatch",
            0.6,
            f"{available} of {desired} replicas of {f.where} are available; the pods do not say why.",
            evidence=(f"{f.where}: {available} of {desired} replicas available",),
            remedies=(h.RESTART.but(0.9), h.SCALE.but(0.6)),
            hints=Hints(replicas=desired),
        )
    return None


def failed_job(f: Findings) -> Hypothesis | None:
    if f.request.target.kind.lower() != "job" or f.target is None:
        return None
    conditions = (f.target.get("status") or {}).get("conditions") or ()
    failed = next((c for c in conditions if c.get("type") == "Failed" and c.get("status") == "True"), None)
    if failed is None:
        return None
    reason = failed.get("reason") or "BackoffLimitExceeded"
    return Hypothesis(
        reason,
        0.8,
        f"{f.where} failed: {failed.get('message') or reason}.",
        evidence=(f"{f.where}: Failed=True {reason}",),
        remedies=(h.RERUN_JOB.but(0.85), h.CLEAN_JOBS.but(0.6)),
        severity=RcaSeverity.MEDIUM,
    )


def load(f: Findings) -> Hypothesis | None:
    """Signals that only metrics show: what the cluster can add is whether a fresh rollout or a tight limit goes with them."""
    signal = _signal(f)
    if signal not in {"CPUThrottling", "HighErrorRate", "HighLatency"} or not f.readable or f.target is None:
        return None
    fresh = next((r for r in f.rollouts[:1] if len(f.rollouts) > 1 and age(r["created"], f.now) < 2 * 3600), None)
    if fresh is not None and fresh["changes"] and signal != "CPUThrottling":
        return Hypothesis(
            signal,
            0.84,
            f"{signal} of {f.where} began with revision {fresh['revision']}, rolled out at {fresh['created']}.",
            evidence=tuple(f"revision {fresh['revision']} changed {line}" for line in fresh["changes"][:4]),
            remedies=(h.ROLL_BACK, h.RESTART.but(0.6)),
            hints=Hints(revisions=tuple(r["revision"] for r in f.rollouts[1:])),
        )
    if signal == "HighErrorRate":
        return None
    limited = next(((p, c) for p, c in f.containers if c["cpuLimit"]), None)
    if signal == "CPUThrottling" and limited is None:
        return None
    evidence = [f"the alert says: {f.request.description or f.request.signal_name}"]
    evidence += (
        [f"Pod {limited[0]['name']}: container {limited[1]['name']} has the CPU limit {limited[1]['cpuLimit']}"]
        if limited
        else []
    )
    return Hypothesis(
        signal,
        0.76,
        f"{f.where} has too little compute for its load.",
        evidence=tuple(evidence),
        remedies=(h.RAISE_CPU, h.SCALE.but(0.97))
        if signal == "CPUThrottling"
        else (h.SCALE.but(0.9), h.RAISE_CPU.but(0.9)),
        severity=RcaSeverity.MEDIUM,
        factors=("the load itself is not visible in the Kubernetes API",),
        hints=Hints(
            container=limited[1]["name"] if limited else "",
            cpu_limit=limited[1]["cpuLimit"] if limited else "",
            replicas=(f.desired or 1) + max(1, (f.desired or 1) // 2),
        ),
    )


def alert_alone(f: Findings) -> Hypothesis | None:
    """Nothing but the alert: worth telling a person, never enough to act."""
    signal = _signal(f)
    return Hypothesis(
        signal,
        0.4,
        f"The alert says {f.request.signal_name} for {f.where}; the cluster shows nothing that confirms or explains it.",
        evidence=(f"the alert says: {f.request.description or f.request.error_message or f.request.signal_name}",),
        remedies=_BY_SIGNAL.get(signal, ()),
        severity=RcaSeverity.UNKNOWN,
        hints=Hints(revisions=tuple(r["revision"] for r in f.rollouts[1:])),
    )


def _signal(f: Findings) -> str:
    """The canonical signal: types of sources such as ``prometheus-alert`` say nothing, and then the name decides."""
    by_type = canonical(f.request.signal_type)
    return by_type if is_canonical(by_type) else canonical(f.request.signal_name)


def _node(node: Fact) -> TargetResource:
    return TargetResource(api_version="v1", kind="Node", name=node["name"])


def _pressed(node: Fact) -> bool:
    return any(c.get("type") in _PRESSURES and c.get("status") == "True" for c in node["conditions"])


def _condition(node: Fact, type_: str) -> Fact | None:
    return next((c for c in node["conditions"] if c.get("type") == type_), None)


RULES = (
    node_not_ready, node_pressure, cordoned, blocked_by_budget, scaler_at_maximum, replicas, failed_job, load, alert_alone,
)  # fmt: skip

_BY_PODS = {
    "OOMKilled", "CrashLoopBackOff", "ImagePullBackOff", "PodPending", "FailedScheduling", "KubeDeploymentReplicasMismatch", "ProgressDeadlineExceeded",
    "Unhealthy", "CreateContainerConfigError", "PodStuckTerminating", "Evicted", "FailedMount",
}  # fmt: skip
_BY_NODE = {"NodeNotReady", "NodeUnschedulable", *_PRESSURES}


def health(f: Findings) -> tuple[str, ...]:
    """Return the evidence that what the alert told of is over; nothing where that cannot be said."""
    signal = _signal(f)
    if not f.readable or not f.live_pods:
        return ()
    if f.request.target.kind.lower() == "node" and signal in _BY_NODE:
        node = next(iter(f.nodes), None)
        well = (
            node is not None
            and not node["unschedulable"]
            and not any(
                (c.get("type") == "Ready") != (c.get("status") == "True")
                for c in node["conditions"]
                if c.get("type") in {"Ready", *_PRESSURES}
            )
        )
        return (f"Node {f.request.target.name}: Ready, without pressure",) if well else ()
    if signal not in _BY_PODS or f.target is None:
        return ()
    restless = [
        c
        for _, c in f.containers
        if c["lastTermination"] and age(c["lastTermination"].get("finishedAt", ""), f.now) < 600
    ]
    if f.desired is not None and (f.available or 0) < f.desired:
        return ()
    if not f.pods or restless or not all(ready(p) for p in f.pods):
        return ()
    return (
        f"{f.where}: all {len(f.pods)} pods are ready",
        *((f"{f.where}: {f.available} of {f.desired} replicas available",) if f.desired is not None else ()),
        "no container ended within the last 10 minutes",
    )
