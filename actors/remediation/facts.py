"""The orchestrator's audit events as effects. The id of each depends only on what makes the fact this fact.

A decision performed again after a crash tells the same facts under the same ids, and the audit store keeps each once. What
tells two passages through one edge apart (blocked, resumed, blocked again) is the instant at which the phase left was entered.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from actors.remediation.recovery import Refusal
from kubernaut_ray import clock, conditions
from kubernaut_ray.contracts import approvals
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.decision import Audit
from kubernaut_ray.crds.enums import ApprovalDecision, AuditCategory, AuditOutcome
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.notification_request import NotificationRequest
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest
from kubernaut_ray.crds.remediation_request import RemediationRequest, RemediationRequestStatus
from kubernaut_ray.crds.shared import FailureDetails
from kubernaut_ray.crds.workflow_execution import WorkflowExecution
from kubernaut_ray.redact import redact

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
    """Build ``orchestrator.<event>`` about this request; ``data`` becomes ``event_data``, its texts without secrets."""
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
            event_data={key: redact(value) if isinstance(value, str) else value for key, value in data.items()},
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
        attempt=status.recovery_attempts,
    )


def recovery(
    request: RemediationRequest,
    execution: WorkflowExecution,
    failure: FailureDetails,
    refusal: Refusal | None,
    now: datetime,
) -> Audit:
    """The fact that a failed execution leads to another attempt, or that it does not, and why."""
    made = request.status.recovery_attempts
    return fact(
        request,
        "recovery.started" if refusal is None else "recovery.refused",
        now,
        execution.name,
        outcome=AuditOutcome.PENDING if refusal is None else AuditOutcome.FAILURE,
        attempt=made + 1 if refusal is None else made,
        execution=execution.name,
        failure_reason=failure.reason,
        failure=failure.natural_language_summary or failure.message,
        reason=str(refusal.reason) if refusal else "",
        message=refusal.message if refusal else "",
    )


def unanswered(approval: RemediationApprovalRequest, now: datetime) -> Audit:
    """The fact that nobody decided in time, where the approval controller is not there to tell it."""
    by = approvals.SYSTEM
    return Audit(approvals.decided(approval, ApprovalDecision.EXPIRED, now, by=by, via="deadline", recorded_by=ACTOR))


def notified(request: RemediationRequest, notice: NotificationRequest, now: datetime) -> Audit:
    """The fact that people are to be told; what became of it, each channel tells."""
    spec = notice.spec
    return fact(
        request,
        "notification.requested",
        now,
        notice.name,
        outcome=AuditOutcome.PENDING,
        notification=notice.name,
        type=str(spec.type),
        priority=str(spec.priority),
        subject=spec.subject,
    )
