"""The identity of an incident: 64 hexadecimal digits that are the same in every replica and after every restart.

A signal about a resource is identified by the top of that resource's owner chain, so that five crashing pods of one
Deployment, or three symptoms of it, are one incident. A signal that names no resource is identified by its name and its
labels, so that unrelated ones never fold together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from kubernaut_ray.crds.shared import TargetResource

_NOT_IDENTIFYING = frozenset(
    {"alertname", "severity", "prometheus", "prometheus_replica", "replica", "__replica__", "monitor"}
    | {"pod", "pod_name", "container", "endpoint", "uid", "container_id", "id"}
)
"""Labels that change while the incident is the same: who measured, how bad it is, which replica of the exporter."""


def of_target(target: TargetResource) -> str:
    """sha256 of ``namespace:kind:name``; the namespace is empty for cluster-scoped kinds."""
    return hashlib.sha256(f"{target.namespace}:{target.kind}:{target.name}".encode()).hexdigest()


def of_nameless(signal_name: str, labels: Mapping[str, str]) -> str:
    """sha256 of the JSON of [signal name, sorted identifying labels]."""
    identifying = sorted((k, v) for k, v in labels.items() if k not in _NOT_IDENTIFYING)
    return hashlib.sha256(json.dumps([signal_name, identifying], separators=(",", ":")).encode()).hexdigest()
