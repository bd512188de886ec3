"""The orchestrator's audit events as effects. The id of each depends only on what makes the fact this fact.

A decision performed again after a crash tells the same facts under the same ids, and the audit store keeps each once. What
tells two passages through one edge apart (blocked, resumed, blocked again) is the instant at which the phase left was entered.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubernaut_ray import clock, conditions
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.decision import Audit
from kubernaut_ray.crds.enums import AuditCategory, AuditOutcome
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.remediation_request import RemediationRequest, RemediationRequestStatus

ACTOR = "remediation-orchestrator"
BLOCKED_CONDITION = "Blocked"


def fact(
    request: RemediationRequest,
    event: str,
    now: datetime,
    *key: str,
    outcome: AuditOutcome = AuditOutcome.SUCCESS,
    category: AuditCategory = AuditCategory.ORCHESTRATION,
    **data: Any,
) -> Audit:
    """Build ``orchestrator.<event>`` about this request; ``data`` becomes ``event_data``."""
    return Audit(
        AuditEvent.fact(
            f"orchestrator.{event}",
            correlation_id=request.name,
            category=category,
            now=now,
            outcome=outcome,
            actor=ACTOR,
            key=(request.uid, *key),
            resource_type=request.kind(),
            resource_id=request.name,
            namespace=request.namespace,
            severity=request.spec.severity[:20],
            event_data=data,
        )
    )


def entered(status: RemediationRequestStatus) -> datetime | None:
    """Return when the present phase was entered, ``None`` where nothing says so."""
    blocked = conditions.find(status.conditions, BLOCKED_CONDITION)
    match status.overall_phase:
        case Phase.PENDING:
            return blocked.last_transition_time if blocked else status.start_time
        case Phase.PROCESSING:
            return status.processing_start_time
        case Phase.ANALYZING:
            return status.analyzing_start_time
        case Phase.AWAITING_APPROVAL:
            return status.awaiting_approval_start_time
        case Phase.EXECUTING:
            return status.executing_start_time
        case Phase.VERIFYING:
            return status.verifying_start_time
        case Phase.BLOCKED:
            return blocked.last_transition_time if blocked else None
        case _:
            return status.completed_at


def transition(request: RemediationRequest, new: Phase, reason: str, message: str, now: datetime) -> Audit:
    """The fact that the request passes from its present phase to ``new``."""
    status = request.status
    old = status.overall_phase or ""
    since = entered(status)
    return fact(
        request,
        "phase.transitioned",
        now,
        old,
        new,
        str(status.recovery_attempts),
        clock.rfc3339(since) if since else "",
        from_phase=str(old),
        to_phase=str(new),
        reason=reason,
        message=message,
    )
