"""Builds every child of a RemediationRequest: names, labels, owner, absolute deadlines, and the mapping field by field.

What one child found out is handed to the next without loss: the whole enriched context goes to the analysis, the selected
workflow with image, digest and parameters goes to approval and execution as it is. Nothing is looked up again here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from actors.remediation import timeouts
from actors.remediation.summary import Message
from kubernaut_ray import clock, names
from kubernaut_ray.control.decision import Create
from kubernaut_ray.crds.affected import affected
from kubernaut_ray.crds.ai_analysis import AIAnalysis, AIAnalysisSpec, AnalysisRequest, AnalysisTimeouts, SignalContext
from kubernaut_ray.crds.approval import Grant
from kubernaut_ray.crds.base import CustomResource, LocalReference, ObjectMeta, ObjectReference, OwnerReference
from kubernaut_ray.crds.effectiveness_assessment import (
    AssessmentConfig,
    EffectivenessAssessment,
    EffectivenessAssessmentSpec,
)
from kubernaut_ray.crds.enums import (
    Channel,
    ConfidenceLevel,
    Environment,
    NotificationPriority,
    NotificationType,
    Priority,
    Severity,
)
from kubernaut_ray.crds.enums import RemediationPhase as Phase
from kubernaut_ray.crds.notification_request import NotificationRequest, NotificationRequestSpec
from kubernaut_ray.crds.remediation_approval_request import (
    RecommendedWorkflow,
    RemediationApprovalRequest,
    RemediationApprovalRequestSpec,
)
from kubernaut_ray.crds.remediation_request import RemediationRequest
from kubernaut_ray.crds.shared import (
    ConsideredAlternative,
    KubernetesContext,
    PastRemediation,
    PreviousExecution,
    RecommendedAction,
    SelectedWorkflow,
    WorkflowRef,
)
from kubernaut_ray.crds.signal_processing import (
    BusinessClassification,
    EnrichmentConfig,
    SignalData,
    SignalProcessing,
    SignalProcessingSpec,
    SignalProcessingStatus,
)
from kubernaut_ray.crds.workflow_execution import ExecutionConfig, WorkflowExecution, WorkflowExecutionSpec
from kubernaut_ray.kube import resources
from kubernaut_ray.settings import ApprovalSettings, Settings

COMPONENT = "remediation"
MANAGER = "kubernaut-ray"
_VERDICT = timedelta(seconds=30)
"""How long before our own deadline an assessment must come to its end."""


def create(request: RemediationRequest, child: CustomResource) -> Create:
    """Return the effect that creates a child; the status is its own controller's to write."""
    body = {key: value for key, value in child.to_object().items() if key != "status"}
    return Create(resources.of(type(child)), body, owner_uid=request.uid)


def reference(request: RemediationRequest, kind: type[CustomResource], name: str) -> ObjectReference:
    """Refer to a child by its name; the UID is filled in once the child has been seen."""
    return ObjectReference(api_version=names.API_VERSION, kind=kind.kind(), name=name, namespace=request.namespace)


def signal_processing(request: RemediationRequest, now: datetime, settings: Settings) -> SignalProcessing:
    spec = request.spec
    return SignalProcessing(
        metadata=_metadata(request, names.signal_processing(request.name)),
        spec=SignalProcessingSpec(
            remediation_request_ref=request.reference,
            signal=SignalData(
                fingerprint=spec.signal_fingerprint,
                name=spec.signal_name,
                severity=spec.severity,
                type=spec.signal_type,
                source=spec.signal_source,
                target_type=spec.target_type,
                target_resource=spec.target_resource,
                signal_resource=spec.signal_resource,
                labels=spec.signal_labels,
                annotations=spec.signal_annotations,
                description=spec.description,
                firing_time=spec.firing_time,
                received_time=spec.received_time,
                provider_data=spec.provider_data,
            ),
            enrichment_config=EnrichmentConfig(timeout=_duration(settings.signal_processing.enrichment_timeout)),
            deadline=timeouts.for_child(request, Phase.PROCESSING, now, settings.orchestrator),
        ),
    )


def signal_context(request: RemediationRequest, processing: SignalProcessingStatus) -> SignalContext:
    """Everything that signal processing found out and the gateway counted, for the investigation."""
    spec, seen = request.spec, request.status.deduplication
    environment, priority = processing.environment_classification, processing.priority_assignment
    return SignalContext(
        fingerprint=spec.signal_fingerprint,
        signal_name=spec.signal_name,
        signal_type=spec.signal_type,
        signal_source=spec.signal_source,
        severity=processing.severity or Severity.UNKNOWN,
        environment=environment.environment if environment else Environment.UNKNOWN,
        business_priority=priority.priority if priority else Priority.P2,
        business=processing.business_classification or BusinessClassification(),
        target_resource=spec.target_resource,
        signal_resource=spec.signal_resource,
        description=spec.description,
        labels=spec.signal_labels,
        annotations=spec.signal_annotations,
        firing_time=spec.firing_time,
        received_time=spec.received_time,
        first_seen_at=seen.first_seen_at if seen else None,
        last_seen_at=seen.last_seen_at if seen else None,
        occurrence_count=seen.occurrence_count if seen else 1,
        storm=request.status.storm,
        affected=affected(request.status.members),
        kubernetes_context=processing.kubernetes_context or KubernetesContext(degraded_mode=True),
    )


def ai_analysis(
    request: RemediationRequest,
    context: SignalContext,
    *,
    attempt: int = 0,
    previous: Sequence[PreviousExecution] = (),
    past: Sequence[PastRemediation] = (),
    now: datetime,
    settings: Settings,
) -> AIAnalysis:
    """Build the analysis; ``attempt`` n ≥ 1 is the n-th recovery and is told every failure before it, first one first."""
    allowed = timeouts.allowance(request, Phase.ANALYZING, settings.orchestrator)
    return AIAnalysis(
        metadata=_metadata(request, names.ai_analysis(request.name, attempt)),
        spec=AIAnalysisSpec(
            remediation_request_ref=request.reference,
            remediation_id=request.name,
            analysis_request=AnalysisRequest(signal_context=context),
            is_recovery_attempt=attempt > 0,
            recovery_attempt_number=attempt or None,
            previous_executions=tuple(previous),
            remediation_history=tuple(past),
            timeout_config=AnalysisTimeouts(investigating_timeout=_duration(allowed.total_seconds())),
            deadline=timeouts.for_child(request, Phase.ANALYZING, now, settings.orchestrator),
        ),
    )


def approval_request(
    request: RemediationRequest,
    analysis: AIAnalysis,
    workflow: SelectedWorkflow,
    *,
    attempt: int,
    required_by: datetime,
    rules: ApprovalSettings = ApprovalSettings(),  # noqa: B008 - a frozen value
) -> RemediationApprovalRequest:
    """Build the request for leave. Where the analysis left no approval context, what it found stands in for it."""
    status, context = analysis.status, analysis.status.approval_context
    summary = (status.root_cause_analysis.summary if status.root_cause_analysis else "") or status.root_cause
    name = workflow.workflow_name or workflow.workflow_id
    actions = context.recommended_actions if context else ()
    return RemediationApprovalRequest(
        metadata=_metadata(request, names.approval_request(request.name, attempt)),
        spec=RemediationApprovalRequestSpec(
            remediation_request_ref=request.reference,
            ai_analysis_ref=LocalReference(name=analysis.name),
            target_resource=request.spec.target_resource,
            confidence=workflow.confidence,
            confidence_level=ConfidenceLevel.of(workflow.confidence),
            reason=(context.reason if context else "") or status.approval_reason or "policy asks for approval",
            recommended_workflow=RecommendedWorkflow(
                **_workflow_ref(workflow).model_dump(), parameters=workflow.parameters, rationale=workflow.rationale
            ),
            investigation_summary=(context.investigation_summary if context else "")
            or summary
            or "no summary was given",
            evidence_collected=(context.evidence_collected if context else ()) or status.evidence[:20],
            recommended_actions=actions
            or (RecommendedAction(action=f"run workflow {name} {workflow.version}", rationale=workflow.rationale),),
            alternatives_considered=context.alternatives_considered
            if context
            else tuple(
                ConsideredAlternative(approach=other.workflow_name or other.workflow_id, pros_cons=other.rationale)
                for other in status.alternative_workflows
            ),
            why_approval_required=(context.why_approval_required if context else "") or status.approval_reason,
            policy_evaluation=context.policy_evaluation if context else None,
            required_by=required_by,
            required_approvals=rules.required_approvals,
            four_eyes=rules.four_eyes,
            requested_by=request.metadata.annotations.get(names.ANNOTATION_REQUESTED_BY, "")[:1024],
        ),
    )


def workflow_execution(
    request: RemediationRequest,
    workflow: SelectedWorkflow,
    *,
    attempt: int,
    now: datetime,
    settings: Settings,
    grant: Grant | None = None,
    spec_hash: str = "",
    dry_run: bool = False,
) -> WorkflowExecution:
    """Build the execution: image, digest, parameters and engine exactly as the analysis resolved them.

    ``spec_hash``, what the target is before, goes with it: it must be kept from the moment in which it can run.
    """
    deadline = timeouts.for_child(request, Phase.EXECUTING, now, settings.orchestrator)
    before = {names.ANNOTATION_SPEC_HASH: spec_hash} if spec_hash else {}
    return WorkflowExecution(
        metadata=_metadata(request, names.workflow_execution(request.name, attempt)).replace(annotations=before),
        spec=WorkflowExecutionSpec(
            remediation_request_ref=request.reference,
            workflow_ref=_workflow_ref(workflow),
            target_resource=str(request.spec.target_resource),
            parameters=workflow.parameters,
            confidence=workflow.confidence,
            rationale=workflow.rationale,
            execution_config=ExecutionConfig(
                timeout=_duration(max(1.0, min(settings.execution.timeout, (deadline - now).total_seconds()))),
                service_account_name=settings.execution.service_account,
            ),
            deadline=deadline,
            approval=grant,
            dry_run=dry_run,
        ),
    )


def effectiveness_assessment(
    request: RemediationRequest,
    execution: WorkflowExecution,
    processing: SignalProcessingStatus,
    *,
    began: datetime,
    settings: Settings,
) -> EffectivenessAssessment:
    """Build the assessment of what an execution that completed came to; ``began`` is when verifying began."""
    spec, windows = request.spec, settings.effectiveness
    context, classified = processing.kubernetes_context, processing.environment_classification
    labels = context.detected_labels if context else None
    deadline = timeouts.for_child(request, Phase.VERIFYING, began, settings.orchestrator)
    synced = windows.git_ops_sync_delay if labels is not None and labels.git_ops_managed else 0.0
    return EffectivenessAssessment(
        metadata=_metadata(request, names.effectiveness_assessment(request.name)),
        spec=EffectivenessAssessmentSpec(
            correlation_id=request.name,
            remediation_request_ref=request.reference,
            workflow_execution_ref=execution.reference,
            workflow=execution.spec.workflow_ref,
            signal_name=spec.signal_name,
            fingerprint=spec.signal_fingerprint,
            signal_target=spec.signal_resource or spec.target_resource,
            remediation_target=spec.target_resource,
            target=str(spec.target_resource),
            environment=classified.environment if classified else Environment.UNKNOWN,
            config=AssessmentConfig(
                stabilization_window=_exactly(windows.stabilization_window),
                hash_compute_delay=_exactly(windows.hash_compute_delay),
                alert_check_delay=_exactly(windows.alert_check_delay),
                git_ops_sync_delay=_exactly(synced),
                validity=_exactly(windows.validity),
            ),
            remediation_created_at=request.created,
            execution_started_at=execution.status.start_time,
            execution_ended_at=execution.status.completion_time or began,
            pre_remediation_spec_hash=execution.metadata.annotations.get(names.ANNOTATION_SPEC_HASH, ""),
            # Before our own, so that what it found by then is there when we must go on.
            deadline=max(began, deadline - min(_VERDICT, (deadline - began) / 10)),
        ),
    )


def notification(
    request: RemediationRequest,
    kind: str,
    message: Message,
    *,
    type_: NotificationType,
    priority: NotificationPriority,
    metadata: Mapping[str, str],
    attempt: int = 0,
    channels: tuple[Channel, ...] = (),
) -> NotificationRequest:
    """Build a message to people; ``kind`` is the word in its name. Without channels the routing decides where it goes."""
    name = names.notification(kind, request.name, attempt)
    labels = {names.LABEL_NOTIFICATION_TYPE: names.label_value(type_)}
    return NotificationRequest(
        metadata=_metadata(request, name, labels),
        spec=NotificationRequestSpec(
            remediation_request_ref=request.reference,
            type=type_,
            priority=priority,
            subject=message.subject,
            body=message.body,
            channels=channels,
            metadata={key: value for key, value in metadata.items() if value},
        ),
    )


def _metadata(request: RemediationRequest, name: str, labels: Mapping[str, str] | None = None) -> ObjectMeta:
    return ObjectMeta(
        name=name,
        namespace=request.namespace,
        labels={
            names.LABEL_REMEDIATION: names.label_value(request.name),
            names.LABEL_MANAGED_BY: MANAGER,
            names.LABEL_COMPONENT: COMPONENT,
            **names.shard_label(request.name),
            **(labels or {}),
        },
        owner_references=(OwnerReference.model_validate(request.owner_reference),),
    )


def _workflow_ref(workflow: SelectedWorkflow) -> WorkflowRef:
    return WorkflowRef(**{field: getattr(workflow, field) for field in WorkflowRef.model_fields})


def _exactly(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms" if seconds % 1 else f"{seconds:.0f}s"


def _duration(seconds: float) -> str:
    return clock.format_duration(clock.parse_duration(f"{max(1.0, seconds):.0f}s"))
