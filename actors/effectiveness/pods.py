"""What a workload's own state says about its health, from objects as the API server gives them. Pure.

Only what happened since the execution ended counts against it: restarts of before are the incident, not its repair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from actors.effectiveness.score import Pods
from kubernaut_ray import clock
from kubernaut_ray.kube.client import Object

KINDS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod"})
"""Kinds whose health is that of their pods."""
_LOOP = frozenset({"CrashLoopBackOff"})


def reported(target: Object) -> bool:
    """Has a controller ever said how this workload is? Without one nothing can be known."""
    return target["kind"] == "Pod" or bool((target.get("status") or {}).get("observedGeneration"))


def selector(target: Object) -> str:
    """Return the label selector of a workload's pods; empty for one that selects none by labels."""
    chosen = (target.get("spec") or {}).get("selector") or {}
    terms = [f"{key}={value}" for key, value in sorted((chosen.get("matchLabels") or {}).items())]
    for one in chosen.get("matchExpressions") or ():
        key, values = one["key"], ",".join(one.get("values") or ())
        match one.get("operator"):
            case "In":
                terms.append(f"{key} in ({values})")
            case "NotIn":
                terms.append(f"{key} notin ({values})")
            case "Exists":
                terms.append(key)
            case "DoesNotExist":
                terms.append(f"!{key}")
    return ",".join(terms)


def read(target: Object, pods: Sequence[Object], since: datetime) -> Pods:
    """Return the facts of a workload (or of one pod) and its pods; ``since`` is when the execution ended."""
    live = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp") and not _succeeded(pod)]
    desired, ready, settled = _counts(target, live)
    ended = [
        (pod["metadata"]["name"], why) for pod in live for at, why in _endings(pod) if at is not None and at > since
    ]
    return Pods(
        desired=desired,
        ready=ready,
        settled=settled,
        restarted=_unique(name for name, _ in ended),
        oom_killed=_unique(name for name, why in ended if why == "OOMKilled"),
        crash_looping=_unique(
            pod["metadata"]["name"] for pod in live for one in _containers(pod) if _waiting(one) in _LOOP
        ),
    )


def _counts(target: Object, pods: Sequence[Object]) -> tuple[int, int, bool]:
    """(desired, ready, rolled out) by the words of the kind."""
    spec, status = target.get("spec") or {}, target.get("status") or {}
    if target["kind"] == "Pod":
        return 1, int(any(_ready(pod) for pod in pods)), True
    seen = int(status.get("observedGeneration") or 0) >= int(target["metadata"].get("generation") or 0)
    if target["kind"] == "DaemonSet":
        desired, ready = int(status.get("desiredNumberScheduled") or 0), int(status.get("numberReady") or 0)
        updated = int(status.get("updatedNumberScheduled") or 0)
    else:
        desired, ready = int(spec.get("replicas", 1)), int(status.get("readyReplicas") or 0)
        updated = int(status.get("updatedReplicas") or 0)
    rolled_out = seen and (target["kind"] == "ReplicaSet" or "updated" not in _words(status) or updated >= desired)
    return desired, ready, rolled_out


def _words(status: Mapping[str, Any]) -> frozenset[str]:
    """Which counts of updated pods the status bears at all: one with the old strategy OnDelete bears none."""
    return frozenset({"updated"} if {"updatedReplicas", "updatedNumberScheduled"} & status.keys() else ())


def _containers(pod: Object) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status") or {}
    yield from status.get("containerStatuses") or ()
    yield from status.get("initContainerStatuses") or ()


def _endings(pod: Object) -> Iterator[tuple[datetime | None, str]]:
    """When and why containers ended. An init container that ended well did its work."""
    for one in _containers(pod):
        for state in (one.get("lastState") or {}, one.get("state") or {}):
            if (end := state.get("terminated")) and not (end.get("reason") == "Completed" and not end.get("exitCode")):
                yield _instant(end.get("finishedAt")), str(end.get("reason") or "")


def _waiting(container: Mapping[str, Any]) -> str:
    return str(((container.get("state") or {}).get("waiting") or {}).get("reason") or "")


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _succeeded(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") == "Succeeded"


def _instant(text: Any) -> datetime | None:
    try:
        return clock.parse_rfc3339(str(text))
    except ValueError:
        return None


def _unique(names: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
