"""A Kubernetes Event as ``kubectl get event -o json`` prints it: core ``v1`` or ``events.k8s.io/v1``.

Warnings (and the non-standard type Error) are signals about the object they regard; Normal events ask for nothing. The
object is among the labels too, so that two of a kind that this API server does not list are never taken for one.
"""

from __future__ import annotations

from typing import Any

from kubernaut_ray import clock
from kubernaut_ray.crds.shared import TargetResource
from serve_apps.gateway.adapters.adapter import TokenSuffices
from serve_apps.gateway.adapters.reading import DESCRIPTION_LENGTH, Problems, json_object, optional, text
from serve_apps.gateway.signal import Delivery, Ignored, Malformed, Parsed, Signal, cut

TYPE = "kubernetes-event"
SOURCE = "kubernetes-events"
_ALARMING = frozenset({"Warning", "Error"})
_CRITICAL = frozenset(
    {"OOMKilled", "OOMKilling", "NodeNotReady", "FailedScheduling", "Evicted", "FailedMount", "NetworkNotReady"}
)


class KubernetesEvent(TokenSuffices):
    route = "/kubernetes-event"
    media_types = ("application/json",)
    repeats = False

    def parse(self, delivery: Delivery) -> tuple[Parsed, ...]:
        return (_signal(json_object(delivery.body), delivery),)


def _signal(event: dict[str, Any], delivery: Delivery) -> Parsed:
    problems: Problems = []
    kind = text(event, "type", "type", problems, required=True)
    reason = text(event, "reason", "reason", problems, required=True)
    field = "regarding" if "regarding" in event and "involvedObject" not in event else "involvedObject"
    regarded = event.get(field)
    if not isinstance(regarded, dict):
        problems.append((field, "is missing; an event regards an object"))
        regarded = {}
    else:
        text(regarded, "kind", f"{field}.kind", problems, required=True)
        text(regarded, "name", f"{field}.name", problems, required=True)
    if problems:
        return Malformed(reason, tuple(problems))
    if kind not in _ALARMING:
        return Ignored(reason, f"events of type {kind} ask for nothing; Warning and Error are taken")
    involved = TargetResource(
        kind=cut(regarded["kind"], 253),
        name=cut(regarded["name"], 253),
        namespace=cut(optional(regarded, "namespace"), 253),
        api_version=cut(optional(regarded, "apiVersion"), 1024),
    )
    component = _component(event)
    return Signal(
        name=cut(reason, 253),
        type=TYPE,
        source=SOURCE,
        severity="critical" if kind == "Error" or reason in _CRITICAL else "warning",
        firing_time=_time(event) or delivery.received,
        received_time=delivery.received,
        labels={
            "reason": reason,
            "type": kind,
            "kind": involved.kind,
            "name": involved.name,
            **({"namespace": involved.namespace} if involved.namespace else {}),
            **({"component": component} if component else {}),
        },
        description=cut(optional(event, "message") or optional(event, "note"), DESCRIPTION_LENGTH),
        involved=involved,
        provider_data={"fieldPath": path} if (path := optional(regarded, "fieldPath")) else {},
        raw=event,
    )


def _component(event: dict[str, Any]) -> str:
    source = event.get("source")
    inner = optional(source, "component") if isinstance(source, dict) else ""
    return cut(inner or optional(event, "reportingComponent") or optional(event, "reportingController"), 253)


def _time(event: dict[str, Any]) -> Any:
    for key in ("lastTimestamp", "eventTime", "firstTimestamp", "deprecatedLastTimestamp"):
        try:
            return clock.parse_rfc3339(optional(event, key))
        except (ValueError, OverflowError):
            continue
    return None
