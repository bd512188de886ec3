"""The input that ``kubernaut-ray policy check`` tries policies on when it is given none.

It has every field that the system passes, in the same form: a critical memory alert of a web shop in production whose
proposed workflow waits for leave. The tests hold it against what the controllers really send, so that whoever copies it
writes policies for the real thing. The severity is the source's raw word; ``check`` adds what the policies make of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXAMPLE: Mapping[str, Any] = {
    "signal": {
        "name": "KubePodOOMKilled",
        "severity": "Page",
        "type": "prometheus-alert",
        "source": "alertmanager",
        "labels": {"alertname": "KubePodOOMKilled", "namespace": "shop", "pod": "web-7d4b9c6f5d-x2x4b"},
        "annotations": {"summary": "Container web was killed for want of memory"},
    },
    "namespace": {
        "name": "shop",
        "labels": {
            "kubernaut.ai/environment": "production",
            "kubernaut.ai/team": "retail",
            "kubernaut.ai/business-unit": "retail",
            "kubernaut.ai/criticality": "high",
            "kubernaut.ai/sla-tier": "tier-1",
        },
        "annotations": {},
    },
    "target": {
        "kind": "Deployment",
        "name": "web",
        "namespace": "shop",
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {},
    },
    "owner_chain": [
        {"kind": "ReplicaSet", "name": "web-7d4b9c6f5d", "namespace": "shop", "api_version": "apps/v1"},
        {"kind": "Deployment", "name": "web", "namespace": "shop", "api_version": "apps/v1"},
    ],
    "detected_labels": {
        "git_ops_managed": False,
        "git_ops_tool": "",
        "pdb_protected": True,
        "hpa_enabled": False,
        "stateful": False,
        "helm_managed": True,
        "network_isolated": False,
        "service_mesh": "",
    },
    "failed_detections": [],
    "degraded_mode": False,
    "signal_name": "KubePodOOMKilled",
    "signal_type": "prometheus-alert",
    "business_priority": "P0",
    "target_resource": {"kind": "Deployment", "name": "web", "namespace": "shop"},
    "custom_labels": {"team": ["retail"]},
    "confidence": 0.9,
    "approval_threshold": 0.8,
    "target_in_owner_chain": True,
    "warnings": [],
    "is_recovery_attempt": False,
    "recovery_attempt_number": 0,
    "was_execution_failure": False,
    "workflow": {"name": "increase-memory-limits", "parameters": {"MEMORY_LIMIT": "512Mi"}},
}
