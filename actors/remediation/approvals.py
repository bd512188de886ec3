"""Asking a person for leave, and what follows from the answer. Only a sealed decision of the approval controller counts."""

from __future__ import annotations

from datetime import datetime

from actors.remediation import children, endings, executions, facts, moves, summary, timeouts
from actors.remediation.moves import Mark
from actors.remediation.observe import Observed
from kubernaut_ray import clock
from kubernaut_ray.contracts.grants import decided_workflow
from kubernaut_ray.control.decision import Decision
from kubernaut_ray.crds.ai_analysis import AIAnalysis
from kubernaut_ray.crds.enums import (
    ApprovalDecision,
    AuditCategory,
    AuditOutcome,
    FailurePhase,
    NotificationType,
)
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest
from kubernaut_ray.crds.remediation_request import RemediationRequestStatus as Status
from kubernaut_ray.crds.shared import SelectedWorkflow, WorkflowRef
from kubernaut_ray.settings import Settings

Result = Decision[Status]


def ask(seen: Observed, analysis: AIAnalysis, workflow: SelectedWorkflow, now: datetime, settings: Settings) -> Result:
    """Ask a person: the approval request first, then the message that names it."""
    request, attempt = seen.request, seen.request.status.recovery_attempts
    required_by = timeouts.for_child(request, Phase.AWAITING_APPROVAL, now, settings.orchestrator)
    if seen.approval is not None:
        required_by = seen.approval.spec.required_by
    child = children.approval_request(
        request, analysis, workflow, attempt=attempt, required_by=required_by, rules=settings.approval
    )
    why = child.spec.why_approval_required or child.spec.reason
    notice = children.notification(
        request,
        "approval",
        summary.approval(seen, workflow, child.name, why, required_by),
        type_=NotificationType.APPROVAL,
        priority=summary.urgency(seen),
        metadata=summary.routing(seen, phase=Phase.AWAITING_APPROVAL, **{"approval-request": child.name}),
        attempt=attempt,
    )
    told = facts.fact(
        request,
        "approval.requested",
        now,
        child.name,
        outcome=AuditOutcome.PENDING,
        category=AuditCategory.APPROVAL,
        approval_request=child.name,
        workflow_id=workflow.workflow_id,
        workflow_name=workflow.workflow_name,
        container_digest=workflow.container_digest,
        confidence=workflow.confidence,
        reason=why,
        required_by=clock.rfc3339(required_by),
    )
    name = workflow.workflow_name or workflow.workflow_id
    return moves.advance(
        seen,
        Phase.AWAITING_APPROVAL,
        "ApprovalRequired",
        f"Waiting for a person to approve {name} until {required_by:%H:%M:%S} UTC: {why}",
        now,
        settings.orchestrator,
        effects=(children.create(request, child), told),
        marks=(Mark("AIAnalysisComplete", True, "WorkflowSelected"),),
        notify=(notice,),
        approval_request_ref=children.reference(request, RemediationApprovalRequest, child.name),
        approval_notification_sent=True,
    )


def awaiting(seen: Observed, now: datetime, settings: Settings) -> Result:
    approval, analysis = seen.approval, seen.analysis
    if seen.execution is not None:
        return executions.watch(seen, seen.execution, now, settings)
    if analysis is None or analysis.status.selected_workflow is None:
        why = "The analysis that was to be approved is gone"
        return endings.failed(seen, FailurePhase.APPROVAL, "AnalysisGone", why, now, settings)
    workflow = analysis.status.selected_workflow
    if approval is None:
        return _again(seen, analysis, workflow, now, settings)
    status = approval.status
    match status.sealed_decision:
        case ApprovalDecision.APPROVED if _overridden(approval):
            return executions.start(seen, decided_workflow(approval), now, settings, grant=status.grant)
        case ApprovalDecision.APPROVED if not _same(approval, workflow):
            why = (
                f"{status.decided_by or 'Somebody'} approved {approval.spec.recommended_workflow.workflow_name} with other "
                f"parameters or another image than {analysis.name} selects now, so nothing was executed"
            )
            return endings.manual_review(seen, why, now, settings)
        case ApprovalDecision.APPROVED:
            return executions.start(seen, workflow, now, settings, grant=status.grant)
        case ApprovalDecision.REJECTED:
            said = f": {status.decision_message}" if status.decision_message else ""
            why = f"Rejected by {status.decided_by or 'somebody'}{said}"
            return endings.declined(seen, "ApprovalRejected", why, now, settings)
        case ApprovalDecision.EXPIRED:
            return endings.declined(seen, "ApprovalExpired", _unanswered(approval), now, settings)
        case _ if now >= approval.spec.required_by + timeouts.APPROVAL_GRACE:
            expired = facts.unanswered(approval, now)
            return endings.declined(seen, "ApprovalExpired", _unanswered(approval), now, settings, effects=(expired,))
        case _:
            return moves.stay(seen, "WaitingForApproval", now, settings.orchestrator)


def _again(
    seen: Observed, analysis: AIAnalysis, workflow: SelectedWorkflow, now: datetime, settings: Settings
) -> Result:
    """The request was deleted undecided: ask again, under the deadline that was given."""
    request = seen.request
    asked = request.status.awaiting_approval_start_time or now
    child = children.approval_request(
        request,
        analysis,
        workflow,
        attempt=request.status.recovery_attempts,
        required_by=timeouts.for_child(request, Phase.AWAITING_APPROVAL, asked, settings.orchestrator),
        rules=settings.approval,
    )
    effect = children.create(request, child)
    return moves.stay(seen, "ApprovalRequestRecreated", now, settings.orchestrator, effects=(effect,))


def _overridden(approval: RemediationApprovalRequest) -> bool:
    """Did an authenticated approver put something else in place of what the analysis selected?"""
    override = approval.status.workflow_override
    return override is not None and override.resolved is not None and approval.status.authenticated


def _same(approval: RemediationApprovalRequest, workflow: SelectedWorkflow) -> bool:
    """Is what would run what the person saw? The analysis can be made anew or edited, the approval's spec cannot."""
    seen = approval.spec.recommended_workflow
    return seen.parameters == workflow.parameters and all(
        getattr(seen, field) == getattr(workflow, field) for field in WorkflowRef.model_fields
    )


def _unanswered(approval: RemediationApprovalRequest) -> str:
    return f"Nobody decided by {approval.spec.required_by:%H:%M:%S} UTC, so nothing was executed"
