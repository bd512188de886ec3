"""From the analysis's spec to the question for the HolmesGPT-API, field by field. Pure.

Two things stay behind on purpose: the fingerprint, which is identity and no observation, and the analysis types, since an
investigation always does all three.
"""

from __future__ import annotations

from kubernaut_ray.contracts.investigation import (
    EarlierRemediation,
    FailedExecution,
    IncidentRequest,
    PreviousAttempt,
    RootCause,
    SelectedWorkflowAnswer,
    storm_fields,
)
from kubernaut_ray.crds.ai_analysis import AIAnalysis, SignalContext
from kubernaut_ray.crds.enums import Criticality, Environment, Priority
from kubernaut_ray.crds.shared import PastRemediation, PreviousExecution

_RISK = "risk_tolerance"
_RISKS = ("low", "medium", "high")
_MESSAGES = ("message", "error", "summary")


def session_id(analysis: AIAnalysis) -> str:
    """Return the id of the investigation of the present try: the same whenever it is derived, another after a failure."""
    tail = f".{analysis.uid[:8]}.{analysis.status.consecutive_failures}"
    return f"{analysis.name[: 253 - len(tail)]}{tail}"


def build_request(analysis: AIAnalysis, *, cluster_name: str) -> IncidentRequest:
    """Return what the HolmesGPT-API is asked."""
    spec, signal = analysis.spec, analysis.spec.analysis_request.signal_context
    return IncidentRequest(
        incident_id=analysis.name,
        remediation_id=spec.remediation_id,
        signal_name=signal.signal_name,
        signal_type=signal.signal_type,
        severity=signal.severity.value,
        signal_source=signal.signal_source,
        target=signal.target_resource,
        signal_resource=signal.signal_resource,
        error_message=next((signal.annotations[k] for k in _MESSAGES if signal.annotations.get(k)), ""),
        description=signal.description,
        environment=signal.environment.value,
        priority=signal.business_priority.value,
        risk_tolerance=risk_tolerance(signal),
        business_category=_business(signal),
        cluster_name=cluster_name,
        is_duplicate=signal.occurrence_count > 1,
        occurrence_count=signal.occurrence_count,
        first_seen=signal.first_seen_at,
        last_seen=signal.last_seen_at,
        firing_time=signal.firing_time,
        received_time=signal.received_time,
        signal_labels=signal.labels,
        signal_annotations=signal.annotations,
        enrichment=signal.kubernetes_context,
        previous_executions=tuple(map(_attempt, spec.previous_executions)) if spec.is_recovery_attempt else (),
        remediation_history=tuple(map(_earlier, spec.remediation_history)),
        affected=signal.affected,
        **storm_fields(signal.storm),
    )


def risk_tolerance(signal: SignalContext) -> str:
    """Return low, medium or high: as the namespace's label says, else by environment and criticality."""
    said = next(iter(signal.kubernetes_context.custom_labels.get(_RISK, ())), "").lower()
    if said in _RISKS:
        return said
    critical = signal.business.criticality in (Criticality.CRITICAL, Criticality.HIGH)
    if critical or signal.environment is Environment.PRODUCTION or signal.business_priority is Priority.P0:
        return "low"
    return "high" if signal.environment in (Environment.DEVELOPMENT, Environment.TEST) else "medium"


def _business(signal: SignalContext) -> str:
    business = signal.business
    named = (("unit", business.business_unit), ("owner", business.service_owner))
    parts = [f"{what} {value}" for what, value in named if value]
    return ", ".join((*parts, f"criticality {business.criticality}", f"SLA {business.sla_requirement}"))


def _earlier(past: PastRemediation) -> EarlierRemediation:
    return EarlierRemediation(
        workflow_id=past.workflow_id,
        workflow_name=past.workflow_name,
        version=past.version,
        parameters=past.parameters,
        ended_at=past.ended_at,
        succeeded=past.succeeded,
        effective=past.effective,
        score=past.score,
        summary=past.summary,
    )


def _attempt(execution: PreviousExecution) -> PreviousAttempt:
    cause, chosen, failure = execution.original_rca, execution.selected_workflow, execution.failure
    return PreviousAttempt(
        workflow_execution_ref=execution.workflow_execution_ref,
        original_rca=RootCause(
            summary=cause.summary,
            severity=cause.severity,
            signal_type=cause.signal_type,
            contributing_factors=cause.contributing_factors,
        ),
        selected_workflow=SelectedWorkflowAnswer(
            workflow_id=chosen.workflow_id,
            workflow_name=chosen.workflow_name,
            version=chosen.version,
            container_image=chosen.container_image,
            container_digest=chosen.container_digest,
            engine=chosen.engine,
            confidence=chosen.confidence,
            parameters=chosen.parameters,
            rationale=chosen.rationale,
        ),
        failure=FailedExecution(
            failed_step_index=failure.failed_task_index,
            failed_step_name="/".join(n for n in (failure.failed_task_name, failure.failed_step_name) if n),
            reason=failure.reason,
            message=failure.message,
            exit_code=failure.exit_code,
            failed_at=failure.failed_at,
            execution_time=failure.execution_time_before_failure,
            was_execution_failure=failure.was_execution_failure,
        ),
        natural_language_summary=execution.natural_language_summary or failure.natural_language_summary,
    )
