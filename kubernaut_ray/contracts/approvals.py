"""The audit fact that an approval request was decided, or that nobody decided it in time.

Told by the approval controller and, where that is away past the deadline, by the orchestrator: the id depends on the request
and the decision alone, so that it is one fact whoever tells it.
"""

from __future__ import annotations

from datetime import datetime

from kubernaut_ray import clock
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.grants import decided_workflow
from kubernaut_ray.crds.enums import ApprovalDecision, AuditCategory, AuditOutcome
from kubernaut_ray.crds.remediation_approval_request import RemediationApprovalRequest
from kubernaut_ray.redact import redact, redact_values

SYSTEM = "system"
"""Who let a request expire."""


def decided(
    request: RemediationApprovalRequest,
    decision: ApprovalDecision,
    now: datetime,
    *,
    by: str,
    via: str,
    message: str = "",
    recorded_by: str,
) -> AuditEvent:
    """Tell it; ``workflow`` and ``parameters`` are what was decided on, an override of the approver included."""
    status, workflow = request.status, decided_workflow(request)
    approved = decision is ApprovalDecision.APPROVED
    return AuditEvent.fact(
        f"orchestrator.approval.{decision.lower()}",
        correlation_id=request.spec.remediation_request_ref.name,
        category=AuditCategory.APPROVAL,
        now=now,
        outcome=AuditOutcome.SUCCESS if approved else AuditOutcome.FAILURE,
        actor=by[:255],
        key=(request.uid,),
        actor_type="service" if by == SYSTEM else "user",
        resource_type=request.kind(),
        resource_id=request.name,
        namespace=request.namespace,
        event_data={
            "approval_request": request.name,
            "decision": str(decision),
            "decided_by": by,
            "decided_via": via,
            "message": redact(message),
            "workflow_id": workflow.workflow_id,
            "workflow_name": workflow.workflow_name,
            "container_digest": workflow.container_digest,
            "parameters": redact_values(workflow.parameters),
            "required_by": clock.rfc3339(request.spec.required_by),
            "recorded_by": recorded_by,
            "authenticated": status.authenticated,
            "approved_by": list(status.grant.approved_by) if status.grant is not None else [],
            "workflow_override": status.workflow_override is not None,
        },
    )
