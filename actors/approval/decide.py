"""What becomes of an approval request: initialised, sealed once, expired by one clock. Pure and total.

After the CertificateSigningRequest pattern: a person writes ``decision``, this seals it into ``sealedDecision``, which alone
counts. A decision after the deadline, a second one, or one that this system cannot honour is put back, and the object says
why. Nothing is ever executed on a decision that was not sealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from actors.approval.phases import phase_of
from kubernaut_ray import clock, conditions
from kubernaut_ray.contracts import approvals
from kubernaut_ray.contracts.approvals import SYSTEM
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.decision import Audit, Decision
from kubernaut_ray.crds.enums import ApprovalDecision, AuditCategory, AuditOutcome
from kubernaut_ray.crds.remediation_approval_request import (
    RemediationApprovalRequest,
    RemediationApprovalRequestStatus,
)

Status = RemediationApprovalRequestStatus

ACTOR = "approval-controller"
MESSAGE_LIMIT = 32_768
"""What a status message holds; a person's own words may be as long already."""
UNKNOWN = "unknown (kubectl)"
"""Who decided, where the one who wrote the decision gave no name."""


@dataclass(frozen=True, slots=True)
class Observed:
    request: RemediationApprovalRequest


def decide(seen: Observed, now: datetime) -> Decision[Status]:
    """Return the request's next step."""
    request, status = seen.request, seen.request.status
    if request.metadata.deletion_timestamp is not None:
        return Decision("BeingDeleted")
    if status.sealed_decision is not ApprovalDecision.NONE:
        return _hold(request, now)
    if not phase_of(status):
        return _begin(request, now)
    if now >= request.spec.required_by:
        return _expire(request, now)
    match status.decision:
        case ApprovalDecision.NONE:
            return Decision("WaitingForDecision", wake_at=request.spec.required_by)
        case ApprovalDecision.EXPIRED:
            return _refuse(request, "only the deadline lets a request expire; write Approved or Rejected", now)
        case ApprovalDecision.APPROVED if status.workflow_override is not None:
            return _refuse(
                request,
                "a workflow override cannot be honoured; approve the recommended workflow as it is, or reject",
                now,
                workflow_override=None,
            )
        case ApprovalDecision.APPROVED | ApprovalDecision.REJECTED:
            return _seal(request, status.decision, now)


def _begin(request: RemediationApprovalRequest, now: datetime) -> Decision[Status]:
    """Take the request up. A decision that is already there is judged in the next step."""
    marks = (
        (
            "ApprovalPending",
            True,
            "AwaitingDecision",
            f"a decision is needed by {clock.rfc3339(request.spec.required_by)}",
        ),
        ("ApprovalDecided", False, "AwaitingDecision", ""),
        ("ApprovalExpired", False, "AwaitingDecision", ""),
    )
    changes = {
        "created_at": request.metadata.creation_timestamp or now,
        "reason": "AwaitingDecision",
        "message": f"Waiting for a person until {request.spec.required_by:%H:%M:%S} UTC",
    }
    return Decision("Accepted", _with(request, marks, now, **changes), wake_at=request.spec.required_by)


def _seal(request: RemediationApprovalRequest, decision: ApprovalDecision, now: datetime) -> Decision[Status]:
    status = request.status
    by = status.decided_by or UNKNOWN
    said = f": {status.decision_message}" if status.decision_message else ""
    message = f"{decision} by {by}{said}"[:MESSAGE_LIMIT]
    marks = (
        ("ApprovalPending", False, "Decided", ""),
        ("ApprovalDecided", True, str(decision), message),
        ("ApprovalExpired", False, "Decided", ""),
    )
    sealed = _with(
        request,
        marks,
        now,
        sealed_decision=decision,
        decided_by=by,
        decided_at=now,
        decided_via=status.decided_via or "kubectl",
        reason=str(decision),
        message=message,
    )
    fact = approvals.decided(
        request,
        decision,
        now,
        by=by,
        via=sealed.decided_via,
        message=status.decision_message,
        recorded_by=ACTOR,
    )
    return Decision(str(decision), sealed, (Audit(fact),))


def _expire(request: RemediationApprovalRequest, now: datetime) -> Decision[Status]:
    late = request.status.decision is not ApprovalDecision.NONE
    message = f"Nobody decided by {request.spec.required_by:%H:%M:%S} UTC"
    if late:
        message += f"; {request.status.decision} came too late and does not count"
    marks = (
        ("ApprovalPending", False, "Expired", ""),
        ("ApprovalDecided", False, "Expired", message),
        ("ApprovalExpired", True, "DeadlinePassed", message),
    )
    sealed = _with(
        request,
        marks,
        now,
        decision=ApprovalDecision.EXPIRED,
        sealed_decision=ApprovalDecision.EXPIRED,
        expired=True,
        decided_by=SYSTEM,
        decided_at=now,
        decided_via="deadline",
        reason="Expired",
        message=message,
    )
    fact = approvals.decided(
        request, ApprovalDecision.EXPIRED, now, by=SYSTEM, via=sealed.decided_via, message=message, recorded_by=ACTOR
    )
    return Decision("Expired", sealed, (Audit(fact),))


def _hold(request: RemediationApprovalRequest, now: datetime) -> Decision[Status]:
    """The decision has been made: whatever was written over it is put back."""
    status = request.status
    if status.decision is status.sealed_decision:
        return Decision("Decided")
    message = (
        f"The decision is final: {status.sealed_decision} by {status.decided_by}. "
        f"A change to {status.decision or '(none)'} at {now:%H:%M:%S} UTC was put back."
    )
    marks = (("DecisionChangeRefused", True, "DecisionIsFinal", message),)
    held = _with(request, marks, now, decision=status.sealed_decision, message=message)
    return Decision("DecisionIsFinal", held, (_refused(request, "the decision is final", now),))


def _refuse(request: RemediationApprovalRequest, why: str, now: datetime, **changes: Any) -> Decision[Status]:
    """Put an unusable decision back; the question stays open."""
    message = f"{request.status.decision} was not accepted: {why}"
    marks = (("ApprovalDecided", False, "DecisionRefused", message),)
    status = _with(
        request, marks, now, decision=ApprovalDecision.NONE, reason="DecisionRefused", message=message, **changes
    )
    return Decision("DecisionRefused", status, (_refused(request, why, now),), wake_at=request.spec.required_by)


def _refused(request: RemediationApprovalRequest, why: str, now: datetime) -> Audit:
    """The fact that somebody wrote a decision that does not count; the object's version tells one try from the next."""
    status = request.status
    return Audit(
        AuditEvent.fact(
            "orchestrator.approval.refused",
            correlation_id=request.spec.remediation_request_ref.name,
            category=AuditCategory.APPROVAL,
            now=now,
            outcome=AuditOutcome.FAILURE,
            actor=ACTOR,
            key=(request.uid, request.metadata.resource_version),
            resource_type=request.kind(),
            resource_id=request.name,
            namespace=request.namespace,
            event_data={
                "approval_request": request.name,
                "attempted": str(status.decision),
                "written_by": status.decided_by,
                "written_via": status.decided_via,
                "reason": why,
            },
        )
    )


def _with(
    request: RemediationApprovalRequest,
    marks: tuple[tuple[str, bool, str, str], ...],
    now: datetime,
    **changes: Any,
) -> Status:
    found: tuple[conditions.Condition, ...] = request.status.conditions
    generation = request.metadata.generation
    for type_, status, reason, message in marks:
        found = conditions.with_condition(
            found, type_, status=status, reason=reason, message=message, now=now, generation=generation
        )
    return request.status.replace(**{"observed_generation": generation, "conditions": found, **changes})
