"""Build the RemediationRequest that a signal opens. Pure: the same signal and predecessor give the same object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from kubernaut_ray import clock, names
from kubernaut_ray.crds import RemediationRequest
from kubernaut_ray.crds.base import ObjectMeta
from kubernaut_ray.crds.remediation_request import RemediationRequestSpec
from serve_apps.gateway.owners import Resolution
from serve_apps.gateway.signal import Signal, cut

COMPONENT = "gateway-service"
_PAYLOAD_LIMIT = 262_144


def build(signal: Signal, resolution: Resolution, fingerprint: str, name: str, namespace: str) -> dict[str, Any]:
    """Return the object under this name, as the API server takes it (status is written separately)."""
    spec = RemediationRequestSpec(
        signal_fingerprint=fingerprint,
        signal_name=signal.name,
        severity=signal.severity,
        signal_type=signal.type,
        signal_source=signal.source,
        target_resource=resolution.target,
        signal_resource=resolution.signal_resource,
        firing_time=signal.firing_time,
        received_time=signal.received_time,
        signal_labels=dict(signal.labels),
        signal_annotations=dict(signal.annotations),
        description=signal.description,
        provider_data=_json(signal.provider_data),
        original_payload=_json(signal.raw),
    )
    metadata = ObjectMeta(
        name=name,
        namespace=namespace,
        labels={
            names.LABEL_MANAGED_BY: COMPONENT,
            names.LABEL_COMPONENT: "remediation",
            names.LABEL_FINGERPRINT: fingerprint[:63],
            names.LABEL_SIGNAL_NAME: names.label_value(signal.name),
            names.LABEL_SIGNAL_TYPE: names.label_value(signal.type),
            names.LABEL_SEVERITY: names.label_value(signal.severity),
            **names.shard_label(name),
        },
        annotations={names.ANNOTATION_CREATED_AT: clock.rfc3339(signal.received_time)},
    )
    obj = RemediationRequest(metadata=metadata, spec=spec).to_object()
    obj.pop("status", None)
    return obj


def _json(value: Mapping[str, Any]) -> str:
    if not value:
        return ""
    try:
        return cut(orjson.dumps(value).decode(), _PAYLOAD_LIMIT)
    except orjson.JSONEncodeError:
        return ""  # Nested deeper than can be written; what the signal means has been read already.
