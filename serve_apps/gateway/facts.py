"""What the gateway keeps of a cluster's objects: whose they are, where a pod runs, whether it and its node are ready.

``topology`` keeps these by the thousand instead of the objects, ``owners`` makes them of single reads. They are tolerant:
a field that is missing or badly written is taken as unknown, for it was somebody else who wrote it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubernaut_ray import clock, names
from kubernaut_ray.kube import resources
from kubernaut_ray.kube.client import Object
from kubernaut_ray.kube.resources import Resource

_RANDOM_ENDINGS = frozenset({"ReplicaSet", "ReplicationController", "DaemonSet", "Job"})
"""Controllers that give each pod a fresh random name; a StatefulSet uses its pods' names again."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The controller among an object's owner references."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Facts:
    """``managed`` is the value of the label ``kubernaut.ai/managed``, ``None`` without one."""

    uid: str
    owner: Owner | None = None
    managed: str | None = None


@dataclass(frozen=True, slots=True)
class PodFacts(Facts):
    """``node`` is empty until the pod has been placed. ``finished``: it ran to its end and is not expected to be ready."""

    node: str = ""
    ready: bool = False
    ready_since: datetime | None = None
    """When ``ready`` last changed."""
    created: datetime | None = None
    finished: bool = False
    leaving: bool = False
    """It is being deleted; on a lost node that takes until the node is back or removed."""
    template_hash: str = ""

    @property
    def name_is_unique(self) -> bool:
        """Tell whether no later pod will bear this name."""
        return self.owner is not None and self.owner.kind in _RANDOM_ENDINGS

    @property
    def wanting(self) -> bool:
        """Tell whether it should be ready and is not."""
        return not self.ready and not self.finished


@dataclass(frozen=True, slots=True)
class NodeFacts(Facts):
    """A node that has not said anything about its readiness yet counts as ready."""

    ready: bool = True
    ready_since: datetime | None = None
    """When ``ready`` last changed."""


def of(resource: Resource, obj: Object) -> Facts:
    """Return the facts of one object: ``PodFacts`` of a pod, ``NodeFacts`` of a node."""
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    uid, owner, managed = str(metadata.get("uid", "")), _controller(metadata), labels.get(names.LABEL_MANAGED)
    if resource is resources.POD or (resource.group, resource.kind) == ("", "Pod"):
        status = obj.get("status") or {}
        ready = _condition(status)
        return PodFacts(
            uid,
            owner,
            managed,
            node=_kept((obj.get("spec") or {}).get("nodeName")),
            ready=ready.get("status") == "True",
            ready_since=_instant(ready.get("lastTransitionTime")),
            created=_instant(metadata.get("creationTimestamp")),
            finished=status.get("phase") in {"Succeeded", "Failed"},
            leaving="deletionTimestamp" in metadata,
            template_hash=_kept(labels.get("pod-template-hash")),
        )
    if (resource.group, resource.kind) == ("", "Node"):
        ready = _condition(obj.get("status") or {})
        since = _instant(ready.get("lastTransitionTime"))
        return NodeFacts(uid, owner, managed, ready=ready.get("status", "True") == "True", ready_since=since)
    return Facts(uid, owner, managed)


def selector(obj: Object) -> str:
    """Return a workload's pod selector as a label selector, empty when it has none that can be written as one."""
    spec = obj.get("spec") or {}
    wanted = spec.get("selector")
    if not isinstance(wanted, Mapping):
        return ""
    terms = [f"{key}={value}" for key, value in (wanted.get("matchLabels") or {}).items()]
    for expression in wanted.get("matchExpressions") or ():
        key, operator = expression.get("key", ""), expression.get("operator")
        values = ",".join(expression.get("values") or ())
        match operator:
            case "In" | "NotIn":
                terms.append(f"{key} {operator.lower()} ({values})")
            case "Exists":
                terms.append(key)
            case "DoesNotExist":
                terms.append(f"!{key}")
            case _:
                return ""
    return ",".join(terms)


def _controller(metadata: Mapping[str, Any]) -> Owner | None:
    for reference in metadata.get("ownerReferences") or ():
        if reference.get("controller"):
            return Owner(*(_kept(reference.get(field)) for field in ("apiVersion", "kind", "name", "uid")))
    return None


def _condition(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the condition Ready, empty when there is none."""
    conditions: Any = status.get("conditions") or ()
    return next((c for c in conditions if isinstance(c, Mapping) and c.get("type") == "Ready"), {})


def _kept(text: object) -> str:
    """Return the text, shared with every other object that says the same."""
    return sys.intern(str(text)) if text else ""


def _instant(text: object) -> datetime | None:
    try:
        return clock.parse_rfc3339(text) if isinstance(text, str) else None
    except ValueError:
        return None
