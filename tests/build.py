"""Builders of objects with boring defaults: a test names only what it is about. Keyword arguments are model fields."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from actors.workflow_execution import pipelinerun
from kubernaut_ray import clock, names
from kubernaut_ray.contracts.audit import AuditEvent
from kubernaut_ray.contracts.catalog import Workflow, WorkflowDescription, WorkflowLabels, WorkflowParameter
from kubernaut_ray.crds.ai_analysis import AIAnalysis, AIAnalysisSpec, AIAnalysisStatus, AnalysisRequest, SignalContext
from kubernaut_ray.crds.base import CustomResource, ObjectMeta, OwnerReference
from kubernaut_ray.crds.effectiveness_assessment import (
    EffectivenessAssessment,
    EffectivenessAssessmentSpec,
    EffectivenessAssessmentStatus,
)
from kubernaut_ray.crds.enums import (
    AIAnalysisPhase,
    AIAnalysisReason,
    AssessmentPhase,
    AuditCategory,
    ConfidenceLevel,
    Criticality,
    Environment,
    EnvironmentSource,
    ExecutionFailureReason,
    NotificationPhase,
    NotificationType,
    ParameterType,
    Priority,
    PrioritySource,
    RemediationPhase,
    Severity,
    SignalProcessingPhase,
    SlaTier,
    WorkflowExecutionPhase,
)
from kubernaut_ray.crds.notification_request import (
    NotificationRequest,
    NotificationRequestSpec,
    NotificationRequestStatus,
)
from kubernaut_ray.crds.remediation_approval_request import (
    RecommendedWorkflow,
    RemediationApprovalRequest,
    RemediationApprovalRequestSpec,
    RemediationApprovalRequestStatus,
)
from kubernaut_ray.crds.remediation_request import (
    RemediationRequest,
    RemediationRequestSpec,
    RemediationRequestStatus,
)
from kubernaut_ray.crds.remediation_workflow import (
    RemediationWorkflow,
    RemediationWorkflowSpec,
    RemediationWorkflowStatus,
)
from kubernaut_ray.crds.shared import (
    DetectedLabels,
    KubernetesContext,
    OwnerEntry,
    RecommendedAction,
    RootCauseAnalysis,
    SelectedWorkflow,
    TargetResource,
    WorkflowRef,
)
from kubernaut_ray.crds.signal_processing import (
    BusinessClassification,
    EnvironmentClassification,
    PriorityAssignment,
    SignalData,
    SignalProcessing,
    SignalProcessingSpec,
    SignalProcessingStatus,
)
from kubernaut_ray.crds.silence import Silence, SilenceMatcher, SilenceSpec, SilenceStatus
from kubernaut_ray.crds.workflow_execution import (
    ExecutionFailureDetails,
    WorkflowExecution,
    WorkflowExecutionSpec,
    WorkflowExecutionStatus,
)
from kubernaut_ray.matchers import parse
from kubernaut_ray.settings import ExecutionSettings

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FINGERPRINT = "ab" * 32
TARGET = TargetResource(api_version="apps/v1", kind="Deployment", name="web", namespace="shop")

Kind = TypeVar("Kind", bound=CustomResource)


def later(seconds: float = 0, *, minutes: float = 0) -> datetime:
    """An instant after ``NOW``."""
    return NOW + timedelta(seconds=seconds, minutes=minutes)


def meta(name: str, owner: CustomResource | None = None, **fields: Any) -> ObjectMeta:
    """Metadata of a stored object; ``owner`` controls it."""
    owners = (OwnerReference.model_validate(owner.owner_reference),) if owner is not None else ()
    stored = {
        "name": name,
        "namespace": names.SYSTEM_NAMESPACE,
        "uid": f"uid-{name}",
        "resource_version": "1",
        "generation": 1,
        "creation_timestamp": NOW,
        "owner_references": owners,
    }
    return ObjectMeta(**{**stored, **fields})


def with_status(obj: Kind, **fields: Any) -> Kind:
    """The object with these status fields changed."""
    return obj.replace(status=obj.status.replace(**fields))  # type: ignore[attr-defined]


def remediation_request(
    name: str = "rr-1",
    *,
    phase: RemediationPhase | None = None,
    created: datetime = NOW,
    annotations: dict[str, str] | None = None,
    spec: dict[str, Any] | None = None,
    **status: Any,
) -> RemediationRequest:
    defaults: dict[str, Any] = {
        "signal_fingerprint": FINGERPRINT,
        "signal_name": "KubePodOOMKilled",
        "severity": "critical",
        "signal_type": "prometheus-alert",
        "signal_source": "alertmanager",
        "target_resource": TARGET,
        "firing_time": NOW,
        "received_time": NOW,
    }
    return RemediationRequest(
        metadata=meta(name, creation_timestamp=created, annotations=annotations or {}),
        spec=RemediationRequestSpec(**{**defaults, **(spec or {})}),
        status=RemediationRequestStatus(overall_phase=phase, **status),
    )


def signal_processing(
    request: RemediationRequest,
    phase: SignalProcessingPhase | None = SignalProcessingPhase.COMPLETED,
    **status: Any,
) -> SignalProcessing:
    spec = request.spec
    found: dict[str, Any] = {}
    if phase is SignalProcessingPhase.COMPLETED:
        found = {
            "severity": Severity.CRITICAL,
            "environment_classification": EnvironmentClassification(
                environment=Environment.PRODUCTION, source=EnvironmentSource.NAMESPACE_LABELS, classified_at=NOW
            ),
            "priority_assignment": PriorityAssignment(
                priority=Priority.P0, source=PrioritySource.REGO_POLICY, assigned_at=NOW
            ),
            "business_classification": BusinessClassification(
                business_unit="retail",
                service_owner="team-shop",
                criticality=Criticality.HIGH,
                sla_requirement=SlaTier.GOLD,
            ),
            "kubernetes_context": KubernetesContext(
                owner_chain=(OwnerEntry(kind="ReplicaSet", name="web-1", namespace="shop", api_version="apps/v1"),),
                detected_labels=DetectedLabels(pdb_protected=True, helm_managed=True),
                custom_labels={"team": ("shop", "core")},
            ),
        }
    return SignalProcessing(
        metadata=meta(names.signal_processing(request.name), request),
        spec=SignalProcessingSpec(
            remediation_request_ref=request.reference,
            signal=SignalData(
                fingerprint=spec.signal_fingerprint,
                name=spec.signal_name,
                type=spec.signal_type,
                target_resource=spec.target_resource,
                firing_time=spec.firing_time,
                received_time=spec.received_time,
            ),
        ),
        status=SignalProcessingStatus(phase=phase, **{**found, **status}),
    )


def selected_workflow(**fields: Any) -> SelectedWorkflow:
    defaults: dict[str, Any] = {
        "workflow_id": "wf-memory",
        "workflow_name": "increase-memory",
        "version": "1.0.0",
        "container_image": "bundles.kubernaut.local/workflows/increase-memory:1.0.0",
        "container_digest": "sha256:" + "1" * 64,
        "confidence": 0.9,
        "parameters": {"MEMORY_LIMIT": "512Mi"},
        "rationale": "the container was killed for want of memory",
    }
    return SelectedWorkflow(**{**defaults, **fields})


def ai_analysis(
    request: RemediationRequest,
    phase: AIAnalysisPhase | None = AIAnalysisPhase.COMPLETED,
    *,
    attempt: int = 0,
    **status: Any,
) -> AIAnalysis:
    found: dict[str, Any] = {}
    if phase is AIAnalysisPhase.COMPLETED:
        found = {
            "reason": AIAnalysisReason.WORKFLOW_SELECTED,
            "root_cause_analysis": RootCauseAnalysis(
                summary="The memory limit is too low for the load", contributing_factors=("limit 64Mi",)
            ),
            "selected_workflow": selected_workflow(),
            "approval_required": False,
            "investigated_by": "evidence",
        }
    spec = request.spec
    return AIAnalysis(
        metadata=meta(names.ai_analysis(request.name, attempt), request),
        spec=AIAnalysisSpec(
            remediation_request_ref=request.reference,
            remediation_id=request.name,
            analysis_request=AnalysisRequest(
                signal_context=SignalContext(
                    fingerprint=spec.signal_fingerprint,
                    signal_name=spec.signal_name,
                    signal_type=spec.signal_type,
                    severity=Severity.CRITICAL,
                    environment=Environment.PRODUCTION,
                    business_priority=Priority.P0,
                    target_resource=spec.target_resource,
                    firing_time=spec.firing_time,
                    received_time=spec.received_time,
                )
            ),
        ),
        status=AIAnalysisStatus(phase=phase, **{**found, **status}),
    )


def approval_request(
    request: RemediationRequest, *, attempt: int = 0, required_by: datetime | None = None, **status: Any
) -> RemediationApprovalRequest:
    chosen = selected_workflow()
    return RemediationApprovalRequest(
        metadata=meta(names.approval_request(request.name, attempt), request),
        spec=RemediationApprovalRequestSpec(
            remediation_request_ref=request.reference,
            ai_analysis_ref={"name": names.ai_analysis(request.name, attempt)},
            target_resource=request.spec.target_resource,
            confidence=0.9,
            confidence_level=ConfidenceLevel.HIGH,
            reason="production",
            recommended_workflow=RecommendedWorkflow.model_validate(chosen.model_dump()),
            investigation_summary="The memory limit is too low",
            recommended_actions=(RecommendedAction(action="increase memory"),),
            why_approval_required="production changes need a person's leave",
            required_by=required_by or later(minutes=15),
        ),
        status=RemediationApprovalRequestStatus(**status),
    )


def workflow_execution(
    request: RemediationRequest,
    phase: WorkflowExecutionPhase | None = WorkflowExecutionPhase.RUNNING,
    *,
    attempt: int = 0,
    reason: ExecutionFailureReason = ExecutionFailureReason.TASK_FAILED,
    step: str = "apply",
    half_way: bool = True,
    workflow_id: str = "wf-memory",
    ended: datetime = NOW,
    **status: Any,
) -> WorkflowExecution:
    found: dict[str, Any] = {}
    if phase in {WorkflowExecutionPhase.COMPLETED, WorkflowExecutionPhase.FAILED}:
        found = {"completion_time": ended, "duration": "12s"}
    if phase is WorkflowExecutionPhase.FAILED:
        found["failure_details"] = ExecutionFailureDetails(
            reason=reason,
            failed_task_name="fix",
            failed_step_name=step,
            message="exit 1",
            exit_code=1,
            failed_at=ended,
            was_execution_failure=half_way,
            natural_language_summary=f"step {step} exited with 1",
        )
    return WorkflowExecution(
        metadata=meta(names.workflow_execution(request.name, attempt), request),
        spec=WorkflowExecutionSpec(
            remediation_request_ref=request.reference,
            workflow_ref=WorkflowRef(
                workflow_id=workflow_id,
                workflow_name="increase-memory",
                version="1.0.0",
                container_image="bundles.kubernaut.local/workflows/increase-memory:1.0.0",
                container_digest="sha256:" + "1" * 64,
            ),
            target_resource=str(request.spec.target_resource),
            parameters={"MEMORY_LIMIT": "512Mi"},
        ),
        status=WorkflowExecutionStatus(phase=phase, **{**found, **status}),
    )


def effectiveness_assessment(
    request: RemediationRequest,
    phase: AssessmentPhase | None = None,
    *,
    spec: dict[str, Any] | None = None,
    **status: Any,
) -> EffectivenessAssessment:
    """Of the first execution, which ended at ``NOW``; it began then, too, where it has begun."""
    execution = workflow_execution(request, WorkflowExecutionPhase.COMPLETED)
    defaults: dict[str, Any] = {
        "correlation_id": request.name,
        "remediation_request_ref": request.reference,
        "workflow_execution_ref": execution.reference,
        "workflow": execution.spec.workflow_ref,
        "signal_name": request.spec.signal_name,
        "fingerprint": request.spec.signal_fingerprint,
        "signal_target": request.spec.target_resource,
        "remediation_target": request.spec.target_resource,
        "target": str(request.spec.target_resource),
        "environment": Environment.PRODUCTION,
        "remediation_created_at": NOW,
        "execution_ended_at": NOW,
    }
    begun = {"started_at": NOW} if phase is not None else {}
    return EffectivenessAssessment(
        metadata=meta(names.effectiveness_assessment(request.name), request),
        spec=EffectivenessAssessmentSpec(**{**defaults, **(spec or {})}),
        status=EffectivenessAssessmentStatus(phase=phase, **{**begun, **status}),
    )


def notification_request(
    name: str = "nr-completion-rr-1",
    *,
    owner: CustomResource | None = None,
    phase: NotificationPhase | None = None,
    spec: dict[str, Any] | None = None,
    **status: Any,
) -> NotificationRequest:
    defaults: dict[str, Any] = {
        "type": NotificationType.COMPLETION,
        "subject": "Fixed: KubePodOOMKilled on shop/deployment/web",
        "body": "**Fixed.**",
        "remediation_request_ref": owner.reference if owner is not None else None,
    }
    return NotificationRequest(
        metadata=meta(name, owner),
        spec=NotificationRequestSpec(**{**defaults, **(spec or {})}),
        status=NotificationRequestStatus(phase=phase, **status),
    )


def workflow(name: str = "increase-memory-limits", version: str = "1.0.0", **fields: Any) -> Workflow:
    """A catalog record; the digest follows from name, version and ``content``."""
    content = fields.pop("content", f"{name}@{version}")
    defaults: dict[str, Any] = {
        "workflow_id": names.workflow_id(name, version),
        "workflow_name": name,
        "version": version,
        "action_type": "IncreaseMemoryLimits",
        "description": WorkflowDescription(
            what="Doubles the memory limit of a Deployment's containers",
            when_to_use="Containers are OOMKilled because their memory limit is too low",
        ),
        "labels": WorkflowLabels(),
        "container_image": f"bundles.kubernaut.local/workflows/{name}:{version}",
        "container_digest": f"sha256:{hashlib.sha256(content.encode()).hexdigest()}",
        "content": content,
        "content_hash": hashlib.sha256(content.encode()).hexdigest(),
    }
    return Workflow(**{**defaults, **fields})


def registered(execution: WorkflowExecution, **fields: Any) -> Workflow:
    """The catalog's record of what an execution runs: with its digest, its engine, and its parameters as texts."""
    ref = execution.spec.workflow_ref
    defaults: dict[str, Any] = {
        "workflow_id": ref.workflow_id,
        "container_image": ref.container_image,
        "container_digest": ref.container_digest,
        "execution_engine": ref.engine,
        "parameters": tuple(
            WorkflowParameter(name=name, type=ParameterType.STRING) for name in execution.spec.parameters
        ),
        "content": f"execution: {{engine: {ref.engine}}}",
    }
    return workflow(ref.workflow_name, ref.version, **{**defaults, **fields})


def audit_event(number: int = 0, **fields: Any) -> AuditEvent:
    """The ``number``-th fact of a remediation; its id follows from number and correlation id."""
    defaults: dict[str, Any] = {
        "event_type": "gateway.signal.received",
        "correlation_id": "rr-a",
        "category": AuditCategory.GATEWAY,
        "now": NOW,
        "actor": "gateway",
        "key": (str(number),),
        "event_data": {"number": number},
    }
    merged = {**defaults, **fields}
    return AuditEvent.fact(merged.pop("event_type"), **merged)


def pipeline_run(
    execution: WorkflowExecution, condition: str = "Unknown", reason: str = "Running", **status: Any
) -> dict[str, Any]:
    """The PipelineRun of an execution in one state, as Tekton writes it."""
    body = pipelinerun.build(execution, ExecutionSettings(), NOW)
    over = {"completionTime": clock.rfc3339(later(10))} if condition != "Unknown" else {}
    body["metadata"] |= {"uid": "run-uid", "resourceVersion": "7"}
    body["spec"].pop("status")
    body["status"] = {
        "startTime": clock.rfc3339(NOW),
        "conditions": [{"type": "Succeeded", "status": condition, "reason": reason, "message": f"{reason}."}],
        **over,
        **status,
    }
    return body


def task_run(run: dict[str, Any], task: str = "fix", **fields: Any) -> dict[str, Any]:
    """A TaskRun of a PipelineRun that failed in its only step; ``fields`` replace parts of step, condition or status."""
    ended = {"exitCode": 1, "reason": "Error"} | fields.pop("terminated", {})
    condition = {
        "type": "Succeeded",
        "status": "False",
        "reason": "Failed",
        "message": '"step-apply" exited with code 1',
    }
    name = f"{run['metadata']['name']}-{task}"
    return {
        "metadata": {"name": name, "labels": {"tekton.dev/pipelineTask": task}},
        "status": {
            "conditions": [condition | fields.pop("condition", {})],
            "steps": [{"name": "apply", "terminationReason": "Error", "terminated": ended}],
            **fields,
        },
    }


def silence(
    name: str = "silence-1", *matchers: str, silenced_count: int = 0, summary: str = "", **spec: Any
) -> Silence:
    """A silence of an hour; matchers as people write them, ``alertname="Foo"`` when none is given."""
    parsed = [matcher for text in matchers or ('alertname="Foo"',) for matcher in parse(text)]
    defaults: dict[str, Any] = {
        "matchers": [SilenceMatcher.of(matcher) for matcher in parsed],
        "starts_at": NOW,
        "ends_at": later(minutes=60),
        "created_by": "ada",
        "comment": "rollout",
    }
    return Silence(
        metadata=meta(name),
        spec=SilenceSpec(**{**defaults, **spec}),
        status=SilenceStatus(silenced_count=silenced_count, summary=summary),
    )


def remediation_workflow(
    name: str = "restart", bundle: str = "bundles.kubernaut.local/workflows/increase-memory-limits:1.0.0", **spec: Any
) -> RemediationWorkflow:
    """A declared workflow that says nothing but where its bundle is."""
    execution = {"bundle": bundle} | spec.pop("execution", {})
    return RemediationWorkflow(
        metadata=meta(name), spec=RemediationWorkflowSpec.model_validate({"execution": execution, **spec})
    )


def declared_workflow() -> RemediationWorkflow:
    """A declared workflow that repeats everything that its schema says, and a status that has everything too."""
    digest = f"sha256:{'d' * 64}"
    parameter = {
        "name": "COUNT", "type": "integer", "required": False, "description": "How many", "enum": [1, "2"], "pattern": "",
        "minimum": 1, "maximum": 2, "minLength": 0, "maxLength": 9, "default": 1, "dependsOn": ["TARGET"],
    }  # fmt: skip
    spec = {
        "version": "1.2.3-rc.1+b", "title": "Increase memory", "actionType": "IncreaseMemoryLimits", "owner": "ops",
        "description": {"what": "w", "whenToUse": "u", "whenNotToUse": "n", "preconditions": "p"},
        "maintainers": [{"name": "Ops", "email": "ops@example.com"}],
        "labels": {"signalType": "OOMKilled", "severity": ["high", "critical"], "component": "*", "environment": ["*"], "priority": "P0"},
        "detectedLabels": {"hpaEnabled": True, "gitOpsTool": "argocd"},
        "customLabels": {"team": "payments", "tier": ["a", "b"]},
        "execution": {"bundleDigest": digest, "engine": "tekton", "engineConfig": {"a": {"b": [1]}}, "serviceAccountName": "runner"},
        "dependencies": {"secrets": [{"name": "s"}], "configMaps": [{"name": "c"}]},
        "parameters": [parameter],
        "rollbackParameters": [parameter | {"default": ["a", "b"]}],
    }  # fmt: skip
    status = {
        "phase": "Rejected", "observedGeneration": 3, "workflowId": names.workflow_id("w", "1.0.0"), "workflowName": "w",
        "version": "1.0.0", "actionType": "Do", "containerImage": "r.example/w:1", "containerDigest": digest,
        "contentHash": "0" * 64, "message": "m", "problems": [{"path": "spec.version", "message": "m"}],
        "registeredAt": NOW, "lastCheckedAt": NOW, "nextCheckAt": NOW, "failures": 2, "suspended": False,
        "conditions": [{"type": "Ready", "status": "False", "reason": "SpecDiffers", "lastTransitionTime": NOW}],
    }  # fmt: skip
    made = remediation_workflow("declared", **spec)
    return made.replace(status=RemediationWorkflowStatus.model_validate(status))
