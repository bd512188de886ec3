"""A Kubernetes Event as ``kubectl get event -o json`` prints it: core ``v1`` or ``events.k8s.io/v1``.

Warnings (and the non-standard type Error) are signals about the object they regard; Normal events ask for nothing.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubernaut_ray import clock
from kubernaut_ray.crds.shared import TargetResource
from kubernaut_ray.errors import InvalidInput
from serve_apps.gateway.signal import Delivery, Ignored, Malformed, Parsed, Signal, cut

TYPE = "kubernetes-event"
SOURCE = "kubernetes-events"
_ALARMING = frozenset({"Warning", "Error"})
_CRITICAL = frozenset(
    {"OOMKilled", "OOMKilling", "NodeNotReady", "FailedScheduling", "Evicted", "FailedMount", "NetworkNotReady"}
)


class KubernetesEvent:
    route = "/kubernetes-event"
    media_types = ("application/json",)

    def parse(self, delivery: Delivery) -> tuple[Parsed, ...]:
        try:
            event = orjson.loads(delivery.body)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"the body is not JSON: {error}") from error
        if not isinstance(event, dict):
            raise InvalidInput(f"the body must be a JSON object, not {type(event).__name__}")
        return (_signal(event, delivery),)


def _signal(event: dict[str, Any], delivery: Delivery) -> Parsed:
    problems: list[tuple[str, str]] = []
    kind = _text(event, "type", "type", problems)
    reason = _text(event, "reason", "reason", problems)
    field = "regarding" if "regarding" in event and "involvedObject" not in event else "involvedObject"
    regarded = event.get(field)
    if not isinstance(regarded, dict):
        problems.append((field, "is missing; an event regards an object"))
        regarded = {}
    else:
        _text(regarded, "kind", f"{field}.kind", problems)
        _text(regarded, "name", f"{field}.name", problems)
    if problems:
        return Malformed(reason, tuple(problems))
    if kind not in _ALARMING:
        return Ignored(reason, f"events of type {kind} ask for nothing; Warning and Error are taken")
    involved = TargetResource(
        kind=cut(regarded["kind"], 253),
        name=cut(regarded["name"], 253),
        namespace=cut(_optional(regarded, "namespace"), 253),
        api_version=cut(_optional(regarded, "apiVersion"), 1024),
    )
    component = _component(event)
    return Signal(
        name=cut(reason, 253),
        type=TYPE,
        source=SOURCE,
        severity="critical" if kind == "Error" or reason in _CRITICAL else "warning",
        firing_time=_time(event) or delivery.received,
        received_time=delivery.received,
        labels={"reason": reason, "type": kind, **({"component": component} if component else {})},
        description=cut(_optional(event, "message") or _optional(event, "note"), 32_768),
        involved=involved,
        provider_data={"fieldPath": path} if (path := _optional(regarded, "fieldPath")) else {},
        raw=event,
    )


def _text(obj: dict[str, Any], key: str, path: str, problems: list[tuple[str, str]]) -> str:
    value = obj.get(key)
    if isinstance(value, str) and value:
        return value
    problems.append((path, "is missing" if value in (None, "") else f"must be a string, not {type(value).__name__}"))
    return ""


def _optional(obj: dict[str, Any], key: str) -> str:
    value = obj.get(key)
    return value if isinstance(value, str) else ""


def _component(event: dict[str, Any]) -> str:
    source = event.get("source")
    inner = _optional(source, "component") if isinstance(source, dict) else ""
    return cut(inner or _optional(event, "reportingComponent") or _optional(event, "reportingController"), 253)


def _time(event: dict[str, Any]) -> Any:
    for key in ("lastTimestamp", "eventTime", "firstTimestamp", "deprecatedLastTimestamp"):
        try:
            return clock.parse_rfc3339(_optional(event, key))
        except (ValueError, OverflowError):
            continue
    return None
