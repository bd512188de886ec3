"""What becomes of an approval request: initialised, sealed once, expired by one clock. Pure and total.

After the CertificateSigningRequest pattern: a person writes ``decision``, this seals it into ``sealedDecision``, which alone
counts. Where the admission webhook is installed, only what it stamped is a decision: its records say who, and a grant is made
of them, the single-use leave that the execution is checked against. Elsewhere the object says that nobody established who
decided. A decision after the deadline, a second one, or one that this system cannot honour is put back, and the object says
why. Nothing is ever executed on a decision that was not sealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from actors.approval.phases import phase_of
from kubernaut_ray import clock, conditions
from kubernaut_ray.contracts import approvals, grants
from kubernaut_ray.contracts.approvals import SYSTEM
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.control.decision import Audit, Decision
from kubernaut_ray.crds.enums import ApprovalDecision, AuditCategory, AuditOutcome
from kubernaut_ray.crds.remediation_approval_request import (
    RemediationApprovalRequest,
    RemediationApprovalRequestStatus,
)
from kubernaut_ray.signing import SigningKey

Status = RemediationApprovalRequestStatus

ACTOR = "approval-controller"
MESSAGE_LIMIT = 32_768
"""What a status message holds; a person's own words may be as long already."""
UNKNOWN = "unknown (kubectl)"
"""Who decided, where the one who wrote the decision gave no name."""
UNAUTHENTICATED = "the identity was not authenticated: no admission webhook is installed"


@dataclass(frozen=True, slots=True)
class Observed:
    """``target_uid`` is read when the request is taken up, and empty where the target cannot be read."""

    request: RemediationApprovalRequest
    target_uid: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """``key`` is the webhook's where it is installed: only decisions signed with it count, and grants are signed with it."""

    key: SigningKey | None = None
    grant_lifetime: timedelta = timedelta(hours=1)


WITHOUT_WEBHOOK = Rules()


def decide(seen: Observed, now: datetime, rules: Rules = WITHOUT_WEBHOOK) -> Decision[Status]:
    """Return the request's next step."""
    request, status = seen.request, seen.request.status
    if request.metadata.deletion_timestamp is not None:
        return Decision("BeingDeleted")
    if status.sealed_decision is not ApprovalDecision.NONE:
        return _hold(request, now)
    if not phase_of(status):
        return _begin(request, seen.target_uid, now)
    if now >= request.spec.required_by:
        return _expire(request, now)
    match status.decision:
        case ApprovalDecision.NONE:
            return _wait(request, rules, now)
        case ApprovalDecision.EXPIRED:
            return _refuse(request, "only the deadline lets a request expire; write Approved or Rejected", now)
        case ApprovalDecision.APPROVED | ApprovalDecision.REJECTED if rules.key is not None:
            return _authenticated(request, status.decision, rules, rules.key, now)
        case ApprovalDecision.APPROVED if status.workflow_override is not None:
            return _refuse(
                request,
                "a workflow override cannot be honoured; approve the recommended workflow as it is, or reject",
                now,
                workflow_override=None,
            )
        case ApprovalDecision.APPROVED if request.spec.required_approvals > 1 or request.spec.four_eyes:
            why = f"it needs several people or another person than the requester, and {UNAUTHENTICATED}"
            return _refuse(request, why, now)
        case ApprovalDecision.APPROVED | ApprovalDecision.REJECTED:
            return _seal(request, status.decision, now, by=status.decided_by or UNKNOWN)


def _wait(request: RemediationApprovalRequest, rules: Rules, now: datetime) -> Decision[Status]:
    """Nobody decided yet, or not enough people did: say how far it is."""
    status, needed = request.status, request.spec.required_approvals
    if rules.key is None or not status.approvals:
        return Decision("WaitingForDecision", wake_at=request.spec.required_by)
    by = grants.approvers(rules.key, request, status.approvals, grants.decided_workflow(request))
    message = f"{len(by)} of {needed} approvals: {', '.join(by) or 'none'}"[:MESSAGE_LIMIT]
    if message == status.message:
        return Decision("WaitingForMoreApprovals", wake_at=request.spec.required_by)
    counted = _with(request, (), now, reason="AwaitingMoreApprovals", message=message)
    return Decision("WaitingForMoreApprovals", counted, wake_at=request.spec.required_by)


def _authenticated(
    request: RemediationApprovalRequest, decision: ApprovalDecision, rules: Rules, key: SigningKey, now: datetime
) -> Decision[Status]:
    """Seal what the webhook's records say, whatever else the status claims."""
    status, spec = request.status, request.spec
    if decision is ApprovalDecision.REJECTED:
        record = status.rejection
        if record is None or record.decision is not decision or not grants.record_holds(key, request.uid, record):
            return _refuse(request, "the admission webhook did not stamp it, so nobody knows whose it is", now)
        return _seal(request, decision, now, by=record.by, via=record.via, at=record.at, authenticated=True)
    workflow = grants.decided_workflow(request)
    by = grants.approvers(key, request, status.approvals, workflow)
    if len(by) < spec.required_approvals:
        why = (
            f"{len(by)} of {spec.required_approvals} approvals of what would run were stamped by the admission webhook; "
            "who gave the others is not known"
        )
        return _refuse(request, why, now)
    last = next(record for record in reversed(status.approvals) if record.by == by[-1])
    grant = grants.sign_grant(
        key,
        request,
        workflow,
        approved_by=by,
        target_uid=status.target_uid,
        issued_at=now,
        expires_at=now + rules.grant_lifetime,
    )
    return _seal(
        request, decision, now, by=", ".join(by)[:1024], via=last.via, at=last.at, authenticated=True, grant=grant
    )


def _begin(request: RemediationApprovalRequest, target_uid: str, now: datetime) -> Decision[Status]:
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
        "target_uid": target_uid,
        "reason": "AwaitingDecision",
        "message": f"Waiting for a person until {request.spec.required_by:%H:%M:%S} UTC",
    }
    return Decision("Accepted", _with(request, marks, now, **changes), wake_at=request.spec.required_by)


def _seal(
    request: RemediationApprovalRequest,
    decision: ApprovalDecision,
    now: datetime,
    *,
    by: str,
    via: str = "",
    at: datetime | None = None,
    authenticated: bool = False,
    **changes: Any,
) -> Decision[Status]:
    status = request.status
    said = f": {status.decision_message}" if status.decision_message else ""
    doubt = "" if authenticated else f" ({UNAUTHENTICATED})"
    message = f"{decision} by {by}{said}"
    message = message[: MESSAGE_LIMIT - len(doubt)] + doubt
    marks = (
        ("ApprovalPending", False, "Decided", ""),
        ("ApprovalDecided", True, str(decision), message),
        ("ApprovalExpired", False, "Decided", ""),
        (
            "DecisionAuthenticated",
            authenticated,
            "StampedByWebhook" if authenticated else "NoWebhook",
            "" if authenticated else UNAUTHENTICATED,
        ),
    )
    sealed = _with(
        request,
        marks,
        now,
        sealed_decision=decision,
        decided_by=by,
        decided_at=at or now,
        decided_via=via or status.decided_via or "kubectl",
        authenticated=authenticated,
        reason=str(decision),
        message=message,
        **changes,
    )
    fact = approvals.decided(
        request.replace(status=sealed),
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
        return Decision("Decided", settled=True)
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
