"""Incidents as the services tell them: audit events of a mix of correlations, numbered, made in a microsecond each.

Event ``n`` of a teller is always the same fact, so what was acknowledged can be looked for by number. Forty incidents go on at a
time, of 24 events each.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubernaut_ray.clock import parse_rfc3339, rfc3339
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome

_SCATTER, _64_BITS, _48_BITS = 0x9E3779B97F4A7C15, (1 << 64) - 1, (1 << 48) - 1
AT_A_TIME = 40
LENGTH = 24
ROUND = AT_A_TIME * LENGTH

_ID, _INSTANT, _NAME = "00000000-0000-0000-0000-00000000f00d", "2026-01-01T00:00:00.000000Z", "rr-f00dfeed"
_TARGET = {"api_version": "apps/v1", "kind": "Deployment", "name": "checkout", "namespace": "shop"}
_TURN: tuple[tuple[str, AuditCategory, dict[str, Any]], ...] = (
    ("gateway.signal.received", AuditCategory.GATEWAY, {
        "alert": "KubePodCrashLooping", "source": "prometheus", "fingerprint": "9f" * 32, "occurrences": 3,
        "target": _TARGET, "labels": {"cluster": "prod-eu-1", "job": "kube-state-metrics", "severity": "critical"},
    }),
    ("signalprocessing.classification.decision", AuditCategory.SIGNAL_PROCESSING, {
        "environment": "production", "priority": "P1", "business_unit": "payments", "policy_hash": "c4" * 32,
    }),
    ("orchestrator.phase.transitioned", AuditCategory.ORCHESTRATION, {
        "from": "Processing", "to": "Analyzing", "children": {"ai_analysis": "rr-f00dfeed-analysis"},
    }),
    ("aiagent.tool.called", AuditCategory.ANALYSIS, {
        "model": "evidence", "tool": "kubectl_logs", "arguments": {"pod": "checkout-7d9c", "tail": 200},
        "result_bytes": 18_412, "result_sha256": "1b" * 32,
        "excerpt": "panic: runtime error: invalid memory address or nil pointer dereference\n\tmain.go:212",
    }),
    ("workflow.catalog.search_completed", AuditCategory.WORKFLOW, {
        "query": "OOMKilled critical", "filters": {"component": "deployment", "environment": "production"},
        "results": [{"workflow_id": "b1946ac9-2f4e-5b7e-9f0e-4a8e5c1d7a10", "rank": 1, "score": "0.8731"},
                    {"workflow_id": "3ad7f2c1-6c1f-5f5f-8f53-0c1d8a7b6e22", "rank": 2, "score": "0.8012"}],
    }),
    ("aianalysis.approval.decision", AuditCategory.ANALYSIS, {
        "approval_required": True, "reason": "confidence below the threshold of production", "threshold": "0.80",
    }),
    ("workflowexecution.execution.started", AuditCategory.EXECUTION, {
        "workflow_name": "oomkill-increase-memory", "version": "1.2.0", "target_resource": "shop/deployment/checkout",
        "container_image": "registry.example.org/workflows/oomkill@sha256:" + "5e" * 32,
        "parameters": {"MEMORY_LIMIT": "1Gi", "TARGET_RESOURCE_NAME": "checkout"},
    }),
    ("notification.delivery.succeeded", AuditCategory.NOTIFICATION, {
        "channel": "slack", "recipient": "#payments-oncall", "attempt": 1, "http_status": 200,
    }),
)  # fmt: skip


class Stories:
    """``who`` tells; tellers of one run differ in it."""

    def __init__(self, who: int) -> None:
        self._who = who
        self._turns = [_template(*turn) for turn in _TURN]

    def correlation(self, number: int) -> str:
        """Return the incident that event ``number`` belongs to."""
        return f"rr-{self._who:02x}-{number // ROUND * AT_A_TIME + number % AT_A_TIME:06d}"

    def event_id(self, number: int) -> str:
        """Return an id that looks as scattered as the services' own."""
        scattered = number * _SCATTER & _64_BITS
        return f"{self._who:08x}-0000-5000-{scattered >> 48:04x}-{scattered & _48_BITS:012x}"

    def batch(self, first: int, count: int, now: datetime) -> bytes:
        """Return the body of a batch with the events ``first`` and following."""
        instant = rfc3339(now).encode()
        told = [
            self._turns[number % ROUND // AT_A_TIME % len(self._turns)]
            % (self.event_id(number).encode(), instant, self.correlation(number).encode())
            for number in range(first, first + count)
        ]
        return b'{"events":[%b]}' % b",".join(told)


def _template(event_type: str, category: AuditCategory, data: dict[str, Any]) -> bytes:
    """Return an event's JSON with places for its id, its instant and its correlation id."""
    event = AuditEvent(
        event_id=_ID,
        event_type=event_type,
        event_timestamp=parse_rfc3339(_INSTANT),
        event_category=category,
        event_action=event_type.rsplit(".", 1)[-1],
        event_outcome=AuditOutcome.SUCCESS,
        correlation_id=_NAME,
        actor_id=f"{category.value}-service",
        resource_type="RemediationRequest",
        resource_id="rr-payments-checkout",
        namespace="kubernaut-system",
        cluster_name="prod-eu-1",
        severity="critical",
        event_data=data,
    )
    text = event.model_dump_json(exclude_none=True).replace("%", "%%")
    for one in (_ID, _INSTANT, _NAME):
        text = text.replace(f'"{one}"', '"%b"', 1)
    return text.encode()
