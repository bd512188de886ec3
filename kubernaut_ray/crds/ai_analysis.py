"""AIAnalysis: one investigation by the HolmesGPT-API and the approval policy's verdict on what it selected."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from kubernaut_ray.conditions import Condition
from kubernaut_ray.crds.affected import Affected
from kubernaut_ray.crds.base import (
    IMMUTABLE,
    CustomResource,
    DurationText,
    Labels,
    Meta,
    Model,
    Name,
    ObjectReference,
    PrinterColumn,
    ShortText,
    Text,
    Timestamp,
)
from kubernaut_ray.crds.enums import (
    AIAnalysisPhase,
    AIAnalysisReason,
    AIAnalysisSubReason,
    AnalysisType,
    Environment,
    Priority,
    Severity,
)
from kubernaut_ray.crds.remediation_request import Fingerprint, Storm
from kubernaut_ray.crds.shared import (
    AlternativeWorkflow,
    ApprovalContext,
    KubernetesContext,
    PastRemediation,
    PreviousExecution,
    RootCauseAnalysis,
    SelectedWorkflow,
    TargetResource,
)
from kubernaut_ray.crds.signal_processing import BusinessClassification


class SignalContext(Model):
    """Everything signal processing found out, field by field. Owner chain, detected and custom labels are in the context."""

    fingerprint: Fingerprint
    signal_name: Name
    signal_type: Annotated[str, Field(max_length=63)]
    signal_source: Annotated[str, Field(max_length=63)] = ""
    severity: Severity
    environment: Environment
    business_priority: Priority
    business: BusinessClassification = BusinessClassification()
    target_resource: TargetResource
    signal_resource: TargetResource | None = None
    description: Text = ""
    labels: Labels = Field(default_factory=dict)
    annotations: Labels = Field(default_factory=dict)
    firing_time: Timestamp
    received_time: Timestamp
    first_seen_at: Timestamp | None = None
    last_seen_at: Timestamp | None = None
    occurrence_count: Annotated[int, Field(ge=1)] = 1
    storm: Storm | None = None
    affected: Affected | None = None
    """What was folded into the incident, as far as it was known when the analysis began."""
    kubernetes_context: KubernetesContext = KubernetesContext()


class AnalysisRequest(Model):
    signal_context: SignalContext
    analysis_types: Annotated[tuple[AnalysisType, ...], Field(min_length=1, max_length=3)] = (
        AnalysisType.INVESTIGATION,
        AnalysisType.ROOT_CAUSE,
        AnalysisType.WORKFLOW_SELECTION,
    )


class AnalysisTimeouts(Model):
    investigating_timeout: DurationText = "10m"
    analyzing_timeout: DurationText = "30s"


class AIAnalysisSpec(Model):
    remediation_request_ref: ObjectReference
    remediation_id: Annotated[str, Field(min_length=1, max_length=253)]
    analysis_request: AnalysisRequest
    is_recovery_attempt: bool = False
    recovery_attempt_number: Annotated[int, Field(ge=1)] | None = None
    previous_executions: Annotated[tuple[PreviousExecution, ...], Field(max_length=10)] = ()
    remediation_history: Annotated[tuple[PastRemediation, ...], Field(max_length=10)] = ()
    """Other remediations of this target, the newest first."""
    timeout_config: AnalysisTimeouts = AnalysisTimeouts()
    deadline: Timestamp | None = None


class ValidationAttempt(Model):
    attempt: Annotated[int, Field(ge=1, le=10)]
    workflow_id: Name = ""
    is_valid: bool
    errors: Annotated[tuple[ShortText, ...], Field(max_length=50)] = ()
    timestamp: Timestamp


class PreviousAttemptAssessment(Model):
    failure_understood: bool = False
    failure_reason_analysis: Text = ""


class RecoveryStatus(Model):
    previous_attempt_assessment: PreviousAttemptAssessment = PreviousAttemptAssessment()
    state_changed: bool = False
    current_signal_type: ShortText = ""


class AIAnalysisStatus(Model):
    phase: AIAnalysisPhase | None = None
    observed_generation: int | None = None
    message: Text = ""
    reason: AIAnalysisReason | None = None
    sub_reason: AIAnalysisSubReason | None = None
    started_at: Timestamp | None = None
    completed_at: Timestamp | None = None
    root_cause: Text = ""
    root_cause_analysis: RootCauseAnalysis | None = None
    selected_workflow: SelectedWorkflow | None = None
    alternative_workflows: Annotated[tuple[AlternativeWorkflow, ...], Field(max_length=10)] = ()
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    approval_required: bool | None = None
    approval_reason: Text = ""
    approval_context: ApprovalContext | None = None
    investigation_id: Name = ""
    investigation_time: Annotated[float, Field(ge=0)] | None = None
    """Seconds."""
    investigated_by: ShortText = ""
    """Which model answered, for example ``evidence`` (built in, no LLM) or ``openai:gpt-…``."""
    evidence: Annotated[tuple[ShortText, ...], Field(max_length=30)] = ()
    target_in_owner_chain: bool | None = None
    warnings: Annotated[tuple[ShortText, ...], Field(max_length=30)] = ()
    validation_attempts_history: Annotated[tuple[ValidationAttempt, ...], Field(max_length=10)] = ()
    degraded_mode: bool = False
    total_analysis_time: Annotated[float, Field(ge=0)] | None = None
    """Seconds."""
    consecutive_failures: Annotated[int, Field(ge=0)] = 0
    next_retry_at: Timestamp | None = None
    recovery_status: RecoveryStatus | None = None
    conditions: Annotated[tuple[Condition, ...], Field(max_length=32)] = ()


class AIAnalysis(CustomResource):
    META: ClassVar[Meta] = Meta(
        plural="aianalyses",
        singular="aianalysis",
        short_names=("aa",),
        columns=(
            PrinterColumn("Phase", ".status.phase"),
            PrinterColumn("Workflow", ".status.selectedWorkflow.workflowName"),
            PrinterColumn("Confidence", ".status.selectedWorkflow.confidence", "number"),
            PrinterColumn("Approval", ".status.approvalRequired", "boolean"),
            PrinterColumn("Reason", ".status.reason"),
            PrinterColumn("Model", ".status.investigatedBy", priority=1),
            PrinterColumn("Age", ".metadata.creationTimestamp", "date"),
        ),
    )

    spec: Annotated[AIAnalysisSpec, Field(json_schema_extra=IMMUTABLE)]
    status: AIAnalysisStatus = AIAnalysisStatus()
