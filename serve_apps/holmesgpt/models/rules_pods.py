"""Rules about pods and rollouts: memory, crashes, images, configuration, scheduling, probes, termination.

Each rule looks at the findings and returns a hypothesis or nothing. Weights are for the cause alone; what a workflow can do
about it is weighed elsewhere.
"""

from __future__ import annotations

from kubernaut_ray.crds.enums import RcaSeverity
from kubernaut_ray.crds.shared import TargetResource
from serve_apps.holmesgpt.cluster import age
from serve_apps.holmesgpt.models import hypotheses as h
from serve_apps.holmesgpt.models.findings import Fact, Findings, ready
from serve_apps.holmesgpt.models.hypotheses import Hints, Hypothesis

RECENT = 3600.0
"""Seconds after which a termination of a container that is well now counts for little."""
_GRACE = 60.0
"""Seconds beyond its grace period after which a terminating pod is stuck."""


def out_of_memory(f: Findings) -> Hypothesis | None:
    hit = [(p, c) for p, c in f.containers if c["lastTermination"].get("reason") == "OOMKilled"]
    certain = bool(hit)
    if not hit:
        hit = [(p, c) for p, c in f.containers if c["lastTermination"].get("exitCode") == 137 and c["memoryLimit"]]
    if not hit:
        return None
    pod, container = max(hit, key=lambda pc: pc[1]["restarts"])
    over = container["ready"] and age(container["lastTermination"].get("finishedAt", ""), f.now) > RECENT
    limit = container["memoryLimit"]
    weight = 0.95 if certain else 0.75
    if over and container["lastTermination"].get("finishedAt"):
        weight = 0.55
    elif not limit:
        weight = 0.6
    lowered = [line for line in _changes(f) if "resources.limits.memory" in line]
    summary = (
        f"Container {container['name'] or '(unnamed)'} of {f.where} is killed because it uses more than its memory limit of {limit}."
        if limit
        else f"Container {container['name'] or '(unnamed)'} of {f.where} is killed for lack of memory, without a limit of its own."
    )
    return Hypothesis(
        "OOMKilled",
        weight,
        summary,
        evidence=tuple(_terminated(p, c) for p, c in hit[:5]),
        remedies=(h.RAISE_MEMORY, h.ROLL_BACK.but(0.95)) if lowered else (h.RAISE_MEMORY,),
        factors=(
            *((f"memory limit {limit} is too small for the workload",) if limit else ("no memory limit is set",)),
            *(f"the latest rollout changed {line}" for line in lowered),
            *((f"{len({p['name'] for p, _ in hit})} pods are affected",) if len(hit) > 1 else ()),
        ),
        hints=Hints(
            container=container["name"],
            memory_limit=limit,
            memory_request=container["memoryRequest"],
            pod=pod["name"],
            revisions=_earlier(f) if lowered else (),
        ),
    )


def crash_after_change(f: Findings) -> Hypothesis | None:
    crashed = _crashing(f)
    changes = _changes(f)
    if not crashed:
        return None
    pod, container = crashed[0]
    evidence = (*(_terminated(p, c) for p, c in crashed[:3]), *_log_lines(f, pod, container))
    if not changes:
        return Hypothesis(
            "CrashLoopBackOff",
            0.55,
            f"Container {container['name']} of {f.where} crashes on start; no recent change of the workload explains it.",
            evidence=evidence,
            remedies=(h.ROLL_BACK.but(0.7), h.RESTART.but(0.7), h.FIX_CONFIG.but(0.8)),
            factors=("no change between the last two revisions was found",),
            hints=Hints(container=container["name"], pod=pod["name"], revisions=_earlier(f)),
        )
    newest = f.rollouts[0]
    partly = any(ready(p) and p["owner"].endswith(newest["replicaSet"]) for p in f.pods)
    return Hypothesis(
        "CrashLoopBackOff",
        0.78 if partly else 0.92,
        f"Container {container['name']} of {f.where} crashes since revision {newest['revision']}, which changed "
        f"{_subjects(changes)}.",
        evidence=(*evidence, *(f"revision {newest['revision']} changed {line}" for line in changes[:5])),
        remedies=(h.ROLL_BACK, h.FIX_CONFIG.but(0.8)),
        severity=RcaSeverity.HIGH,
        factors=(f"revision {newest['revision']} was rolled out at {newest['created'] or 'an unknown time'}",),
        hints=Hints(container=container["name"], pod=pod["name"], revisions=_earlier(f), image=_previous_image(f)),
    )


def image_pull(f: Findings) -> Hypothesis | None:
    reasons = {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"}
    hit = [(p, c) for p, c in f.containers if c["waitingReason"] in reasons]
    if not hit:
        return None
    pod, container = hit[0]
    changed = [line for line in _changes(f) if line.split(":")[0].endswith("image")]
    back = _earlier(f)
    return Hypothesis(
        "ImagePullBackOff",
        0.93 if changed else 0.6,
        f"The image {container['image']} of {f.where} cannot be pulled"
        + (f"; revision {f.rollouts[0]['revision']} introduced it." if changed else "."),
        evidence=(
            *(
                f"Pod {p['name']}: container {c['name']} waits: {c['waitingReason']} {c['waitingMessage']}".strip()
                for p, c in hit[:3]
            ),
            *(f"the latest rollout changed {line}" for line in changed),
        ),
        remedies=(h.ROLL_BACK, h.FIX_IMAGE.but(0.9)) if changed else (h.FIX_IMAGE, h.ROLL_BACK.but(0.7)),
        factors=("the image does not exist, or the registry refuses it",),
        hints=Hints(container=container["name"], pod=pod["name"], revisions=back, image=_previous_image(f)),
    )


def configuration(f: Findings) -> Hypothesis | None:
    reasons = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
    hit = [(p, c) for p, c in f.containers if c["waitingReason"] in reasons]
    if not hit:
        return None
    pod, container = hit[0]
    changes = _changes(f)
    return Hypothesis(
        "CreateContainerConfigError",
        0.9 if changes else 0.7,
        f"Container {container['name']} of {f.where} cannot be created: {container['waitingMessage'] or container['waitingReason']}.",
        evidence=(
            *(f"Pod {p['name']}: {c['waitingReason']}: {c['waitingMessage']}" for p, c in hit[:3]),
            *(f"the latest rollout changed {line}" for line in changes[:5]),
        ),
        remedies=(h.ROLL_BACK, h.FIX_CONFIG) if changes else (h.FIX_CONFIG,),
        hints=Hints(container=container["name"], pod=pod["name"], revisions=_earlier(f)),
    )


def unschedulable(f: Findings) -> Hypothesis | None:
    waiting = [p for p in f.pods if p["phase"] == "Pending" and not p["node"]]
    told = [e for e in f.events if e["reason"] == "FailedScheduling"]
    if not waiting:
        return None
    message = next(
        (c.get("message", "") for p in waiting for c in p["problems"] if c.get("type") == "PodScheduled"), ""
    )
    message = message or (told[0]["message"] if told else "")
    short = "Insufficient" in message
    return Hypothesis(
        "FailedScheduling",
        0.88 if message else 0.6,
        f"{len(waiting)} pod(s) of {f.where} find no node" + (f": {message}" if message else "."),
        evidence=(
            *(f"Pod {p['name']}: Pending without a node" for p in waiting[:3]),
            *(f"Event FailedScheduling ({e['count']} times): {e['message']}" for e in told[:3]),
        ),
        remedies=(h.ADD_NODE,) if short else (h.ADD_NODE.but(0.6), h.FIX_VOLUME.but(0.6)),
        factors=("the cluster lacks capacity",) if short else (),
        hints=Hints(pod=waiting[0]["name"], claim=next(iter(waiting[0]["claims"]), "")),
    )


def stuck_terminating(f: Findings) -> Hypothesis | None:
    hit = [p for p in f.pods if p["deleting"] and age(p["deleting"], f.now) > _GRACE]
    if not hit:
        return None
    pod = max(hit, key=lambda p: age(p["deleting"], f.now))
    held = f" It is held by the finalizers {', '.join(pod['finalizers'])}." if pod["finalizers"] else ""
    node = next((n for n in f.nodes if n["name"] == pod["node"]), None)
    return Hypothesis(
        "PodStuckTerminating",
        0.9,
        f"Pod {pod['name']} of {f.where} should be gone since {pod['deleting']} and still is there.{held}",
        evidence=tuple(
            f"Pod {p['name']}: deletionTimestamp {p['deleting']}, finalizers {p['finalizers'] or 'none'}"
            for p in hit[:5]
        ),
        remedies=(h.DELETE_POD,),
        severity=RcaSeverity.MEDIUM,
        factors=(f"its node {pod['node']} is not ready",) if node and not _condition(node, "Ready") else (),
        hints=Hints(pod=pod["name"], node=pod["node"]),
        about=TargetResource(api_version="v1", kind="Pod", name=pod["name"], namespace=pod["namespace"]),
    )


def failing_probes(f: Findings) -> Hypothesis | None:
    told = [e for e in f.events if e["reason"] == "Unhealthy" and age(e["lastSeen"], f.now) < RECENT]
    unready = [p for p in f.pods if p["phase"] == "Running" and not ready(p) and not p["deleting"]]
    if not told or not unready:
        return None
    changes = _changes(f)
    return Hypothesis(
        "Unhealthy",
        0.85,
        f"{len(unready)} pod(s) of {f.where} run but fail their probes"
        + (f" since a rollout changed {_subjects(changes)}." if changes else "."),
        evidence=tuple(f"Event Unhealthy ({e['count']} times) on {e['object']}: {e['message']}" for e in told[:4]),
        remedies=(h.ROLL_BACK, h.RESTART.but(0.75)) if changes else (h.RESTART.but(0.9), h.ROLL_BACK.but(0.7)),
        factors=tuple(f"the latest rollout changed {line}" for line in changes[:4]),
        hints=Hints(pod=unready[0]["name"], revisions=_earlier(f)),
    )


def evicted(f: Findings) -> Hypothesis | None:
    hit = [p for p in f.pods if p["reason"] == "Evicted"]
    if not hit:
        return None
    return Hypothesis(
        "Evicted",
        0.75,
        f"{len(hit)} pod(s) of {f.where} were evicted: {hit[0]['message'] or 'the node was short of a resource'}.",
        evidence=tuple(f"Pod {p['name']}: Evicted: {p['message']}" for p in hit[:4]),
        remedies=(h.FREE_DISK, h.DRAIN_NODE.but(0.8), h.RESTART.but(0.7)),
        hints=Hints(pod=hit[0]["name"], node=hit[0]["node"]),
    )


def failed_mount(f: Findings) -> Hypothesis | None:
    told = [e for e in f.events if e["reason"] in {"FailedMount", "FailedAttachVolume"}]
    waiting = [p for p in f.pods if not ready(p)]
    if not told or not waiting:
        return None
    return Hypothesis(
        "FailedMount",
        0.82,
        f"A volume of {f.where} cannot be mounted: {told[0]['message']}",
        evidence=tuple(f"Event {e['reason']} ({e['count']} times) on {e['object']}: {e['message']}" for e in told[:4]),
        remedies=(h.FIX_VOLUME, h.FIX_CONFIG.but(0.8)),
        hints=Hints(pod=waiting[0]["name"], claim=next(iter(waiting[0]["claims"]), "")),
    )


def _crashing(f: Findings) -> list[tuple[Fact, Fact]]:
    """Containers that end with an error of their own, again and again."""
    return [
        (p, c)
        for p, c in f.containers
        if not c["ready"]
        and c["lastTermination"].get("reason") != "OOMKilled"
        and (c["waitingReason"] == "CrashLoopBackOff" or (c["restarts"] >= 2 and c["lastTermination"].get("exitCode")))
    ]


def _changes(f: Findings) -> list[str]:
    """What the newest revision changed."""
    return list(f.rollouts[0]["changes"]) if len(f.rollouts) > 1 else []


def _earlier(f: Findings) -> tuple[int, ...]:
    return tuple(r["revision"] for r in f.rollouts[1:])


def _previous_image(f: Findings) -> str:
    return str(next(iter(f.rollouts[1]["images"]), "")) if len(f.rollouts) > 1 else ""


def _subjects(changes: list[str]) -> str:
    """The fields that changed, in short."""
    fields = [line.split(":")[0].removeprefix("containers.") for line in changes]
    return ", ".join(fields[:4]) + (f" and {len(fields) - 4} more" if len(fields) > 4 else "")


def _terminated(pod: Fact, container: Fact) -> str:
    ended = container["lastTermination"]
    code = f" (exit code {ended['exitCode']})" if "exitCode" in ended else ""
    limit = f", memory limit {container['memoryLimit']}" if container["memoryLimit"] else ""
    last = (
        f"last terminated {ended.get('reason', 'without a reason')}{code}"
        if ended
        else f"waits: {container['waitingReason']}"
    )
    return f"Pod {pod['name']}: container {container['name']} {last}, {container['restarts']} restarts{limit}"


def _log_lines(f: Findings, pod: Fact, container: Fact) -> tuple[str, ...]:
    log = f.logs.get(f"{pod['name']}/{container['name']}", "")
    telling = [line.strip() for line in log.splitlines() if line.strip()]
    return tuple(f"log of {pod['name']}: {line[:300]}" for line in telling[-3:])


def _condition(node: Fact, type_: str) -> bool:
    return any(c.get("type") == type_ and c.get("status") == "True" for c in node["conditions"])


RULES = (
    out_of_memory, image_pull, configuration, crash_after_change, unschedulable, stuck_terminating, failing_probes, evicted,
    failed_mount,
)  # fmt: skip
