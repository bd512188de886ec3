"""RemediationApprovalRequest: a person's leave to run one workflow, after the CertificateSigningRequest pattern."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from kubernaut_ray.conditions import Condition
from kubernaut_ray.crds.approval import DecisionRecord, Grant, WorkflowOverride
from kubernaut_ray.crds.base import (
    IMMUTABLE,
    CustomResource,
    LocalReference,
    Meta,
    Model,
    Name,
    ObjectReference,
    PrinterColumn,
    Score,
    ShortText,
    Text,
    Timestamp,
)
from kubernaut_ray.crds.enums import ApprovalDecision, ConfidenceLevel
from kubernaut_ray.crds.shared import (
    ConsideredAlternative,
    Parameters,
    PolicyEvaluation,
    RecommendedAction,
    TargetResource,
    WorkflowRef,
)


class RecommendedWorkflow(WorkflowRef):
    parameters: Parameters = Field(default_factory=dict)
    rationale: Text = ""


class RemediationApprovalRequestSpec(Model):
    remediation_request_ref: ObjectReference
    ai_analysis_ref: LocalReference
    target_resource: TargetResource
    confidence: Score
    confidence_level: ConfidenceLevel
    reason: Annotated[str, Field(min_length=1, max_length=32768)]
    recommended_workflow: RecommendedWorkflow
    investigation_summary: Annotated[str, Field(min_length=1, max_length=32768)]
    evidence_collected: Annotated[tuple[ShortText, ...], Field(max_length=20)] = ()
    recommended_actions: Annotated[tuple[RecommendedAction, ...], Field(min_length=1, max_length=20)]
    alternatives_considered: Annotated[tuple[ConsideredAlternative, ...], Field(max_length=20)] = ()
    why_approval_required: Text
    policy_evaluation: PolicyEvaluation | None = None
    required_by: Timestamp
    """The one deadline: no decision after it counts."""
    required_approvals: Annotated[int, Field(ge=1, le=20)] = 1
    """So many different people must approve; one rejection is enough."""
    requested_by: ShortText = ""
    """The person who caused the RemediationRequest; empty when no person did."""
    four_eyes: bool = False
    """Whether ``requestedBy`` may not approve."""


class RemediationApprovalRequestStatus(Model):
    """Operators write ``decision`` (and ``decisionMessage``, ``workflowOverride``); the webhook stamps who; the controller
    writes the rest, the controller of executions ``usedBy``.
    """

    decision: ApprovalDecision = ApprovalDecision.NONE
    decided_by: ShortText = ""
    decided_at: Timestamp | None = None
    decided_via: ShortText = ""
    decision_message: Text = ""
    workflow_override: WorkflowOverride | None = None
    approvals: Annotated[tuple[DecisionRecord, ...], Field(max_length=20)] = ()
    rejection: DecisionRecord | None = None
    observed_generation: int | None = None
    created_at: Timestamp | None = None
    time_remaining: ShortText = ""
    expired: bool = False
    reason: ShortText = ""
    message: Text = ""
    sealed_decision: ApprovalDecision = ApprovalDecision.NONE
    """The decision as the controller accepted it; a later change of ``decision`` is put back to this."""
    authenticated: bool = False
    """Whether the API server established who decided."""
    target_uid: Name = ""
    grant: Grant | None = None
    used_by: Name = ""
    """UID of the WorkflowExecution that used the grant up."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=32)] = ()


class RemediationApprovalRequest(CustomResource):
    META: ClassVar[Meta] = Meta(
        plural="remediationapprovalrequests",
        singular="remediationapprovalrequest",
        short_names=("rar", "rars"),
        columns=(
            PrinterColumn("Decision", ".status.decision"),
            PrinterColumn("By", ".status.decidedBy"),
            PrinterColumn("Workflow", ".spec.recommendedWorkflow.workflowName"),
            PrinterColumn("Confidence", ".spec.confidence", "number"),
            PrinterColumn("Required-By", ".spec.requiredBy"),
            PrinterColumn("Age", ".metadata.creationTimestamp", "date"),
        ),
        selectable_fields=(".spec.aiAnalysisRef.name",),
    )

    spec: Annotated[RemediationApprovalRequestSpec, Field(json_schema_extra=IMMUTABLE)]
    status: RemediationApprovalRequestStatus = RemediationApprovalRequestStatus()
